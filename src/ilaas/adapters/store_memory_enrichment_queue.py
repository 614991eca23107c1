"""The queue in memory: the twin of `adapters.sql.enrichment_queue`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ilaas.core.enrichment import states
from ilaas.core.enrichment.changes import Change, Failure, Notice, SpeechLimits
from ilaas.core.enrichment.results import StepResult
from ilaas.core.enrichment.steps import Lease, Part, Step
from ilaas.core.enrichment.turns import Candidate, in_turn, rank_s
from ilaas.core.enrichment.values import Enrichment, ModelChoice, Version
from ilaas.core.errors import NotFound
from ilaas.ports.enrichment import Assignment, JobAsk


class MemoryEnrichmentJobs:
    """`ports.enrichment.JobStore` in dicts."""

    def __init__(self) -> None:
        super().__init__()
        self._enrichments: dict[str, Enrichment] = {}
        self._versions: dict[str, Version] = {}
        self._notices: dict[tuple[str, int], Notice] = {}
        self._parts: dict[tuple[str, Step, int], Part] = {}
        self._trash: dict[str, None] = {}
        self._turns: dict[str, int] = {}

    async def take_job(self, ask: JobAsk) -> Assignment | None:
        """The job that is due next."""
        candidates = [
            Candidate(
                enrichment_id=each.id,
                client_id=each.client_id,
                priority=each.priority,
                rank_s=rank_s(each),
                fence=each.fence,
            )
            for each in self._enrichments.values()
            if _takes(ask, each)
        ]
        if not candidates:
            return None
        leases = (each for each in self._enrichments.values() if each.lease and each.lease.until_s > ask.at_s)
        chosen = in_turn(candidates, Counter(each.client_id for each in leases), self._turns)[0]
        taken = states.taken(
            self._find(chosen.enrichment_id),
            owner=ask.owner,
            worker_name=ask.worker_name,
            at_s=ask.at_s,
            lease_s=ask.lease_s,
        )
        self._write(Change(enrichment=taken))
        self._turns[taken.client_id] = max(self._turns.values(), default=0) + 1
        return Assignment(lease=states.lease_of(taken), enrichment=taken, version=self._version_of_job(taken))

    async def extend(self, lease: Lease, until_s: float) -> Lease:
        """Raises LeaseLost."""
        self._write(Change(enrichment=states.extended(self._held(lease), until_s)))
        return replace(lease, until_s=until_s)

    async def finish(self, lease: Lease, result: StepResult, at_s: float) -> Enrichment:
        """Raises LeaseLost."""
        enrichment = self._held(lease)
        return self._write(states.finished(enrichment, self._version_of_job(enrichment), result, at_s))

    async def fail(self, lease: Lease, failure: Failure, at_s: float, limits: SpeechLimits) -> Enrichment:
        """Raises LeaseLost."""
        enrichment = self._held(lease)
        return self._write(states.failed(enrichment, self._version_of_job(enrichment), failure, at_s, limits))

    async def release(
        self, lease: Lease, at_s: float, *, limits: SpeechLimits, retry_after_s: float = 0.0, unavailable: bool = False
    ) -> Enrichment:
        """Raises LeaseLost."""
        enrichment = self._held(lease)
        version = self._version_of_job(enrichment)
        return self._write(
            states.released(enrichment, version, at_s, limits, retry_after_s=retry_after_s, unavailable=unavailable)
        )

    async def expire_jobs(self, at_s: float, limits: SpeechLimits) -> Sequence[Enrichment]:
        """By id."""
        spent = [each for _, each in sorted(self._enrichments.items()) if states.is_exhausted(each, at_s, limits)]
        return [self._write(states.expired(each, self._version_of_job(each), at_s)) for each in spent]

    async def queued(self) -> Mapping[tuple[Step, bool], int]:
        """Jobs by step, and whether a worker has them."""
        jobs = (each.job for each in self._enrichments.values() if each.job is not None)
        return Counter((job.step, job.lease_until_s is not None) for job in jobs)

    async def put_parts(self, lease: Lease, parts: Sequence[Part]) -> None:
        """Raises LeaseLost."""
        self._held(lease)
        for part in parts:
            self._parts[lease.enrichment_id, part.step, part.number] = part

    async def parts(self, lease: Lease) -> Sequence[Part]:
        """Raises LeaseLost."""
        self._held(lease)
        mine = [key for key in self._parts if key[:2] == (lease.enrichment_id, lease.step)]
        return [self._parts[key] for key in sorted(mine)]

    def _held(self, lease: Lease) -> Enrichment:
        enrichment = self._find(lease.enrichment_id)
        states.check_lease(enrichment, lease)
        return enrichment

    def _find(self, enrichment_id: str) -> Enrichment:
        found = self._enrichments.get(enrichment_id)
        if found is None:
            raise NotFound(f"No enrichment with ID '{enrichment_id}' has been found", param="id")
        return found

    def _find_version(self, enrichment_id: str, version_id: str) -> Version:
        found = self._versions.get(version_id)
        if found is None or found.enrichment_id != enrichment_id:
            raise NotFound(f"The enrichment has no version '{version_id}'.", param="versionId")
        return found

    def _version_of_job(self, enrichment: Enrichment) -> Version | None:
        if enrichment.job is None or enrichment.job.version_id is None:
            return None
        return self._find_version(enrichment.id, enrichment.job.version_id)

    def _write(self, change: Change) -> Enrichment:
        own = change.enrichment.id
        self._enrichments[own] = change.enrichment
        mine = [key for key, each in self._versions.items() if each.enrichment_id == own]
        for key in mine if change.dropped_versions is None else change.dropped_versions:
            self._versions.pop(key, None)
        for version in change.versions:
            before = self._versions.get(version.id)
            if version.transcript is None and before is not None:
                version = replace(version, transcript=before.transcript)  # noqa: PLW2901 - it was read without
            self._versions[version.id] = version
        if change.drops_parts:
            for part_key in [key for key in self._parts if key[0] == own]:
                object_key = self._parts.pop(part_key).object_key
                if object_key is not None:
                    self._trash[object_key] = None
        if change.drops_notices:
            for notice_key in [key for key in self._notices if key[0] == own]:
                del self._notices[notice_key]
        for notice in change.notices:
            self._notices[own, notice.number] = notice
        for object_key in change.trash:
            self._trash[object_key] = None
        return change.enrichment


def _takes(ask: JobAsk, enrichment: Enrichment) -> bool:
    job = enrichment.job
    if job is None or job.step not in ask.steps or not job.free_at(ask.at_s):
        return False
    if job.attempts >= ask.limits.of(job.step).max_attempts:
        return False
    if ask.longest_s is not None and (enrichment.media_duration_s or 0.0) > ask.longest_s:
        return False
    wanted = enrichment.wanted.get(job.step, ModelChoice())
    for step, left in ask.leaves:
        same = {(left.model, wanted.model), (left.infrastructure, wanted.infrastructure)}
        if step is job.step and any(mine is not None and mine == named for mine, named in same):
            return False
    if ask.serves is None:
        return True
    pairs = ((wanted.model, ask.serves.model), (wanted.infrastructure, ask.serves.infrastructure))
    return all(ask.unspecified if want is None else served in {None, want} for want, served in pairs)
