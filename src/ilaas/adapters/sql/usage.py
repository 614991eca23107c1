"""Usage records, as rows. A batch travels as one JSON text that the database takes apart: no work per record here."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from sqlalchemy import BigInteger, Boolean, Integer, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import USAGE_RECORDS
from ilaas.core.usage import UsageRecord

_COLUMNS = tuple(USAGE_RECORDS.columns)
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
    """Insert those that are not there yet; returns how many were."""
    statement = _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE
    done = await connection.execute(statement, {"records": orjson.dumps(records).decode()})
    return done.rowcount
