"""`ilaas statement`: monthly statements of account."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say
from ilaas.cli.settle import settle

if TYPE_CHECKING:
    from ilaas.core.periods import Month
    from ilaas.core.statements import Statement
    from ilaas.services.settlement import Closing, Settlement

WhichMonth = Annotated[str, typer.Argument(metavar="MONTH", help="A calendar month (UTC), such as 2026-10.")]
OnlyOrganisation = Annotated[str | None, typer.Option(help="Only this organisation's statement.")]

app = typer.Typer(name="statement", help="Monthly statements of account.", no_args_is_help=True)


@app.command(epilog=examples("ilaas statement preview 2026-10", "ilaas statement preview 2026-10 --json"))
def preview(
    month: WhichMonth,
    organisation: OnlyOrganisation = None,
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Show the statements as they would be if the month were closed now. Writes nothing."""
    which = _month(month)

    async def job(settlement: Settlement, _actor: str) -> Closing:
        return await settlement.preview(which)

    closing = settle(job, state_dir, config)
    if not closing.over:
        say(f"{month} is not over: these are the numbers so far.")
    _warn(closing)
    _show(_only(closing.books.statements, organisation), details=organisation is not None, as_json=as_json)


@app.command(epilog=examples("ilaas statement close 2026-10"))
def close(
    month: WhichMonth,
    organisation: OnlyOrganisation = None,
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Close the books of a month, for good and for everyone at once; --organisation only says which one to show."""
    which = _month(month)

    async def job(settlement: Settlement, actor: str) -> Closing:
        return await settlement.close(which, actor=actor)

    closing = settle(job, state_dir, config)
    _warn(closing)
    say(f"The books of {month} are closed. Usage that comes in later is corrected in {which.plus(1)}.")
    _show(_only(closing.books.statements, organisation), details=organisation is not None, as_json=as_json)


@app.command(epilog=examples("ilaas statement show 2026-10", "ilaas statement show 2026-10 --organisation Lille"))
def show(
    month: WhichMonth,
    organisation: OnlyOrganisation = None,
    *,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Show closed statements: all nets, or one organisation's lines."""
    which = _month(month)

    async def job(settlement: Settlement, _actor: str) -> Sequence[Statement]:
        return await settlement.statements(which, organisation)

    _show(settle(job, state_dir, config), details=organisation is not None, as_json=as_json)


@app.command(
    epilog=examples(
        "ilaas statement export 2026-10 --format pdf --organisation Lille --out lille.pdf",
        "ilaas statement export 2026-10 --format csv --out 2026-10.csv",
    )
)
def export(
    month: WhichMonth,
    organisation: OnlyOrganisation = None,
    *,
    format_: Annotated[str, typer.Option("--format", help="csv or pdf.")] = "pdf",
    out: Annotated[Path, typer.Option(help="The file to write; - is standard output.")],
    language: Annotated[str, typer.Option(help="Of the PDF: fr or en.")] = "fr",
    federation: Annotated[str, typer.Option(help="The federation's name, at the head of the PDF.")] = "ILaaS",
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Write statements to a file; of a month that is not closed, marked as provisional."""
    from ilaas.adapters.statement_pdf import statements_pdf
    from ilaas.adapters.statement_words import Language
    from ilaas.services.statement_csv import statements_csv

    if format_ not in {"csv", "pdf"}:
        raise typer.BadParameter("is csv or pdf", param_hint="'--format'")
    if language not in set(Language):
        raise typer.BadParameter("is fr or en", param_hint="'--language'")
    which = _month(month)

    async def job(settlement: Settlement, _actor: str) -> Sequence[Statement]:
        if which in await settlement.closed_months():
            return await settlement.statements(which, organisation)
        closing = await settlement.preview(which)
        say(f"{month} is not closed: the export is provisional.")
        return _only(closing.books.statements, organisation)

    found = settle(job, state_dir, config)
    if format_ == "csv":
        content = statements_csv(found).encode()
    else:
        content = statements_pdf(found, Language(language), federation)
    if str(out) == "-":
        sys.stdout.buffer.write(content)
        return
    out.write_bytes(content)
    say(f"Wrote {out} ({len(found)} {'statement' if len(found) == 1 else 'statements'}).")


def _warn(closing: Closing) -> None:
    for model in closing.unpriced:
        say(f"Note: '{model}' was served to others on days without a tariff: for nothing.")
    for month in closing.books.pruned:
        say(f"Note: usage of {month} is no longer all there: nothing of it was corrected.")


def _only(statements: Sequence[Statement], organisation: str | None) -> Sequence[Statement]:
    from ilaas.core.errors import NotFound

    if organisation is None:
        return statements
    found = [each for each in statements if each.organisation == organisation]
    if not found:
        raise NotFound(f"There is no statement of '{organisation}'.", param="organisation")
    return found


def _show(statements: Sequence[Statement], *, details: bool, as_json: bool) -> None:
    from ilaas.services.statement_csv import euros

    if as_json:
        print_json([{**_json(each), "net_cents": each.net_cents} for each in statements])
        return
    if details:
        columns = ("", "month", "model", "with", "requests", "prompt tokens", "completion tokens", "audio ms", "EUR")
        rows = [
            (
                *(line.kind.value, line.usage_month, line.model, line.counterparty, line.used.requests),
                *(line.used.prompt_tokens, line.used.completion_tokens, line.used.audio_ms, euros(line.cents)),
            )
            for each in statements
            for line in each.lines
        ]
        print_table(columns, rows, "No line.")
    print_table(
        ("organisation", "consumed EUR", "contributed EUR", "net EUR", "lines", "corrections"),
        [
            (
                *(each.organisation, euros(each.consumed_cents), euros(each.contributed_cents), euros(each.net_cents)),
                *(len(each.lines), len(each.corrections)),
            )
            for each in statements
        ],
        "No statement.",
    )


def _json(each: Statement) -> dict[str, object]:
    return {
        "organisation": each.organisation,
        "month": str(each.month),
        "closed_at_s": each.closed_at_s,
        "consumed_cents": each.consumed_cents,
        "contributed_cents": each.contributed_cents,
        "lines": [
            {
                "kind": line.kind,
                "usage_month": str(line.usage_month),
                "model": line.model,
                "counterparty": line.counterparty,
                "used": line.used,
                "micro_eur": line.micro_eur,
                "cents": line.cents,
            }
            for line in each.lines
        ],
    }


def _month(text: str) -> Month:
    from ilaas.core.periods import Month

    try:
        return Month.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'MONTH'") from None
