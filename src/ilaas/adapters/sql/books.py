"""The books: each method is one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql import books_rows as rows
from ilaas.adapters.sql import revision
from ilaas.adapters.sql.engine import Database
from ilaas.core.billing import Tariff, TariffBook
from ilaas.core.closing import check_follows
from ilaas.core.fairness import FairWeight
from ilaas.core.periods import Month
from ilaas.core.statements import Statement
from ilaas.ports.tenancy import AuditLine


class SqlBooks:
    """`ports.books.Books` on SQLite or PostgreSQL; `SqlStore` is one."""

    _database: Database

    async def tariffs(self) -> Sequence[Tariff]:
        """By model and first day."""
        async with self._database.read() as connection:
            return await rows.tariffs(connection)

    async def change_tariffs(self, change: Callable[[TariffBook], TariffBook], audit: AuditLine) -> TariffBook:
        """Read, change and write in one transaction."""
        async with self._booked(audit) as connection:
            old = TariffBook(tuple(await rows.tariffs(connection)))
            new = change(old)
            await rows.replace_tariffs(connection, old.tariffs, new.tariffs)
            return new

    async def closed_months(self) -> Sequence[Month]:
        """In order."""
        async with self._database.read() as connection:
            return await rows.closed_months(connection)

    async def close_month(self, month: Month, statements: Sequence[Statement], audit: AuditLine) -> None:
        """Raises Conflict."""
        async with self._booked(audit) as connection:
            check_follows(month, await rows.closed_months(connection))
            await rows.add_statements(connection, statements)

    async def statements(self, month: Month, *, organisation: str | None = None) -> Sequence[Statement]:
        """By organisation."""
        where = [("month", "=", str(month))]
        if organisation is not None:
            where.append(("organisation", "=", organisation))
        async with self._database.read() as connection:
            return await rows.statements(connection, where)

    async def booked(self, since: Month) -> Sequence[Statement]:
        """By month and organisation."""
        async with self._database.read() as connection:
            return await rows.statements(connection, [("month", ">=", str(since))])

    async def fair_weights(self) -> Sequence[FairWeight]:
        """By organisation."""
        async with self._database.read() as connection:
            return await rows.fair_weights(connection)

    async def put_fair_weights(self, weights: Sequence[FairWeight], audit: AuditLine) -> bool:
        """False, with nothing written, when all are so already."""
        async with self._database.read() as connection:
            if set(weights) <= set(await rows.fair_weights(connection)):
                return False
        async with self._booked(audit) as connection:
            await rows.put_fair_weights(connection, weights)
            return True

    async def drop_fair_weight(self, organisation: str, audit: AuditLine) -> bool:
        """Says whether there was one."""
        async with self._database.write() as connection:
            await revision.bump(connection)
            dropped = await rows.drop_fair_weight(connection, organisation)
            if dropped:
                await revision.record(connection, audit)
            return dropped

    @asynccontextmanager
    async def _booked(self, audit: AuditLine) -> AsyncIterator[AsyncConnection]:
        """A transaction that is one change: a new revision before it, its audit line after it."""
        async with self._database.write() as connection:
            await revision.bump(connection)
            yield connection
            await revision.record(connection, audit)
