"""What commands print: tables and JSON on standard output, everything said about them on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_PIPE_WIDTH = 400
"""Where the output is no terminal, rows are not wrapped."""


def say(message: str) -> None:
    """One line for the person, on standard error, so that standard output holds results only."""
    print(message, file=sys.stderr)


def fail(message: str) -> None:
    """What went wrong, on standard error. A message of several problems keeps its lines."""
    lines = message.strip().splitlines() or ["unknown"]
    print(f"Error: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)


def print_json(value: object) -> None:
    """A value as indented JSON; dataclasses, enumerations and dates are written too."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(value, default=_jsonable, option=options).decode())


def _jsonable(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(type(value).__name__)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Rows under their columns; numbers to the right. `empty` is said when there is no row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [list(row) for row in rows]
    if not lines:
        say(empty)
        return
    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        numbers = all(isinstance(line[index], int | float) or line[index] is None for line in lines)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(_shown(value)) for value in line))
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def shown_time(epoch_s: float | None) -> str:
    """A moment as people read it, in UTC."""
    return "-" if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M")
