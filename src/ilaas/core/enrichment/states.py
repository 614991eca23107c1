"""The state machine, as workers move it: each function says what an event makes of an enrichment.

Stores apply them to the current row in one transaction. What clients and operators do to it is in `orders`; the
table of all moves is in `moves`.
"""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.enrichment.changes import Change, Failure, SpeechLimits
from ilaas.core.enrichment.merging import merged
from ilaas.core.enrichment.moves import Event, ended, moved, next_step, queued, told, without_media
from ilaas.core.enrichment.results import Enriched, Evaluated, Fetched, StepResult, Transcribed, Translated
from ilaas.core.enrichment.steps import RULES, Job, Lease, Step, StepTimes
from ilaas.core.enrichment.values import Enrichment, NotificationLevel, Transcript, Version
from ilaas.core.errors import Conflict, LeaseLost, NotFound

_TOLD = frozenset({Step.TRANSCRIPTION, Step.ENRICHMENT, Step.TRANSLATION})
"""Steps whose end is told to clients that want to know each."""

_STEPS_OF_RESULT: dict[type, Step] = {
    Fetched: Step.FETCH,
    Transcribed: Step.TRANSCRIPTION,
    Enriched: Step.ENRICHMENT,
    Translated: Step.TRANSLATION,
    Evaluated: Step.EVALUATION,
}


def check_lease(enrichment: Enrichment, lease: Lease) -> None:
    """Raises `LeaseLost` unless the step is still this worker's. A lease that ran out is good until it is taken."""
    if enrichment.lease is None or enrichment.fence != lease.fence or enrichment.lease.owner != lease.owner:
        raise LeaseLost(
            f"The {lease.step} step of enrichment {lease.enrichment_id} was taken over, cancelled or deleted."
        )


def lease_of(enrichment: Enrichment) -> Lease:
    """The lease that somebody has. Raises `Conflict` when nobody has one."""
    if enrichment.lease is None:
        raise Conflict(f"Nobody works on the enrichment, which is in {enrichment.status}.")
    return enrichment.lease


def notified(enrichment: Enrichment, status: str | None, delivered_at_s: float | None) -> Enrichment:
    """The webhook was answered so; `delivered_at_s` when that was the answer that is wanted."""
    notify = replace(enrichment.notify, status=status)
    if delivered_at_s is not None:
        notify = replace(notify, notified_at_s=delivered_at_s)
    return replace(enrichment, notify=notify)


def taken(enrichment: Enrichment, *, owner: str, worker_name: str, at_s: float, lease_s: float) -> Enrichment:
    """A worker gets the step. Raises `Conflict` when there is none, or another one has it."""
    job = enrichment.job
    if job is None or not job.free_at(at_s):
        raise Conflict("The enrichment has no step that is free to take.")
    times = StepTimes(started_at_s=at_s, done_by=worker_name)
    job = replace(job, attempts=job.attempts + 1, owner=owner, lease_until_s=at_s + lease_s)
    return replace(
        moved(enrichment, Event.TAKEN, RULES[job.step].running, at_s, job),
        times={**enrichment.times, job.step: times},
    )


def extended(enrichment: Enrichment, until_s: float) -> Enrichment:
    """The worker keeps it until then."""
    return replace(enrichment, job=replace(_job(enrichment), lease_until_s=until_s))


def finished(enrichment: Enrichment, version: Version | None, result: StepResult, at_s: float) -> Change:
    """The step's result is in: the version with it, the next step in line, and who is told.

    `version` is the one of the job. Raises `Conflict` for a result of another step, `InvalidRequest` for one that
    lacks what was asked for.
    """
    job = _job(enrichment)
    if _STEPS_OF_RESULT[type(result)] is not job.step:
        raise Conflict(f"The enrichment is in step '{job.step}', and this is the result of another one.")
    times = replace(enrichment.times.get(job.step, StepTimes()), ended_at_s=at_s)
    enrichment = replace(enrichment, times={**enrichment.times, job.step: times})
    if isinstance(result, Fetched):
        enrichment = replace(enrichment, media=result.media, media_duration_s=result.duration_s)
        if result.transcript is None:
            return Change(enrichment=queued(enrichment, Event.DONE, Step.TRANSCRIPTION, None, at_s), drops_parts=True)
    trash: tuple[str, ...] = ()
    if isinstance(result, Fetched | Transcribed):
        if result.transcript is None or result.version_id is None:
            raise Conflict("A transcript needs the id of the version that it makes.")
        enrichment, version = _with_initial(enrichment, result.transcript, result.version_id, at_s)
        enrichment, trash = without_media(enrichment, at_s)
    elif version is None:
        raise NotFound("The version that the step works on is not there.")
    else:
        version = merged(version, result, at_s)
    following = next_step(job.step, enrichment.parameters)
    enrichment = queued(enrichment, Event.DONE, following, version.id, at_s)
    change = Change(enrichment=enrichment, versions=(version,), drops_parts=True, trash=trash)
    if following is None:
        return told(change, at_s)
    if enrichment.notify.level is NotificationLevel.TASK and job.step in _TOLD:
        return told(change, at_s, completed=RULES[job.step].running)
    return change


def failed(
    enrichment: Enrichment, version: Version | None, failure: Failure, at_s: float, limits: SpeechLimits
) -> Change:
    """A try went wrong: another one later when that may help and one is left, else the end."""
    job = _job(enrichment)
    if failure.retry_after_s is None or job.attempts >= limits.of(job.step).max_attempts:
        return ended(enrichment, version, failure.cause, at_s)
    again = replace(job, owner=None, lease_until_s=None, not_before_s=at_s + failure.retry_after_s)
    return Change(enrichment=moved(enrichment, Event.GIVEN_BACK, RULES[job.step].waiting, at_s, again))


def released(
    enrichment: Enrichment,
    version: Version | None,
    at_s: float,
    limits: SpeechLimits,
    *,
    retry_after_s: float = 0.0,
    unavailable: bool = False,
) -> Change:
    """The worker gives the step back with nothing done; the attempt does not count."""
    job = _job(enrichment)
    if unavailable and job.releases >= limits.of(job.step).max_releases:
        return ended(enrichment, version, RULES[job.step].exhausted.format(n=job.releases), at_s)
    again = replace(
        job,
        attempts=max(job.attempts - 1, 0),
        releases=job.releases + unavailable,
        owner=None,
        lease_until_s=None,
        not_before_s=at_s + retry_after_s,
    )
    return Change(enrichment=moved(enrichment, Event.GIVEN_BACK, RULES[job.step].waiting, at_s, again))


def is_exhausted(enrichment: Enrichment, at_s: float, limits: SpeechLimits) -> bool:
    """Whether its last lease ran out, and no attempt is left."""
    job = enrichment.job
    return job is not None and job.free_at(at_s) and job.attempts >= limits.of(job.step).max_attempts


def expired(enrichment: Enrichment, version: Version | None, at_s: float) -> Change:
    """The end of one whose workers all fell silent."""
    job = _job(enrichment)
    return ended(enrichment, version, RULES[job.step].exhausted.format(n=job.attempts), at_s)


def _job(enrichment: Enrichment) -> Job:
    if enrichment.job is None:
        raise Conflict(f"The enrichment is in {enrichment.status}: it has no step to work on.")
    return enrichment.job


def _with_initial(
    enrichment: Enrichment, transcript: Transcript, version_id: str, at_s: float
) -> tuple[Enrichment, Version]:
    if transcript.original_filename is None and enrichment.media is not None:
        transcript = replace(transcript, original_filename=enrichment.media.original_file_name)
    version = Version(
        id=version_id,
        enrichment_id=enrichment.id,
        created_at_s=at_s,
        updated_at_s=at_s,
        parameters=enrichment.parameters,
        transcript=transcript,
        initial=True,
        ai_generated=True,
        end_user_identifier=enrichment.end_user_identifier,
    )
    known = replace(
        enrichment,
        initial_version_id=version_id,
        last_version_id=version_id,
        ai_version_id=version_id,
        ai_generation_count=enrichment.ai_generation_count + 1,
        media_text_length=len(transcript.text),
    )
    return known, version
