"""The table of the state machine, and the moves that all its events are made of."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from ilaas.core.enrichment.changes import Change, Notice
from ilaas.core.enrichment.steps import RULES, Job, Status, Step
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, Retention, Version
from ilaas.core.errors import Conflict


class Event(StrEnum):
    """What happens to an enrichment."""

    TAKEN = "taken"
    """A worker has its step in hand, be it for the first time or after another one."""
    DONE = "done"
    GIVEN_BACK = "given_back"
    """By a worker that stops, that finds no model, or that failed and may try again."""
    FAILED = "failed"
    """For good: it can't be done, or no try is left."""
    ASKED_AGAIN = "asked_again"
    """The client wants a new version of the results, or a translation of its own version."""


_AFTER_TRANSCRIPT = frozenset(
    {Status.WAITING_AI_ENRICHMENT, Status.WAITING_TRANSLATION, Status.WAITING_AI_EVALUATION, Status.SUCCESS}
)
_AFTER_DONE: dict[Step, frozenset[Status]] = {
    Step.FETCH: _AFTER_TRANSCRIPT | {Status.WAITING_MEDIA_TRANSCRIPTION},
    Step.TRANSCRIPTION: _AFTER_TRANSCRIPT,
    Step.ENRICHMENT: _AFTER_TRANSCRIPT - {Status.WAITING_AI_ENRICHMENT},
    Step.TRANSLATION: frozenset({Status.WAITING_AI_EVALUATION, Status.SUCCESS}),
    Step.EVALUATION: frozenset({Status.SUCCESS}),
}


def _table() -> dict[tuple[Status, Event], frozenset[Status]]:
    table: dict[tuple[Status, Event], frozenset[Status]] = {}
    for step, rule in RULES.items():
        table[rule.waiting, Event.TAKEN] = table[rule.running, Event.TAKEN] = frozenset({rule.running})
        table[rule.running, Event.DONE] = _AFTER_DONE[step]
        table[rule.running, Event.GIVEN_BACK] = frozenset({rule.waiting})
        table[rule.waiting, Event.FAILED] = table[rule.running, Event.FAILED] = frozenset({Status.FAILURE})
    for final in (Status.SUCCESS, Status.FAILURE):
        table[final, Event.ASKED_AGAIN] = _AFTER_TRANSCRIPT
    return table


TRANSITIONS = _table()
"""The statuses that an event may lead to, by the status before it. What is not here can't happen."""


def next_step(done: Step, asked: EnrichmentParameters) -> Step | None:
    """The step after this one, when the transcript is there; None is success."""
    if done in {Step.FETCH, Step.TRANSCRIPTION} and asked.enriches:
        return Step.ENRICHMENT
    if done not in {Step.TRANSLATION, Step.EVALUATION} and asked.translate_to is not None:
        return Step.TRANSLATION
    if done is not Step.EVALUATION and asked.ai_evaluation is not None:
        return Step.EVALUATION
    return None


def moved(enrichment: Enrichment, event: Event, status: Status, at_s: float, job: Job | None) -> Enrichment:
    """In its new status, with a new fence. Raises `Conflict` when the table has no such move."""
    if status not in TRANSITIONS.get((enrichment.status, event), frozenset()):
        raise Conflict(f"An enrichment can't go from {enrichment.status} to {status} when it is {event}.")
    return replace(enrichment, status=status, job=job, fence=enrichment.fence + 1, updated_at_s=at_s)


def queued(enrichment: Enrichment, event: Event, step: Step | None, version_id: str | None, at_s: float) -> Enrichment:
    """In line for the step; with none, a success."""
    if step is not None:
        job = Job(step=step, queued_at_s=at_s, version_id=version_id)
        return moved(enrichment, event, RULES[step].waiting, at_s, job)
    done = moved(enrichment, event, Status.SUCCESS, at_s, None)
    return replace(done, failure_cause=None, retention=kept_until(done.retention, at_s))


def ended(enrichment: Enrichment, version: Version | None, cause: str, at_s: float) -> Change:
    """FAILURE for this cause, told to the client. `version` is the one that was being worked on."""
    at_end = moved(enrichment, Event.FAILED, Status.FAILURE, at_s, None)
    at_end = replace(at_end, failure_cause=cause, retention=kept_until(at_end.retention, at_s))
    at_end, trash = without_media(at_end, at_s)
    versions = () if version is None else (replace(version, failure_cause=cause, updated_at_s=at_s),)
    return told(Change(enrichment=at_end, versions=versions, drops_parts=True, trash=trash), at_s)


def told(change: Change, at_s: float, completed: Status | None = None) -> Change:
    """With a call of the client's webhook, when it has one."""
    enrichment = change.enrichment
    notify = enrichment.notify
    if not notify.url:
        return change
    notice = Notice(
        enrichment_id=enrichment.id,
        number=notify.count + 1,
        client_id=enrichment.client_id,
        url=notify.url,
        status=enrichment.status,
        initial_version_id=enrichment.ai_version_id,
        failure_cause=enrichment.failure_cause,
        completed_step=completed,
        created_at_s=at_s,
        next_at_s=at_s,
    )
    return replace(
        change,
        enrichment=replace(enrichment, notify=replace(notify, count=notice.number)),
        notices=(*change.notices, notice),
    )


def kept_until(retention: Retention, at_s: float) -> Retention:
    """With the date when the results go, counted from now."""
    keep_s = retention.keep_results_s
    return replace(retention, results_until_s=None if keep_s is None else at_s + keep_s)


def without_media(enrichment: Enrichment, at_s: float) -> tuple[Enrichment, tuple[str, ...]]:
    """The media is no longer needed: it goes at once, or at its date. Also: the keys to put to the trash."""
    media, retention = enrichment.media, enrichment.retention
    if media is None or media.object_key is None or retention.media_until_s is not None:
        return enrichment, ()
    if retention.keep_media_s > 0:
        until_s = at_s + retention.keep_media_s
        return replace(enrichment, retention=replace(retention, media_until_s=until_s)), ()
    return replace(enrichment, media=replace(media, object_key=None)), (media.object_key,)
