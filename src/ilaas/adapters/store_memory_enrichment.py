"""The EnrichmentStore in memory: the twin of `adapters.sql.enrichment_store`. Nothing outlives the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from ilaas.adapters.store_memory_enrichment_queue import MemoryEnrichmentJobs
from ilaas.core.enrichment import states
from ilaas.core.enrichment.changes import Change, Notice
from ilaas.core.enrichment.clients import ApiClient, SigningKey
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.core.errors import Conflict, NotFound
from ilaas.ports.enrichment import ListQuery, Page, Sort
from ilaas.ports.tenancy import AuditLine

Listed = TypeVar("Listed", Enrichment, Version)


class MemoryApiClients:
    """`ports.enrichment.ClientStore` in dicts."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[str, ApiClient] = {}
        self._signing_keys: dict[str, SigningKey] = {}
        self.audit_lines: list[AuditLine] = []
        """What was done to clients, the oldest first."""

    async def add_client(self, client: ApiClient, audit: AuditLine) -> None:
        """Raises Conflict."""
        if client.id in self._clients:
            raise Conflict("It exists already, or what it belongs to does not exist.")
        self._check_name(client)
        self._clients[client.id] = client
        self.audit_lines.append(audit)

    async def change_client(
        self, client_id: str, change: Callable[[ApiClient], ApiClient], audit: AuditLine
    ) -> ApiClient:
        """Raises NotFound, Conflict."""
        before = await self.client(client_id)
        after = replace(change(before), id=before.id, organisation=before.organisation, project=before.project)
        self._check_name(after)
        self._clients[client_id] = after
        self.audit_lines.append(audit)
        return after

    async def client(self, client_id: str) -> ApiClient:
        """Raises NotFound."""
        found = self._clients.get(client_id)
        if found is None:
            raise NotFound(f"There is no speech API client '{client_id}'.", param="client_id")
        return found

    async def clients(self, *, organisation: str | None = None, project: str | None = None) -> Sequence[ApiClient]:
        """By organisation, project, name."""
        found = [
            each
            for each in self._clients.values()
            if organisation in {None, each.organisation} and project in {None, each.project}
        ]
        return sorted(found, key=lambda each: (each.organisation, each.project, each.name, each.id))

    async def touch_client(
        self, client_id: str, *, token_at_s: float | None = None, job_at_s: float | None = None
    ) -> None:
        """Never backwards."""
        client = self._clients.get(client_id)
        if client is not None:
            self._clients[client_id] = replace(
                client,
                last_token_at_s=_later(client.last_token_at_s, token_at_s),
                last_job_at_s=_later(client.last_job_at_s, job_at_s),
            )

    async def signing_keys(self) -> Sequence[SigningKey]:
        """The newest first."""
        return sorted(self._signing_keys.values(), key=lambda each: (-each.created_at_s, each.id))

    async def add_signing_key(self, key: SigningKey, *, unless_after_s: float) -> bool:
        """Says whether it did."""
        if any(each.created_at_s > unless_after_s for each in self._signing_keys.values()):
            return False
        for each in self._signing_keys.values():
            if each.retired_at_s is None:
                self._signing_keys[each.id] = replace(each, retired_at_s=key.created_at_s)
        self._signing_keys[key.id] = key
        return True

    async def drop_signing_keys(self, retired_before_s: float) -> int:
        """Returns how many."""
        old = [
            each.id
            for each in self._signing_keys.values()
            if each.retired_at_s is not None and each.retired_at_s < retired_before_s
        ]
        for key_id in old:
            del self._signing_keys[key_id]
        return len(old)

    def _check_name(self, client: ApiClient) -> None:
        def named(each: ApiClient) -> tuple[str, str, str]:
            return each.organisation, each.project, each.name

        same = (each for each in self._clients.values() if each.active and each.id != client.id)
        if client.active and any(named(each) == named(client) for each in same):
            raise Conflict(f"The project has an active speech API client named '{client.name}' already.", param="name")


class MemoryEnrichmentStore(MemoryApiClients, MemoryEnrichmentJobs):
    """`ports.enrichment.EnrichmentStore` in dicts."""

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def add(self, change: Change) -> None:
        """Raises Conflict when the id is taken."""
        if change.enrichment.id in self._enrichments:
            raise Conflict("It exists already, or what it belongs to does not exist.")
        self._write(change)

    async def enrichment(self, enrichment_id: str) -> Enrichment:
        """Raises NotFound."""
        return self._find(enrichment_id)

    async def page(
        self, client_id: str, query: ListQuery, *, end_user_identifier: str | None = None
    ) -> Page[Enrichment]:
        """A client's own that are not deleted."""
        found = [
            each
            for each in self._enrichments.values()
            if each.client_id == client_id
            and each.deleted_at_s is None
            and end_user_identifier in {None, each.end_user_identifier, *(each.contributors or ())}
        ]
        return _page(found, query)

    async def change(self, enrichment_id: str, decide: Callable[[Enrichment], Change]) -> Enrichment:
        """Raises NotFound, and whatever `decide` raises."""
        change = decide(self._find(enrichment_id))
        self._write(change)
        return change.enrichment

    async def change_version(
        self, enrichment_id: str, version_id: str, decide: Callable[[Enrichment, Version], Change]
    ) -> Change:
        """Raises NotFound, and whatever `decide` raises."""
        change = decide(self._find(enrichment_id), self._find_version(enrichment_id, version_id))
        self._write(change)
        return change

    async def version(self, enrichment_id: str, version_id: str) -> Version:
        """Raises NotFound."""
        return self._find_version(enrichment_id, version_id)

    async def latest_version(self, enrichment_id: str) -> Version | None:
        """With its transcript."""
        found = (await self.versions(enrichment_id, ListQuery(size=1))).content
        return found[0] if found else None

    async def versions(self, enrichment_id: str, query: ListQuery, *, with_transcript: bool = True) -> Page[Version]:
        """Its versions."""
        found = [each for each in self._versions.values() if each.enrichment_id == enrichment_id]
        return _page([each if with_transcript else replace(each, transcript=None) for each in found], query)

    async def take_notice(self, at_s: float, lease_s: float) -> Notice | None:
        """For this worker alone."""
        first: dict[str, Notice] = {}
        for number in sorted(self._notices):
            first.setdefault(self._notices[number].enrichment_id, self._notices[number])
        due = [each for each in first.values() if each.next_at_s <= at_s]
        if not due:
            return None
        chosen = min(due, key=lambda each: (each.next_at_s, each.enrichment_id))
        taken = replace(chosen, attempts=chosen.attempts + 1, next_at_s=at_s + lease_s)
        self._notices[taken.enrichment_id, taken.number] = taken
        return taken

    async def notice_done(self, notice: Notice, at_s: float, *, status: str | None, delivered: bool) -> None:
        """Nothing happens when another worker took it over since."""
        if self._note(notice, status, at_s if delivered else None):
            del self._notices[notice.enrichment_id, notice.number]

    async def notice_later(self, notice: Notice, next_at_s: float, *, status: str | None) -> None:
        """Nothing happens when another worker took it over since."""
        if self._note(notice, status, None):
            self._notices[notice.enrichment_id, notice.number] = replace(notice, next_at_s=next_at_s)

    async def due_for_removal(self, at_s: float, limit: int = 100) -> Sequence[Enrichment]:
        """By id."""
        due = [each for each in self._enrichments.values() if each.deleted_at_s is None and _is_due(each, at_s)]
        return sorted(due, key=lambda each: each.id)[:limit]

    async def trash(self, limit: int = 100) -> Sequence[str]:
        """The oldest first."""
        return list(self._trash)[:limit]

    async def trash_done(self, keys: Sequence[str]) -> None:
        """They are deleted."""
        for key in keys:
            self._trash.pop(key, None)

    async def known_objects(self, keys: Sequence[str]) -> frozenset[str]:
        """Those that something refers to."""
        known = set(self._trash)
        known.update(each.media.object_key or "" for each in self._enrichments.values() if each.media)
        known.update(part.object_key or "" for part in self._parts.values())
        return frozenset(keys) & known

    def _note(self, notice: Notice, status: str | None, at_s: float | None) -> bool:
        held = self._notices.get((notice.enrichment_id, notice.number))
        if held is None or held.attempts != notice.attempts:
            return False
        enrichment = self._find(notice.enrichment_id)
        self._enrichments[enrichment.id] = states.notified(enrichment, status, at_s)
        return True


def _later(before: float | None, at_s: float | None) -> float | None:
    return max((each for each in (before, at_s) if each is not None), default=None)


def _is_due(enrichment: Enrichment, at_s: float) -> bool:
    media_s, results_s = enrichment.retention.media_until_s, enrichment.retention.results_until_s
    return (media_s is not None and media_s <= at_s) or (
        results_s is not None and results_s <= at_s and enrichment.job is None
    )


def _page(found: Sequence[Listed], query: ListQuery) -> Page[Listed]:
    def key(each: Listed) -> tuple[str, float, float, str]:
        status = str(getattr(each, "status", "")) if query.sort is Sort.STATUS else ""  # versions have none
        updated_s = each.updated_at_s if query.sort is Sort.UPDATED_AT else 0.0
        return status, updated_s, each.created_at_s, each.id

    ordered = sorted(found, key=key, reverse=query.descending)
    start = (query.page - 1) * query.size
    return Page(ordered[start : start + query.size], len(ordered))
