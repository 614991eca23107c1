"""Jobs as remote workers get them: what a step needs, and no more."""

from __future__ import annotations

from typing import Any

from ilaas.core.enrichment.shapes import sentences_json, transcript_json
from ilaas.core.enrichment.values import Enrichment, Transcript, Version


def transcription_job(enrichment: Enrichment, media_url: str) -> dict[str, Any]:
    """A media to transcribe."""
    return {
        "enrichmentId": enrichment.id,
        "mediaTemporaryUrl": media_url,
        "language": enrichment.parameters.language,
    }


def enrichment_job(enrichment: Enrichment, version: Version) -> dict[str, Any]:
    """A transcript to make something of."""
    asked = version.parameters
    return {
        **_ids(enrichment, version),
        "transcript": transcript_json(_transcript(version), translated=False),
        "mediaTypes": list(asked.media_types or ()),
        "disciplines": list(asked.disciplines or ()),
        "generateMetadata": asked.generate_metadata,
        "generateQuiz": asked.generate_quiz,
        "generateNotes": asked.generate_notes,
    }


def translation_job(enrichment: Enrichment, version: Version) -> dict[str, Any]:
    """Everything that is to be translated."""
    transcript, metadata = _transcript(version), version.metadata
    return {
        **_ids(enrichment, version),
        "transcript": {"text": transcript.text, "sentences": sentences_json(transcript.sentences)},
        "multipleChoiceQuestions": [
            {
                "id": question.id,
                "question": question.question,
                "explanation": question.explanation,
                "choices": [{"id": choice.id, "optionText": choice.option_text} for choice in question.choices],
            }
            for question in version.questions
        ],
        "enrichmentVersionMetadata": None
        if metadata is None
        else {"title": metadata.title, "description": metadata.description, "topics": list(metadata.topics)},
        "notes": version.notes,
        "language": version.parameters.language or transcript.language,
        "translateTo": version.parameters.translate_to,
    }


def evaluation_job(enrichment: Enrichment, version: Version) -> dict[str, Any]:
    """A quiz to judge."""
    transcript, metadata = _transcript(version), version.metadata
    return {
        **_ids(enrichment, version),
        "transcript": {"language": transcript.language, "text": transcript.text},
        "multipleChoiceQuestions": [
            {
                "id": question.id,
                "question": question.question,
                "translatedQuestion": question.translated_question,
                "explanation": question.explanation,
                "translatedExplanation": question.translated_explanation,
                "choices": [
                    {"id": choice.id, "optionText": choice.option_text, "correctAnswer": choice.correct_answer}
                    for choice in question.choices
                ],
            }
            for question in version.questions
        ],
        "enrichmentVersionMetadata": None
        if metadata is None
        else {
            "title": metadata.title,
            "description": metadata.description,
            "translatedDescription": metadata.translated_description,
            "topics": list(metadata.topics),
            "translatedTopics": list(metadata.translated_topics),
        },
    }


def _ids(enrichment: Enrichment, version: Version) -> dict[str, Any]:
    return {"enrichmentId": enrichment.id, "enrichmentVersionId": version.id}


def _transcript(version: Version) -> Transcript:
    return version.transcript or Transcript(language=None, text="")
