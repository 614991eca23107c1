"""Remote workers: they take the oldest job of a step, one at a time, and hand in what came out.

A worker names each try with a task id of its own. Who hands in under another one, or too late, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ilaas.core.enrichment.changes import Failure
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.languages import two_letters
from ilaas.core.enrichment.results import Enriched, Evaluated, StepResult, Transcribed, Translated, TranslatedQuestion
from ilaas.core.enrichment.shapes import sentence_from_json, transcript_from_json
from ilaas.core.enrichment.steps import Lease, Step
from ilaas.core.enrichment.values import Enrichment, Transcript
from ilaas.core.errors import Conflict, Forbidden, InvalidRequest, LeaseLost, NotFound
from ilaas.ports.enrichment import Assignment, JobAsk
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.contract_json import (
    METADATA,
    QUESTIONS,
    listing,
    mapping,
    metadata_from_json,
    questions_from_json,
    text,
    texts,
)
from ilaas.services.enrichment.refusals import refused, unknown_enrichment, unknown_version

OK, KO, UNAVAILABLE = "OK", "KO", "UNAVAILABLE"
_MAY_BE_UNAVAILABLE = frozenset({Step.ENRICHMENT, Step.TRANSLATION})
_LONGEST_CAUSE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """What a worker sends."""

    enrichment_id: str
    version_id: str | None
    """None with the transcript, which makes the first version."""
    task_id: str | None
    status: str | None
    failure_cause: str | None
    body: Mapping[str, Any]
    """The result, as parsed JSON."""


class RemoteWorkers:
    """The work of the platform's remote workers."""

    def __init__(self, world: ApiWorld) -> None:
        self._world = world

    async def take(self, client: ApiClient, step: Step, task_id: str | None) -> Assignment:
        """The job that is due next. Raises NotFound when there is none."""
        world, now = self._world, self._world.epoch()
        ask = JobAsk(
            steps=frozenset({step}),
            owner=_owner(client, task_id),
            worker_name=client.name,
            at_s=now,
            lease_s=world.limits.of(step).timeout_s,
            serves=client.policy.serves,
            unspecified=client.policy.treat_unspecified,
            limits=world.limits,
        )
        assignment = await world.store.take_job(ask)
        if assignment is None:
            what = "transcription job" if step is Step.TRANSCRIPTION else "job"
            raise NotFound(f"No {what} currently available")
        await world.store.touch_client(client.id, job_at_s=now)
        return assignment

    async def hand_in(self, client: ApiClient, step: Step, handed: HandedIn) -> str | None:
        """Write the result; returns the id of the version that a transcript made.

        Raises NotFound, Forbidden, Violations.
        """
        enrichment, lease = await self._lease(client, step, handed)
        world, now = self._world, self._world.epoch()
        try:
            if handed.status == KO:
                cause = (handed.failure_cause or f"The worker {client.name} failed.")[:_LONGEST_CAUSE]
                await world.store.fail(lease, Failure(cause=cause), now, world.limits)
                return None
            if handed.status == UNAVAILABLE and step in _MAY_BE_UNAVAILABLE:
                await world.store.release(lease, now, limits=world.limits, unavailable=True)
                return None
            if handed.status not in {OK, None}:
                raise refused("status", "The status is one of OK, KO, UNAVAILABLE")
            result = self._result(step, enrichment, handed)
            await world.store.finish(lease, result, now)
        except LeaseLost:
            raise _not_yours() from None
        except Conflict as error:
            raise Forbidden(error.message) from None
        return result.version_id if isinstance(result, Transcribed) else None

    async def _lease(self, client: ApiClient, step: Step, handed: HandedIn) -> tuple[Enrichment, Lease]:
        try:
            enrichment = await self._world.store.enrichment(handed.enrichment_id)
        except NotFound:
            raise unknown_enrichment(handed.enrichment_id) from None
        if enrichment.deleted_at_s is not None:
            raise unknown_enrichment(handed.enrichment_id)
        if step is Step.TRANSCRIPTION and enrichment.initial_version_id is not None:
            raise Forbidden("There is already an initial version found for the enrichment")
        lease, job = enrichment.lease, enrichment.job
        if lease is None or job is None or lease.step is not step or lease.owner != _owner(client, handed.task_id):
            raise _not_yours()
        if handed.version_id is not None and handed.version_id != job.version_id:
            raise unknown_version(handed.enrichment_id, handed.version_id)
        return enrichment, lease

    def _result(self, step: Step, enrichment: Enrichment, handed: HandedIn) -> StepResult:
        try:
            match step:
                case Step.TRANSCRIPTION:
                    transcript = transcript_from_json(_required(handed.body, "transcript"))
                    self._check_text(transcript)
                    # Clients know languages by two letters only.
                    language = transcript.language and (two_letters(transcript.language) or transcript.language)
                    return Transcribed(
                        transcript=replace(transcript, language=language), version_id=self._world.new_id()
                    )
                case Step.ENRICHMENT:
                    return self._enriched(enrichment, handed.body)
                case Step.TRANSLATION:
                    return _translated(handed.body)
                case _:
                    return _evaluated(handed.body)
        except InvalidRequest as error:
            raise refused(error.param, error.message) from None

    def _check_text(self, transcript: Transcript) -> None:
        longest = self._world.limits.max_text_length
        if 0 < longest < len(transcript.text):
            # The misspelling is today's service's own, and clients show it.
            said = f"Text length ({len(transcript.text)}) exceeds maximum accepted lenght ({longest})"
            raise refused("transcript", said)

    def _enriched(self, enrichment: Enrichment, body: Mapping[str, Any]) -> Enriched:
        span_s = (0.0, enrichment.media_duration_s or 0.0)
        return Enriched(
            metadata=metadata_from_json(body.get(METADATA), enrichment.parameters),
            questions=questions_from_json(body.get(QUESTIONS), span_s, self._world.new_id),
            notes=text(body, "notes", "body"),
        )


def _translated(body: Mapping[str, Any]) -> Translated:
    """Translated values come under the untranslated names; questions and choices by their ids."""
    metadata = mapping(body.get(METADATA) or {}, METADATA)
    raw = body.get("transcript")
    transcript = None
    if raw is not None:
        given = mapping(raw, "transcript")
        sentences = listing(given.get("sentences"), "transcript.sentences")
        transcript = Transcript(
            language=None,
            text=text(given, "text", "transcript") or "",
            sentences=tuple(
                sentence_from_json(each, f"transcript.sentences[{at}]") for at, each in enumerate(sentences)
            ),
        )
    questions: dict[str, TranslatedQuestion] = {}
    for at, each in enumerate(listing(body.get(QUESTIONS), QUESTIONS)):
        path = f"{QUESTIONS}[{at}]"
        question = mapping(each, path)
        choices = [mapping(one, f"{path}.choices") for one in listing(question.get("choices"), f"{path}.choices")]
        questions[text(question, "id", path) or ""] = TranslatedQuestion(
            question=text(question, "question", path),
            explanation=text(question, "explanation", path),
            choices={
                text(one, "id", f"{path}.choices") or "": text(one, "optionText", f"{path}.choices") or ""
                for one in choices
            },
        )
    return Translated(
        transcript=transcript,
        title=text(metadata, "title", METADATA),
        description=text(metadata, "description", METADATA),
        topics=texts(metadata, "topics", METADATA),
        questions=questions,
        notes=text(body, "notes", "body"),
    )


def _evaluated(body: Mapping[str, Any]) -> Evaluated:
    found: dict[str, Mapping[str, Any]] = {}
    for at, each in enumerate(listing(body.get("evaluations"), "evaluations")):
        path = f"evaluations[{at}]"
        one = mapping(each, path)
        found[text(one, "id", path) or ""] = mapping(one.get("evaluation"), f"{path}.evaluation")
    return Evaluated(evaluations=found)


def _owner(client: ApiClient, task_id: str | None) -> str:
    return f"{client.id}/{task_id or ''}"


def _not_yours() -> Forbidden:
    return Forbidden("You are not allowed to access this enrichment")


def _required(body: Mapping[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise refused(name, f"The parameter {name} cannot be empty")
    return body[name]
