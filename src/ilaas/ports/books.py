"""Where tariffs, closed statements and fairness weights live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ilaas.core.billing import Tariff, TariffBook
from ilaas.core.fairness import FairWeight
from ilaas.core.periods import Month
from ilaas.core.statements import Statement
from ilaas.ports.tenancy import AuditLine


class Books(Protocol):
    """The books of the federation. Every method raises `StoreUnavailable` when the database does not answer.

    A new tariff or weight bumps the Store's `revision`, so that gateways read it within a second.
    """

    async def tariffs(self) -> Sequence[Tariff]:
        """By model and first day."""

    async def change_tariffs(self, change: Callable[[TariffBook], TariffBook], audit: AuditLine) -> TariffBook:
        """Apply `change` to all tariffs, with no other change in between; returns the new book.

        What `change` raises is raised, with nothing written.
        """

    async def closed_months(self) -> Sequence[Month]:
        """In order."""

    async def close_month(self, month: Month, statements: Sequence[Statement], audit: AuditLine) -> None:
        """Write the statements of a month, once and for good.

        Raises `Conflict` when the month is closed, or another than the one before it was closed last.
        """

    async def statements(self, month: Month, *, organisation: str | None = None) -> Sequence[Statement]:
        """Closed statements by organisation, lines in their order."""

    async def booked(self, since: Month) -> Sequence[Statement]:
        """All closed statements of that month and later, with their lines."""

    async def fair_weights(self) -> Sequence[FairWeight]:
        """By organisation."""

    async def put_fair_weights(self, weights: Sequence[FairWeight], audit: AuditLine) -> bool:
        """Create or replace those of these organisations; False, with nothing written, when all are so already."""

    async def drop_fair_weight(self, organisation: str, audit: AuditLine) -> bool:
        """Forget it; says whether there was one."""
