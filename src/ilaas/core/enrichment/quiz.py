"""What language models answer, checked: nothing gets into a version that its clients can't show.

Every check says in words what is wrong (`BadAnswer.problems`), so that the model can be asked to put it right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ilaas.core.enrichment.values import AnswerPointer, Choice, EnrichmentParameters, Metadata, Question

_CLOCK = re.compile(r"^(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2})(?:[.,]\d+)?$")
_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?```\s*$", re.DOTALL)
_MAX_TOPICS = 30
_MIN_CHOICES = 2


class BadAnswer(ValueError):
    """The model's answer is not what was asked for."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def json_of(text: str) -> Any:
    """The JSON in an answer, be it in a code fence or between other words. Raises `BadAnswer`."""
    bare = text.strip()
    if fenced := _FENCE.match(bare):
        bare = fenced[1].strip()
    starts = [at for at in (bare.find("{"), bare.find("[")) if at >= 0]
    if starts:
        bare = bare[min(starts) :]
    try:
        return json.JSONDecoder().raw_decode(bare)[0]
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"the answer is not valid JSON ({error})") from None


def clock(seconds: float) -> str:
    """ "HH:MM:SS", rounded down."""
    whole = max(int(seconds), 0)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def seconds_of(value: object) -> float | None:
    """Seconds of "HH:MM:SS", "MM:SS" or a number; None when it is nothing of the kind."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < float("inf") else None
    if not isinstance(value, str):
        return None
    if found := _CLOCK.match(value.strip()):
        hours, minutes, seconds = (int(group or 0) for group in found.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    try:
        return seconds_of(float(value))
    except ValueError:
        return None


def pointer_in(start: object, stop: object, span_s: tuple[float, float]) -> AnswerPointer | None:
    """A pointer that lies inside this piece of the media, brought into it when it is not; None when it says nothing."""
    start_s, stop_s = seconds_of(start), seconds_of(stop)
    if start_s is None and stop_s is None:
        return None
    first_s, last_s = span_s
    begin_s = min(max(start_s if start_s is not None else stop_s or 0.0, first_s), last_s)
    end_s = min(max(stop_s if stop_s is not None else begin_s, begin_s), last_s)
    return AnswerPointer(start=clock(begin_s), stop=clock(end_s))


def checked_metadata(raw: object, asked: EnrichmentParameters, *, lenient: bool = False) -> Metadata:
    """Title, description, topics, discipline and media type, the last two from the lists given.

    `lenient`, for the last try: what is not in its list is left out. Raises `BadAnswer`.
    """
    if not isinstance(raw, Mapping):
        raise BadAnswer("the answer must be a JSON object")
    problems: list[str] = []
    title = _line(raw, "title", problems)
    description = _line(raw, "description", problems)
    topics = raw.get("topics")
    if isinstance(topics, str):
        topics = topics.split(",")
    if not isinstance(topics, list) or not all(isinstance(each, str) for each in topics):
        problems.append('"topics" must be an array of texts')
        topics = []
    discipline = _one_of(raw, "discipline", asked.disciplines, None if lenient else problems)
    media_type = _one_of(raw, "mediaType", asked.media_types, None if lenient else problems)
    if problems:
        raise BadAnswer(*problems)
    named = dict.fromkeys(each.strip() for each in topics if each.strip())
    return Metadata(
        title=title,
        description=description,
        topics=tuple(named)[:_MAX_TOPICS],
        discipline=discipline,
        media_type=media_type,
    )


def checked_questions(
    raw: object, span_s: tuple[float, float], new_id: Callable[[], str], *, lenient: bool = False
) -> tuple[Question, ...]:
    """A quiz: each question with at least two different choices, one right at least, and a pointer inside `span_s`.

    `lenient`, for the last try: questions that are wrong are left out. Raises `BadAnswer`.
    """
    listed = raw.get("questions", raw.get("multipleChoiceQuestions")) if isinstance(raw, Mapping) else raw
    if not isinstance(listed, list):
        raise BadAnswer('the answer must be a JSON object with an array "questions"')
    questions: list[Question] = []
    problems: list[str] = []
    for number, each in enumerate(listed, 1):
        try:
            questions.append(_question(each, span_s, new_id))
        except BadAnswer as error:
            problems.extend(f"question {number}: {problem}" for problem in error.problems)
    if problems and not lenient:
        raise BadAnswer(*problems)
    return tuple(questions)


def _question(raw: object, span_s: tuple[float, float], new_id: Callable[[], str]) -> Question:
    if not isinstance(raw, Mapping):
        raise BadAnswer("it must be a JSON object")
    problems: list[str] = []
    asked = _line(raw, "question", problems)
    explanation = _line(raw, "explanation", problems)
    choices = _choices(raw.get("choices"), problems)
    pointer = raw.get("answerPointer")
    if not isinstance(pointer, Mapping):
        pointer = {}
    placed = pointer_in(pointer.get("startAnswerPointer"), pointer.get("stopAnswerPointer"), span_s)
    if problems:
        raise BadAnswer(*problems)
    return Question(
        id=new_id(),
        question=asked,
        explanation=explanation,
        choices=tuple(Choice(id=new_id(), option_text=text, correct_answer=right) for text, right in choices),
        # Clients parse both ends without looking whether they are there.
        answer_pointer=placed or AnswerPointer(start=clock(span_s[0]), stop=clock(span_s[1])),
    )


def _choices(raw: object, problems: list[str]) -> Sequence[tuple[str, bool]]:
    found: dict[str, bool] = {}
    for each in raw if isinstance(raw, list) else []:
        text = each.get("optionText") if isinstance(each, Mapping) else None
        right = each.get("correctAnswer", False) if isinstance(each, Mapping) else None
        if not isinstance(text, str) or not text.strip() or not isinstance(right, bool):
            problems.append('each of "choices" needs a text "optionText" and a boolean "correctAnswer"')
            return []
        found[text.strip()] = right
    if len(found) < _MIN_CHOICES:
        problems.append('"choices" must have at least two different texts')
    elif not any(found.values()):
        problems.append('one of "choices" must have "correctAnswer": true')
    elif all(found.values()):
        problems.append('one of "choices" must have "correctAnswer": false')
    return list(found.items())


def _line(raw: Mapping[str, Any], key: str, problems: list[str]) -> str:
    value = raw.get(key)
    if isinstance(value, str) and value.strip():
        return value.strip()
    problems.append(f'"{key}" must be a text that is not empty')
    return ""


def _one_of(raw: Mapping[str, Any], key: str, allowed: Sequence[str] | None, problems: list[str] | None) -> str | None:
    value = raw.get(key)
    near = {each.strip().casefold(): each for each in allowed or ()}
    if isinstance(value, str) and value.strip().casefold() in near:
        return near[value.strip().casefold()]
    if allowed and problems is not None:
        problems.append(f'"{key}" must be one of: ' + ", ".join(allowed))
    return None
