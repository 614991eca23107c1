"""The books in memory: the twin of `adapters.sql.books`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ilaas.adapters.store_memory_tenancy import MemoryTenancy
from ilaas.core.billing import Tariff, TariffBook
from ilaas.core.closing import check_follows
from ilaas.core.fairness import FairWeight
from ilaas.core.periods import Month
from ilaas.core.statements import Statement
from ilaas.ports.tenancy import AuditLine


class MemoryBooks(MemoryTenancy):
    """`ports.books.Books` in dicts; `MemoryStore` is one."""

    def __init__(self) -> None:
        super().__init__()
        self._tariffs = TariffBook()
        self._statements: dict[Month, tuple[Statement, ...]] = {}
        self._fair_weights: dict[str, FairWeight] = {}

    async def tariffs(self) -> Sequence[Tariff]:
        """By model and first day."""
        return self._tariffs.tariffs

    async def change_tariffs(self, change: Callable[[TariffBook], TariffBook], audit: AuditLine) -> TariffBook:
        """Raises what `change` raises."""
        self._tariffs = change(self._tariffs)
        self._changed(audit)
        return self._tariffs

    async def closed_months(self) -> Sequence[Month]:
        """In order."""
        return sorted(self._statements)

    async def close_month(self, month: Month, statements: Sequence[Statement], audit: AuditLine) -> None:
        """Raises Conflict."""
        check_follows(month, sorted(self._statements))
        if statements:
            self._statements[month] = tuple(statements)
        self._changed(audit)

    async def statements(self, month: Month, *, organisation: str | None = None) -> Sequence[Statement]:
        """By organisation."""
        return [each for each in self._statements.get(month, ()) if organisation in {None, each.organisation}]

    async def booked(self, since: Month) -> Sequence[Statement]:
        """By month and organisation."""
        return [each for month in sorted(self._statements) if month >= since for each in self._statements[month]]

    async def fair_weights(self) -> Sequence[FairWeight]:
        """By organisation."""
        return [self._fair_weights[name] for name in sorted(self._fair_weights)]

    async def put_fair_weights(self, weights: Sequence[FairWeight], audit: AuditLine) -> bool:
        """False when all are so already."""
        new = {each.organisation: each for each in weights}
        if all(self._fair_weights.get(name) == each for name, each in new.items()):
            return False
        self._fair_weights.update(new)
        self._changed(audit)
        return True

    async def drop_fair_weight(self, organisation: str, audit: AuditLine) -> bool:
        """Says whether there was one."""
        if self._fair_weights.pop(organisation, None) is None:
            return False
        self._changed(audit)
        return True
