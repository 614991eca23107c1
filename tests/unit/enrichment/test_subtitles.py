"""Subtitles, read and written."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment.subtitles import (
    cues,
    parse_subtitles,
    transcript_of_subtitles,
    write_srt,
    write_vtt,
)
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import InvalidRequest

GOLDEN = Path(__file__).parent / "golden"

SENTENCES = (
    Sentence(text=" Bonjour à tous.", start=0, end=2.01),  # 2.01 * 1000 is a little less than 2010
    Sentence(text=" L'énergie & la matière <E = mc²>", start=3723.4569, end=3725.9999),
)


def spoken(*words: str, start: float = 0.0, each_s: float = 1.0) -> tuple[Word, ...]:
    return tuple(
        Word(text=word, start=start + n * each_s, end=start + (n + 1) * each_s) for n, word in enumerate(words)
    )


TWELVE = (" un", " deux", " trois", " quatre", " cinq", " six", " sept", " huit", " neuf", " dix", " onze", " douze")

WORDS = (
    Sentence(text="ignored", start=0, end=2, words=spoken(" Bonjour", " à tous.", each_s=1.0)),
    Sentence(
        text="ignored", start=2, end=17.5, words=spoken(*TWELVE, " treize", " quatorze", " quinze", start=2, each_s=1.0)
    ),
    # The thirteenth is over the limit, and may not end a cue before an apostrophe.
    Sentence(text="ignored", start=17.5, end=33, words=spoken(*TWELVE, " qu", "'il", " dit", start=17.5, each_s=1.0)),
)


def golden(name: str) -> str:
    return (GOLDEN / name).read_text("utf-8")


def test_srt_is_written_byte_for_byte() -> None:
    assert write_srt(SENTENCES) == golden("sentences.srt")


def test_vtt_is_written_byte_for_byte() -> None:
    assert write_vtt(SENTENCES) == golden("sentences.vtt")


def test_sentences_with_words_are_cut_anew() -> None:
    assert write_srt(WORDS) == golden("words.srt")


def test_cues_begin_without_a_space_and_never_before_an_apostrophe() -> None:
    shown = list(cues(WORDS))
    assert all(not cue.text.startswith((" ", "'")) for cue in shown)
    assert "".join(cue.text for cue in shown).replace(" ", "") == "".join(
        word.text for each in WORDS for word in each.words or ()
    ).replace(" ", "")


def test_a_text_with_empty_lines_and_arrows_does_not_break_the_file() -> None:
    odd = Sentence(text="\none\n\n2\n00:00:01,000 --> 00:00:02,000\r\n \r\ntwo\n", start=0, end=1)
    for write in (write_srt, write_vtt):
        [only] = parse_subtitles(write([odd]))
        assert only.text.startswith("one 2 00:00:01,000")
        assert only.text.endswith("two")


def test_an_empty_transcript_is_a_file_without_cues() -> None:
    assert (write_srt([]), write_vtt([])) == ("", "WEBVTT\n\n")


def test_vtt_of_the_wild_is_read() -> None:
    text = (
        "\ufeffWEBVTT - title\r\nX-TIMESTAMP-MAP=x\r\n\r\nNOTE a comment\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n"
        "intro\r\n00:01.500 --> 00:02.345 align:start line:0%\r\n"
        "<v Jeanne>Bonjour</v> &amp; <i>merci</i>\r\nà tous\r\n\r\n"
        "10:00:00.000 --> 10:00:01.000\r\n<00:00:00.500><c.yellow>fin</c> &lt;b&gt;\r\n"
    )
    assert parse_subtitles(text) == (
        Sentence(text="Bonjour & merci à tous", start=1.5, end=2.35),
        Sentence(text="fin <b>", start=36000.0, end=36001.0),
    )


def test_srt_of_the_wild_is_read() -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:02,5\n{\\an8}<i>un</i>\n\n\n2\n00:00:03,000 --> 00:00:04,000\n\n"
        "00:00:05.000 --> 00:00:06.000\nsans numéro\n3\n00:00:07,000 --> 00:00:08,000 X1:1 X2:2\ntrois &amp;"
    )
    assert [(each.start, each.end, each.text) for each in parse_subtitles(text)] == [
        (1.0, 2.5, "un"),
        (5.0, 6.0, "sans numéro"),
        (7.0, 8.0, "trois &amp;"),
    ]


@pytest.mark.parametrize("text", ["", "WEBVTT\n\n", "Just a letter.\n\nTo nobody.", "00:00:02,000 --> 00:00:01,000\nx"])
def test_a_file_without_subtitles_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"WebVTT \(\.vtt\) or SubRip"):
        parse_subtitles(text)


def test_the_text_of_subtitles_has_a_space_before_each_cue() -> None:
    transcript = transcript_of_subtitles(golden("sentences.srt"), None, "cours.srt")
    assert transcript.text == " Bonjour à tous. L'énergie & la matière <E = mc²>"
    assert (transcript.language, transcript.original_filename) == ("fr", "cours.srt")
    assert transcript_of_subtitles(golden("sentences.srt"), "en").language == "en"


hundredths = st.integers(0, 36_000_000).map(lambda n: round(n / 100, 2))
lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=30).map(
    lambda text: " ".join(text.split())
)
texts = lines.filter(lambda text: text and "-->" not in text and "{" not in text)
sentences = st.lists(
    st.builds(
        lambda text, start, length: Sentence(text=text, start=start, end=round(start + length, 2)),
        texts,
        hundredths,
        hundredths,
    ),
    min_size=1,
    max_size=8,
).map(tuple)


@given(sentences)
def test_vtt_comes_back_as_it_was_written(given: tuple[Sentence, ...]) -> None:
    assert parse_subtitles(write_vtt(given)) == given


@given(sentences.map(lambda many: tuple(each for each in many if "<" not in each.text)).filter(bool))
def test_srt_comes_back_as_it_was_written(given: tuple[Sentence, ...]) -> None:
    assert parse_subtitles(write_srt(given)) == given


@given(st.lists(st.text(max_size=6).map(lambda text: f" {text}"), min_size=1, max_size=60))
def test_no_word_is_lost_or_doubled_when_cues_are_cut(words: list[str]) -> None:
    sentence = Sentence(text="", start=0, end=len(words), words=spoken(*words))
    shown = list(cues([sentence]))
    assert shown[0].start_s == 0
    assert shown[-1].end_s == len(words)
    assert all(one.end_s == two.start_s for one, two in pairwise(shown))
    assert all(cue.end_s - cue.start_s <= 13 for cue in shown)


@given(st.text(max_size=200))
def test_no_text_makes_reading_break(text: str) -> None:
    for head in ("", "WEBVTT\n", "1\n00:00:01,000 --> 00:00:02,000\n"):
        with suppress(InvalidRequest):
            assert all(each.text and each.start <= each.end for each in parse_subtitles(head + text))
