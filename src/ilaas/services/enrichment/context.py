"""What the internal workers share: ports, and the numbers they work by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.steps import Lease, Part, Step
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.core.errors import NotFound
from ilaas.ports.completion import Completion
from ilaas.ports.content import ObjectStore
from ilaas.ports.enrichment import Assignment, EnrichmentStore
from ilaas.ports.media import MediaSource, MediaTools, Webhooks
from ilaas.ports.speech import Billed, Transcriber


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPolicy:
    """How steps are worked on."""

    scratch_dir: Path
    """Where media lie while ffmpeg works on them: each takes its size and its sound's."""
    part_target_s: float = 600.0
    """Long audio is cut into parts of about this length."""
    part_longest_s: float = 900.0
    parallel_calls: int = 4
    """Parts and chunks of one enrichment that are worked on at the same time."""
    repairs: int = 2
    """How often a language model is asked to put its answer right."""
    window_tokens: int = 8_192
    """Of a language model whose context window nobody knows."""
    chunk_tokens: int = 24_000
    """A transcript is read in chunks no longer than this, however large the window."""
    answer_tokens: int = 3_000
    """What an answer may take of the window."""
    questions: int = 10
    """Of a quiz, at most."""
    models: Mapping[Step, str | None] = field(default_factory=dict, hash=False)
    """The model of a step; None, or a step that is not here, is the port's own."""
    language: str = "fr"
    """Of a media in which no language was heard."""
    limits: SpeechLimits = field(default_factory=SpeechLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkContext:
    """The world of the internal workers."""

    store: EnrichmentStore
    objects: ObjectStore
    tools: MediaTools
    source: MediaSource
    transcriber: Transcriber
    completion: Completion
    webhooks: Webhooks
    epoch: Callable[[], float]
    new_id: Callable[[], str]
    policy: WorkPolicy
    own_models: Callable[[], Awaitable[frozenset[str]]] | None = None
    """Names of the federation's models. None: the worker takes every job, whatever model it names."""


class Work:
    """One step in hand, with what was done of it already."""

    def __init__(self, context: WorkContext, assignment: Assignment) -> None:
        self.context = context
        self.enrichment: Enrichment = assignment.enrichment
        self.lease: Lease = assignment.lease
        self._version = assignment.version
        self._parts: dict[int, Part] | None = None

    @property
    def step(self) -> Step:
        """Which one."""
        return self.lease.step

    @property
    def version(self) -> Version:
        """The one to work on. Raises `NotFound` when there is none."""
        if self._version is None:
            raise NotFound("The version that the step works on is not there.")
        return self._version

    @property
    def billed(self) -> Billed:
        """Whose quotas count."""
        each = self.enrichment
        return Billed(
            organisation=each.organisation,
            project=each.project,
            client_id=each.client_id,
            interactive=each.interactive,
        )

    @property
    def model(self) -> str | None:
        """The model wanted for this step; None is the port's own."""
        wanted = self.enrichment.wanted.get(self.step)
        if wanted is not None and wanted.model is not None:
            return wanted.model
        return self.context.policy.models.get(self.step)

    async def parts(self) -> dict[int, Part]:
        """What is kept of this step, by number."""
        if self._parts is None:
            self._parts = {part.number: part for part in await self.context.store.parts(self.lease)}
        return self._parts

    async def keep(self, *parts: Part) -> None:
        """Keep pieces of work. Raises `LeaseLost`."""
        known = await self.parts()
        await self.context.store.put_parts(self.lease, parts)
        known.update({part.number: part for part in parts})
