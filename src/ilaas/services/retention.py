"""Forgets single usage records after a time. Roll-ups stay: they name organisations, projects and keys, no request."""

from __future__ import annotations

import asyncio

import structlog

from ilaas.core.periods import DAY_S, day_of
from ilaas.ports.usage import UsageStore

_BATCH = 5_000
_MOST = 500_000
"""In one go: the rest follows the next time."""

_log = structlog.get_logger(__name__)


async def apply_retention(store: UsageStore, now_s: float, days: int) -> int:
    """Delete the records of days that are more than `days` days ago; returns how many. Call it about hourly.

    Small batches, with room for other writers in between. Raises ValueError when `days` is below 1.
    """
    if days < 1:
        raise ValueError("usage_retention_days must be at least 1")
    before_ms = (day_of(now_s) - days) * DAY_S * 1000
    deleted = 0
    while deleted < _MOST:
        count = await store.delete_usage(before_ms, _BATCH)
        deleted += count
        if count < _BATCH:
            break
        await asyncio.sleep(0)
    if deleted:
        _log.info("usage_records_deleted", records=deleted, older_than_days=days)
    return deleted
