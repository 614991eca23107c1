"""The step in which a model judges each question of the quiz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ilaas.core.enrichment.notes import tokens_of
from ilaas.core.enrichment.quiz import BadAnswer, seconds_of
from ilaas.core.enrichment.results import Evaluated
from ilaas.core.enrichment.values import Question, Sentence
from ilaas.services.enrichment import asking
from ilaas.services.enrichment.asking import ask, room_tokens
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.schemas import CRITERIA, EVALUATION_SCHEMA
from ilaas.services.enrichment.together import Piece, all_of


async def evaluate(work: Work) -> Evaluated:
    """The eight criteria of each question; the more are true, the better it is."""
    version = work.version
    sentences = version.transcript.sentences if version.transcript is not None else ()
    pieces = [
        Piece(number=at, span_s=(0.0, 0.0), do=partial(_judge, work, question, sentences))
        for at, question in enumerate(version.questions)
    ]
    results = await all_of(work, pieces)
    return Evaluated(evaluations={each.id: result for each, result in zip(version.questions, results, strict=True)})


async def _judge(work: Work, question: Question, sentences: Sequence[Sentence]) -> Mapping[str, bool]:
    shown = _shown(question)
    transcript = work.version.transcript
    language = transcript.language if transcript is not None else None
    asked = asking.Question(
        prompt="evaluate",
        values={"question": shown, "text": _around(question, sentences, await room_tokens(work, shown))},
        schema=EVALUATION_SCHEMA,
        what="evaluation",
    )
    return await ask(work, asked, language, _check)


def _check(raw: Any, *, lenient: bool) -> dict[str, bool]:
    if not isinstance(raw, dict):
        raise BadAnswer("the answer must be a JSON object")
    missing = [name for name in CRITERIA if not isinstance(raw.get(name), bool)]
    if missing and not (lenient and len(missing) < len(CRITERIA) // 2):
        raise BadAnswer("these keys must be true or false: " + ", ".join(missing))
    return {name: raw[name] for name in CRITERIA if name not in missing}


def _shown(question: Question) -> str:
    choices = "\n".join(f"- {each.option_text} ({'+' if each.correct_answer else '-'})" for each in question.choices)
    return f"{question.question}\n{choices}\n{question.explanation or ''}".strip()


def _around(question: Question, sentences: Sequence[Sentence], room: int) -> str:
    """As much of the transcript around the question's place as fits."""
    if not sentences:
        return ""
    pointer = question.answer_pointer
    at_s = (seconds_of(pointer.start) if pointer is not None else None) or 0.0
    begin = end = min(range(len(sentences)), key=lambda at: abs(sentences[at].start - at_s))
    used = tokens_of(sentences[begin].text)
    while True:
        before = tokens_of(sentences[begin - 1].text) if begin > 0 else None
        after = tokens_of(sentences[end + 1].text) if end + 1 < len(sentences) else None
        if before is not None and used + before <= room:
            begin, used = begin - 1, used + before
        if after is not None and used + after <= room:
            end, used = end + 1, used + after
        elif before is None or used + before > room:
            break
    return " ".join(each.text.strip() for each in sentences[begin : end + 1])
