"""Results as JSON, for keeping them while a step is not yet done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ilaas.core.enrichment.values import AnswerPointer, Choice, Metadata, Question


def metadata_tree(metadata: Metadata) -> dict[str, Any]:
    """What the model made; `metadata_of` reads it."""
    return {
        "title": metadata.title,
        "description": metadata.description,
        "topics": list(metadata.topics),
        "discipline": metadata.discipline,
        "media_type": metadata.media_type,
    }


def metadata_of(tree: Mapping[str, Any]) -> Metadata:
    """The reverse of `metadata_tree`."""
    return Metadata(**{**tree, "topics": tuple(tree["topics"])})


def questions_tree(questions: Iterable[Question]) -> list[dict[str, Any]]:
    """What the model made; `questions_of` reads it."""
    return [asdict(each) for each in questions]


def questions_of(tree: Iterable[Mapping[str, Any]]) -> tuple[Question, ...]:
    """The reverse of `questions_tree`."""
    return tuple(
        Question(
            **{
                **each,
                "choices": tuple(Choice(**choice) for choice in each["choices"]),
                "answer_pointer": AnswerPointer(**each["answer_pointer"]) if each["answer_pointer"] else None,
            }
        )
        for each in tree
    )
