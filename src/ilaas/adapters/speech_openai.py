"""Speech-to-text servers through the gateway's `/v1/audio/transcriptions`: Speaches, vLLM, LiteLLM and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ilaas.adapters.gateway_calls import GatewayCalls, ServerRefused
from ilaas.core.enrichment.languages import two_letters
from ilaas.core.enrichment.transcripts import sentences_of_words, spaced
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import UpstreamInvalid
from ilaas.ports.speech import Heard, SpeechTask

_WORDS, _SEGMENTS, _TEXT = range(3)
"""What is asked of a server, the richest first."""
_FORMS: Mapping[int, Mapping[str, Any]] = {
    _WORDS: {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]},
    _SEGMENTS: {"response_format": "verbose_json"},
    _TEXT: {"response_format": "json"},
}


class OpenAiTranscriber:
    """Asks for words with times; servers that can't give them are asked for less from then on."""

    def __init__(self, calls: GatewayCalls, model: str) -> None:
        """`model` is the service's own."""
        self._calls = calls
        self._model = model
        self._forms: dict[str, int] = {}

    async def transcribe(self, task: SpeechTask) -> Heard:
        """As `ports.speech.Transcriber`."""
        model = task.model or self._model
        while True:
            form = self._forms.get(model, _WORDS)
            with task.path.open("rb") as file:  # httpx reads it in small pieces as it sends

                def body(form: int = form, file: Any = file) -> dict[str, Any]:
                    file.seek(0)
                    upload = (task.path.name, file, "audio/flac")
                    return {"data": _fields(task, model, form), "files": {"file": upload}}

                try:
                    tree = await self._calls.post("/v1/audio/transcriptions", task.billed, body)
                    return _heard(tree, task, model)
                except ServerRefused as error:
                    if form == _TEXT or not _is_of_form(error):
                        raise
                    self._forms[model] = form + 1

    async def close(self) -> None:
        """Let go of every connection."""
        await self._calls.close()


def _fields(task: SpeechTask, model: str, form: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": model, **_FORMS[form]}
    if task.language is not None:
        fields["language"] = task.language
    if task.prompt is not None:
        fields["prompt"] = task.prompt
    return fields


def _is_of_form(error: ServerRefused) -> bool:
    text = error.words.lower()
    return any(word in text for word in ("response_format", "verbose_json", "granularit", "timestamp"))


def _heard(tree: Mapping[str, Any], task: SpeechTask, model: str) -> Heard:
    try:
        words = [_word(each) for each in tree.get("words") or ()]
        segments = tree.get("segments") or ()
        sentences = [_sentence(each) for each in segments]
        text = str(tree.get("text") or "").strip()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UpstreamInvalid("The speech server's answer has segments or words without text and times.") from error
    if sentences and words and not any(each.words for each in sentences):
        sentences = _with_words(sentences, words)
    elif not sentences and words:
        sentences = list(sentences_of_words(words))
    elif not sentences and text:
        sentences = [Sentence(text=text, start=0.0, end=task.duration_s)]
    language = tree.get("language")
    return Heard(
        language=two_letters(language) if isinstance(language, str) else None,
        sentences=tuple(each for each in sentences if each.text.strip()),
        model=model,
    )


def _word(raw: Mapping[str, Any]) -> Word:
    return Word(
        text=str(raw["word"] if "word" in raw else raw["text"]), start=float(raw["start"]), end=float(raw["end"])
    )


def _sentence(raw: Mapping[str, Any]) -> Sentence:
    words = [_word(each) for each in raw.get("words") or ()]
    return Sentence(
        text=str(raw["text"]),
        start=float(raw["start"]),
        end=float(raw["end"]),
        words=spaced(words) if words else None,
    )


def _with_words(sentences: Sequence[Sentence], words: Sequence[Word]) -> list[Sentence]:
    """Each word goes to the sentence in which its middle lies, else to the one that begins before it."""
    groups: list[list[Word]] = [[] for _ in sentences]
    at = 0
    for word in words:
        middle = (word.start + word.end) / 2
        while at + 1 < len(sentences) and middle >= sentences[at + 1].start:
            at += 1
        groups[at].append(word)
    return [
        Sentence(text=each.text, start=each.start, end=each.end, words=spaced(group) if group else None)
        for each, group in zip(sentences, groups, strict=True)
    ]
