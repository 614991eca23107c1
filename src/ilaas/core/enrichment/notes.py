"""Long transcripts in chunks that a model's context window holds, for map and reduce."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ilaas.core.enrichment.quiz import clock
from ilaas.core.enrichment.values import Sentence

_BYTES_PER_TOKEN = 3
"""On the safe side: French and English have about four."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Sentences that belong together."""

    sentences: tuple[Sentence, ...]

    @property
    def span_s(self) -> tuple[float, float]:
        """Where it lies in the media."""
        return self.sentences[0].start, max(each.end for each in self.sentences)

    @property
    def text(self) -> str:
        """What was said."""
        return " ".join(each.text.strip() for each in self.sentences)

    @property
    def timed_text(self) -> str:
        """What was said, a line each sentence, with the time before it: models point to those."""
        return "\n".join(timed_line(each) for each in self.sentences)


def timed_line(sentence: Sentence) -> str:
    """ "[HH:MM:SS] text"."""
    return f"[{clock(sentence.start)}] {sentence.text.strip()}"


def tokens_of(text: str) -> int:
    """How many tokens a text has at most, as a rule."""
    return len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN + 1


def chunks(sentences: Sequence[Sentence], max_tokens: int) -> tuple[Chunk, ...]:
    """All sentences in their order, in as few and as equal chunks as fit (`timed_text`); empty ones are left out.

    A sentence longer than a chunk is cut between words, its time shared out by length.
    """
    if max_tokens < 1:
        raise ValueError("max_tokens must be at least 1")
    pieces = [piece for each in sentences if each.text.strip() for piece in _fitting(each, max_tokens)]
    sizes = [tokens_of(timed_line(piece)) for piece in pieces]
    if not pieces:
        return ()
    # As many as needed, then all of about one size: the last one is no scrap that a summary would give too much room.
    count = _filled(sizes, max_tokens)
    low, high = max(sizes), max(max_tokens, *sizes)
    while low < high:
        middle = (low + high) // 2
        if _filled(sizes, middle) <= count:
            high = middle
        else:
            low = middle + 1
    return tuple(Chunk(tuple(pieces[begin:end])) for begin, end in _bounds(sizes, low))


def _filled(sizes: Sequence[int], room: int) -> int:
    return sum(1 for _ in _bounds(sizes, room))


def _bounds(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    begin, used = 0, 0
    for at, size in enumerate(sizes):
        if used and used + size > room:
            yield begin, at
            begin, used = at, 0
        used += size
    yield begin, len(sizes)


def _fitting(sentence: Sentence, max_tokens: int) -> Iterator[Sentence]:
    if tokens_of(timed_line(sentence)) <= max_tokens:
        yield sentence
        return
    longest_chars = max((max_tokens - tokens_of("[00:00:00] ")) * _BYTES_PER_TOKEN // 4, 1)
    texts = list(_cut(sentence.text.strip(), longest_chars))
    whole, seconds = sum(map(len, texts)), sentence.end - sentence.start
    done = 0
    for text in texts:
        start = sentence.start + seconds * done / whole
        done += len(text)
        yield replace(sentence, text=text, start=start, end=sentence.start + seconds * done / whole, words=None)


def _cut(text: str, longest_chars: int) -> Iterator[str]:
    for word in re.findall(rf"\S.{{0,{longest_chars - 1}}}(?=\s|$)|\S{{1,{longest_chars}}}", text, re.DOTALL):
        yield word.strip()
