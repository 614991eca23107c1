"""Long audio in parts, and what was said in them joined again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment.shapes import transcript_from_json, transcript_json
from ilaas.core.enrichment.transcripts import (
    Span,
    joined,
    plan_cuts,
    sentences_of_words,
    spaced,
    text_of,
)
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import InvalidRequest

silences = st.lists(st.tuples(st.floats(0, 30_000), st.floats(0.1, 5.0)), max_size=200).map(
    lambda pairs: [Span(start, start + length) for start, length in sorted(pairs)]
)


def test_cuts_lie_in_the_silence_that_is_nearest_to_the_target() -> None:
    quiet = [Span(100, 102), Span(290, 292), Span(320, 321), Span(600, 602), Span(900, 901)]
    assert plan_cuts(1_000, quiet, target_s=300, longest_s=400) == (
        Span(0, 291),
        Span(291, 601),
        Span(601, 1_000),
    )


def test_where_nobody_stops_talking_it_is_cut_at_the_target() -> None:
    assert plan_cuts(1_000, [], target_s=300, longest_s=350) == (
        Span(0, 300),
        Span(300, 600),
        Span(600, 800),
        Span(800, 1_000),
    )


def test_short_audio_is_one_part_and_none_is_no_part() -> None:
    assert plan_cuts(350, [Span(100, 101)], target_s=300, longest_s=350) == (Span(0, 350),)
    assert plan_cuts(0, [], target_s=300, longest_s=350) == ()
    with pytest.raises(ValueError, match="longest_s"):
        plan_cuts(10, [], target_s=300, longest_s=200)


@given(st.floats(0.1, 30_000), silences, st.floats(10, 600), st.floats(1.0, 3.0))
def test_parts_touch_cover_everything_and_are_never_too_long(
    duration_s: float, quiet: list[Span], target_s: float, factor: float
) -> None:
    longest_s = target_s * factor
    parts = plan_cuts(duration_s, quiet, target_s=target_s, longest_s=longest_s)
    assert parts[0].start_s == 0
    assert parts[-1].end_s == duration_s
    assert all(one.end_s == two.start_s for one, two in itertools.pairwise(parts))
    assert all(0 < part.end_s - part.start_s <= longest_s * (1 + 1e-9) for part in parts)


pieces = st.lists(st.lists(st.tuples(st.floats(-1, 40), st.floats(-1, 40)), max_size=5), min_size=1, max_size=6)


@given(pieces)
def test_joined_sentences_lie_in_their_part_and_none_is_lost(said: list[list[tuple[float, float]]]) -> None:
    parts = [
        (
            Span(n * 30.0, n * 30.0 + 30.0),
            [Sentence(text=f"{n}", start=a, end=b, words=(Word(text="w", start=a, end=b),)) for a, b in each],
        )
        for n, each in enumerate(said)
    ]
    whole = joined(parts)
    assert [each.text for each in whole] == [f"{n}" for n, each in enumerate(said) for _ in each]
    for each in whole:
        first_s = int(each.text) * 30.0
        assert first_s <= each.start <= each.end <= first_s + 30.0
        for word in each.words or ():
            assert first_s <= word.start <= word.end <= first_s + 30.0


def test_joined_times_are_right_and_further_keys_stay() -> None:
    [only] = joined([(Span(60, 90), [Sentence(text="x", start=1.1, end=2.2, extra={"id": 3})])])
    assert (only.start, only.end, only.extra) == (61.1, 62.2, {"id": 3})


def test_words_without_spaces_get_them_and_others_stay() -> None:
    bare = tuple(Word(text=text, start=0, end=1) for text in ("Bonjour", "à", "tous."))
    assert [word.text for word in spaced(bare)] == ["Bonjour", " à", " tous."]
    good = tuple(Word(text=text, start=0, end=1) for text in (" L", "'énergie", " va"))
    assert spaced(good) == good


def test_words_alone_make_sentences_that_end_at_points_and_pauses() -> None:
    words = [
        Word(text="Bonjour", start=0, end=1),
        Word(text="tous.", start=1, end=2),
        Word(text="Puis", start=2, end=3),
        Word(text="rien", start=9, end=10),
    ]
    said = sentences_of_words(words)
    assert [(each.text, each.start, each.end) for each in said] == [
        ("Bonjour tous.", 0, 2),
        ("Puis", 2, 3),
        ("rien", 9, 10),
    ]
    assert text_of(said) == "Bonjour tous. Puis rien"
    assert sentences_of_words([]) == ()


RAW = {
    "language": "fr",
    "text": " Bonjour.",
    "originalFilename": "a.mp4",
    "translatedText": None,
    "translatedSentences": None,
    "sentences": [
        {
            "text": " Bonjour.",
            "start": 0.25,
            "end": 2,
            "is_transient": False,
            "no_speech_prob": 0.01,
            "words": [{"text": " Bonjour.", "start": 0.25, "end": 2, "probability": 0.5}],
        },
        {"text": "", "start": 3, "end": 3},
    ],
}


def test_a_transcript_comes_back_with_the_keys_it_came_with() -> None:
    assert transcript_json(transcript_from_json(RAW)) == RAW
    assert "translatedText" not in transcript_json(transcript_from_json(RAW), translated=False)


def test_a_sentence_that_the_audio_breaks_off_ends_where_it_starts() -> None:
    raw = {"text": "x", "sentences": [{"text": "x", "start": 4.5, "end": None}]}
    assert transcript_from_json(raw).sentences[0].end == 4.5


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (None, "transcript must be an object"),
        ([], "transcript must be an object"),
        ({"text": "x"}, "transcript.sentences must be an array"),
        ({"text": 5, "sentences": []}, "transcript.text"),
        ({"sentences": [{"text": "x", "start": "1", "end": 2}]}, r"sentences\[0\].start"),
        ({"sentences": [{"text": "x", "start": float("nan"), "end": 2}]}, r"sentences\[0\].start"),
        ({"sentences": [{"text": "x", "start": True, "end": 2}]}, r"sentences\[0\].start"),
        ({"sentences": ["x"]}, r"sentences\[0\] must be an object"),
        ({"sentences": [{"text": "x", "start": 1, "end": 2, "words": {}}]}, r"sentences\[0\].words"),
        ({"sentences": [{"start": 1, "end": 2, "words": [{"start": None, "end": 1}]}]}, r"words\[0\].start"),
        ({"sentences": [], "translatedSentences": 4}, "translatedSentences"),
    ],
)
def test_a_transcript_that_is_wrong_is_refused_with_the_place(raw: object, place: str) -> None:
    with pytest.raises(InvalidRequest, match=place):
        transcript_from_json(raw)
