"""Where enrichments, their versions, their jobs and their webhooks live.

Every change of an enrichment is a pure function of `core.enrichment.states`, applied by the store to the current row
in one transaction: status, results, webhook rows and rubbish are written together or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from ilaas.core.enrichment.changes import Change, Failure, Notice, SpeechLimits
from ilaas.core.enrichment.clients import ApiClient, SigningKey
from ilaas.core.enrichment.results import StepResult
from ilaas.core.enrichment.steps import Lease, Part, Step
from ilaas.core.enrichment.values import Enrichment, ModelChoice, Version
from ilaas.ports.tenancy import AuditLine

T = TypeVar("T")


class Sort(StrEnum):
    """What lists are ordered by. Versions know no status."""

    STATUS = "status"
    CREATED_AT = "createdAt"
    UPDATED_AT = "updatedAt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A page of a list; of equal ones, the older first, or the newer when descending."""

    sort: Sort = Sort.CREATED_AT
    descending: bool = True
    size: int = 50
    page: int = 1
    """From 1."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list, and how long the whole is."""

    content: Sequence[T]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAsk:
    """What a worker can take."""

    steps: frozenset[Step]
    owner: str
    """Names this worker and no other: `Lease.owner`."""
    worker_name: str
    """As shown to clients (`StepTimes.done_by`)."""
    at_s: float
    lease_s: float
    serves: ModelChoice | None = None
    """Only jobs that want this model and place; None is whatever they want."""
    unspecified: bool = True
    """With `serves`: also jobs that leave the model, or the place, open."""
    leaves: frozenset[tuple[Step, ModelChoice]] = frozenset()
    """No job of that step which names that model, or that place: only another worker has it."""
    longest_s: float | None = None
    """Only media no longer than this: how a pool keeps a place free for short ones."""
    limits: SpeechLimits = field(default_factory=SpeechLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A job that was given to a worker."""

    lease: Lease
    enrichment: Enrichment
    version: Version | None
    """The one to work on, with its transcript; None before there is one."""


class ClientStore(Protocol):
    """OAuth clients and the keys that sign their tokens."""

    async def add_client(self, client: ApiClient, audit: AuditLine) -> None:
        """Raises `Conflict` when the id is taken, or the name within its project by an active client."""

    async def change_client(
        self, client_id: str, change: Callable[[ApiClient], ApiClient], audit: AuditLine
    ) -> ApiClient:
        """Apply `change` to the current one; id, organisation and project stay. Raises `NotFound`, `Conflict`."""

    async def client(self, client_id: str) -> ApiClient:
        """Raises `NotFound`."""

    async def clients(self, *, organisation: str | None = None, project: str | None = None) -> Sequence[ApiClient]:
        """By organisation, project, name; inactive ones too."""

    async def touch_client(
        self, client_id: str, *, token_at_s: float | None = None, job_at_s: float | None = None
    ) -> None:
        """Note that it got a token, or a job."""

    async def signing_keys(self) -> Sequence[SigningKey]:
        """The newest first."""

    async def add_signing_key(self, key: SigningKey, *, unless_after_s: float) -> bool:
        """Add it, retiring the others, unless one was made after that time; says whether it did."""

    async def drop_signing_keys(self, retired_before_s: float) -> int:
        """Forget those whose tokens have all run out."""


class EnrichmentRows(Protocol):
    """Enrichments and their versions."""

    async def add(self, change: Change) -> None:
        """Write a new enrichment and what goes with it. Raises `Conflict` when its id is taken."""

    async def enrichment(self, enrichment_id: str) -> Enrichment:
        """A deleted one too (see `deleted_at_s`). Raises `NotFound`."""

    async def page(
        self, client_id: str, query: ListQuery, *, end_user_identifier: str | None = None
    ) -> Page[Enrichment]:
        """A client's own that are not deleted; of an end user, those that are theirs or that they contribute to."""

    async def change(self, enrichment_id: str, decide: Callable[[Enrichment], Change]) -> Enrichment:
        """Write what `decide` makes of the current one, with no other change in between.

        Raises `NotFound`, and whatever `decide` raises, with nothing written.
        """

    async def change_version(
        self, enrichment_id: str, version_id: str, decide: Callable[[Enrichment, Version], Change]
    ) -> Change:
        """The same, of a version with its transcript. Raises `NotFound` when it is not of this enrichment."""

    async def version(self, enrichment_id: str, version_id: str) -> Version:
        """With its transcript. Raises `NotFound` when it is not of this enrichment."""

    async def latest_version(self, enrichment_id: str) -> Version | None:
        """The newest, with its transcript."""

    async def versions(self, enrichment_id: str, query: ListQuery, *, with_transcript: bool = True) -> Page[Version]:
        """Its versions."""


class JobStore(Protocol):
    """The work to do. A lease that was taken over, or whose enrichment was deleted, raises `LeaseLost`."""

    async def take_job(self, ask: JobAsk) -> Assignment | None:
        """Give the worker the job that is due next, or None.

        Higher priorities go first. Among equals the client goes first that has the least work in hand, then the one
        served longest ago; of one client's jobs, a short media before a long one that has not waited as long as it
        lasts. Two workers never hold the same job.
        """

    async def extend(self, lease: Lease, until_s: float) -> Lease:
        """Keep it until then. Raises `LeaseLost`."""

    async def finish(self, lease: Lease, result: StepResult, at_s: float) -> Enrichment:
        """Write the result of the step and put the next one in line, as `states.finished`. Raises `LeaseLost`."""

    async def fail(self, lease: Lease, failure: Failure, at_s: float, limits: SpeechLimits) -> Enrichment:
        """Try it again later, or end in FAILURE, as `states.failed`. Raises `LeaseLost`."""

    async def release(
        self, lease: Lease, at_s: float, *, limits: SpeechLimits, retry_after_s: float = 0.0, unavailable: bool = False
    ) -> Enrichment:
        """Give it back with nothing done, as `states.released`. Raises `LeaseLost`.

        `unavailable`: because a model is not to be had; else because the worker stops. Neither counts as an attempt.
        """

    async def expire_jobs(self, at_s: float, limits: SpeechLimits) -> Sequence[Enrichment]:
        """End in FAILURE those whose lease ran out with no attempt left."""

    async def queued(self) -> Mapping[tuple[Step, bool], int]:
        """How many jobs each step has, by whether a worker has them (True) or they wait."""

    async def put_parts(self, lease: Lease, parts: Sequence[Part]) -> None:
        """Add pieces of the step's work, or put them in place of those of the same numbers. Raises `LeaseLost`."""

    async def parts(self, lease: Lease) -> Sequence[Part]:
        """Those of this step, by number. Raises `LeaseLost`."""


class NoticeStore(Protocol):
    """Webhook calls that are due. They are written with the change that they tell of."""

    async def take_notice(self, at_s: float, lease_s: float) -> Notice | None:
        """The one due longest, for this worker alone for `lease_s`, its `attempts` counted up; else None.

        Of one enrichment, only the oldest is given, so that they arrive in order.
        """

    async def notice_done(self, notice: Notice, at_s: float, *, status: str | None, delivered: bool) -> None:
        """It was answered so, or given up. Does nothing when another worker took it over since."""

    async def notice_later(self, notice: Notice, next_at_s: float, *, status: str | None) -> None:
        """It was answered so and is to be tried again. Does nothing when another worker took it over since."""


class RetentionStore(Protocol):
    """What is to be removed."""

    async def due_for_removal(self, at_s: float, limit: int = 100) -> Sequence[Enrichment]:
        """Those whose `retention` says that media or results go."""

    async def trash(self, limit: int = 100) -> Sequence[str]:
        """Keys of objects to delete, the oldest first."""

    async def trash_done(self, keys: Sequence[str]) -> None:
        """They are deleted."""

    async def known_objects(self, keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys an enrichment, a part or the trash still refers to."""


class EnrichmentStore(ClientStore, EnrichmentRows, JobStore, NoticeStore, RetentionStore, Protocol):
    """All of it. Every method raises `StoreUnavailable` when the database does not answer."""

    async def open(self) -> None:
        """Connect and bring the schema up to date."""

    async def close(self) -> None:
        """Let go of every connection."""
