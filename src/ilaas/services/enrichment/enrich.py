"""The step from transcript to title, description, keywords, quiz and notes, whatever the transcript's length.

What a model's window does not hold is read in chunks: each chunk gives its summary, its questions and its notes; title
and description are written from the summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ilaas.core.enrichment.notes import Chunk, chunks
from ilaas.core.enrichment.quiz import BadAnswer, checked_metadata, checked_questions
from ilaas.core.enrichment.results import Enriched
from ilaas.core.enrichment.values import Metadata, Question, Sentence, Transcript
from ilaas.core.errors import MediaUnusable
from ilaas.services.enrichment import asking
from ilaas.services.enrichment.asking import ask, room_tokens, text_check
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.schemas import SUMMARY_SCHEMA, metadata_schema, quiz_schema
from ilaas.services.enrichment.shelf import metadata_of, metadata_tree, questions_of, questions_tree
from ilaas.services.enrichment.together import Piece, all_of, once

_SUMMARY, _QUIZ, _NOTES, _METADATA = range(4)
"""Kinds of pieces: chunk `i` has the numbers `4 i`, `4 i + 1`…"""
_KINDS = 4
_MAX_ROUNDS = 5
_SECONDS_PER_QUESTION = 60.0
_FEWEST_QUESTIONS = 3


async def enrich(work: Work) -> Enriched:
    """What the version's parameters ask for. Raises `MediaUnusable` when there is no text to work from."""
    version = work.version
    transcript, asked = version.transcript, version.parameters
    if transcript is None or not transcript.text.strip():
        raise MediaUnusable("The transcript is empty, so there is nothing to enrich.")
    read = chunks(_sentences(transcript), await room_tokens(work, _lists(work)))
    pieces = []
    if asked.generate_quiz:
        pieces += _quiz_pieces(work, read)
    if asked.generate_notes:
        pieces += [_piece(at, _NOTES, each, partial(_notes, work, each, at, len(read))) for at, each in _numbered(read)]
    if asked.generate_metadata and len(read) > 1:
        pieces += [
            _piece(at, _SUMMARY, each, partial(_summary, work, each.text, at, len(read)))
            for at, each in _numbered(read)
        ]
    results = dict(zip((piece.number for piece in pieces), await all_of(work, pieces), strict=True))
    metadata = None
    if asked.generate_metadata:
        summaries = [
            Sentence(text=results[at * _KINDS + _SUMMARY], start=each.span_s[0], end=each.span_s[1])
            for at, each in _numbered(read)
            if len(read) > 1
        ]
        metadata = await _metadata(work, summaries, read)
    return Enriched(
        metadata=metadata,
        questions=tuple(
            question
            for number in sorted(results)
            if number % _KINDS == _QUIZ
            for question in questions_of(results[number])
        ),
        notes="\n\n".join(results[number] for number in sorted(results) if number % _KINDS == _NOTES) or None,
    )


def _language(work: Work) -> str | None:
    transcript = work.version.transcript
    return (transcript.language if transcript is not None else None) or work.version.parameters.language


def _sentences(transcript: Transcript) -> Sequence[Sentence]:
    """A transcript pushed by a client may be text alone."""
    return transcript.sentences or (Sentence(text=transcript.text, start=0.0, end=0.0),)


def _numbered(read: Sequence[Chunk]) -> enumerate[Chunk]:
    return enumerate(read)


def _piece(at: int, kind: int, chunk: Chunk, do: Any) -> Piece:
    return Piece(number=at * _KINDS + kind, span_s=chunk.span_s, do=do)


def _lists(work: Work) -> str:
    asked = work.version.parameters
    return ", ".join((*(asked.disciplines or ()), *(asked.media_types or ())))


# -- quiz --------------------------------------------------------------------------------------------------------------


def _quiz_pieces(work: Work, read: Sequence[Chunk]) -> list[Piece]:
    """As many questions as the media's length is good for, shared out over its chunks: all of it is asked about."""
    begin_s, end_s = read[0].span_s[0], read[-1].span_s[1]
    most = work.context.policy.questions
    total = min(most, max(_FEWEST_QUESTIONS, round((end_s - begin_s) / _SECONDS_PER_QUESTION)))
    pieces = []
    for at, chunk in _numbered(read):
        count = total * (at + 1) // len(read) - total * at // len(read)
        if count:
            pieces.append(_piece(at, _QUIZ, chunk, partial(_quiz, work, chunk, count)))
    return pieces


async def _quiz(work: Work, chunk: Chunk, count: int) -> list[dict[str, Any]]:
    def check(raw: Any, *, lenient: bool) -> tuple[Question, ...]:
        questions = checked_questions(raw, chunk.span_s, work.context.new_id, lenient=lenient)
        if not questions:
            raise BadAnswer("there is no question that can be used")
        return questions[:count]

    values = {"count": count, "text": chunk.timed_text}
    question = asking.Question(prompt="quiz", values=values, schema=quiz_schema(count), what="quiz")
    return questions_tree(await ask(work, question, _language(work), check))


# -- notes -------------------------------------------------------------------------------------------------------------


async def _notes(work: Work, chunk: Chunk, at: int, total: int) -> str:
    values = {"number": at + 1, "total": total, "text": chunk.text}
    question = asking.Question(prompt="notes", values=values, schema=None, what="notes")
    return await ask(work, question, _language(work), text_check(_markdown))


def _markdown(text: str) -> str:
    """Without the fence that some models put around Markdown."""
    lines = text.strip().splitlines()
    if len(lines) > 2 and lines[0].startswith("```") and lines[-1].strip() == "```":
        lines = lines[1:-1]
    notes = "\n".join(lines).strip()
    if not notes:
        raise BadAnswer("the answer is empty")
    return notes


# -- title and description ---------------------------------------------------------------------------------------------


async def _summary(work: Work, text: str, at: int, total: int) -> str:
    def check(raw: Any, *, lenient: bool) -> str:
        summary = raw.get("summary") if isinstance(raw, dict) else raw if lenient else None
        if not isinstance(summary, str) or not summary.strip():
            raise BadAnswer('the answer must be a JSON object with a text "summary"')
        return summary.strip()

    values = {"number": at + 1, "total": total, "text": text}
    question = asking.Question(prompt="summary", values=values, schema=SUMMARY_SCHEMA, what="summary")
    return await ask(work, question, _language(work), check)


async def _metadata(work: Work, summaries: Sequence[Sentence], read: Sequence[Chunk]) -> Metadata:
    text = read[0].text if len(read) == 1 else await _reduced(work, summaries)
    span_s = (read[0].span_s[0], read[-1].span_s[1])
    tree = await once(
        work, Piece(number=len(read) * _KINDS + _METADATA, span_s=span_s, do=partial(_describe, work, text))
    )
    return metadata_of(tree)


async def _reduced(work: Work, summaries: Sequence[Sentence]) -> str:
    """The summaries as one text; as long as they don't fit together, summaries of summaries."""
    room = await room_tokens(work, _lists(work))
    for _ in range(_MAX_ROUNDS):
        read = chunks(summaries, room)
        if len(read) <= 1:
            break
        shorter = [await _summary(work, each.text, at, len(read)) for at, each in _numbered(read)]
        summaries = [
            replace(each.sentences[0], text=text, end=each.span_s[1]) for each, text in zip(read, shorter, strict=True)
        ]
    return chunks(summaries, room)[0].text


async def _describe(work: Work, text: str) -> dict[str, Any]:
    asked = work.version.parameters
    disciplines, media_types = asked.disciplines or (), asked.media_types or ()

    def check(raw: Any, *, lenient: bool) -> Metadata:
        return checked_metadata(raw, asked, lenient=lenient)

    question = asking.Question(
        prompt="metadata",
        values={
            "text": text,
            "disciplines": "; ".join(disciplines) or "-",
            "media_types": "; ".join(media_types) or "-",
        },
        schema=metadata_schema(disciplines, media_types),
        what="title and description",
    )
    return metadata_tree(await ask(work, question, _language(work), check))
