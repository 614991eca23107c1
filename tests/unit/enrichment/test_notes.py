"""Long transcripts in chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment.notes import chunks, tokens_of
from ilaas.core.enrichment.values import Sentence

said = st.lists(st.text(max_size=120), max_size=40).map(
    lambda texts: [Sentence(text=text, start=n * 2.0, end=n * 2.0 + 1.5) for n, text in enumerate(texts)]
)


@given(said, st.integers(20, 400))
def test_chunks_fit_lose_nothing_and_keep_the_order(sentences: list[Sentence], max_tokens: int) -> None:
    found = chunks(sentences, max_tokens)
    assert all(tokens_of(chunk.timed_text) <= max_tokens for chunk in found)
    assert "".join("".join(chunk.text.split()) for chunk in found) == "".join(
        "".join(each.text.split()) for each in sentences
    )
    starts = [each.start for chunk in found for each in chunk.sentences]
    assert starts == sorted(starts)


def test_chunks_are_as_few_and_as_equal_as_can_be() -> None:
    sentences = [Sentence(text="mot " * 20, start=n, end=n + 1) for n in range(100)]
    sizes = [len(chunk.sentences) for chunk in chunks(sentences, 1_000)]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 1


def test_a_sentence_that_is_too_long_is_cut_between_words_and_shares_its_time() -> None:
    [long] = [Sentence(text="mot " * 400, start=100.0, end=200.0)]
    found = chunks([long], 60)
    assert len(found) > 1
    assert found[0].span_s[0] == 100.0
    assert found[-1].span_s[1] == 200.0
    assert all(set(chunk.text.split()) == {"mot"} for chunk in found)


def test_eight_hours_are_cut_in_a_moment_and_silence_is_nothing() -> None:
    hours = [Sentence(text="une phrase de longueur moyenne, dite sans hâte", start=n, end=n + 4) for n in range(7_200)]
    assert sum(len(chunk.sentences) for chunk in chunks(hours, 4_000)) == 7_200
    assert chunks([Sentence(text="  ", start=0, end=1)], 10) == ()
    with pytest.raises(ValueError, match="max_tokens"):
        chunks(hours, 0)


def test_a_timed_text_has_the_time_before_each_sentence() -> None:
    [chunk] = chunks(
        [Sentence(text=" Bonjour.", start=65.2, end=66), Sentence(text="Fin", start=3_600, end=3_601)], 100
    )
    assert chunk.timed_text == "[00:01:05] Bonjour.\n[01:00:00] Fin"
