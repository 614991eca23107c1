"""The Store in memory: the twin of `adapters.sql` for tests and simulations. Nothing outlives the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import add, attrgetter
from typing import Any

from ilaas.adapters.store_memory_books import MemoryBooks
from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.rollups import MEASURES, Dimension, Sums, Totals, UsageLine, UsageQuery, folded, rolled_up
from ilaas.core.tenancy import Directory, Key, Organisation
from ilaas.core.usage import UsageRecord
from ilaas.ports.store import AuditLine, StoredServer
from ilaas.ports.usage import RecordFilter

_LONG_DEAD_S = 30 * 86_400.0
_MAX_INTEGER = 2**63 - 1
_by_time = attrgetter("finished_at_ms", "id")


class MemoryStore(MemoryBooks):
    """`ports.store.Store` in dicts. `usage` holds the records by id."""

    def __init__(self, epoch: Callable[[], float] = time.time) -> None:
        """`epoch` gives epoch seconds."""
        super().__init__()
        self._epoch = epoch
        self._revision = 1
        self._servers: dict[str, StoredServer] = {}
        self._draining: set[str] = set()
        self.usage: dict[str, UsageRecord] = {}
        self._rolled_up: dict[tuple[Any, ...], Sums] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def revision(self) -> int:
        """A number that grows with every change."""
        return self._revision

    async def directory(self) -> Directory:
        """Every organisation and every key that is not long dead."""
        since = self._epoch() - _LONG_DEAD_S
        keys = {key.digest: key for key in self._keys.values() if key.usable_at(since)}
        return Directory(
            keys=keys,
            organisations=dict(self._organisations),
            projects=dict(self._projects),
            revision=self._revision,
        )

    async def put_organisation(self, organisation: Organisation, audit: AuditLine) -> None:
        """Create or replace; nothing is written when it is the same already."""
        if self._organisations.get(organisation.name) != organisation:
            self._organisations[organisation.name] = organisation
            self._changed(audit)

    async def add_organisation(self, organisation: Organisation, audit: AuditLine) -> bool:
        """Create it unless one of that name is there; says whether it did."""
        if organisation.name in self._organisations:
            return False
        self._organisations[organisation.name] = organisation
        self._changed(audit)
        return True

    async def add_key(self, key: Key, audit: AuditLine) -> None:
        """Raises Conflict or NotFound, as the port says."""
        self._check_new(key, audit.at_s, self._keys)
        self._keys[key.id] = key
        self._changed(audit)

    async def change_key(self, key: Key, audit: AuditLine) -> None:
        """Raises NotFound."""
        self._keys[key.id] = self._changed_key(key)
        self._changed(audit)

    async def replace_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """Raises Conflict or NotFound; then nothing has changed."""
        changed = self._changed_key(old)
        self._check_new(new, audit.at_s, {**self._keys, old.id: changed})
        self._keys[old.id] = changed
        self._keys[new.id] = new
        self._changed(audit)

    async def list_keys(self, *, organisation: str | None = None, include_dead: bool = False) -> Sequence[Key]:
        """Keys by organisation, project, name."""
        now = self._epoch()
        found = [
            key
            for key in self._keys.values()
            if (organisation is None or key.organisation == organisation) and (include_dead or key.usable_at(now))
        ]
        return sorted(found, key=lambda key: (key.organisation, key.project, key.name, key.created_at_s, key.id))

    async def touch_keys(self, used_at_s: dict[str, float]) -> None:
        """Note last use by key id; an older one never replaces a newer one."""
        for key_id, at_s in used_at_s.items():
            key = self._keys.get(key_id)
            if key is not None and (key.last_used_at_s is None or key.last_used_at_s < at_s):
                self._keys[key_id] = replace(key, last_used_at_s=at_s)

    async def servers(self) -> Sequence[StoredServer]:
        """Servers added at run time."""
        marked = [
            replace(server, spec=replace(server.spec, from_file=False, draining=server.spec.id in self._draining))
            for server in self._servers.values()
        ]
        return sorted(marked, key=lambda server: (server.model, server.spec.id))

    async def draining(self) -> frozenset[str]:
        """Ids of servers told to drain."""
        return frozenset(self._draining)

    async def put_server(self, server: StoredServer, audit: AuditLine) -> None:
        """Add a server. Raises Conflict when its id is taken."""
        if server.spec.id in self._servers:
            raise Conflict(f"There is a server '{server.spec.id}' already. Choose another id.", param="id")
        self._servers[server.spec.id] = server
        if server.spec.draining:
            self._draining.add(server.spec.id)
        self._changed(audit)

    async def remove_server(self, server_id: str, audit: AuditLine) -> None:
        """Raises NotFound."""
        if self._servers.pop(server_id, None) is None:
            raise NotFound(f"No server '{server_id}' was added at run time.", param="id")
        self._draining.discard(server_id)
        self._changed(audit)

    async def set_draining(self, server_id: str, audit: AuditLine, *, draining: bool) -> None:
        """Set or lift the drain mark; nothing is written when it is so already."""
        if (server_id in self._draining) is draining:
            return
        self._draining.symmetric_difference_update((server_id,))
        self._changed(audit)

    async def add_usage(self, records: Sequence[UsageRecord]) -> int:
        """Insert the records not there yet; returns how many were new."""
        if any(abs(record.prompt_tokens) > _MAX_INTEGER for record in records):
            raise Unprocessable("A value is out of what the database can hold.")
        new: dict[str, UsageRecord] = {}
        for record in records:
            if record.id not in self.usage:
                new.setdefault(record.id, record)
        self.usage.update(new)
        for key, sums in rolled_up(new.values()).items():
            self._rolled_up[key] = tuple(map(add, self._rolled_up.get(key, (0,) * len(MEASURES)), sums))
        return len(new)

    async def usage_lines(self, query: UsageQuery) -> Sequence[UsageLine]:
        """In the order of `query.by`."""
        one = query.roll_up()
        per_day = 24 if one.dimensions[0] is Dimension.HOUR else 1
        first, end = query.period.first_day * per_day, query.period.end_day * per_day
        places = [(one.dimensions.index(each), values) for each, values in query.where.items()]
        wanted = {
            key: sums
            for key, sums in folded(self._rolled_up, one.dimensions).items()
            if first <= key[0] < end and all(key[at] in values for at, values in places)
        }
        picked: dict[tuple[str | int, ...], Totals] = {}
        for key, sums in wanted.items():
            line = tuple(key[one.dimensions.index(each)] for each in query.by)
            picked.setdefault(line, Totals()).add(Totals(*sums))
        return [UsageLine(line, picked[line]) for line in sorted(picked)]

    async def page_of_usage(
        self, which: RecordFilter, after: tuple[int, str] | None, limit: int
    ) -> Sequence[UsageRecord]:
        """Single records by `finished_at_ms` and id."""
        found = [
            record
            for record in self.usage.values()
            if which.period.start_ms <= record.finished_at_ms < which.period.end_ms
            and (after is None or (record.finished_at_ms, record.id) > after)
            and all(getattr(record, each.column) in values for each, values in which.where.items())
        ]
        return sorted(found, key=_by_time)[:limit]

    async def delete_usage(self, before_ms: int, limit: int) -> int:
        """Delete single records, the oldest first; the roll-ups stay."""
        old = sorted((each for each in self.usage.values() if each.finished_at_ms < before_ms), key=_by_time)[:limit]
        for record in old:
            del self.usage[record.id]
        return len(old)

    async def audit(self, *, limit: int = 100) -> Sequence[AuditLine]:
        """The newest lines first."""
        return self._audit[::-1][:limit]

    def _changed_key(self, key: Key) -> Key:
        known = self._keys.get(key.id)
        if known is None:
            raise NotFound(f"There is no key '{key.id}'.", param="key")
        return replace(key, digest=known.digest, created_at_s=known.created_at_s, last_used_at_s=known.last_used_at_s)

    def _check_new(self, key: Key, at_s: float, others: dict[str, Key]) -> None:
        if key.organisation not in self._organisations:
            raise NotFound(f"There is no organisation '{key.organisation}'. Create it first.", param="organisation")
        for other in others.values():
            if other.id == key.id or other.digest == key.digest:
                raise Conflict("This key exists already. A secret can't be used twice, even after it was revoked.")
        place = (key.organisation, key.project, key.name)
        for other in others.values():
            holds = other.replaced_by is None and other.usable_at(at_s)
            if holds and (other.organisation, other.project, other.name) == place:
                raise Conflict(
                    f"The project '{key.project}' of '{key.organisation}' has a key named '{key.name}' already.",
                    param="name",
                )
