"""Usage records and their roll-ups, as rows. SQLAlchemy does nothing per record: every request would pay for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Integer, Table, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import USAGE_RECORDS
from ilaas.adapters.sql.usage_tables import ROLL_UP_TABLES
from ilaas.core.errors import StoreUnavailable, Unprocessable
from ilaas.core.rollups import (
    HOURS_A_DAY,
    MEASURES,
    Dimension,
    Grouped,
    RollUp,
    Totals,
    UsageLine,
    UsageQuery,
    folded,
    rolled_up,
)
from ilaas.core.summing import UNKNOWN_METHODS
from ilaas.core.usage import UsageRecord, values_of
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.ports.usage import RecordFilter

_NAMES = ", ".join(column.name for column in USAGE_RECORDS.columns)
_ENUMS = {"request_class": RequestClass, "routing_mode": RoutingMode, "outcome": Outcome}
_LOCK = 0x696C61617375  # "ilaasu": the advisory lock of PostgreSQL under which usage is added
_LISTED_DAYS = 400
_LARGEST_SUM = 2**53
"""Of one batch: far beyond any real one, and far from where the databases' integers end."""


# -- adding ------------------------------------------------------------------------------------------------------------


async def add(connection: AsyncConnection, records: Sequence[UsageRecord]) -> int:
    """Insert those that are not there yet; returns how many were. Raises Unprocessable for values that don't fit."""
    if connection.dialect.name == "postgresql":
        return await _add_to_postgresql(connection, records)
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    # All of it in one visit to the driver's thread: each costs as much as inserting ten records.
    return int(await driver._execute(_add_to_sqlite, driver._conn, records))


_ROWS_AT_ONCE = 200
"""Of one statement. The driver lets go of the interpreter's lock at each step of a statement, and to have it back the
event loop must give way: a statement for each record cost the loop more than the record itself."""


def _sqlite_insert(rows: int) -> str:
    row = f"({', '.join('?' * len(USAGE_RECORDS.columns))})"
    return (
        f"INSERT INTO {USAGE_RECORDS.name} ({_NAMES}) "  # noqa: S608  # names of our own columns
        f"VALUES {', '.join([row] * rows)} ON CONFLICT (id) DO NOTHING"
    )


_SQLITE_INSERT = _sqlite_insert(1)
_SQLITE_INSERT_MANY = _sqlite_insert(_ROWS_AT_ONCE)


def _upsert(one: RollUp) -> str:
    sums = ", ".join(f"{name} = {one.table}.{name} + excluded.{name}" for name in MEASURES)
    return f"ON CONFLICT ({', '.join(one.columns)}) DO UPDATE SET {sums}"


_SQLITE_UPSERTS = {
    one: f"INSERT INTO {one.table} ({', '.join((*one.columns, *MEASURES))}) "  # noqa: S608
    f"VALUES ({', '.join('?' * len((*one.columns, *MEASURES)))}) {_upsert(one)}"
    for one in ROLL_UP_TABLES
}


def _add_to_sqlite(connection: sqlite3.Connection, records: Sequence[UsageRecord]) -> int:
    try:
        # Rows get growing numbers: those above the last one are the new ones.
        (last,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM usage_records").fetchone()
        before = connection.total_changes
        whole = len(records) - len(records) % _ROWS_AT_ONCE
        for start in range(0, whole, _ROWS_AT_ONCE):
            values = chain.from_iterable(map(values_of, records[start : start + _ROWS_AT_ONCE]))
            connection.execute(_SQLITE_INSERT_MANY, tuple(values))
        connection.executemany(_SQLITE_INSERT, map(values_of, records[whole:]))
        count = connection.total_changes - before
        if count < len(records):
            records = _new_ones(connection, records, last)
        finest = rolled_up(records)
        _check_sums(finest)
        for one, statement in _SQLITE_UPSERTS.items():
            lines = folded(finest, one.dimensions)
            connection.executemany(statement, ((*key, *sums) for key, sums in lines.items()))
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
        raise Unprocessable("A usage record has a value that the database does not take.") from error
    except (OverflowError, UnicodeEncodeError, TypeError, AttributeError) as error:
        raise Unprocessable("A usage record has a value that the database can't hold.") from error
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The database does not answer: {type(error).__name__} ({error}).") from error
    return count


def _new_ones(connection: sqlite3.Connection, records: Iterable[UsageRecord], last: int) -> list[UsageRecord]:
    new = {row[0] for row in connection.execute("SELECT id FROM usage_records WHERE rowid > ?", (last,))}
    first: dict[str, UsageRecord] = {}
    for record in records:
        if record.id in new:
            first.setdefault(record.id, record)
    return list(first.values())


def _check_sums(finest: Grouped) -> None:
    for sums in finest.values():
        if max(sums) > _LARGEST_SUM or min(sums) < -_LARGEST_SUM:
            raise Unprocessable("A usage record has a number that is too large to be summed.")


def _postgresql_type(kind: object) -> str:
    if isinstance(kind, BigInteger):
        return "bigint"
    if isinstance(kind, Integer):
        return "integer"
    return "boolean" if isinstance(kind, Boolean) else "text"


_postgresql_row = attrgetter(
    *(f"{each.name}._value_" if each.name in _ENUMS else each.name for each in USAGE_RECORDS.columns)
)
_COUNTS = {
    "requests": "1",
    "completed": f"CASE WHEN outcome = '{Outcome.COMPLETED}' THEN 1 ELSE 0 END",
    "estimated": "CASE WHEN estimated THEN 1 ELSE 0 END",
    "impact_known": f"CASE WHEN impact_method NOT IN {UNKNOWN_METHODS} THEN 1 ELSE 0 END",
    "energy_measured": "CASE WHEN energy_measured THEN 1 ELSE 0 END",
}


def _postgresql_roll_up(one: RollUp) -> str:
    first, *others = one.columns
    divisor = 3_600_000 if first == "hour" else 86_400_000
    sums = ", ".join(f"CAST(sum({_COUNTS.get(name, name)}) AS bigint)" for name in MEASURES)
    return (
        f"INSERT INTO {one.table} ({', '.join((*one.columns, *MEASURES))}) "  # noqa: S608
        f"SELECT CAST(finished_at_ms / {divisor} AS integer), {', '.join(others)}, {sums} FROM new "
        f"GROUP BY {', '.join(str(number + 1) for number in range(len(one.columns)))} {_upsert(one)} RETURNING 1"
    )


_POSTGRESQL = (
    f"WITH new AS (INSERT INTO {USAGE_RECORDS.name} ({_NAMES}) SELECT * FROM unnest("  # noqa: S608
    + ", ".join(f"${at + 1}::{_postgresql_type(each.type)}[]" for at, each in enumerate(USAGE_RECORDS.columns))
    + f") ON CONFLICT (id) DO NOTHING RETURNING {_NAMES}), "
    + ", ".join(f"into_{one.table} AS ({_postgresql_roll_up(one)})" for one in ROLL_UP_TABLES)
    + " SELECT count(*) FROM new"
)


async def _add_to_postgresql(connection: AsyncConnection, records: Sequence[UsageRecord]) -> int:
    try:
        columns = tuple(map(list, zip(*map(_postgresql_row, records), strict=True)))
    except AttributeError as error:
        raise Unprocessable("A usage record has a value of a wrong kind.") from error
    # One at a time: two batches that change the same sums in another order would lock each other out.
    await connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (_LOCK,))
    return int((await connection.exec_driver_sql(_POSTGRESQL, columns)).scalar_one())


# -- reading -----------------------------------------------------------------------------------------------------------


async def lines(connection: AsyncConnection, query: UsageQuery) -> list[UsageLine]:
    """Sums of a roll-up, in the order of `query.by`."""
    one = query.roll_up()
    table = ROLL_UP_TABLES[one]
    by = [table.c[each.column] for each in query.by]
    sums = [func.sum(table.c[name]) for name in MEASURES]
    found = await connection.execute(
        select(*by, *sums).where(_during(table, query), *_where(table, query.where)).group_by(*by)
    )
    width = len(by)
    answer = [
        UsageLine(tuple(row[:width]), Totals(*map(int, row[width:])))
        for row in found
        if row[width] is not None  # without `by`, nothing at all is a line of nulls
    ]
    return sorted(answer, key=lambda line: line.values)  # not by the database: each has an order of its own for text


def _during(table: Table, query: UsageQuery) -> ColumnElement[bool]:
    period, time = query.period, next(iter(table.columns))
    if time.name == "hour":
        return and_(time >= period.first_day * HOURS_A_DAY, time < period.end_day * HOURS_A_DAY)
    if Dimension.ORGANISATION in query.where and len(period.days) <= _LISTED_DAYS:
        # Each day and organisation is then sought in the primary key, which begins with them.
        return time.in_(period.days)
    return and_(time >= period.first_day, time < period.end_day)


def _where(table: Table, where: Mapping[Dimension, frozenset[str]]) -> list[ColumnElement[bool]]:
    return [table.c[each.column].in_(sorted(values)) for each, values in where.items()]


_READ = select(USAGE_RECORDS).order_by(USAGE_RECORDS.c.finished_at_ms, USAGE_RECORDS.c.id)


async def page(
    connection: AsyncConnection, which: RecordFilter, after: tuple[int, str] | None, limit: int
) -> list[UsageRecord]:
    """Single records by time and id."""
    at, record_id = USAGE_RECORDS.c.finished_at_ms, USAGE_RECORDS.c.id
    query = _READ.where(at < which.period.end_ms, *_where(USAGE_RECORDS, which.where)).limit(limit)
    if after is None:
        query = query.where(at >= which.period.start_ms)
    else:
        query = query.where(at >= after[0], or_(at > after[0], record_id > after[1]))
    return [_record(row._asdict()) for row in await connection.execute(query)]


def _record(row: Mapping[str, Any]) -> UsageRecord:
    return UsageRecord(**{**row, **{name: kind(row[name]) for name, kind in _ENUMS.items()}})


async def delete_before(connection: AsyncConnection, before_ms: int, limit: int) -> int:
    """Delete the oldest records."""
    at = USAGE_RECORDS.c.finished_at_ms
    oldest = select(USAGE_RECORDS.c.id).where(at < before_ms).order_by(at).limit(limit)
    return (await connection.execute(delete(USAGE_RECORDS).where(USAGE_RECORDS.c.id.in_(oldest)))).rowcount
