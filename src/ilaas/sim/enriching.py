"""What a model would make of a transcript: answers that follow the schemas of title, summary, quiz and translation.

So a federation of simulated servers enriches media from end to end, and what comes out has to do with what went in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ilaas.sim.schemas import instance

_TRANSCRIPT = re.compile(r"<<<\n(.*?)\n>>>", re.DOTALL)
_TIME = re.compile(r"\[(\d\d:\d\d:\d\d)\] ?")
_NUMBERED = re.compile(r"^(\d+): (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_LONG_WORD = 6
_CHOICES = 4


def enrichment(schema: Mapping[str, Any], prompt: str) -> Any | None:
    """The value for `schema` that the prompt's text gives; None when it is a schema of something else."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return None
    for name, answer in _ANSWERS.items():
        if name in properties:
            return answer(properties, prompt)
    return None


def _metadata(properties: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    text = _plain(prompt)
    words = text.split()
    topics = dict.fromkeys(word.strip(".,;:!?'\u2019").lower() for word in words if len(word) > _LONG_WORD)
    answer: dict[str, Any] = {name: instance(schema) for name, schema in properties.items()}
    return answer | {
        "title": " ".join(words[:8]).rstrip(".,;:") or "Sans titre",
        "description": " ".join(words[:60]) or "Sans paroles.",
        "topics": list(topics)[:5],
    }


def _summary(_: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    return {"summary": " ".join(_plain(prompt).split()[:80]) or "Sans paroles."}


def _questions(properties: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    times = _TIME.findall(prompt) or ["00:00:00"]
    sentences = _sentences(prompt)
    count = min(properties["questions"].get("maxItems", 1), max(len(sentences), 1))
    return {"questions": [_question(number, sentences, times) for number in range(count)]}


def _question(number: int, sentences: Sequence[str], times: Sequence[str]) -> dict[str, Any]:
    told = sentences[number % len(sentences)] if sentences else "Rien"
    at = times[number * len(times) // max(len(sentences), number + 1)]
    others = [f"Autre réponse {other}" for other in range(1, _CHOICES)]
    return {
        "question": f"Question {number + 1} : que dit ce passage ?",
        "explanation": f"Il dit : {told}",
        "choices": [{"optionText": text, "correctAnswer": place == 0} for place, text in enumerate([told, *others])],
        "answerPointer": {"startAnswerPointer": at, "stopAnswerPointer": at},
    }


def _translations(_: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    return {
        "translations": [
            {"id": int(number), "text": f"[traduction] {text.strip()}"} for number, text in _NUMBERED.findall(prompt)
        ]
    }


def _criteria(properties: Mapping[str, Any], _: str) -> dict[str, Any]:
    return dict.fromkeys(properties, True)


_ANSWERS: Mapping[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "translations": _translations,
    "questions": _questions,
    "title": _metadata,
    "summary": _summary,
    "is_self_contained": _criteria,
}


def _plain(prompt: str) -> str:
    found = _TRANSCRIPT.search(prompt)
    return " ".join(_TIME.sub("", found[1] if found is not None else prompt).split())


def _sentences(prompt: str) -> list[str]:
    return list(dict.fromkeys(each.strip() for each in _SENTENCE.findall(_plain(prompt)) if each.strip()))
