"""Subtitles, read and written: SubRip (.srt) and WebVTT (https://www.w3.org/TR/webvtt1/).

What is written is byte for byte what the service has always served; what is read is whatever people upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import unescape

from ilaas.core.enrichment.values import Sentence, Transcript, Word
from ilaas.core.errors import InvalidRequest

LONGEST_CUE_WORDS = 12
"""A cue is closed when it has more words than this."""

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMING = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"</?(?:b|i|u|s|c|v|lang|ruby|rt|font|[\d:.]+)(?:[\s.][^<>]*)?>|\{\\[^{}]*\}", re.IGNORECASE)
_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_BLANK_LINES = re.compile(r"\n\s*\n|\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Cue:
    """One text on the screen."""

    start_s: float
    end_s: float
    text: str


def cues(sentences: Iterable[Sentence]) -> Iterator[Cue]:
    """The cues that show these sentences: those whose words are known are cut anew, the others are shown as they are.

    A cue ends at a word that ends in ".", at the last word, or after more than 12 words, unless the next one begins
    with an apostrophe. Words bear their own leading space.
    """
    for sentence in sentences:
        if sentence.words:
            yield from (_cue_of(words) for words in cut_words(sentence.words))
        else:
            yield Cue(sentence.start, sentence.end, sentence.text)


def cut_words(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The words in pieces short enough to be read at once."""
    begin = 0
    for at, word in enumerate(words):
        last = at == len(words) - 1
        is_long = at - begin + 1 > LONGEST_CUE_WORDS and not last and not words[at + 1].text.startswith("'")
        if last or is_long or word.text.endswith("."):
            yield words[begin : at + 1]
            begin = at + 1


def write_srt(sentences: Iterable[Sentence]) -> str:
    """As SubRip."""
    return "".join(
        f"{number}\n{_timestamp(cue.start_s, ',')} --> {_timestamp(cue.end_s, ',')}\n{_in_one_block(cue.text)}\n\n"
        for number, cue in enumerate(cues(sentences), 1)
    )


def write_vtt(sentences: Iterable[Sentence]) -> str:
    """As WebVTT. The three characters that have a meaning in it are escaped, as the standard wants."""
    blocks = (
        f"{_timestamp(cue.start_s, '.')} --> {_timestamp(cue.end_s, '.')}\n"
        f"{_in_one_block(cue.text).translate(_VTT_ESCAPES)}\n\n"
        for cue in cues(sentences)
    )
    return "WEBVTT\n\n" + "".join(blocks)


def parse_subtitles(text: str) -> tuple[Sentence, ...]:
    """The sentences of a WebVTT or SubRip file; times have two decimals.

    Raises `InvalidRequest` when there is no cue in it.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    is_vtt = lines[0].split(" ")[0].split("\t")[0] == "WEBVTT"
    sentences = tuple(_sentences(lines, is_vtt=is_vtt))
    if not sentences:
        raise InvalidRequest("The file has no subtitles: send a WebVTT (.vtt) or SubRip (.srt) file.", param="file")
    return sentences


def transcript_of_subtitles(text: str, language: str | None, original_filename: str | None = None) -> Transcript:
    """The transcript of a subtitle file, its text each cue with a space before it. Raises `InvalidRequest`."""
    sentences = parse_subtitles(text)
    return Transcript(
        language=language or "fr",
        text="".join(f" {sentence.text}" for sentence in sentences),
        sentences=sentences,
        original_filename=original_filename,
    )


def _sentences(lines: Sequence[str], *, is_vtt: bool) -> Iterator[Sentence]:
    at = 0
    while at < len(lines):
        timing = _TIMING.match(lines[at])
        at += 1
        if timing is None:
            continue
        begin = at
        while at < len(lines) and lines[at].strip() and not _TIMING.match(lines[at]):
            at += 1
        runs_into_next = at < len(lines) and bool(lines[at].strip())
        # Without an empty line between, the number of the next cue is the last line of this one.
        end = at - 1 if runs_into_next and at > begin and lines[at - 1].strip().isdigit() else at
        said = [line for each in lines[begin:end] if (line := _plain(each, is_vtt=is_vtt).strip())]
        start_s, end_s = _seconds(timing.groups()[:4]), _seconds(timing.groups()[4:])
        if said and end_s >= start_s:
            yield Sentence(text=" ".join(said), start=start_s, end=end_s)


def _plain(line: str, *, is_vtt: bool) -> str:
    bare = _TAG.sub("", line)
    return unescape(bare) if is_vtt else bare


def _seconds(groups: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = groups
    total_ms = int((fraction or "0").ljust(3, "0"))
    total_ms += ((int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)) * 1000
    return round(total_ms / 1000, 2)


def _timestamp(seconds: float, point: str) -> str:
    # By its decimal digits: 2.01 * 1000 is a little less than 2010.
    total_ms = max(int(Decimal(repr(seconds)) * 1000), 0)
    rest, milliseconds = divmod(total_ms, 1000)
    rest, second = divmod(rest, 60)
    hour, minute = divmod(rest, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{milliseconds:03}"


def _in_one_block(text: str) -> str:
    """An empty line or an arrow would end the cue."""
    while (shorter := _BLANK_LINES.sub("\n", text)) != text:
        text = shorter
    return text.strip("\n").replace("-->", "->")


def _cue_of(words: Sequence[Word]) -> Cue:
    text = words[0].text.lstrip() + "".join(word.text for word in words[1:])
    return Cue(words[0].start, words[-1].end, text)
