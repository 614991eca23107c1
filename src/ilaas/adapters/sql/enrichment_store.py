"""The EnrichmentStore: each method is one transaction; what it does to rows is in the file of the entity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import enrichment_clients as clients
from ilaas.adapters.sql import enrichment_notices as notices
from ilaas.adapters.sql import enrichment_rows as rows
from ilaas.adapters.sql import revision
from ilaas.adapters.sql.engine import Database, make_sqlite_file
from ilaas.adapters.sql.enrichment_queue import SqlEnrichmentJobs
from ilaas.adapters.sql.schema import migrate
from ilaas.core.enrichment import states
from ilaas.core.enrichment.changes import Change, Notice
from ilaas.core.enrichment.clients import ApiClient, SigningKey
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.ports.enrichment import ListQuery, Page
from ilaas.ports.tenancy import AuditLine


class SqlApiClients:
    """`ports.enrichment.ClientStore` on SQLite or PostgreSQL."""

    _database: Database
    _secret: Secret

    async def add_client(self, client: ApiClient, audit: AuditLine) -> None:
        """Raises Conflict."""
        async with self._audited(audit) as connection:
            await clients.add(connection, client, self._secret)

    async def change_client(
        self, client_id: str, change: Callable[[ApiClient], ApiClient], audit: AuditLine
    ) -> ApiClient:
        """Raises NotFound, Conflict."""
        async with self._audited(audit) as connection:
            before = await clients.find(connection, client_id, self._secret)
            after = replace(change(before), id=before.id, organisation=before.organisation, project=before.project)
            await clients.replace(connection, after, self._secret)
            return after

    async def client(self, client_id: str) -> ApiClient:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await clients.find(connection, client_id, self._secret)

    async def clients(self, *, organisation: str | None = None, project: str | None = None) -> Sequence[ApiClient]:
        """By organisation, project, name."""
        async with self._database.read() as connection:
            return await clients.listed(connection, organisation, project, self._secret)

    async def touch_client(
        self, client_id: str, *, token_at_s: float | None = None, job_at_s: float | None = None
    ) -> None:
        """Never backwards."""
        async with self._database.write() as connection:
            await clients.touch(connection, client_id, token_at_s, job_at_s)

    async def signing_keys(self) -> Sequence[SigningKey]:
        """The newest first."""
        async with self._database.read() as connection:
            return await clients.signing_keys(connection, self._secret)

    async def add_signing_key(self, key: SigningKey, *, unless_after_s: float) -> bool:
        """Says whether it did: two gateways that start together end up with one key."""
        async with self._database.write() as connection:
            await revision.lock(connection)
            return await clients.add_signing_key(connection, key, unless_after_s, self._secret)

    async def drop_signing_keys(self, retired_before_s: float) -> int:
        """Returns how many."""
        async with self._database.write() as connection:
            return await clients.drop_signing_keys(connection, retired_before_s)

    @asynccontextmanager
    async def _audited(self, audit: AuditLine) -> AsyncIterator[AsyncConnection]:
        async with self._database.write() as connection:
            await revision.bump(connection)
            yield connection
            await revision.record(connection, audit)


class SqlNotices:
    """`ports.enrichment.NoticeStore` and `RetentionStore` on SQLite or PostgreSQL."""

    _database: Database

    async def take_notice(self, at_s: float, lease_s: float) -> Notice | None:
        """For this worker alone."""
        async with self._database.read() as connection:
            if not await notices.is_any_due(connection, at_s):
                return None
        async with self._database.write() as connection:
            return await notices.take(connection, at_s, lease_s)

    async def notice_done(self, notice: Notice, at_s: float, *, status: str | None, delivered: bool) -> None:
        """Nothing happens when another worker took it over since."""
        async with self._database.write() as connection:
            if await self._note(connection, notice, status, at_s if delivered else None):
                await notices.drop(connection, notice)

    async def notice_later(self, notice: Notice, next_at_s: float, *, status: str | None) -> None:
        """Nothing happens when another worker took it over since."""
        async with self._database.write() as connection:
            if await self._note(connection, notice, status, None):
                await notices.put_off(connection, notice, next_at_s)

    async def due_for_removal(self, at_s: float, limit: int = 100) -> Sequence[Enrichment]:
        """By id."""
        async with self._database.read() as connection:
            return await notices.due_for_removal(connection, at_s, limit)

    async def trash(self, limit: int = 100) -> Sequence[str]:
        """The oldest first."""
        async with self._database.read() as connection:
            return await notices.trash(connection, limit)

    async def trash_done(self, keys: Sequence[str]) -> None:
        """They are deleted."""
        async with self._database.write() as connection:
            await notices.trash_done(connection, keys)

    async def known_objects(self, keys: Sequence[str]) -> frozenset[str]:
        """Those that something refers to."""
        async with self._database.read() as connection:
            return await notices.known(connection, keys)

    @staticmethod
    async def _note(connection: AsyncConnection, notice: Notice, status: str | None, at_s: float | None) -> bool:
        """Write down what the receiver answered; says whether the notice is still this worker's."""
        enrichment = await rows.find(connection, notice.enrichment_id, lock=True)
        if not await notices.is_held(connection, notice):
            return False
        await rows.write(connection, Change(enrichment=states.notified(enrichment, status, at_s)), enrichment)
        return True


class SqlEnrichmentStore(SqlApiClients, SqlEnrichmentJobs, SqlNotices):
    """`ports.enrichment.EnrichmentStore` on SQLite or PostgreSQL, in the database of the `SqlStore`."""

    def __init__(self, url: str, secret: Secret) -> None:
        """`url` as SQLAlchemy writes it; `secret` encrypts what must not be read. Raises ConfigError."""
        self._database = Database(url)
        self._secret = secret

    async def open(self) -> None:
        """Connect and bring the schema up to date."""
        if self._database.is_sqlite:
            make_sqlite_file(self._database.url)
        await migrate(self._database)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._database.close()

    async def add(self, change: Change) -> None:
        """Raises Conflict when the id is taken."""
        async with self._database.write() as connection:
            await rows.write(connection, change, None)

    async def enrichment(self, enrichment_id: str) -> Enrichment:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await rows.find(connection, enrichment_id)

    async def page(
        self, client_id: str, query: ListQuery, *, end_user_identifier: str | None = None
    ) -> Page[Enrichment]:
        """A client's own that are not deleted."""
        async with self._database.read() as connection:
            return await rows.page(connection, client_id, query, end_user_identifier)

    async def change(self, enrichment_id: str, decide: Callable[[Enrichment], Change]) -> Enrichment:
        """Raises NotFound, and whatever `decide` raises."""
        async with self._database.write() as connection:
            before = await rows.find(connection, enrichment_id, lock=True)
            change = decide(before)
            await rows.write(connection, change, before)
            return change.enrichment

    async def change_version(
        self, enrichment_id: str, version_id: str, decide: Callable[[Enrichment, Version], Change]
    ) -> Change:
        """Raises NotFound, and whatever `decide` raises."""
        async with self._database.write() as connection:
            before = await rows.find(connection, enrichment_id, lock=True)
            change = decide(before, await rows.find_version(connection, enrichment_id, version_id))
            await rows.write(connection, change, before)
            return change

    async def version(self, enrichment_id: str, version_id: str) -> Version:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await rows.find_version(connection, enrichment_id, version_id)

    async def latest_version(self, enrichment_id: str) -> Version | None:
        """With its transcript."""
        async with self._database.read() as connection:
            found = await rows.versions(connection, enrichment_id, ListQuery(size=1), with_transcript=True)
        return found.content[0] if found.content else None

    async def versions(self, enrichment_id: str, query: ListQuery, *, with_transcript: bool = True) -> Page[Version]:
        """Its versions."""
        async with self._database.read() as connection:
            return await rows.versions(connection, enrichment_id, query, with_transcript=with_transcript)
