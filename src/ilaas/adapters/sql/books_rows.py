"""Tariffs, statements and weights, as rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.books_tables import FAIR_WEIGHTS, STATEMENT_LINES, STATEMENTS, TARIFFS
from ilaas.core.billing import Quantities, Rates, Tariff
from ilaas.core.fairness import FairWeight
from ilaas.core.periods import Month
from ilaas.core.statements import LineKind, Statement, StatementLine

_RATES = ("prompt_per_million", "completion_per_million", "cached_per_million", "per_request", "audio_per_hour")

# -- tariffs -----------------------------------------------------------------------------------------------------------


async def tariffs(connection: AsyncConnection) -> list[Tariff]:
    """By model and first day."""
    query = select(TARIFFS).order_by(TARIFFS.c.model, TARIFFS.c.valid_from)
    return [_tariff(row) for row in await connection.execute(query)]


async def replace_tariffs(connection: AsyncConnection, old: Iterable[Tariff], new: Iterable[Tariff]) -> None:
    """Write what differs."""
    before, after = set(old), set(new)
    for gone in before - after:
        here = and_(TARIFFS.c.model == gone.model, TARIFFS.c.valid_from == gone.valid_from)
        await connection.execute(delete(TARIFFS).where(here))
    for come in after - before:
        values: dict[str, Any] = {
            "model": come.model,
            "valid_from": come.valid_from,
            "valid_to": come.valid_to,
            "has_credit": come.credit is not None,
        }
        for name in _RATES:
            values[name] = getattr(come.rates, name)
            values[f"credit_{name}"] = None if come.credit is None else getattr(come.credit, name)
        await connection.execute(insert(TARIFFS).values(**values))


def _tariff(row: Row[Any]) -> Tariff:
    found = row._mapping
    return Tariff(
        model=row.model,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        rates=Rates(**{name: found[name] for name in _RATES}),
        credit=Rates(**{name: found[f"credit_{name}"] for name in _RATES}) if row.has_credit else None,
    )


# -- statements --------------------------------------------------------------------------------------------------------


async def closed_months(connection: AsyncConnection) -> list[Month]:
    """In order."""
    query = select(STATEMENTS.c.month).distinct().order_by(STATEMENTS.c.month)
    return [Month.parse(row.month) for row in await connection.execute(query)]


async def add_statements(connection: AsyncConnection, statements: Iterable[Statement]) -> None:
    """Append them with their lines."""
    for each in statements:
        place = {"month": str(each.month), "organisation": each.organisation}
        await connection.execute(
            insert(STATEMENTS).values(
                **place,
                closed_at_s=each.closed_at_s,
                consumed_cents=each.consumed_cents,
                contributed_cents=each.contributed_cents,
                net_cents=each.net_cents,
            )
        )
        rows = [{**place, "number": number, **_line_values(line)} for number, line in enumerate(each.lines, 1)]
        if rows:
            await connection.execute(insert(STATEMENT_LINES), rows)


async def statements(connection: AsyncConnection, where: Sequence[tuple[str, str, str]]) -> list[Statement]:
    """Those for which each (column, "=" or ">=", value) holds, by month and organisation, with their lines."""
    heads = select(STATEMENTS).where(*(_where(STATEMENTS.c[name], sign, value) for name, sign, value in where))
    rows = select(STATEMENT_LINES).where(*(_where(STATEMENT_LINES.c[name], sign, value) for name, sign, value in where))
    lines: dict[tuple[str, str], list[StatementLine]] = defaultdict(list)
    for row in await connection.execute(rows.order_by(STATEMENT_LINES.c.number)):
        lines[row.month, row.organisation].append(_line(row))
    found = [
        Statement(
            organisation=row.organisation,
            month=Month.parse(row.month),
            lines=tuple(lines[row.month, row.organisation]),
            closed_at_s=row.closed_at_s,
        )
        for row in await connection.execute(heads)
    ]
    return sorted(found, key=lambda each: (each.month, each.organisation))


def _where(column: ColumnElement[Any], sign: str, value: str) -> ColumnElement[bool]:
    return column >= value if sign == ">=" else column == value


def _line_values(line: StatementLine) -> dict[str, Any]:
    return {
        "kind": str(line.kind),
        "usage_month": str(line.usage_month),
        "model": line.model,
        "counterparty": line.counterparty,
        "requests": line.used.requests,
        "prompt_tokens": line.used.prompt_tokens,
        "completion_tokens": line.used.completion_tokens,
        "cached_tokens": line.used.cached_tokens,
        "audio_ms": line.used.audio_ms,
        "micro_eur": line.micro_eur,
        "cents": line.cents,
    }


def _line(row: Row[Any]) -> StatementLine:
    return StatementLine(
        kind=LineKind(row.kind),
        usage_month=Month.parse(row.usage_month),
        model=row.model,
        counterparty=row.counterparty,
        used=Quantities(row.requests, row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.audio_ms),
        micro_eur=row.micro_eur,
        cents=row.cents,
    )


# -- weights -----------------------------------------------------------------------------------------------------------


async def fair_weights(connection: AsyncConnection) -> list[FairWeight]:
    """By organisation."""
    query = select(FAIR_WEIGHTS).order_by(FAIR_WEIGHTS.c.organisation)
    return [FairWeight(**row._mapping) for row in await connection.execute(query)]


async def put_fair_weights(connection: AsyncConnection, weights: Iterable[FairWeight]) -> None:
    """Create or replace."""
    for each in weights:
        await drop_fair_weight(connection, each.organisation)
        values = {column.name: getattr(each, column.name) for column in FAIR_WEIGHTS.columns}
        await connection.execute(insert(FAIR_WEIGHTS).values(**values))


async def drop_fair_weight(connection: AsyncConnection, organisation: str) -> bool:
    """Says whether there was one."""
    done = await connection.execute(delete(FAIR_WEIGHTS).where(FAIR_WEIGHTS.c.organisation == organisation))
    return done.rowcount > 0
