"""What a change of an enrichment consists of: stores write all of it in one transaction, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import Enrichment, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A call of the client's webhook that is due until it is made. Times are epoch seconds."""

    enrichment_id: str
    number: int
    """Counts the notices of one enrichment: with its id it names this one."""
    client_id: str
    url: str
    status: Status
    initial_version_id: str | None = None
    failure_cause: str | None = None
    completed_step: Status | None = None
    """The running status of the step that was just done, for those who want to know each."""
    created_at_s: float = 0.0
    next_at_s: float = 0.0
    """When it is to be tried, or tried again."""
    attempts: int = 0
    """How often it was taken to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The new state of an enrichment and all that goes with it."""

    enrichment: Enrichment
    versions: tuple[Version, ...] = ()
    """To add, or to put in place of those of the same ids."""
    dropped_versions: tuple[str, ...] | None = ()
    """Ids of versions to forget; None is all of them."""
    notices: tuple[Notice, ...] = ()
    drops_notices: bool = False
    """Whether those not yet sent are forgotten."""
    drops_parts: bool = False
    """Whether the pieces of unfinished work are forgotten; the store puts their audio to the trash."""
    trash: tuple[str, ...] = ()
    """Keys of objects that nothing refers to any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a step could not be done."""

    cause: str
    """For the client, in a sentence that a person understands."""
    retry_after_s: float | None = None
    """Trying again may help, after so long. None: it can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """How often a step is tried, and how long one worker may have it."""

    max_attempts: int = 4
    timeout_s: float = 3_600.0
    """For remote workers, who can't extend their lease."""
    max_releases: int = 1_000
    """How often it may be given back because a model is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechLimits:
    """The service's own limits."""

    steps: Mapping[Step, StepLimits] = field(default_factory=dict, hash=False)
    max_media_duration_s: float = 0.0
    """Zero: none."""
    max_text_length: int = 0
    """Of a transcript, in characters. Zero: none."""
    max_upload_bytes: int = 2 * 1024**3

    def of(self, step: Step) -> StepLimits:
        """The limits of one step."""
        return self.steps.get(step, StepLimits())
