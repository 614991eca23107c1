"""A step's result put into the version that it was made for."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.enrichment.results import Enriched, Evaluated, Translated, TranslatedQuestion
from ilaas.core.enrichment.values import Metadata, Question, Version
from ilaas.core.errors import InvalidRequest


def merged(version: Version, result: Enriched | Translated | Evaluated, at_s: float) -> Version:
    """The version with the result. Raises `InvalidRequest` when it lacks what was asked for."""
    version = replace(version, updated_at_s=at_s, failure_cause=None)
    if isinstance(result, Enriched):
        return _enriched(version, result)
    if isinstance(result, Translated):
        return _translated(version, result)
    questions = tuple(
        replace(each, evaluation=result.evaluations[each.id]) if each.id in result.evaluations else each
        for each in version.questions
    )
    return replace(version, questions=questions, last_evaluated_at_s=at_s)


def _enriched(version: Version, result: Enriched) -> Version:
    asked = version.parameters
    if asked.generate_metadata and result.metadata is None:
        # Clients read title and topics without looking whether they are there.
        raise InvalidRequest("The title, description and topics are missing, and were asked for.", param="metadata")
    return replace(
        version,
        metadata=result.metadata if result.metadata is not None else version.metadata,
        questions=result.questions or version.questions,
        notes=result.notes if result.notes is not None else version.notes,
    )


def _translated(version: Version, result: Translated) -> Version:
    transcript = version.transcript
    if transcript is not None and result.transcript is not None:
        transcript = replace(
            transcript, translated_text=result.transcript.text, translated_sentences=result.transcript.sentences
        )
    metadata = version.metadata
    if metadata is not None:
        metadata = _translated_metadata(metadata, result)
    return replace(
        version,
        transcript=transcript,
        metadata=metadata,
        questions=tuple(_translated_question(each, result.questions.get(each.id)) for each in version.questions),
        translated_notes=result.notes if result.notes is not None else version.translated_notes,
    )


def _translated_metadata(metadata: Metadata, result: Translated) -> Metadata:
    return replace(
        metadata,
        translated_title=result.title if result.title is not None else metadata.translated_title,
        translated_description=(
            result.description if result.description is not None else metadata.translated_description
        ),
        translated_topics=result.topics or metadata.translated_topics,
    )


def _translated_question(question: Question, translated: TranslatedQuestion | None) -> Question:
    if translated is None:
        return question
    choices = tuple(
        replace(each, translated_option_text=translated.choices.get(each.id, each.translated_option_text))
        for each in question.choices
    )
    return replace(
        question,
        translated_question=translated.question,
        translated_explanation=translated.explanation,
        choices=choices,
    )
