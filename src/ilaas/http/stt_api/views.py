"""Enrichments and versions as clients get them. Nulls are there, and dates have an offset: clients look for both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ilaas.core.enrichment.shapes import transcript_json
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import (
    Choice,
    Enrichment,
    EnrichmentParameters,
    Metadata,
    Question,
    Transcript,
    Version,
)

_TIMES = (
    (Step.FETCH, "uploadStartedAt", "uploadEndedAt"),
    (Step.TRANSCRIPTION, "transcribingStartedAt", "transcribingEndedAt"),
    (Step.ENRICHMENT, "aiEnrichmentStartedAt", "aiEnrichmentEndedAt"),
    (Step.TRANSLATION, "translationStartedAt", "translationEndedAt"),
    (Step.EVALUATION, "aiEvaluationStartedAt", "aiEvaluationEndedAt"),
)
_DONE_BY = (
    (Step.ENRICHMENT, "aiProcessedBy"),
    (Step.EVALUATION, "aiEvaluatedBy"),
    (Step.TRANSCRIPTION, "transcribedBy"),
    (Step.TRANSLATION, "translatedBy"),
)


def date(epoch_s: float | None) -> str | None:
    """RFC 3339, to the second, with its offset."""
    return None if epoch_s is None else datetime.fromtimestamp(int(epoch_s), UTC).isoformat()


def enrichment_view(enrichment: Enrichment, *, with_status: bool) -> dict[str, Any]:
    """An enrichment; `with_status` with who did what and when."""
    asked, media = enrichment.parameters, enrichment.media
    shown: dict[str, Any] = {
        "id": enrichment.id,
        "createdAt": date(enrichment.created_at_s),
        "status": str(enrichment.status),
        "failureCause": enrichment.failure_cause,
        "media": None if media is None else {"originalFileName": media.original_file_name, "mimeType": media.mime_type},
        "notificationStatus": enrichment.notify.status,
        **_lists(asked),
        "notifiedAt": date(enrichment.notify.notified_at_s),
        "aiEvaluation": asked.ai_evaluation,
        "endUserIdentifier": enrichment.end_user_identifier,
        "contributors": None if enrichment.contributors is None else list(enrichment.contributors),
        **_models(asked),
        "aiGenerationCount": enrichment.ai_generation_count,
        "mediaTextLength": enrichment.media_text_length,
        "mediaDurationInSeconds": None if enrichment.media_duration_s is None else int(enrichment.media_duration_s),
        "initialVersionId": enrichment.initial_version_id,
        "lastVersionId": enrichment.last_version_id,
    }
    return shown | _progress(enrichment) if with_status else shown


def _progress(enrichment: Enrichment) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for step, name in _DONE_BY:
        times = enrichment.times.get(step)
        shown[name] = None if times is None or times.done_by is None else {"name": times.done_by}
    shown["latestEnrichmentRequestedAt"] = date(enrichment.requested_at_s)
    for step, began, ended in _TIMES:
        times = enrichment.times.get(step)
        shown[began] = None if times is None else date(times.started_at_s)
        shown[ended] = None if times is None else date(times.ended_at_s)
    return shown


def version_view(version: Version, *, with_transcript: bool = True) -> dict[str, Any]:
    """A version."""
    asked = version.parameters
    shown: dict[str, Any] = {
        "createdAt": date(version.created_at_s),
        "updatedAt": date(version.updated_at_s),
        "id": version.id,
        "enrichmentVersionMetadata": None if version.metadata is None else metadata_view(version.metadata),
        "multipleChoiceQuestions": [question_view(each) for each in version.questions],
        "initialVersion": version.initial,
        "lastEvaluationDate": date(version.last_evaluated_at_s),
        "aiGenerated": version.ai_generated,
        **_lists(asked),
        "endUserIdentifier": version.end_user_identifier,
        "aiEvaluation": asked.ai_evaluation,
        **_models(asked),
        "notes": version.notes,
        "translatedNotes": version.translated_notes,
        "failureCause": version.failure_cause,
    }
    if with_transcript:
        shown["transcript"] = transcript_json(version.transcript or Transcript(language=None, text=""))
    return shown


def metadata_view(metadata: Metadata) -> dict[str, Any]:
    """Title, description and so on. `topics` is always an array."""
    return {
        "title": metadata.title,
        "translatedTitle": metadata.translated_title,
        "description": metadata.description,
        "translatedDescription": metadata.translated_description,
        "topics": list(metadata.topics),
        "translatedTopics": list(metadata.translated_topics),
        "discipline": metadata.discipline,
        "mediaType": metadata.media_type,
        "thumbUpTitle": metadata.thumb_up_title,
        "thumbUpDescription": metadata.thumb_up_description,
        "thumbUpTopics": metadata.thumb_up_topics,
        "thumbUpDiscipline": metadata.thumb_up_discipline,
        "thumbUpMediaType": metadata.thumb_up_media_type,
        "userFeedback": metadata.user_feedback,
    }


def question_view(question: Question) -> dict[str, Any]:
    """A question with its choices."""
    pointer = question.answer_pointer
    return {
        "id": question.id,
        "question": question.question,
        "translatedQuestion": question.translated_question,
        "explanation": question.explanation,
        "translatedExplanation": question.translated_explanation,
        "choices": [choice_view(each) for each in question.choices],
        "answerPointer": None
        if pointer is None
        else {"startAnswerPointer": pointer.start, "stopAnswerPointer": pointer.stop},
        "evaluation": None if question.evaluation is None else dict(question.evaluation),
        "thumbUp": question.thumb_up,
        "userFeedback": question.user_feedback,
    }


def choice_view(choice: Choice) -> dict[str, Any]:
    """A choice."""
    return {
        "id": choice.id,
        "optionText": choice.option_text,
        "translatedOptionText": choice.translated_option_text,
        "correctAnswer": choice.correct_answer,
        "thumbUp": choice.thumb_up,
    }


def _lists(asked: EnrichmentParameters) -> dict[str, Any]:
    return {
        "disciplines": None if asked.disciplines is None else list(asked.disciplines),
        "mediaTypes": None if asked.media_types is None else list(asked.media_types),
    }


def _models(asked: EnrichmentParameters) -> dict[str, Any]:
    return {
        "aiModel": asked.ai_model,
        "infrastructure": asked.infrastructure,
        "language": asked.language,
        "translateTo": asked.translate_to,
    }
