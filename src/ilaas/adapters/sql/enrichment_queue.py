"""The queue of the EnrichmentStore: each method is one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql import enrichment_jobs as jobs
from ilaas.adapters.sql import enrichment_rows as rows
from ilaas.adapters.sql.engine import Database
from ilaas.core.enrichment import states
from ilaas.core.enrichment.changes import Change, Failure, SpeechLimits
from ilaas.core.enrichment.results import StepResult
from ilaas.core.enrichment.steps import Lease, Part, Step
from ilaas.core.enrichment.values import Enrichment
from ilaas.ports.enrichment import Assignment, JobAsk

_TAKE_ROUNDS = 3
"""How often a worker looks again when others were faster with all that it was offered."""


class SqlEnrichmentJobs:
    """`ports.enrichment.JobStore` on SQLite or PostgreSQL, where workers skip what others have locked."""

    _database: Database

    async def take_job(self, ask: JobAsk) -> Assignment | None:
        """Looks first without any lock: most of the time there is nothing to take."""
        for _ in range(_TAKE_ROUNDS):
            async with self._database.read() as connection:
                candidates, turn = await jobs.offered(connection, ask)
            if not candidates:
                return None
            async with self._database.write() as connection:
                claimed = await jobs.claim(connection, candidates)
                if claimed is None:
                    continue
                taken = states.taken(
                    claimed, owner=ask.owner, worker_name=ask.worker_name, at_s=ask.at_s, lease_s=ask.lease_s
                )
                await rows.write(connection, Change(enrichment=taken), claimed)
                await jobs.note_turn(connection, taken.client_id, turn)
                version = await rows.version_of_job(connection, taken)
                return Assignment(lease=states.lease_of(taken), enrichment=taken, version=version)
        return None

    async def extend(self, lease: Lease, until_s: float) -> Lease:
        """Raises LeaseLost."""
        async with self._held(lease) as (connection, enrichment):
            await rows.write(connection, Change(enrichment=states.extended(enrichment, until_s)), enrichment)
        return replace(lease, until_s=until_s)

    async def finish(self, lease: Lease, result: StepResult, at_s: float) -> Enrichment:
        """Raises LeaseLost."""
        async with self._held(lease) as (connection, enrichment):
            version = await rows.version_of_job(connection, enrichment)
            change = states.finished(enrichment, version, result, at_s)
            await rows.write(connection, change, enrichment)
            return change.enrichment

    async def fail(self, lease: Lease, failure: Failure, at_s: float, limits: SpeechLimits) -> Enrichment:
        """Raises LeaseLost."""
        async with self._held(lease) as (connection, enrichment):
            version = await rows.version_of_job(connection, enrichment)
            change = states.failed(enrichment, version, failure, at_s, limits)
            await rows.write(connection, change, enrichment)
            return change.enrichment

    async def release(
        self, lease: Lease, at_s: float, *, limits: SpeechLimits, retry_after_s: float = 0.0, unavailable: bool = False
    ) -> Enrichment:
        """Raises LeaseLost."""
        async with self._held(lease) as (connection, enrichment):
            version = await rows.version_of_job(connection, enrichment)
            change = states.released(
                enrichment, version, at_s, limits, retry_after_s=retry_after_s, unavailable=unavailable
            )
            await rows.write(connection, change, enrichment)
            return change.enrichment

    async def expire_jobs(self, at_s: float, limits: SpeechLimits) -> Sequence[Enrichment]:
        """One transaction each."""
        async with self._database.read() as connection:
            spent = await jobs.exhausted(connection, at_s, limits)
        ended = []
        for enrichment_id in spent:
            async with self._database.write() as connection:
                enrichment = await rows.find(connection, enrichment_id, lock=True)
                if not states.is_exhausted(enrichment, at_s, limits):
                    continue  # it was finished or deleted in between
                version = await rows.version_of_job(connection, enrichment)
                change = states.expired(enrichment, version, at_s)
                await rows.write(connection, change, enrichment)
                ended.append(change.enrichment)
        return ended

    async def queued(self) -> Mapping[tuple[Step, bool], int]:
        """Jobs by step, and whether a worker has them."""
        async with self._database.read() as connection:
            return await jobs.counted(connection)

    async def put_parts(self, lease: Lease, parts: Sequence[Part]) -> None:
        """Raises LeaseLost."""
        async with self._held(lease) as (connection, _):
            await jobs.put_parts(connection, lease.enrichment_id, parts)

    async def parts(self, lease: Lease) -> Sequence[Part]:
        """Raises LeaseLost."""
        async with self._database.read() as connection:
            states.check_lease(await rows.find(connection, lease.enrichment_id), lease)
            return await jobs.parts(connection, lease.enrichment_id, lease.step)

    @asynccontextmanager
    async def _held(self, lease: Lease) -> AsyncIterator[tuple[AsyncConnection, Enrichment]]:
        """A transaction in which the lease is good and nobody else can end it."""
        async with self._database.write() as connection:
            enrichment = await rows.find(connection, lease.enrichment_id, lock=True)
            states.check_lease(enrichment, lease)
            yield connection, enrichment
