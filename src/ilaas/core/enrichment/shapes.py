"""Transcripts in the contract's JSON: read from what workers and clients send, and written as clients expect it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ilaas.core.enrichment.values import Sentence, Transcript, Word
from ilaas.core.errors import InvalidRequest

_TIMED = frozenset({"text", "start", "end"})


def transcript_from_json(raw: object) -> Transcript:
    """`{"language", "text", "sentences": [{"text", "start", "end", "words"?, …}]}`, further keys kept verbatim.

    Raises `InvalidRequest` that names the place.
    """
    body = _mapping(raw, "transcript")
    sentences = body.get("sentences")
    if not isinstance(sentences, list):
        raise InvalidRequest("transcript.sentences must be an array of sentences.", param="transcript.sentences")
    translated = body.get("translatedSentences")
    if translated is not None and not isinstance(translated, list):
        raise InvalidRequest("transcript.translatedSentences must be an array or null.", param="transcript")
    return Transcript(
        language=_text(body, "language", "transcript"),
        text=_text(body, "text", "transcript") or "",
        sentences=tuple(sentence_from_json(each, f"transcript.sentences[{at}]") for at, each in enumerate(sentences)),
        original_filename=_text(body, "originalFilename", "transcript"),
        translated_text=_text(body, "translatedText", "transcript"),
        translated_sentences=(
            None
            if translated is None
            else tuple(
                sentence_from_json(each, f"transcript.translatedSentences[{at}]") for at, each in enumerate(translated)
            )
        ),
    )


def sentence_from_json(raw: object, path: str) -> Sentence:
    """One sentence; `path` is its place in messages. Raises `InvalidRequest`."""
    body = _mapping(raw, path)
    words = body.get("words")
    if words is not None and not isinstance(words, list):
        raise InvalidRequest(f"{path}.words must be an array or null.", param=f"{path}.words")
    start, end = _times(body, path)
    return Sentence(
        text=_text(body, "text", path) or "",
        start=start,
        end=end,
        words=None if words is None else tuple(_word(each, f"{path}.words[{at}]") for at, each in enumerate(words)),
        extra={key: value for key, value in body.items() if key not in _TIMED and key != "words"},
    )


def transcript_json(transcript: Transcript, *, translated: bool = True) -> dict[str, Any]:
    """The transcript as clients get it; workers get it without its translation."""
    shown: dict[str, Any] = {
        "originalFilename": transcript.original_filename,
        "language": transcript.language,
        "text": transcript.text,
        "sentences": sentences_json(transcript.sentences),
    }
    if translated:
        shown["translatedText"] = transcript.translated_text
        shown["translatedSentences"] = (
            None if transcript.translated_sentences is None else sentences_json(transcript.translated_sentences)
        )
    return shown


def sentences_json(sentences: Iterable[Sentence]) -> list[dict[str, Any]]:
    """The sentences, each with the keys that it came with."""
    return [_timed(each) if each.words is None else _timed(each) | _words(each.words) for each in sentences]


def _words(words: Iterable[Word]) -> dict[str, Any]:
    return {"words": [_timed(each) for each in words]}


def _timed(piece: Sentence | Word) -> dict[str, Any]:
    return {"text": piece.text, "start": piece.start, "end": piece.end, **piece.extra}


def _word(raw: object, path: str) -> Word:
    body = _mapping(raw, path)
    start, end = _times(body, path)
    return Word(
        text=_text(body, "text", path) or "",
        start=start,
        end=end,
        extra={key: value for key, value in body.items() if key not in _TIMED},
    )


def _times(body: Mapping[str, Any], path: str) -> tuple[float, float]:
    start = _number(body, "start", path)
    # Whisper knows no end of a sentence that the audio breaks off.
    return start, start if body.get("end") is None else _number(body, "end", path)


def _number(body: Mapping[str, Any], key: str, path: str) -> float:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"{path}.{key} must be a number of seconds.", param=f"{path}.{key}")
    return value


def _text(body: Mapping[str, Any], key: str, path: str) -> str | None:
    value = body.get(key)
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"{path}.{key} must be a text.", param=f"{path}.{key}")


def _mapping(raw: object, path: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise InvalidRequest(f"{path} must be an object.", param=path)
    return raw
