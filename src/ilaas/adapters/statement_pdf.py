"""Statements as PDF, one institution after the other, each from a new page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from ilaas.adapters.statement_words import WORDS, Language, Words
from ilaas.core.billing import NOTHING
from ilaas.core.errors import ConfigError
from ilaas.core.statements import LineKind, Statement, StatementLine

_FONT = "DejaVu"
_INK = (33, 37, 41)
_GREY = (108, 117, 125)
_ACCENT = (0, 84, 147)
_BAND = FontFace(emphasis="BOLD", color=_ACCENT, fill_color=(232, 240, 247))
_SUM = FontFace(emphasis="BOLD", fill_color=(244, 246, 248))
_CORRECTION = FontFace(emphasis="ITALICS")
_WIDTHS = (14, 36, 34, 18, 28, 26, 16, 22)
_AUDIO = 6
_KINDS = (LineKind.CONSUMED, LineKind.CONTRIBUTED, LineKind.OWN)


def statements_pdf(statements: Iterable[Statement], language: Language, federation: str) -> bytes:
    """The document. `federation` is the name at its head. Raises ConfigError when no font is installed."""
    words = WORDS[language]
    pdf = _Document(words, federation)
    closed_at_s = 0.0
    for each in statements:
        closed_at_s = max(closed_at_s, each.closed_at_s or 0.0)
        pdf.statement(each)
    pdf.set_creation_date(datetime.fromtimestamp(closed_at_s, UTC))  # the same books make the same bytes
    return bytes(pdf.output())


class _Document(FPDF):
    def __init__(self, words: Words, federation: str) -> None:
        super().__init__(format="A4")
        self._words = words
        self._federation = federation
        self._head = ""
        folder = _fonts()
        # matplotlib brings DejaVu along: it has every letter of every European language.
        for style, name in (("", ""), ("B", "-Bold"), ("I", "-Oblique"), ("BI", "-BoldOblique")):
            self.add_font(_FONT, style, folder / f"DejaVuSans{name}.ttf")
        self.set_margins(14, 14)
        self.set_auto_page_break(auto=True, margin=20)
        self.set_title(f"{federation} - {words.title}")
        self.set_creator("ilaas")
        self.alias_nb_pages()

    def header(self) -> None:
        """On each page: the federation on the left, what it is on the right."""
        self.set_font(_FONT, "B", 9)
        self.set_text_color(*_ACCENT)
        self.cell(self.epw / 2, 6, self._federation)
        self.set_font(_FONT, "", 8)
        self.set_text_color(*_GREY)
        self.cell(self.epw / 2, 6, self._head, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_draw_color(*_ACCENT)
        self.line(self.l_margin, self.get_y(), self.w - self.r_margin, self.get_y())
        self.ln(5)

    def footer(self) -> None:
        """The number of the page."""
        self.set_y(-14)
        self.set_font(_FONT, "", 7)
        self.set_text_color(*_GREY)
        self.cell(0, 6, f"{self._words.page} {self.page_no()} / {{nb}}", align="C")

    def statement(self, statement: Statement) -> None:
        """All pages of one."""
        words = self._words
        self._head = f"{statement.organisation} · {words.month(statement.month)}"
        self.add_page()
        self._line(words.title, 10, color=_GREY)
        self._line(statement.organisation, 18, style="B", height=10)
        self._line(words.days(statement.month), 9)
        if statement.closed_at_s is None:
            self._line(words.provisional, 9, style="B", color=(176, 42, 55))
        else:
            self._line(words.closed.format(day=words.instant(statement.closed_at_s)), 9)
        self.ln(4)
        self._boxes(statement)
        audio = any(line.used.audio_ms for line in statement.lines)
        for kind in _KINDS:
            lines = [line for line in statement.lines if line.kind is kind]
            if lines or kind is not LineKind.OWN:
                self._section(words.kinds[kind], kind, lines, statement, audio=audio)
        self.set_text_color(*_GREY)
        self.set_font(_FONT, "", 7)
        if statement.corrections:
            self.multi_cell(0, 4, words.correction_note, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.multi_cell(0, 4, words.notes, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _line(
        self, text: str, size: float, *, style: str = "", height: float = 5.5, color: tuple[int, int, int] = _INK
    ) -> None:
        self.set_font(_FONT, style, size)
        self.set_text_color(*color)
        self.multi_cell(0, height, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _boxes(self, statement: Statement) -> None:
        words, net = self._words, statement.net_cents
        label = words.to_receive if net > 0 else words.to_pay if net < 0 else words.balanced
        boxes = (
            (words.consumed, statement.consumed_cents),
            (words.contributed, statement.contributed_cents),
            (label, abs(net)),
        )
        top, gap = self.get_y(), 4.0
        width = (self.epw - 2 * gap) / 3
        for index, (name, cents) in enumerate(boxes):
            left = self.l_margin + index * (width + gap)
            last = index == len(boxes) - 1
            self.set_fill_color(*(_ACCENT if last else (232, 240, 247)))
            self.rect(left, top, width, 18, style="F", round_corners=True, corner_radius=1.5)
            self.set_text_color(*((255, 255, 255) if last else _INK))
            self.set_xy(left + 4, top + 2.5)
            self.set_font(_FONT, "", 8)
            self.cell(width - 8, 5, name)
            self.set_xy(left + 4, top + 8.5)
            self.set_font(_FONT, "B", 13)
            self.cell(width - 8, 7, words.money(cents))
        self.set_xy(self.l_margin, top + 24)

    def _section(
        self, title: str, kind: LineKind, lines: Sequence[StatementLine], statement: Statement, *, audio: bool
    ) -> None:
        words = self._words
        if self.get_y() > self.h - 55:  # a heading never stands alone at the foot of a page
            self.add_page()
        self._line(title, 10.5, style="B", height=7, color=_ACCENT)
        if not lines:
            self._line(words.nothing, 8.5, color=_GREY)
            self.ln(4)
            return
        shown = [index for index in range(len(_WIDTHS)) if audio or index != _AUDIO]
        if kind is LineKind.OWN:  # with nobody else, and free
            shown = [index for index in shown if index not in {2, 7}]
        total = sum((line.used for line in lines), NOTHING)
        self.set_font(_FONT, "", 7)
        self.set_text_color(*_INK)
        self.set_draw_color(200, 206, 212)
        self.set_fill_color(255, 255, 255)
        aligned = tuple("LEFT" if index < 3 else "RIGHT" for index in shown)
        with self.table(
            col_widths=tuple(_WIDTHS[index] for index in shown),
            text_align=aligned,
            headings_style=_BAND,
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            line_height=5,
            padding=(0.5, 1),
        ) as table:
            table.row([words.columns[index] for index in shown])
            for line in lines:
                cells = self._cells(line)
                corrects = line.usage_month != statement.month
                table.row([cells[index] for index in shown], style=_CORRECTION if corrects else None)
            sums = (
                *(words.total, "", "", words.number(total.requests)),
                *(words.number(total.prompt_tokens), words.number(total.completion_tokens)),
                *(words.hours(total.audio_ms), words.money(sum(line.cents for line in lines))),
            )
            table.row([sums[index] for index in shown], style=_SUM)
        self.ln(6)

    def _cells(self, line: StatementLine) -> tuple[str, ...]:
        words, used = self._words, line.used
        return (
            str(line.usage_month),
            line.model,
            line.counterparty,
            words.number(used.requests),
            words.number(used.prompt_tokens),
            words.number(used.completion_tokens),
            words.hours(used.audio_ms),
            words.money(line.cents),
        )


def _fonts() -> Path:
    spec = find_spec("matplotlib")  # found, not imported: that takes half a second
    if spec is None or spec.origin is None:
        raise ConfigError("The fonts of the PDF come with matplotlib, which is not installed: install ilaas again.")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
