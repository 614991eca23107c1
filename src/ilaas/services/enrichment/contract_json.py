"""Metadata and quizzes in the contract's JSON, as clients and remote workers send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ilaas.core.enrichment.quiz import clock, pointer_in
from ilaas.core.enrichment.values import AnswerPointer, Choice, EnrichmentParameters, Metadata, Question
from ilaas.services.enrichment.refusals import refused

METADATA = "enrichmentVersionMetadata"
QUESTIONS = "multipleChoiceQuestions"


def metadata_from_json(raw: object, asked: EnrichmentParameters) -> Metadata | None:
    """Title, description and so on. Raises Violations for a wrong type, or a discipline that was not to choose from."""
    if raw is None:
        return None
    body = mapping(raw, METADATA)
    metadata = Metadata(
        title=text(body, "title", METADATA),
        translated_title=text(body, "translatedTitle", METADATA),
        description=text(body, "description", METADATA),
        translated_description=text(body, "translatedDescription", METADATA),
        topics=texts(body, "topics", METADATA),
        translated_topics=texts(body, "translatedTopics", METADATA),
        discipline=text(body, "discipline", METADATA),
        media_type=text(body, "mediaType", METADATA),
    )
    for name, value, listed in (
        ("discipline", metadata.discipline, asked.disciplines),
        ("mediaType", metadata.media_type, asked.media_types),
    ):
        if value is not None and value not in (listed or ()):
            raise refused(f"{METADATA}.{name}", f"The {name} must be one of those of the enrichment")
    return metadata


def questions_from_json(raw: object, span_s: tuple[float, float], new_id: Callable[[], str]) -> tuple[Question, ...]:
    """A quiz, with new ids; answer pointers are brought to "HH:MM:SS" inside `span_s`. Raises Violations."""
    found = listing(raw, QUESTIONS)
    return tuple(_question(each, f"{QUESTIONS}[{at}]", span_s, new_id) for at, each in enumerate(found))


def _question(raw: object, path: str, span_s: tuple[float, float], new_id: Callable[[], str]) -> Question:
    body = mapping(raw, path)
    asked = text(body, "question", path)
    if not asked:
        raise refused(f"{path}.question", "A question cannot be empty")
    choices = listing(body.get("choices"), f"{path}.choices")
    pointer = body.get("answerPointer")
    given = mapping(pointer, f"{path}.answerPointer") if pointer is not None else {}
    placed = pointer_in(given.get("startAnswerPointer"), given.get("stopAnswerPointer"), span_s)
    return Question(
        id=new_id(),
        question=asked,
        explanation=text(body, "explanation", path),
        translated_question=text(body, "translatedQuestion", path),
        translated_explanation=text(body, "translatedExplanation", path),
        choices=tuple(_choice(each, f"{path}.choices[{at}]", new_id) for at, each in enumerate(choices)),
        # Clients parse both ends without looking whether they are there.
        answer_pointer=placed or AnswerPointer(start=clock(span_s[0]), stop=clock(span_s[1])),
    )


def _choice(raw: object, path: str, new_id: Callable[[], str]) -> Choice:
    body = mapping(raw, path)
    option, right = text(body, "optionText", path), body.get("correctAnswer", False)
    if option is None:
        raise refused(f"{path}.optionText", "The text of a choice cannot be empty")
    if not isinstance(right, bool):
        raise refused(f"{path}.correctAnswer", "This value should be of type bool.")
    return Choice(
        id=new_id(),
        option_text=option,
        correct_answer=right,
        translated_option_text=text(body, "translatedOptionText", path),
    )


# -- types -------------------------------------------------------------------------------------------------------------


def mapping(raw: object, path: str) -> Mapping[str, Any]:
    """An object. Raises Violations."""
    if not isinstance(raw, Mapping):
        raise refused(path, "This value should be of type object.")
    return raw


def listing(raw: object, path: str) -> list[Any]:
    """An array; null is an empty one. Raises Violations."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise refused(path, "This value should be of type array.")
    return raw


def text(body: Mapping[str, Any], name: str, path: str) -> str | None:
    """A text or null. Raises Violations."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise refused(f"{path}.{name}", "This value should be of type string.")


def texts(body: Mapping[str, Any], name: str, path: str) -> tuple[str, ...]:
    """An array of texts; null is an empty one. Raises Violations."""
    found = listing(body.get(name), f"{path}.{name}")
    if not all(isinstance(each, str) for each in found):
        raise refused(f"{path}.{name}", "This value should be of type array of string.")
    return tuple(found)
