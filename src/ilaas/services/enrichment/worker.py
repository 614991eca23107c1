"""The internal worker: takes jobs by lease, does their steps, and hands in what comes out.

It may be killed at any moment: its leases run out, and another worker goes on with what was kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from ilaas.core.enrichment.results import StepResult
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import ModelChoice
from ilaas.core.errors import IlaasError, LeaseLost, StoreUnavailable
from ilaas.ports.enrichment import Assignment, JobAsk
from ilaas.services.enrichment.context import Work, WorkContext
from ilaas.services.enrichment.fetch import media_key
from ilaas.services.enrichment.left import left_to_others
from ilaas.services.enrichment.notify import NotifyPolicy, send_due_notice
from ilaas.services.enrichment.pipeline import do_step
from ilaas.services.enrichment.retention import empty_trash, remove_due, remove_strays
from ilaas.services.enrichment.verdicts import PutBack, fault, verdict

log = structlog.get_logger(__name__)

_HAND_IN_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""While the store is away, results wait so: what they cost is more than the wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How one worker process works."""

    owner: str
    """Names it and no other."""
    name: str = "ilaas"
    """As shown to clients."""
    steps: frozenset[Step] = field(default_factory=lambda: frozenset(Step))
    jobs: int = 4
    """At the same time."""
    short_jobs: int = 1
    """So many of them are kept free for short media."""
    short_s: float = 900.0
    lease_s: float = 40.0
    heartbeat_s: float = 5.0
    """Between two extensions of a lease, which also tell whether it was cancelled."""
    poll_s: float = 1.0
    leaves_s: float = 5.0
    """Between two looks at what remote workers run."""
    housekeeping_s: float = 10.0
    strays_s: float = 6 * 3_600.0
    notifiers: int = 3
    """Webhooks called at the same time: one client that answers slowly keeps no other waiting."""
    farewell_s: float = 10.0
    """When the worker stops, a call in flight has so long to be answered: else the client is told again."""
    notify: NotifyPolicy = field(default_factory=NotifyPolicy)


class Worker:
    """Takes and does jobs until it is told to stop."""

    def __init__(self, context: WorkContext, options: WorkerOptions) -> None:
        self._context = context
        self._options = options
        self._running: set[asyncio.Task[None]] = set()
        self._leaves: frozenset[tuple[Step, ModelChoice]] = frozenset()
        self._leaves_known_until_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; jobs in hand are given back then, unharmed."""
        options = self._options
        telling = [asyncio.create_task(self._tell(stop), name="notices") for _ in range(options.notifiers)]
        beside = [
            asyncio.create_task(self._again(options.housekeeping_s, self._keep_house), name="housekeeping"),
            asyncio.create_task(self._again(options.strays_s, lambda: remove_strays(self._context)), name="strays"),
        ]
        log.info("worker_started", owner=options.owner, jobs=options.jobs)
        try:
            await self._take_jobs(stop)
        finally:
            jobs = set(self._running)
            for task in (*jobs, *beside):
                task.cancel()
            await asyncio.gather(*jobs, *beside, return_exceptions=True)
            await _in_time(telling, options.farewell_s if stop.is_set() else 0.0)
            log.info("worker_stopped", owner=options.owner)

    async def _take_jobs(self, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                assignment = await self._next() if len(self._running) < self._options.jobs else None
                if assignment is not None:
                    task = asyncio.create_task(self._do(assignment), name=f"job-{assignment.enrichment.id}")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                    continue
                await asyncio.wait(
                    {stopped, *self._running}, timeout=self._options.poll_s, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            stopped.cancel()

    async def _next(self) -> Assignment | None:
        options = self._options
        free = options.jobs - len(self._running)
        try:
            ask = JobAsk(
                steps=options.steps,
                owner=options.owner,
                worker_name=options.name,
                at_s=self._context.epoch(),
                lease_s=options.lease_s,
                leaves=await self._left_to_others(),
                longest_s=None if free > options.short_jobs else options.short_s,
                limits=self._context.policy.limits,
            )
            return await self._context.store.take_job(ask)
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=error.message)
            return None

    async def _left_to_others(self) -> frozenset[tuple[Step, ModelChoice]]:
        """Asked now and then: remote workers seldom come and go. Raises StoreUnavailable."""
        now_s, models = self._now(), self._context.own_models
        if models is not None and now_s >= self._leaves_known_until_s:
            self._leaves = left_to_others(await self._context.store.clients(), await models())
            self._leaves_known_until_s = now_s + self._options.leaves_s
        return self._leaves

    # -- one job -------------------------------------------------------------------------------------------------------

    async def _do(self, assignment: Assignment) -> None:
        work = Work(self._context, assignment)
        where = {"enrichment": work.enrichment.id, "step": str(work.step)}
        log.info("step_begun", **where)
        doing = asyncio.create_task(do_step(work))
        try:
            await self._until_done(work, doing)
            await self._hand_in(work, doing)
        except LeaseLost:
            log.info("step_lost", **where)
            await _ended(doing)
            await self._forget(work)
        except asyncio.CancelledError:
            await _ended(doing)
            await self._give_back(work)
            raise
        except StoreUnavailable as error:
            log.warning("result_lost", reason=error.message, **where)  # the lease runs out, and the step is resumed

    async def _until_done(self, work: Work, doing: asyncio.Task[StepResult]) -> None:
        """Keep the lease while the step is being done. Raises LeaseLost."""
        while not (await asyncio.wait({doing}, timeout=self._options.heartbeat_s))[0]:
            try:
                work.lease = await self._context.store.extend(work.lease, self._context.epoch() + self._options.lease_s)
            except StoreUnavailable as error:
                log.warning("lease_not_extended", reason=error.message)

    async def _hand_in(self, work: Work, doing: asyncio.Task[StepResult]) -> None:
        """Write what came out. Raises LeaseLost, StoreUnavailable."""
        error = doing.exception()
        try:
            if error is None:
                await self._persist(lambda: self._context.store.finish(work.lease, doing.result(), self._now()))
                log.info("step_done", enrichment=work.enrichment.id, step=str(work.step))
                return
        except (LeaseLost, StoreUnavailable):
            raise
        except IlaasError as refused:  # what came out lacks something that was asked for
            error = refused
        if isinstance(error, LeaseLost):
            raise error
        await self._persist(lambda: self._fail(work, error))

    async def _fail(self, work: Work, error: BaseException) -> None:
        job, limits = work.enrichment.job, self._context.policy.limits
        assert job is not None  # noqa: S101 -- it was assigned
        if isinstance(error, IlaasError):
            ruling = verdict(error, job)
            reason = error.message
        else:
            ruling, reason = fault(job), type(error).__name__
            log.error("step_failed", enrichment=work.enrichment.id, step=str(work.step), exc_info=error)
        store, now_s = self._context.store, self._now()
        if isinstance(ruling, PutBack):
            log.info("step_put_back", enrichment=work.enrichment.id, reason=reason, after_s=ruling.retry_after_s)
            await store.release(work.lease, now_s, limits=limits, retry_after_s=ruling.retry_after_s, unavailable=True)
            return
        log.info("step_refused", enrichment=work.enrichment.id, reason=reason, again_s=ruling.retry_after_s)
        await store.fail(work.lease, ruling, now_s, limits)

    async def _persist(self, write: Callable[[], Awaitable[object]]) -> None:
        for delay_s in _HAND_IN_DELAYS_S:
            try:
                await write()
            except StoreUnavailable:
                await asyncio.sleep(delay_s)
            else:
                return
        await write()

    async def _give_back(self, work: Work) -> None:
        """The worker stops: another one goes on at once."""
        with contextlib.suppress(LeaseLost, StoreUnavailable):
            await self._context.store.release(work.lease, self._now(), limits=self._context.policy.limits)

    async def _forget(self, work: Work) -> None:
        """Of one that was deleted while it was being fetched, nothing stays."""
        with contextlib.suppress(IlaasError):
            enrichment = await self._context.store.enrichment(work.enrichment.id)
            if enrichment.deleted_at_s is not None:
                await self._context.objects.delete(media_key(enrichment.client_id, enrichment.id))

    # -- beside the jobs -----------------------------------------------------------------------------------------------

    async def _tell(self, stop: asyncio.Event) -> None:
        async def tell_all() -> None:
            while not stop.is_set() and await send_due_notice(self._context, self._options.notify):
                pass

        while not stop.is_set():
            await self._outliving(tell_all)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._options.poll_s)

    async def _keep_house(self) -> None:
        for enrichment in await self._context.store.expire_jobs(self._now(), self._context.policy.limits):
            log.info("step_expired", enrichment=enrichment.id, cause=enrichment.failure_cause)
        await remove_due(self._context)
        await empty_trash(self._context)

    async def _again(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._outliving(work)
            await asyncio.sleep(seconds)

    async def _outliving(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=error.message)
        except Exception:  # the loop must outlive any fault of its work: nobody else sends notices
            log.exception("loop_failed")

    def _now(self) -> float:
        return self._context.epoch()


async def _in_time(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Let them end by themselves, and after so long stop them."""
    if seconds > 0:
        await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(task: asyncio.Task[StepResult]) -> None:
    """Stop it, whatever it does."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
