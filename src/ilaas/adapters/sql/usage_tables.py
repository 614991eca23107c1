"""The roll-ups of usage, as tables: what they are is said in `core.rollups`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from ilaas.adapters.sql.tables import METADATA
from ilaas.core.rollups import DAILY, DAILY_KEYS, DAILY_MODELS, HOURLY, MEASURES, Dimension, RollUp

_TIMES = {Dimension.HOUR, Dimension.DAY}


def _table(one: RollUp) -> Table:
    return Table(
        one.table,
        METADATA,
        *(
            Column(each.column, Integer if each in _TIMES else Text, primary_key=True, autoincrement=False)
            for each in one.dimensions
        ),
        *(Column(name, BigInteger, nullable=False) for name in MEASURES),
        sqlite_with_rowid=False,
    )


USAGE_DAILY_MODELS = _table(DAILY_MODELS)
USAGE_DAILY_KEYS = _table(DAILY_KEYS)
USAGE_DAILY = _table(DAILY)
USAGE_HOURLY = _table(HOURLY)
ROLL_UP_TABLES = {
    DAILY_MODELS: USAGE_DAILY_MODELS,
    DAILY_KEYS: USAGE_DAILY_KEYS,
    DAILY: USAGE_DAILY,
    HOURLY: USAGE_HOURLY,
}
