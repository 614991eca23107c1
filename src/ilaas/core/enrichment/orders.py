"""The state machine, as clients and operators move it: new ones, new versions, deletion, removal by date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ilaas.core.enrichment.changes import Change
from ilaas.core.enrichment.moves import Event, ended, next_step, queued
from ilaas.core.enrichment.steps import Job, Status, Step, StepTimes
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, MediaInfo, Notify, Transcript, Version
from ilaas.core.errors import Conflict, Forbidden

_BEFORE_THE_MODEL = frozenset({Step.FETCH, Step.TRANSCRIPTION})


def created(enrichment: Enrichment, at_s: float) -> Change:
    """A new one in line to be fetched; of an upload (`media.object_key` is set), to be looked at.

    Its given status and job don't matter.
    """
    job = Job(step=Step.FETCH, queued_at_s=at_s)
    return Change(enrichment=replace(enrichment, status=Status.WAITING_MEDIA_UPLOAD, job=job))


def asked_again(
    enrichment: Enrichment, latest: Version, version_id: str, parameters: EnrichmentParameters, at_s: float
) -> Change:
    """A new version by the machine, from the latest transcript. Raises `Conflict` while a step is still to be done.

    Change `end_user_identifier`, `notify` and `wanted` before, when they are new too.
    """
    version = Version(
        id=version_id,
        enrichment_id=enrichment.id,
        created_at_s=at_s,
        updated_at_s=at_s,
        parameters=parameters,
        transcript=_without_translation(latest, parameters),
        ai_generated=True,
        end_user_identifier=enrichment.end_user_identifier,
    )
    kept = {step: times for step, times in enrichment.times.items() if step in _BEFORE_THE_MODEL}
    enrichment = replace(
        enrichment,
        parameters=parameters,
        requested_at_s=at_s,
        failure_cause=None,
        ai_generation_count=enrichment.ai_generation_count + 1,
        last_version_id=version_id,
        ai_version_id=version_id,
        times=kept,
    )
    following = next_step(Step.TRANSCRIPTION, parameters)
    return Change(
        enrichment=queued(_idle(enrichment), Event.ASKED_AGAIN, following, version_id, at_s), versions=(version,)
    )


def version_added(enrichment: Enrichment, version: Version, at_s: float, *, translate: bool = False) -> Change:
    """A version written by a person; with `translate`, in line to be translated.

    Raises `Forbidden` when there is no initial version yet, `Conflict` when a translation is asked for and a step is
    still to be done.
    """
    if enrichment.initial_version_id is None:
        raise Forbidden(
            "No initial version found for the enrichment. Please wait for the generation of the initial version "
            "before pushing a new one"
        )
    enrichment = replace(enrichment, last_version_id=version.id, updated_at_s=at_s)
    if translate and enrichment.parameters.translate_to is not None:
        times = {**enrichment.times, Step.TRANSLATION: StepTimes()}
        enrichment = replace(_idle(enrichment), requested_at_s=at_s, times=times)
        enrichment = queued(enrichment, Event.ASKED_AGAIN, Step.TRANSLATION, version.id, at_s)
    return Change(enrichment=enrichment, versions=(version,))


def version_changed(enrichment: Enrichment, version: Version, at_s: float) -> Change:
    """A version with other values, such as what a person thinks of it."""
    return Change(enrichment=enrichment, versions=(replace(version, updated_at_s=at_s),))


def version_deleted(enrichment: Enrichment, version: Version, remaining: Sequence[Version], at_s: float) -> Change:
    """One version less. Raises `Forbidden` for the initial one, `Conflict` for one that a step works on.

    `remaining` are the others, the newest first; transcripts are not needed.
    """
    if version.initial:
        raise Forbidden("Can't delete initial version")
    if enrichment.job is not None and enrichment.job.version_id == version.id:
        raise Conflict("This version is being worked on. Delete it when the enrichment is done.")
    by_machine = [each for each in remaining if each.ai_generated]
    known = replace(
        enrichment,
        last_version_id=remaining[0].id if remaining else None,
        ai_version_id=by_machine[0].id if by_machine else None,
        updated_at_s=at_s,
    )
    return Change(enrichment=known, dropped_versions=(version.id,))


def deleted(enrichment: Enrichment, at_s: float) -> Change:
    """Everything is removed but the row itself, for statistics; whoever has a step in hand loses it."""
    media, key = enrichment.media, enrichment.media.object_key if enrichment.media else None
    return Change(
        enrichment=replace(
            enrichment,
            updated_at_s=at_s,
            deleted_at_s=at_s,
            media=None if media is None else MediaInfo(original_file_name=None, mime_type=None, kind=media.kind),
            media_url=None,
            notify=Notify(url=None, status=enrichment.notify.status, count=enrichment.notify.count),
            parameters=replace(enrichment.parameters, disciplines=None, media_types=None),
            end_user_identifier=None,
            contributors=None,
            failure_cause=None,
            initial_version_id=None,
            last_version_id=None,
            ai_version_id=None,
            retention=replace(enrichment.retention, media_until_s=None, results_until_s=None),
            fence=enrichment.fence + 1,
            job=None,
        ),
        dropped_versions=None,
        drops_notices=True,
        drops_parts=True,
        trash=() if key is None else (key,),
    )


def cancelled(enrichment: Enrichment, cause: str, at_s: float) -> Change:
    """FAILURE for this cause, which nobody is told: the client is no more. Nothing changes when it has ended."""
    if enrichment.status.is_final or enrichment.deleted_at_s is not None:
        return Change(enrichment=enrichment)
    change = ended(enrichment, None, cause, at_s)
    return replace(change, enrichment=replace(change.enrichment, notify=enrichment.notify), notices=())


def removed_by_date(enrichment: Enrichment, at_s: float) -> Change:
    """What `retention` says is due: everything, or the media alone. Nothing changes when nothing is due."""
    retention, media = enrichment.retention, enrichment.media
    if retention.results_until_s is not None and retention.results_until_s <= at_s and enrichment.job is None:
        return deleted(enrichment, at_s)
    if retention.media_until_s is None or retention.media_until_s > at_s:
        return Change(enrichment=enrichment)
    trash = () if media is None or media.object_key is None else (media.object_key,)
    return Change(
        enrichment=replace(
            enrichment,
            updated_at_s=at_s,
            media=None if media is None else replace(media, object_key=None),
            retention=replace(retention, media_until_s=None),
        ),
        trash=trash,
    )


def _idle(enrichment: Enrichment) -> Enrichment:
    if not enrichment.status.is_final:
        raise Conflict(f"The enrichment is in {enrichment.status}. Ask again when it has ended.")
    return enrichment


def _without_translation(latest: Version, parameters: EnrichmentParameters) -> Transcript | None:
    transcript = latest.transcript
    if transcript is None or latest.parameters.translate_to == parameters.translate_to:
        return transcript
    return replace(transcript, translated_text=None, translated_sentences=None)
