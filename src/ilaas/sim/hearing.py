"""Speech to text of the simulated server, in the manner of Speaches: what is heard is a script, or made up.

A recording says what is said in it by the bytes `ILAAS-SCRIPT:` and the text, anywhere in the file, as in a comment of
its metadata (`ffmpeg -metadata comment='ILAAS-SCRIPT: Bonjour.'`). Without one the text is a function of the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from ilaas.core.errors import IlaasError
from ilaas.core.forms import Field, FileBytes, FormParser, boundary_of
from ilaas.core.media import duration_ms
from ilaas.sim.answers import Library, digest
from ilaas.sim.api_errors import ApiError
from ilaas.sim.failures import Fault, Faults
from ilaas.sim.http import HttpRequest
from ilaas.sim.options import SimServerOptions
from ilaas.sim.recital import Answer

SCRIPT = b"ILAAS-SCRIPT:"

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_TYPES = {"text": b"text/plain; charset=utf-8", "srt": b"text/plain; charset=utf-8", "vtt": b"text/vtt; charset=utf-8"}
_BYTES_PER_S = 16_000
"""Of a recording of unknown length."""
_TOKENS_PER_S = 3
_AUDIO_TOKENS_PER_S = 50
_LONGEST_SCRIPT_BYTES = 256 * 1024
_COMMENT = re.compile(rb"[A-Za-z_]+=\s*\Z")
_SENTENCE = re.compile(r"[^.!?]+[.!?]*\s*")


@dataclass(slots=True)
class _Form:
    values: dict[str, str] = field(default_factory=dict)
    granularities: list[str] = field(default_factory=list)
    file: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: float
    end: float

    def json(self) -> dict[str, Any]:
        return {"word": self.text, "start": self.start, "end": self.end, "probability": 0.98}


class Hearing:
    """Transcribes for one server."""

    PATHS: ClassVar = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})

    def __init__(self, options: SimServerOptions) -> None:
        self._options = options
        self._library = Library(options.median_tokens)

    def read(self, request: HttpRequest) -> tuple[str, _Form]:
        """The form, and the model that it names. Raises ApiError."""
        form = _read_form(request)
        model = form.values.get("model", "")
        if model not in self._options.models:
            raise ApiError(404, f"The model `{model}` does not exist.", "model")
        if form.file is None:
            raise ApiError(422, "file: Field required", "file")
        wanted = form.values.get("response_format", "json")
        if wanted not in FORMATS:
            raise ApiError(400, f"response_format: Input should be one of {', '.join(FORMATS)}", "response_format")
        return model, form

    def answer(self, path: str, form: _Form, faults: Faults) -> Answer:
        """What was heard, in the form that is asked for."""
        media = form.file or b""
        duration_s = round(_seconds(media), 2)
        translated = path.endswith("/translations")
        text = script_of(media)
        if text is None:
            tokens = max(int(duration_s * _TOKENS_PER_S), 2)
            text = "".join(self._library.write(digest(self._options.seed, media), tokens).texts).strip() + "."
        if translated:
            text = f"(English) {text}"
        words = _timed(text, duration_s)
        usage = None if Fault.NO_USAGE in faults else {"type": "duration", "seconds": -(-int(duration_s * 100) // 100)}
        prompt_tokens = max(1, min(int(duration_s * _AUDIO_TOKENS_PER_S), self._options.params.context_tokens // 2))
        if form.values.get("stream", "").lower() in ("true", "1"):
            pieces = tuple(_delta(word.text) for word in words)
            done = {"type": "transcript.text.done", "text": text, **({"usage": usage} if usage else {})}
            last = b"data: %b\n\n" % orjson.dumps(done)
            return Answer(
                pieces=(*pieces[:-1], pieces[-1] + last),
                content_type=b"text/event-stream; charset=utf-8",
                streamed=True,
                prompt_tokens=prompt_tokens,
            )
        wanted = form.values.get("response_format", "json")
        language = "en" if translated else form.values.get("language") or "fr"
        match wanted:
            case "text":
                body = text.encode() + b"\n"
            case "srt" | "vtt":
                body = _subtitles(_segments(words), vtt=wanted == "vtt")
            case "json":
                body = orjson.dumps({"text": text, **({"usage": usage} if usage else {})})
            case _:
                segments = _segments(words)
                with_words = "word" in form.granularities
                tree = {
                    "task": "translate" if translated else "transcribe",
                    "language": language,
                    "duration": duration_s,
                    "text": text,
                    "words": [word.json() for word in words] if with_words else None,
                    "segments": [_segment(number, each, with_words) for number, each in enumerate(segments)],
                }
                body = orjson.dumps(tree)
        cut = -(-len(body) // len(words))
        return Answer(
            pieces=tuple(body[at : at + cut] for at in range(0, len(body), cut)),
            content_type=_TYPES.get(wanted, b"application/json"),
            prompt_tokens=prompt_tokens,
        )


def _read_form(request: HttpRequest) -> _Form:
    form = _Form()
    try:
        parser = FormParser(boundary_of(request.headers.get("content-type", "").encode("latin-1")))
        events = parser.feed(request.body)
        parser.finish()
    except IlaasError as error:
        raise ApiError(400, error.message) from None
    for event in events:
        if isinstance(event, FileBytes):
            form.file = (form.file or b"") + event.data
        elif isinstance(event, Field):
            value = event.value.decode("utf-8", "replace")
            if event.name == "timestamp_granularities[]":
                form.granularities.append(value)
            else:
                form.values[event.name] = value
    return form


def _seconds(media: bytes) -> float:
    reader = duration_ms(len(media))
    try:
        offset, size = next(reader)
        while True:
            offset, size = reader.send(media[offset : offset + size])
    except StopIteration as end:
        found: int | None = end.value
    return found / 1000 if found is not None else max(len(media) / _BYTES_PER_S, 0.1)


def script_of(media: bytes) -> str | None:
    """The script in a recording's metadata."""
    at = media.find(SCRIPT)
    if at < 0:
        return None
    begin = at + len(SCRIPT)
    end = begin
    limit = min(len(media), begin + _LONGEST_SCRIPT_BYTES)
    key = _COMMENT.search(media[max(0, at - 40) : at])
    if key is not None and at - len(key[0]) >= 4:  # a Vorbis comment (FLAC, Ogg): its length stands before its name
        start = at - len(key[0])
        stated = start + int.from_bytes(media[start - 4 : start], "little")
        if begin < stated <= limit:
            return media[begin:stated].decode("utf-8", "replace").strip() or None
    while end < limit and (media[end] >= 0x20 or media[end] in b"\t\r\n"):
        end += 1
    return media[begin:end].decode("utf-8", "replace").strip() or None


def _timed(text: str, duration_s: float) -> list[_Word]:
    """The words, each with its leading space, at equal distances."""
    texts = text.split() or ["…"]
    step = duration_s / len(texts)
    return [
        _Word(f" {each}", round(number * step, 2), round((number + 1) * step, 2)) for number, each in enumerate(texts)
    ]


def _segments(words: Sequence[_Word]) -> list[list[_Word]]:
    """A segment ends with a sentence."""
    segments: list[list[_Word]] = [[]]
    for word in words:
        if segments[-1] and segments[-1][-1].text.endswith((".", "!", "?")):
            segments.append([])
        segments[-1].append(word)
    return segments


def _segment(number: int, words: Sequence[_Word], with_words: bool) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": words[0].start,
        "end": words[-1].end,
        "text": "".join(word.text for word in words),
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.01,
        "words": [word.json() for word in words] if with_words else None,
    }


def _subtitles(segments: Sequence[Sequence[_Word]], *, vtt: bool) -> bytes:
    cues = []
    for number, words in enumerate(segments, 1):
        times = f"{_clock(words[0].start, vtt=vtt)} --> {_clock(words[-1].end, vtt=vtt)}"
        text = "".join(word.text for word in words).strip()
        cues.append(f"{times}\n{text}\n\n" if vtt else f"{number}\n{times}\n{text}\n\n")
    return (("WEBVTT\n\n" if vtt else "") + "".join(cues)).encode()


def _clock(seconds: float, *, vtt: bool) -> str:
    total_ms = round(seconds * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{'.' if vtt else ','}{ms % 1000:03}"


def _delta(text: str) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": "transcript.text.delta", "delta": text})
