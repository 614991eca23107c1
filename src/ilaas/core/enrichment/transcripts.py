"""Long audio in parts: where to cut it, and how what was said in them is joined again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ilaas.core.enrichment.subtitles import cut_words
from ilaas.core.enrichment.values import Sentence, Word

_EARLIEST = 0.5
"""Of the target: no part is cut before."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the media, in seconds from its beginning."""

    start_s: float
    end_s: float

    @property
    def middle_s(self) -> float:
        """Half-way."""
        return (self.start_s + self.end_s) / 2


Silence = Span
"""A piece in which nobody speaks."""


def plan_cuts(duration_s: float, silences: Sequence[Silence], *, target_s: float, longest_s: float) -> tuple[Span, ...]:
    """Parts of about `target_s` and never above `longest_s`, that touch and cover the whole.

    Cuts lie in the middle of the silence that is nearest to the target; where nobody stops talking, at the target.
    `silences` are in order.
    """
    if not 0 < target_s <= longest_s:
        raise ValueError("target_s must be above zero and not above longest_s")
    parts: list[Span] = []
    start_s = 0.0
    while duration_s - start_s > longest_s:
        # The last two parts share what is left, so that none is a scrap of a few words.
        aim_s = start_s + min(target_s, (duration_s - start_s) / 2)
        cut_s = _nearest(silences, aim_s, start_s + (aim_s - start_s) * _EARLIEST, start_s + longest_s)
        parts.append(Span(start_s, cut_s))
        start_s = cut_s
    if duration_s > start_s:
        parts.append(Span(start_s, duration_s))
    return tuple(parts)


def _nearest(silences: Sequence[Silence], aim_s: float, earliest_s: float, latest_s: float) -> float:
    middles = (silence.middle_s for silence in silences)
    return min(
        (middle_s for middle_s in middles if earliest_s < middle_s <= latest_s),
        key=lambda middle_s: abs(middle_s - aim_s),
        default=aim_s,
    )


def joined(pieces: Iterable[tuple[Span, Sequence[Sentence]]]) -> tuple[Sentence, ...]:
    """What was said in the parts, with times in the whole. Times that leave their part are brought back into it.

    Within each piece times count from its own beginning.
    """
    return tuple(_shifted(sentence, span) for span, sentences in pieces for sentence in sentences)


def _shifted(sentence: Sentence, span: Span) -> Sentence:
    start, end = _placed(sentence.start, sentence.end, span)
    words = sentence.words
    if words is not None:
        moved = []
        for word in words:
            word_start, word_end = _placed(word.start, word.end, span)
            moved.append(replace(word, start=word_start, end=word_end))
        words = tuple(moved)
    return replace(sentence, start=start, end=end, words=words)


def _placed(start: float, end: float, span: Span) -> tuple[float, float]:
    def inside(seconds: float) -> float:
        return min(max(round(seconds + span.start_s, 3), span.start_s), span.end_s)

    placed_start = inside(start)
    return placed_start, max(inside(end), placed_start)


def spaced(words: Sequence[Word]) -> tuple[Word, ...]:
    """Words that bear their own leading space, whatever their transcriber does."""
    if any(word.text[:1].isspace() for word in words[1:]):
        return tuple(words)
    return tuple(word if at == 0 else replace(word, text=f" {word.text}") for at, word in enumerate(words))


def sentences_of_words(words: Sequence[Word], *, pause_s: float = 1.0) -> tuple[Sentence, ...]:
    """Sentences of a transcriber that gives words alone: cut where cues are cut, and at pauses."""
    return tuple(_sentence(piece) for run in _runs(spaced(words), pause_s) for piece in cut_words(run))


def _sentence(words: Sequence[Word]) -> Sentence:
    text = "".join(word.text for word in words).strip()
    return Sentence(text=text, start=words[0].start, end=words[-1].end, words=tuple(words))


def _runs(words: Sequence[Word], pause_s: float) -> Iterator[Sequence[Word]]:
    begin = 0
    for at in range(1, len(words) + 1):
        if at == len(words) or words[at].start - words[at - 1].end >= pause_s:
            yield words[begin:at]
            begin = at


def text_of(sentences: Iterable[Sentence]) -> str:
    """The whole as one text, its pieces one space apart."""
    return " ".join(text for sentence in sentences if (text := sentence.text.strip()))
