"""The words of the state machine: statuses, steps, and the job by which one worker has one step in hand.

The strings of `Status` are those that clients of the API compare with, the first one with its historic misspelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where an enrichment is."""

    WAITING_MEDIA_UPLOAD = "WAITING_MEIDA_UPLOAD"
    UPLOADING_MEDIA = "UPLOADING_MEDIA"
    WAITING_MEDIA_TRANSCRIPTION = "WAITING_MEDIA_TRANSCRIPTION"
    TRANSCRIBING_MEDIA = "TRANSCRIBING_MEDIA"
    WAITING_AI_ENRICHMENT = "WAITING_AI_ENRICHMENT"
    AI_ENRICHING = "AI_ENRICHING"
    WAITING_TRANSLATION = "WAITING_TRANSLATION"
    TRANSLATING = "TRANSLATING"
    WAITING_AI_EVALUATION = "WAITING_AI_EVALUATION"
    AI_EVALUATING = "AI_EVALUATING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"

    @property
    def is_final(self) -> bool:
        """Whether nothing happens any more, unless the client asks for something new."""
        return self in {Status.SUCCESS, Status.FAILURE}


class Step(StrEnum):
    """What a worker does with an enrichment, in this order; some are left out."""

    FETCH = "fetch"
    TRANSCRIPTION = "transcription"
    ENRICHMENT = "ai_enrichment"
    TRANSLATION = "translation"
    EVALUATION = "ai_evaluation"


@dataclass(frozen=True, slots=True)
class StepRule:
    """How a step shows: its two statuses and the noun of its failure."""

    waiting: Status
    running: Status
    exhausted: str
    """The cause of failure when no try is left; `{n}` is how many there were."""


RULES: dict[Step, StepRule] = {
    Step.FETCH: StepRule(Status.WAITING_MEDIA_UPLOAD, Status.UPLOADING_MEDIA, "Uploading took too long"),
    Step.TRANSCRIPTION: StepRule(
        Status.WAITING_MEDIA_TRANSCRIPTION, Status.TRANSCRIBING_MEDIA, "Max transcription retries reached ({n})"
    ),
    Step.ENRICHMENT: StepRule(
        Status.WAITING_AI_ENRICHMENT, Status.AI_ENRICHING, "Max enrichment retries reached ({n})"
    ),
    Step.TRANSLATION: StepRule(Status.WAITING_TRANSLATION, Status.TRANSLATING, "Max translation retries reached ({n})"),
    Step.EVALUATION: StepRule(
        Status.WAITING_AI_EVALUATION, Status.AI_EVALUATING, "Max evaluation retries reached ({n})"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The step that an enrichment waits for or is in, and who has it in hand. Times are epoch seconds."""

    step: Step
    queued_at_s: float
    version_id: str | None = None
    """The version it works on; None before there is one."""
    attempts: int = 0
    """How often a worker took it, those that gave it back unharmed not counted."""
    releases: int = 0
    """How often it was given back because what it needs was not to be had."""
    not_before_s: float = 0.0
    """No worker gets it before: the pause after a failed attempt."""
    owner: str | None = None
    lease_until_s: float | None = None
    """When another worker may take it over. None: nobody has it."""

    def free_at(self, at_s: float) -> bool:
        """Whether a worker may take it now."""
        return self.not_before_s <= at_s and (self.lease_until_s is None or self.lease_until_s <= at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to write what comes out of one step.

    `fence` is the enrichment's own number, which grows each time the step is taken, cancelled or done: a write that
    bears another than the current one is refused, however late it comes.
    """

    enrichment_id: str
    step: Step
    owner: str
    fence: int
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of one step's work, kept so that a step that is resumed does not begin again."""

    step: Step
    number: int
    start_s: float
    end_s: float
    """Where it lies in the media."""
    object_key: str | None = None
    """Where its audio lies, when it was cut out."""
    result: str | None = None
    """What came out, as JSON text in the step's own shape. None: still to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """When a step was begun last and when it ended, in epoch seconds, and who did it."""

    started_at_s: float | None = None
    ended_at_s: float | None = None
    done_by: str | None = None
    """The worker's name, as shown to the client."""
