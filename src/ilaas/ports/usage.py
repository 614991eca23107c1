"""Usage in the Store: records are added once each, and summed in roll-ups that outlive them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ilaas.core.periods import Period
from ilaas.core.rollups import Dimension, UsageLine, UsageQuery
from ilaas.core.usage import UsageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Which single records a page has."""

    period: Period
    where: dict[Dimension, frozenset[str]] = field(default_factory=dict)
    """Without hours and days."""


class UsageStore(Protocol):
    """The part of the Store that counts. All of it raises as `ports.store.Store` does."""

    async def add_usage(self, records: Sequence[UsageRecord]) -> int:
        """Insert the records not there yet, and add them to the roll-ups, in one transaction.

        Returns how many were new. Raises `Unprocessable`, with none inserted, when the database can't hold a value:
        trying again won't help.
        """

    async def usage_lines(self, query: UsageQuery) -> Sequence[UsageLine]:
        """In the order of `query.by`. Raises ValueError for a combination that is not kept."""

    async def page_of_usage(
        self, which: RecordFilter, after: tuple[int, str] | None, limit: int
    ) -> Sequence[UsageRecord]:
        """Single records by `finished_at_ms` and id, after those of the last one of the page before."""

    async def delete_usage(self, before_ms: int, limit: int) -> int:
        """Delete single records that finished before, the oldest first; the roll-ups stay. Returns how many."""
