"""What language models answer, checked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment.quiz import (
    BadAnswer,
    checked_metadata,
    checked_questions,
    clock,
    json_of,
    pointer_in,
    seconds_of,
)
from ilaas.core.enrichment.values import AnswerPointer, EnrichmentParameters

ASKED = EnrichmentParameters(disciplines=("Physique", "Droit"), media_types=("Cours",))
GOOD = {
    "title": " T ",
    "description": "D",
    "topics": ["a", " a ", "b", ""],
    "discipline": "physique ",
    "mediaType": "Cours",
}
SPAN_S = (60.0, 125.9)


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id{next(numbers)}"


def question(**changes: object) -> dict[str, object]:
    return {
        "question": "Why?",
        "explanation": "Because.",
        "choices": [
            {"optionText": "yes", "correctAnswer": True},
            {"optionText": "no", "correctAnswer": False},
        ],
        "answerPointer": {"startAnswerPointer": "00:01:05", "stopAnswerPointer": "00:01:10"},
        **changes,
    }


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '```json\n{"a": 1}\n```', 'Here it is: {"a": 1}\nAnything else?', '  \n{"a": 1}']
)
def test_json_is_found_in_what_models_write(text: str) -> None:
    assert json_of(text) == {"a": 1}


@pytest.mark.parametrize("text", ["", "no", '{"a": ', "[" * 100_000])
def test_what_is_no_json_is_said_to_be_so(text: str) -> None:
    with pytest.raises(BadAnswer, match="not valid JSON"):
        json_of(text)


def test_times_are_written_as_clients_parse_them() -> None:
    assert [clock(each) for each in (0, 65.9, 3_600 * 8 + 61, -4)] == ["00:00:00", "00:01:05", "08:01:01", "00:00:00"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("00:01:05", 65.0),
        ("01:05", 65.0),
        ("65.5", 65.5),
        (65, 65.0),
        ("00:01:05.9", 65.0),
        ("later", None),
        (None, None),
        (True, None),
        (-1, None),
        ("nan", None),
        (float("inf"), None),
    ],
)
def test_times_are_read_in_what_models_write(value: object, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


@given(
    st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=12)),
    st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=12)),
    st.floats(0, 30_000),
    st.floats(0, 30_000),
)
def test_a_pointer_always_lies_inside_the_media(start: object, stop: object, a: float, b: float) -> None:
    span_s = (min(a, b), max(a, b))
    pointer = pointer_in(start, stop, span_s)
    if pointer is not None:
        assert clock(span_s[0]) <= pointer.start <= pointer.stop <= clock(span_s[1])


def test_metadata_are_taken_with_the_names_of_the_lists() -> None:
    found = checked_metadata(GOOD, ASKED)
    assert (found.title, found.description, found.topics) == ("T", "D", ("a", "b"))
    assert (found.discipline, found.media_type) == ("Physique", "Cours")
    assert checked_metadata({**GOOD, "topics": "a, b"}, ASKED).topics == ("a", "b")


def test_wrong_metadata_are_told_all_at_once() -> None:
    with pytest.raises(BadAnswer) as error:
        checked_metadata({"title": "", "topics": [1], "discipline": "Chimie", "mediaType": None}, ASKED)
    assert error.value.problems == (
        '"title" must be a text that is not empty',
        '"description" must be a text that is not empty',
        '"topics" must be an array of texts',
        '"discipline" must be one of: Physique, Droit',
        '"mediaType" must be one of: Cours',
    )
    with pytest.raises(BadAnswer, match="JSON object"):
        checked_metadata([], ASKED)


def test_on_the_last_try_a_discipline_of_no_list_is_left_out() -> None:
    found = checked_metadata({**GOOD, "discipline": "Chimie", "mediaType": "Film"}, ASKED, lenient=True)
    assert (found.title, found.discipline, found.media_type) == ("T", None, None)


def test_a_quiz_is_taken_with_ids_and_pointers() -> None:
    [found] = checked_questions({"questions": [question()]}, SPAN_S, ids())
    assert (found.id, found.question, found.explanation) == ("id1", "Why?", "Because.")
    assert [(each.id, each.option_text, each.correct_answer) for each in found.choices] == [
        ("id2", "yes", True),
        ("id3", "no", False),
    ]
    assert found.answer_pointer == AnswerPointer(start="00:01:05", stop="00:01:10")


@pytest.mark.parametrize("pointer", [None, "soon", {}, {"startAnswerPointer": None, "stopAnswerPointer": "?"}])
def test_a_question_without_a_pointer_points_to_all_that_it_was_made_from(pointer: object) -> None:
    [found] = checked_questions([question(answerPointer=pointer)], SPAN_S, ids())
    assert found.answer_pointer == AnswerPointer(start="00:01:00", stop="00:02:05")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"question": ""}, '"question"'),
        ({"explanation": None}, '"explanation"'),
        ({"choices": None}, "at least two"),
        ({"choices": [{"optionText": "x", "correctAnswer": True}] * 2}, "two different"),
        ({"choices": [{"optionText": "x", "correctAnswer": "yes"}]}, "boolean"),
        ({"choices": ["x"]}, "optionText"),
        ({"choices": [{"optionText": n, "correctAnswer": True} for n in "ab"]}, "false"),
        ({"choices": [{"optionText": n, "correctAnswer": False} for n in "ab"]}, "true"),
    ],
)
def test_a_wrong_question_is_told_by_its_number_and_left_out_on_the_last_try(
    changes: dict[str, object], problem: str
) -> None:
    raw = {"questions": [question(), question(**changes)]}
    with pytest.raises(BadAnswer, match=rf"^question 2: .*{problem}"):
        checked_questions(raw, SPAN_S, ids())
    assert len(checked_questions(raw, SPAN_S, ids(), lenient=True)) == 1


@pytest.mark.parametrize("raw", [None, 4, {}, {"questions": {}}])
def test_what_is_no_quiz_is_said_to_be_so(raw: object) -> None:
    with pytest.raises(BadAnswer, match="questions"):
        checked_questions(raw, SPAN_S, ids(), lenient=True)
