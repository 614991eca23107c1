"""JSON schemas of what language models are asked for. Every answer is checked, whatever the server did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}

CRITERIA = (
    "is_related",
    "is_self_contained",
    "is_question",
    "language_is_clear",
    "answers_are_all_different",
    "fake_answers_are_not_obvious",
    "answers_are_related",
    "quiz_about_concept",
)
"""Of a quiz question, as the portal of today's service shows them."""


def _object(**properties: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Schema, **bounds: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **bounds}


def metadata_schema(disciplines: Sequence[str], media_types: Sequence[str]) -> Schema:
    """Title, description and topics; discipline and media type from the lists given."""
    return _object(
        title=_TEXT,
        description=_TEXT,
        topics=_array(_TEXT),
        **({"discipline": {"type": "string", "enum": list(disciplines)}} if disciplines else {}),
        **({"mediaType": {"type": "string", "enum": list(media_types)}} if media_types else {}),
    )


def quiz_schema(count: int) -> Schema:
    """At most so many questions."""
    question = _object(
        question=_TEXT,
        explanation=_TEXT,
        choices=_array(_object(optionText=_TEXT, correctAnswer={"type": "boolean"}), minItems=2),
        answerPointer=_object(startAnswerPointer=_TEXT, stopAnswerPointer=_TEXT),
    )
    return _object(questions=_array(question, minItems=1, maxItems=count))


SUMMARY_SCHEMA: Schema = _object(summary=_TEXT)
TRANSLATIONS_SCHEMA: Schema = _object(translations=_array(_object(id={"type": "integer"}, text=_TEXT)))
EVALUATION_SCHEMA: Schema = _object(**{name: {"type": "boolean"} for name in CRITERIA})
