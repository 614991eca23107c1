"""Questions to a language model whose answers are checked, and put right by the model itself a few times at most."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import structlog

from ilaas.core.enrichment.notes import tokens_of
from ilaas.core.enrichment.quiz import BadAnswer, json_of
from ilaas.core.errors import UpstreamInvalid
from ilaas.ports.completion import Completed, CompletionTask, Message
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.languages import language_name
from ilaas.services.enrichment.prompts import prompt
from ilaas.services.enrichment.schemas import Schema

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

log = structlog.get_logger(__name__)

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_PROMPT_TOKENS = 1_500
"""What prompts take of the window beside the transcript."""
_SMALLEST_TOKENS = 400
_REPEATED_CHARS = 4_000
"""Of a wrong answer, as it is shown to the model again."""


class Check(Protocol[T_co]):
    """Makes the wanted value of an answer, or raises `BadAnswer`."""

    def __call__(self, raw: Any, *, lenient: bool) -> T_co:
        """`lenient` on the last try: what can be left out is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    prompt: str
    """The name of the prompt's file."""
    values: dict[str, object]
    schema: Schema | None
    """None: the answer is text."""
    what: str
    """Of a failure's cause: "The language model gave no usable <what>"."""
    writes: str | None = None
    """The language of the answer; None: that of the question."""


async def ask(work: Work, question: Question, language: str | None, check: Check[T]) -> T:
    """The checked answer. Raises what the model's port raises, and `UpstreamInvalid` when no answer was usable."""
    repairs = work.context.policy.repairs
    written = language_name(question.writes or language, language)
    messages = (
        Message("system", prompt("system", language).filled(language=written)),
        Message("user", prompt(question.prompt, language).filled(**question.values)),
    )
    task = CompletionTask(
        messages=messages,
        billed=work.billed,
        model=work.model,
        max_tokens=await answer_tokens(work),
        temperature=0.2,
        schema=question.schema,
        schema_name=question.prompt,
    )
    for left in range(repairs, -1, -1):
        answer = await work.context.completion.complete(task)
        try:
            return check(_value(answer, is_json=question.schema is not None), lenient=left == 0)
        except BadAnswer as error:
            log.info("answer_refused", enrichment=work.enrichment.id, prompt=question.prompt, left=left)
            task = replace(task, messages=(*messages, *_repair(answer, error, language)))
            problems = error.problems
    raise UpstreamInvalid(f"The language model gave no usable {question.what}: {_shown(problems)}.")


def _value(answer: Completed, *, is_json: bool) -> Any:
    text = _THOUGHTS.sub("", answer.text).strip()
    if answer.finish_reason == "length":
        raise BadAnswer("the answer was cut off because it is too long: write less")
    return json_of(text) if is_json else text


def _repair(answer: Completed, error: BadAnswer, language: str | None) -> tuple[Message, Message]:
    text = prompt("repair", language).filled(problems=_shown(error.problems))
    return Message("assistant", answer.text[:_REPEATED_CHARS] or "-"), Message("user", text)


def _shown(problems: tuple[str, ...]) -> str:
    return "; ".join(problems)[:1_000]


async def window_tokens(work: Work) -> int:
    """The model's context window, a guess when nobody knows it."""
    return await work.context.completion.context_tokens(work.model) or work.context.policy.window_tokens


async def answer_tokens(work: Work) -> int:
    """What an answer may take: never more than a third of the window."""
    return min(work.context.policy.answer_tokens, await window_tokens(work) // 3)


async def room_tokens(work: Work, beside: str = "") -> int:
    """What of the transcript fits into one request, beside prompt, answer, a repair, and the text given."""
    answer = await answer_tokens(work)
    window = await window_tokens(work)
    room = window - answer - min(_PROMPT_TOKENS + _REPEATED_CHARS // 3, window // 4) - tokens_of(beside)
    return max(min(room, work.context.policy.chunk_tokens), _SMALLEST_TOKENS)


def text_check(check: Callable[[str], T]) -> Check[T]:
    """The check of an answer that is text."""

    def checked(raw: Any, *, lenient: bool) -> T:  # noqa: ARG001 -- text has nothing to leave out
        return check(raw)

    return checked
