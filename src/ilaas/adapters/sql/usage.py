"""Usage records, as rows. A batch travels as one JSON text that the database takes apart: no work per record here."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import orjson
from sqlalchemy import BigInteger, Boolean, Integer, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import USAGE_RECORDS
from ilaas.core.errors import Unprocessable
from ilaas.core.usage import UsageRecord

_COLUMNS = tuple(USAGE_RECORDS.columns)
_LARGE = attrgetter(*(column.name for column in _COLUMNS if isinstance(column.type, BigInteger)))
_LARGEST = 2**63 - 1
_NAMES = ", ".join(column.name for column in _COLUMNS)


def _postgresql_type(kind: object) -> str:
    if isinstance(kind, BigInteger):
        return "bigint"
    if isinstance(kind, Integer):
        return "integer"
    return "boolean" if isinstance(kind, Boolean) else "text"


_SQLITE = text(
    f"INSERT INTO {USAGE_RECORDS.name} ({_NAMES}) "  # noqa: S608  # names of our own columns
    f"SELECT {', '.join(f'''json_extract(value, '$.{column.name}')''' for column in _COLUMNS)} "
    "FROM json_each(:records) WHERE true ON CONFLICT (id) DO NOTHING"
)
_POSTGRESQL = text(
    f"INSERT INTO {USAGE_RECORDS.name} ({_NAMES}) SELECT {_NAMES} "  # noqa: S608  # names of our own columns
    "FROM json_to_recordset(CAST(:records AS json)) AS batch"
    f"({', '.join(f'{column.name} {_postgresql_type(column.type)}' for column in _COLUMNS)}) "
    "ON CONFLICT (id) DO NOTHING"
)


async def add(connection: AsyncConnection, records: Sequence[UsageRecord]) -> int:
    """Insert those that are not there yet; returns how many were. Raises Unprocessable for values that don't fit."""
    if any(max(_LARGE(record)) > _LARGEST for record in records):  # SQLite would make a float of it
        raise Unprocessable("A usage record has a number above 2^63 - 1.")
    statement = _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE
    try:
        batch = orjson.dumps(records).decode()
    except TypeError as error:
        raise Unprocessable("A usage record can't be written as JSON.") from error
    done = await connection.execute(statement, {"records": batch})
    return done.rowcount
