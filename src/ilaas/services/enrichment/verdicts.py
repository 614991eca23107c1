"""What becomes of a step that could not be done: tried again, put back until a model is to be had, or the end."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.enrichment.changes import Failure
from ilaas.core.enrichment.steps import Job, Step
from ilaas.core.errors import (
    Draining,
    IlaasError,
    MediaUnusable,
    NoServer,
    QueueTimeout,
    QuotaExhausted,
    RateLimited,
    StoreUnavailable,
    TooBusy,
)

_AWAY = (Draining, NoServer, QueueTimeout, RateLimited, StoreUnavailable, TooBusy)
_AWAY_S = 30.0
_LONGEST_AWAY_S = 600.0
_AGAIN_S = 15.0
_NOUNS = {
    Step.FETCH: "Fetching the media",
    Step.TRANSCRIPTION: "Transcription",
    Step.ENRICHMENT: "Enrichment",
    Step.TRANSLATION: "Translation",
    Step.EVALUATION: "Evaluation",
}


@dataclass(frozen=True, slots=True)
class PutBack:
    """What the step needs is not to be had: no fault of the job, and no attempt is lost."""

    retry_after_s: float


def verdict(error: IlaasError, job: Job) -> Failure | PutBack:
    """What becomes of the step, by what went wrong."""
    if isinstance(error, QuotaExhausted):
        if error.retry_after_s is not None:
            return PutBack(error.retry_after_s)
    elif isinstance(error, _AWAY):
        wait_s = error.retry_after_s or _AWAY_S * 2 ** min(job.releases, 5)
        return PutBack(min(wait_s, _LONGEST_AWAY_S))
    return Failure(
        cause=error.message if isinstance(error, MediaUnusable) else f"{_NOUNS[job.step]} failed: {error.message}",
        retry_after_s=_AGAIN_S * 2 ** max(job.attempts - 1, 0) if error.retryable else None,
    )


def fault(job: Job) -> Failure:
    """A fault of the service itself: its trace is in the log, and the client learns that it is not theirs."""
    return Failure(
        cause=f"{_NOUNS[job.step]} failed because of a fault in the service; its log tells its operators more.",
        retry_after_s=_AGAIN_S * 2 ** max(job.attempts - 1, 0),
    )
