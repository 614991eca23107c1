"""The Store: each method is one transaction; what it does to rows is in the file of the entity."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import keys, organisations, projects, revision, servers, usage
from ilaas.adapters.sql.books import SqlBooks
from ilaas.adapters.sql.engine import Database, make_sqlite_file
from ilaas.adapters.sql.peek import RevisionPeek
from ilaas.adapters.sql.schema import migrate
from ilaas.adapters.sql.tenancy_store import SqlTenancy
from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.rollups import UsageLine, UsageQuery
from ilaas.core.tenancy import Directory, Key, Organisation
from ilaas.core.usage import UsageRecord
from ilaas.ports.store import AuditLine, StoredServer
from ilaas.ports.usage import RecordFilter

LONG_DEAD_S = 30 * 86_400.0
"""Keys that died this long ago are no longer in the directory: using one is answered as an unknown key."""


class SqlStore(SqlTenancy, SqlBooks):
    """`ports.store.Store` on SQLite or PostgreSQL."""

    def __init__(self, url: str, secret: Secret, epoch: Callable[[], float] = time.time) -> None:
        """`url` as SQLAlchemy writes it; `secret` encrypts tokens; `epoch` gives epoch seconds. Raises ConfigError."""
        self._database = Database(url)
        self._secret = secret
        self._epoch = epoch
        self._snapshot = Directory()
        self._peek = RevisionPeek.of(self._database.url) if self._database.is_sqlite else None

    async def open(self) -> None:
        """Connect and bring the schema up to date."""
        if self._database.is_sqlite:
            make_sqlite_file(self._database.url)
        await migrate(self._database)

    async def close(self) -> None:
        """Let go of every connection."""
        if self._peek is not None:
            await self._peek.close()
        await self._database.close()

    async def revision(self) -> int:
        """One row by its primary key."""
        if self._peek is not None:
            return await self._peek.current()
        async with self._database.read() as connection:
            return await revision.current(connection)

    async def directory(self) -> Directory:
        """The snapshot of last time, with what has changed since: 100,000 keys are read once, not at each change."""
        last = self._snapshot
        since_s = self._epoch() - LONG_DEAD_S
        async with self._database.read() as connection:
            # The revision first: what is committed in between is then read again next time, and never missed.
            now = await revision.current(connection)
            if now == last.revision:
                return last
            new_organisations = await organisations.changed_since(connection, last.revision)
            new_projects = await projects.changed_since(connection, last.revision)
            if last.revision:
                new_keys = await keys.changed_since(connection, last.revision)
            else:
                new_keys = await keys.select_keys(connection, None, since_s)
        by_digest = {**last.keys, **{key.digest: key for key in new_keys}}
        for key in new_keys:
            if not key.usable_at(since_s):
                del by_digest[key.digest]
        self._snapshot = Directory(
            keys=by_digest,
            organisations={**last.organisations, **{one.name: one for one in new_organisations}},
            projects={**last.projects, **{(one.organisation, one.name): one for one in new_projects}},
            revision=now,
        )
        return self._snapshot

    async def put_organisation(self, organisation: Organisation, audit: AuditLine) -> None:
        """Create or replace; nothing is written when it is the same already."""
        async with self._database.read() as connection:
            if await organisations.find(connection, organisation.name) == organisation:
                return
        async with self._change(audit) as (connection, number):
            known = await organisations.find(connection, organisation.name)
            put = organisations.add if known is None else organisations.change
            await put(connection, organisation, number)

    async def add_organisation(self, organisation: Organisation, audit: AuditLine) -> bool:
        """Create it unless one of that name is there; says whether it did."""
        async with self._database.read() as connection:
            if await organisations.find(connection, organisation.name) is not None:
                return False
        async with self._database.write() as connection:
            number = await revision.bump(connection)
            if await organisations.find(connection, organisation.name) is not None:
                return False  # another process was faster
            await organisations.add(connection, organisation, number)
            await revision.record(connection, audit)
            return True

    async def add_key(self, key: Key, audit: AuditLine) -> None:
        """Raises Conflict or NotFound, as the port says."""
        async with self._change(audit) as (connection, number):
            await self._add_key(connection, key, number, audit.at_s)

    async def change_key(self, key: Key, audit: AuditLine) -> None:
        """Raises NotFound."""
        async with self._change(audit) as (connection, number):
            await keys.change(connection, key, number)

    async def replace_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """Raises Conflict or NotFound; then nothing has changed."""
        async with self._change(audit) as (connection, number):
            await keys.change(connection, old, number)
            await self._add_key(connection, new, number, audit.at_s)

    async def list_keys(self, *, organisation: str | None = None, include_dead: bool = False) -> Sequence[Key]:
        """Keys by organisation, project, name."""
        async with self._database.read() as connection:
            return await keys.select_keys(connection, organisation, None if include_dead else self._epoch())

    async def touch_keys(self, used_at_s: dict[str, float]) -> None:
        """Note last use by key id; does not bump the revision."""
        async with self._database.write() as connection:
            await keys.touch(connection, used_at_s)

    async def servers(self) -> Sequence[StoredServer]:
        """Servers added at run time, tokens decrypted. Raises ConfigError when the secret is another one."""
        async with self._database.read() as connection:
            return await servers.all_servers(connection, self._secret)

    async def draining(self) -> frozenset[str]:
        """Ids of servers (of the file or of the store) told to drain."""
        async with self._database.read() as connection:
            return await servers.draining(connection)

    async def put_server(self, server: StoredServer, audit: AuditLine) -> None:
        """Add a server. Raises Conflict when its id is taken."""
        async with self._change(audit) as (connection, _):
            await servers.add(connection, server, self._secret)

    async def remove_server(self, server_id: str, audit: AuditLine) -> None:
        """Raises NotFound."""
        async with self._change(audit) as (connection, _):
            await servers.remove(connection, server_id)

    async def set_draining(self, server_id: str, audit: AuditLine, *, draining: bool) -> None:
        """Set or lift the drain mark; nothing is written when it is so already."""
        if (server_id in await self.draining()) is draining:
            return
        async with self._change(audit) as (connection, _):
            await servers.mark(connection, server_id, draining_now=draining)

    async def add_usage(self, records: Sequence[UsageRecord]) -> int:
        """Insert the records not there yet and roll them up, in one transaction; returns how many were new."""
        if not records:
            return 0
        try:
            async with self._database.write() as connection:
                return await usage.add(connection, records)
        except Conflict as error:  # not of ids, which may be there already: a value that must not be missing
            raise Unprocessable("A usage record has a value that the database does not take.") from error

    async def usage_lines(self, query: UsageQuery) -> Sequence[UsageLine]:
        """In the order of `query.by`."""
        async with self._database.read() as connection:
            return await usage.lines(connection, query)

    async def page_of_usage(
        self, which: RecordFilter, after: tuple[int, str] | None, limit: int
    ) -> Sequence[UsageRecord]:
        """Single records by `finished_at_ms` and id."""
        async with self._database.read() as connection:
            return await usage.page(connection, which, after, limit)

    async def delete_usage(self, before_ms: int, limit: int) -> int:
        """Delete single records, the oldest first; the roll-ups stay."""
        async with self._database.write() as connection:
            return await usage.delete_before(connection, before_ms, limit)

    async def audit(self, *, limit: int = 100) -> Sequence[AuditLine]:
        """The newest lines first."""
        async with self._database.read() as connection:
            return await revision.lines(connection, limit)

    @staticmethod
    async def _add_key(connection: AsyncConnection, key: Key, number: int, at_s: float) -> None:
        if await organisations.find(connection, key.organisation) is None:
            raise NotFound(f"There is no organisation '{key.organisation}'. Create it first.", param="organisation")
        await keys.add(connection, key, number, at_s)
