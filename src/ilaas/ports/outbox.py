"""Where usage records go first: an append-only file that outlives the process, emptied into the Store in batches."""

from __future__ import annotations

from typing import Protocol

from ilaas.core.usage import UsageRecord


class Outbox(Protocol):
    """Takes records without waiting."""

    def append(self, record: UsageRecord) -> None:
        """Take one record; it is on disk within some 2 ms. Never blocks on the Store, never raises."""

    async def close(self) -> None:
        """Write what is left."""
