"""`ilaas usage`: who used what, from the roll-ups, and single records as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ilaas.core.periods import Period
    from ilaas.core.rollups import Dimension, Totals, UsageLine
    from ilaas.services.reporting import Report

app = typer.Typer(
    name="usage",
    help="Requests, tokens, audio, price, energy and CO2e: by organisation, project, key, model, site, class or day.",
    epilog=examples(
        "ilaas usage",
        "ilaas usage --by model --from 2026-10 --to 2026-10",
        "ilaas usage --by key --organisation univ-lille --json",
        "ilaas usage export --format parquet --out usage.parquet --from 2026-10-01",
    ),
    invoke_without_command=True,
)

_BARS = "▁▂▃▄▅▆▇█"
_SPARKS = 30
_SPARK_LINES = 200


class By(StrEnum):
    """What a line stands for."""

    ORGANISATION = "organisation"
    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    SITE = "site"
    CLASS = "class"
    DAY = "day"


class FileFormat(StrEnum):
    """Kinds of export files."""

    CSV = "csv"
    PARQUET = "parquet"


From = Annotated[
    str | None,
    typer.Option("--from", metavar="DAY", help="First day, 2026-10-01, or month, 2026-10 (UTC). Else 30 days."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="Last day or month, which belongs to it. Else today.")
]
Only = Annotated[str | None, typer.Option(metavar="NAME", help="Only this one.")]


@app.callback()
def usage(
    context: typer.Context,
    *,
    by: Annotated[By, typer.Option(help="What a line stands for.")] = By.ORGANISATION,
    first: From = None,
    last: To = None,
    organisation: Only = None,
    project: Only = None,
    key: Only = None,
    model: Only = None,
    site: Only = None,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Show usage; the last requests appear within some seconds of their end."""
    if context.invoked_subcommand is not None:
        return
    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.core.rollups import Dimension, UsageQuery
    from ilaas.services.reporting import report

    place = find_place(state_dir, config)
    must_exist(place)
    period = _period(first, last)
    where = _where(organisation=organisation, project=project, key=key, model=model, site=site)

    async def job(office: Office) -> tuple[Report, Sequence[UsageLine], Mapping[str, str]]:
        found = await report(office.store, period, (Dimension(by.value),), where)
        days: Sequence[UsageLine] = ()
        if Dimension.DAY not in found.columns and len(found.lines) <= _SPARK_LINES and not as_json:
            query = UsageQuery(period=period, by=(*found.columns, Dimension.DAY), where=where)
            days = await office.store.usage_lines(query)
        keys = await office.admin.list_keys(include_dead=True) if by is By.KEY else []
        return found, days, {each.id: each.name for each in keys}

    found, days, names = work(place, job)
    if as_json:
        print_json(_json(found))
    else:
        _print(found, _sparklines(found, days), names)


@app.command(epilog=examples("ilaas usage export --format csv --out october.csv --from 2026-10 --to 2026-10"))
def export(
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    kind: Annotated[FileFormat, typer.Option("--format", help="Kind of file.")] = FileFormat.CSV,
    first: From = None,
    last: To = None,
    organisation: Only = None,
    project: Only = None,
    key: Only = None,
    model: Only = None,
    site: Only = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Write single records, one line per request. They are kept as long as `usage_retention_days` says."""
    from ilaas.adapters.usage_export import Format, export_usage
    from ilaas.cli.place import Office, find_place, must_exist, work
    from ilaas.ports.usage import RecordFilter

    place = find_place(state_dir, config)
    must_exist(place)
    where = _where(organisation=organisation, project=project, key=key, model=model, site=site)
    which = RecordFilter(period=_period(first, last), where=where)

    async def job(office: Office) -> int:
        return await export_usage(office.store, which, Format(kind.value), out)

    say(f"Wrote {work(place, job)} records of {which.period} to {out}.")


def _period(first: str | None, last: str | None) -> Period:
    import time

    from ilaas.core.periods import Period

    today = Period.last_days(1, time.time())
    try:
        if first is None:
            if last is not None:
                raise ValueError("--to needs --from")
            return Period.last_days(30, time.time())
        return Period.parse(first, last or str(today.last_date))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--from', '--to'") from None


def _where(**only: str | None) -> dict[Dimension, frozenset[str]]:
    from ilaas.core.rollups import Dimension

    return {Dimension(name): frozenset({value}) for name, value in only.items() if value is not None}


def _json(found: Report) -> dict[str, object]:
    from ilaas.services.reporting import totals_value

    return {
        "from": found.period.first_date.isoformat(),
        "to": found.period.last_date.isoformat(),
        "lines": [
            {**dict(zip(found.columns, line.values, strict=True)), **totals_value(line.totals)} for line in found.lines
        ],
        "total": totals_value(found.total),
    }


def _print(found: Report, sparklines: Mapping[tuple[str | int, ...], str], names: Mapping[str, str]) -> None:
    from ilaas.core.rollups import Dimension

    say(f"Usage from {found.period} (UTC)")
    by_day = Dimension.DAY in found.columns
    audio = found.total.audio_ms > 0
    lines = found.lines if by_day else sorted(found.lines, key=lambda line: -line.totals.tokens)
    most = max((line.totals.tokens for line in lines), default=0)
    rows: list[list[object]] = []
    for line in lines:
        shown = [names.get(str(value), value) for value in line.values]
        if by_day:
            trend = "━" * round(20 * line.totals.tokens / most) if most else ""
        else:
            trend = sparklines.get(line.values, "")
        rows.append([*shown, *_numbers(line.totals, audio=audio), trend])
    if rows:
        rows.append(["total", *[""] * (len(found.columns) - 1), *_numbers(found.total, audio=audio), ""])
    print_table(
        (
            *found.columns,
            *("requests", "not completed", "tokens in", "tokens out"),
            *(("audio s",) if audio else ()),
            *("EUR", "Wh", "gCO2e", "tokens a day"),
        ),
        rows,
        "No usage in this period.",
    )


def _numbers(totals: Totals, *, audio: bool) -> list[object]:
    known = totals.impact_known > 0
    return [
        totals.requests,
        totals.requests - totals.completed,
        totals.prompt_tokens,
        totals.completion_tokens,
        *([round(totals.audio_ms / 1000)] if audio else []),
        totals.price_micro_eur / 1_000_000,
        totals.energy_mj / 3_600_000 if known else None,
        (totals.co2e_ug + totals.embodied_co2e_ug) / 1_000_000 if known else None,
    ]


def _sparklines(found: Report, days: Sequence[UsageLine]) -> dict[tuple[str | int, ...], str]:
    """Tokens a day of each line, at most 30 marks: several days to a mark when there are more."""
    count = len(found.period.days)
    per_mark = -(-count // _SPARKS)
    marks: dict[tuple[str | int, ...], list[int]] = {}
    for line in days:
        *values, day = line.values
        of_line = marks.setdefault(tuple(values), [0] * -(-count // per_mark))
        of_line[(int(day) - found.period.first_day) // per_mark] += line.totals.tokens
    return {values: _spark(amounts) for values, amounts in marks.items()} if count > 1 else {}


def _spark(amounts: Sequence[int]) -> str:
    most = max(amounts)
    if not most:
        return ""
    return "".join(_BARS[min(7, amount * 8 // most)] if amount else " " for amount in amounts)
