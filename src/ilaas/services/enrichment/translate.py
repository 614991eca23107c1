"""The step into the other language: transcript, title, keywords, quiz and notes; cues keep their times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ilaas.core.enrichment.notes import tokens_of
from ilaas.core.enrichment.quiz import BadAnswer
from ilaas.core.enrichment.results import Translated, TranslatedQuestion
from ilaas.core.enrichment.transcripts import text_of
from ilaas.core.enrichment.values import Transcript, Version
from ilaas.core.errors import MediaUnusable
from ilaas.services.enrichment.asking import Question, answer_tokens, ask, room_tokens
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.languages import language_name
from ilaas.services.enrichment.schemas import TRANSLATIONS_SCHEMA
from ilaas.services.enrichment.together import Piece, all_of

_GROWTH = 2
"""How many times longer than its source a translation with its JSON is taken to be."""
_TEXTS_PER_BATCH = 60
_WORST_LEFT_OUT = 0.1
"""On the last try, so much of a batch may stay as it is in the original."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text to translate and where it belongs: `s` and the sentence's number, `title`, `q.<id>.question`…"""

    place: tuple[str, ...]
    text: str


async def translate(work: Work) -> Translated:
    """Everything of the version that has text. Raises `MediaUnusable` when no language to translate to is given."""
    version = work.version
    target = version.parameters.translate_to
    if target is None:
        raise MediaUnusable("There is no language to translate to.")
    transcript = version.transcript
    source = (transcript.language if transcript is not None else None) or version.parameters.language
    texts = [each for each in _texts(version) if each.text.strip()]
    if source == target:
        translated: Mapping[tuple[str, ...], str] = {each.place: each.text for each in texts}
    else:
        translated = await _translated(work, texts, (source, target))
    return _result(version, translated, target)


def _texts(version: Version) -> Iterator[Text]:
    """What belongs together is together, so that the model sees it so."""
    metadata = version.metadata
    if metadata is not None:
        yield Text(("title",), metadata.title or "")
        yield Text(("description",), metadata.description or "")
        yield from (Text(("topic", str(at)), each) for at, each in enumerate(metadata.topics))
    for question in version.questions:
        yield Text(("q", question.id, "question"), question.question)
        yield Text(("q", question.id, "explanation"), question.explanation or "")
        yield from (Text(("q", question.id, "choice", each.id), each.option_text) for each in question.choices)
    for at, block in enumerate(_blocks(version.notes or "")):
        yield Text(("notes", str(at)), block)
    if version.transcript is not None:
        yield from (Text(("s", str(at)), each.text.strip()) for at, each in enumerate(version.transcript.sentences))
        if not version.transcript.sentences:
            yield Text(("text",), version.transcript.text)


def _blocks(notes: str) -> list[str]:
    return re.split(r"\n\s*\n", notes.strip()) if notes.strip() else []


# -- batches -----------------------------------------------------------------------------------------------------------


async def _translated(
    work: Work, texts: Sequence[Text], languages: tuple[str | None, str]
) -> Mapping[tuple[str, ...], str]:
    room = min(await room_tokens(work), await answer_tokens(work)) // _GROWTH
    batches = list(_batches(texts, room))
    pieces = [
        Piece(number=at, span_s=(float(begin), float(end)), do=partial(_batch, work, texts[begin:end], languages))
        for at, (begin, end) in enumerate(batches)
    ]
    results = await all_of(work, pieces)
    found = [text for result in results for text in result]
    return {each.place: text for each, text in zip(texts, found, strict=True)}


def _batches(texts: Sequence[Text], room: int) -> Iterator[tuple[int, int]]:
    begin, used = 0, 0
    for at, each in enumerate(texts):
        tokens = tokens_of(each.text) + 8
        if at > begin and (used + tokens > room or at - begin >= _TEXTS_PER_BATCH):
            yield begin, at
            begin, used = at, 0
        used += tokens
    if texts:
        yield begin, len(texts)


async def _batch(work: Work, texts: Sequence[Text], languages: tuple[str | None, str]) -> list[str]:
    source, target = languages

    def check(raw: Any, *, lenient: bool) -> list[str]:
        found = _by_number(raw)
        missing = [at for at in range(len(texts)) if at not in found]
        if missing and not (lenient and len(missing) <= len(texts) * _WORST_LEFT_OUT):
            raise BadAnswer("translations are missing for the numbers " + ", ".join(map(str, missing[:30])))
        return [found.get(at, each.text) for at, each in enumerate(texts)]

    listed = "\n".join(
        f"{at}: {' '.join(each.text.split()) if each.place[0] != 'notes' else each.text}"
        for at, each in enumerate(texts)
    )
    question = Question(
        prompt="translate",
        values={"source": language_name(source), "target": language_name(target, source), "texts": listed},
        schema=TRANSLATIONS_SCHEMA,
        what="translation",
        writes=target,
    )
    return await ask(work, question, source, check)


def _by_number(raw: Any) -> dict[int, str]:
    listed = raw.get("translations") if isinstance(raw, dict) else raw
    if not isinstance(listed, list):
        raise BadAnswer('the answer must be a JSON object with an array "translations"')
    found: dict[int, str] = {}
    for each in listed:
        number, text = (each.get("id"), each.get("text")) if isinstance(each, dict) else (None, None)
        if isinstance(number, str) and number.isascii() and number.isdigit():
            number = int(number)
        if isinstance(number, int) and isinstance(text, str) and text.strip():
            found[number] = text.strip()
    return found


# -- the result --------------------------------------------------------------------------------------------------------


def _result(version: Version, translated: Mapping[tuple[str, ...], str], target: str) -> Translated:
    metadata = version.metadata
    topics = metadata.topics if metadata is not None else ()
    notes = [translated.get(("notes", str(at)), block) for at, block in enumerate(_blocks(version.notes or ""))]
    return Translated(
        transcript=_transcript(version, translated, target),
        title=translated.get(("title",)),
        description=translated.get(("description",)),
        topics=tuple(translated.get(("topic", str(at)), each) for at, each in enumerate(topics)),
        questions={
            question.id: TranslatedQuestion(
                question=translated.get(("q", question.id, "question")),
                explanation=translated.get(("q", question.id, "explanation")),
                choices={
                    each.id: translated.get(("q", question.id, "choice", each.id), each.option_text)
                    for each in question.choices
                },
            )
            for question in version.questions
        },
        notes="\n\n".join(notes) or None,
    )


def _transcript(version: Version, translated: Mapping[tuple[str, ...], str], target: str) -> Transcript | None:
    original = version.transcript
    if original is None:
        return None
    sentences = tuple(
        replace(each, text=translated.get(("s", str(at)), each.text), words=None)
        for at, each in enumerate(original.sentences)
    )
    text = text_of(sentences) if sentences else translated.get(("text",), original.text)
    return Transcript(language=target, text=text, sentences=sentences)
