"""What people do with the results: versions of their own, and what they think of the machine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import Change
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.shapes import transcript_from_json
from ilaas.core.enrichment.values import Choice, Enrichment, Metadata, Question, Version
from ilaas.core.errors import Forbidden, InvalidRequest, NotFound
from ilaas.ports.enrichment import ListQuery
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.contract_json import metadata_from_json, questions_from_json
from ilaas.services.enrichment.refusals import refused, unknown_version

_MANY = 500
_OF_BODIES = frozenset({"mcqId", "choiceId"})
_NO_INITIAL = (
    "No initial version found for the enrichment. Please wait for the generation of the initial version before "
    "pushing a new one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVersion:
    """A version by a person, as it came: parsed JSON where it is JSON."""

    transcript: Any = None
    """None: as in the newest version."""
    metadata: Any = None
    questions: Any = None
    notes: str | None = None
    translated_notes: str | None = None
    translate: bool = False


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a person thinks of a question or choice; only what is among the values was said."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a person thinks of a whole version."""

    metadata: Mapping[str, Any]
    """Fields of `Metadata` by their names."""
    questions: Mapping[str, Opinion]
    choices: Mapping[tuple[str, str], Opinion]
    """By the ids of question and choice."""


class VersionCommands:
    """Every method is for one client, and raises NotFound or Forbidden for what is not its own."""

    def __init__(self, world: ApiWorld) -> None:
        self._world = world

    async def add(self, client: ApiClient, enrichment_id: str, own: OwnVersion) -> str:
        """Keep a version by a person; returns its id. Raises Violations, Forbidden when there is no initial one yet."""
        enrichment = await self._world.owned(client, enrichment_id)
        if enrichment.initial_version_id is None:
            raise Forbidden(_NO_INITIAL)
        latest = await self._world.store.latest_version(enrichment_id)
        transcript = None if latest is None else latest.transcript
        if own.transcript is not None:
            try:
                transcript = transcript_from_json(own.transcript)
            except InvalidRequest as error:
                raise refused(error.param or "transcript", error.message) from None
        now, version_id = self._world.epoch(), self._world.new_id()
        version = Version(
            id=version_id,
            enrichment_id=enrichment_id,
            created_at_s=now,
            updated_at_s=now,
            parameters=enrichment.parameters,
            transcript=transcript,
            metadata=metadata_from_json(own.metadata, enrichment.parameters),
            questions=questions_from_json(own.questions, (0.0, enrichment.media_duration_s or 0.0), self._world.new_id),
            notes=own.notes,
            translated_notes=own.translated_notes,
            end_user_identifier=enrichment.end_user_identifier,
        )

        def decide(found: Enrichment) -> Change:
            return orders.version_added(self._world.checked(client, found), version, now, translate=own.translate)

        await self._world.store.change(enrichment_id, decide)
        return version_id

    async def delete(self, client: ApiClient, enrichment_id: str, version_id: str) -> None:
        """Forget a version. Raises Forbidden for the initial one, Conflict for one that is being worked on."""
        await self._world.version(client, enrichment_id, version_id)
        page = await self._world.store.versions(enrichment_id, ListQuery(size=_MANY), with_transcript=False)
        remaining = [each for each in page.content if each.id != version_id]

        def decide(found: Enrichment, version: Version) -> Change:
            self._world.checked(client, found)
            return orders.version_deleted(found, version, remaining, self._world.epoch())

        await self._change(enrichment_id, version_id, decide)

    async def evaluate(self, client: ApiClient, enrichment_id: str, version_id: str, evaluation: Evaluation) -> Version:
        """Note what a person thinks of a version by the machine; returns it. Raises InvalidRequest for another one."""
        await self._world.version(client, enrichment_id, version_id)
        return await self._changed(client, enrichment_id, version_id, partial(_evaluated, evaluation=evaluation))

    async def rate_question(
        self, client: ApiClient, enrichment_id: str, version_id: str, question_id: str, opinion: Opinion
    ) -> Version:
        """Note what a person thinks of one question; returns the version."""
        one = Evaluation(metadata={}, questions={question_id: opinion}, choices={})
        return await self.evaluate(client, enrichment_id, version_id, one)

    async def rate_choice(
        self, client: ApiClient, ids: tuple[str, str], question_id: str, choice_id: str, opinion: Opinion
    ) -> Version:
        """Note what a person thinks of one choice; returns the version. `ids` are of the enrichment and the version."""
        one = Evaluation(metadata={}, questions={}, choices={(question_id, choice_id): opinion})
        return await self.evaluate(client, *ids, one)

    async def _changed(
        self, client: ApiClient, enrichment_id: str, version_id: str, make: Callable[[Version], Version]
    ) -> Version:
        now = self._world.epoch()

        def decide(found: Enrichment, version: Version) -> Change:
            self._world.checked(client, found)
            made = replace(make(version), last_evaluated_at_s=now)
            if made.id == found.ai_version_id:
                found = replace(found, evaluation_mark=_mark(made))
            return orders.version_changed(found, made, now)

        change = await self._change(enrichment_id, version_id, decide)
        return change.versions[0]

    async def _change(
        self, enrichment_id: str, version_id: str, decide: Callable[[Enrichment, Version], Change]
    ) -> Change:
        try:
            return await self._world.store.change_version(enrichment_id, version_id, decide)
        except NotFound as error:
            if error.param in _OF_BODIES:
                raise
            raise unknown_version(enrichment_id, version_id) from None


def _evaluated(version: Version, evaluation: Evaluation) -> Version:
    if not version.ai_generated:
        raise InvalidRequest("Only versions generated by AI can be evaluated")
    questions = {each.id: each for each in version.questions}
    for question_id in (*evaluation.questions, *(pair[0] for pair in evaluation.choices)):
        if question_id not in questions:
            raise NotFound(f"No multiple choice question with ID '{question_id}' has been found", param="mcqId")
    for question_id, choice_id in evaluation.choices:
        if all(each.id != choice_id for each in questions[question_id].choices):
            raise NotFound(f"No choice with ID '{choice_id}' has been found", param="choiceId")
    metadata = version.metadata
    if evaluation.metadata:
        metadata = replace(metadata or Metadata(), **evaluation.metadata)
    return replace(version, metadata=metadata, questions=tuple(_rated(each, evaluation) for each in version.questions))


def _rated(question: Question, evaluation: Evaluation) -> Question:
    def rated(choice: Choice) -> Choice:
        opinion = evaluation.choices.get((question.id, choice.id))
        return choice if opinion is None else replace(choice, **opinion.values)

    opinion = evaluation.questions.get(question.id, Opinion({}))
    return replace(question, choices=tuple(map(rated, question.choices)), **opinion.values)


def _mark(version: Version) -> float | None:
    """The share of thumbs up among the questions that have a thumb."""
    thumbs = [each.thumb_up for each in version.questions if each.thumb_up is not None]
    return sum(thumbs) / len(thumbs) if thumbs else None
