"""Speech through the gateway: what it must know of a form with a recording, and of what servers answer.

The endpoints are OpenAI's, as Speaches, vLLM and LiteLLM serve them (contracts/aristote-api, C3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ilaas.core.errors import InvalidRequest
from ilaas.core.forms import FileBegins
from ilaas.core.request_extras import KEPT_BACK
from ilaas.core.requests import Endpoint, ParsedRequest
from ilaas.core.usage import Usage
from ilaas.core.wire import EventStream

UPLOADS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(path="/v1/audio/transcriptions", name="audio.transcriptions", audio=True),
        Endpoint(path="/v1/audio/translations", name="audio.translations", audio=True),
    )
}
"""Paths that take a form with a file."""

PCM_BYTES_PER_S = 48_000
"""Of spoken answers without a header: 24 kHz, 16 bits, one channel."""

_SWITCHES = {"true": True, "1": True, "false": False, "0": False, "": False}
_ENDING = re.compile(r"\.[0-9A-Za-z]{1,8}\Z")
_INTEGER = re.compile(r"[+-]?\d{1,9}")
_DURATION = re.compile(rb'"duration"\s*:\s*"?(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')
_SMALL_BYTES = 64 * 1024
_LONGEST_S = 7 * 24 * 3600.0


@dataclass(slots=True)
class Recording:
    """The file of a form, once it is whole."""

    file: FileBegins
    size_bytes: int
    audio_ms: int
    estimated: bool
    """The length was guessed from the size."""


def model_of(fields: Sequence[tuple[str, bytes]]) -> str | None:
    """The model that a form names, of the fields that are there; None when it is not among them."""
    values = [value for name, value in fields if name == "model"]
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest("The field 'model' is there more than once: send it once.", param="model")
    model = _text("model", values[0]).strip()
    if not model:
        raise InvalidRequest("The field 'model' is empty: name one of the models of GET /v1/models.", param="model")
    return model


def parse_form(endpoint: Endpoint, fields: Sequence[tuple[str, bytes]], recording: Recording | None) -> ParsedRequest:
    """Read one form. Raises InvalidRequest, naming the field."""
    model = model_of(fields)
    if model is None:
        raise InvalidRequest("The field 'model' is missing: name one of the models of GET /v1/models.", param="model")
    if recording is None:
        raise InvalidRequest("The field 'file' is missing: send the recording as a file in the form.", param="file")
    if not recording.size_bytes:
        raise InvalidRequest("The file is empty: send the recording in the field 'file'.", param="file")
    known: dict[str, Any] = {name: _text(name, value) for name, value in fields if not name.endswith("[]")}
    stream = _SWITCHES.get(known.get("stream", "").strip().lower())
    if stream is None:
        raise InvalidRequest("The field 'stream' must be true or false.", param="stream")
    priority = known.get("priority")
    if priority is not None and _INTEGER.fullmatch(priority):
        known["priority"] = int(priority)
    return ParsedRequest(endpoint, b"", known, model, stream, False, 0, 0, recording.audio_ms)


def fields_for(fields: Sequence[tuple[str, bytes]], served_name: str) -> list[tuple[str, bytes]]:
    """The fields that a server gets: its own name of the model, and none that are for the gateway or name a person."""
    return [
        (name, served_name.encode() if name == "model" else value) for name, value in fields if name not in KEPT_BACK
    ]


def file_for(file: FileBegins) -> FileBegins:
    """The file's name for a server: only its ending, by which servers tell formats. The rest may name a person."""
    ending = _ENDING.search(file.filename)
    return FileBegins(file.name, f"audio{ending[0].lower() if ending else ''}", file.content_type)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The field '{name[:50]}' is not UTF-8 text.", param=name[:50]) from None


# -- answers -----------------------------------------------------------------------------------------------------------


def read_audio_usage(tree: object) -> Usage | None:
    """The usage object of a transcription: by duration, or by tokens in either of OpenAI's namings."""
    if not isinstance(tree, dict):
        return None
    if tree.get("type") == "duration":
        audio_ms = _milliseconds(tree.get("seconds"))
        return Usage(audio_ms=audio_ms) if audio_ms else None
    prompt = _count(tree, "input_tokens") or _count(tree, "prompt_tokens")
    completion = _count(tree, "output_tokens") or _count(tree, "completion_tokens")
    return Usage(prompt, completion) if prompt or completion else None


def answer_usage(body: bytes) -> Usage | None:
    """What a JSON answer says of its own cost: usage, and the duration of `verbose_json`. Long answers are not parsed.

    The bytes `"duration":` with plain quotes can't stand inside a JSON string.
    """
    usage: Usage | None = None
    if len(body) <= _SMALL_BYTES:
        try:
            tree = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        usage = read_audio_usage(tree.get("usage")) if isinstance(tree, dict) else None
    if usage is None or not usage.audio_ms:
        found = _DURATION.search(body)
        if found is not None and (audio_ms := _milliseconds(float(found[1]))):
            usage = usage or Usage()
            usage.audio_ms = audio_ms
    return usage


def _milliseconds(seconds: object) -> int:
    return int(seconds * 1000) if isinstance(seconds, int | float) and 0 < seconds <= _LONGEST_S else 0


def _count(tree: dict[str, Any], name: str) -> int:
    value = tree.get(name)
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


class TranscriptStream(EventStream):
    """A streamed transcription: events pass as they are; the server's end of the stream is its end."""

    __slots__ = ()

    def _take_usage(self, data: bytes) -> bytes:
        """Read usage from the events that have it."""
        for event in data.split(self._separator):
            start = event.find(b"data:")
            if b'"usage"' in event and start >= 0:
                try:
                    tree = orjson.loads(event[start + 5 :])
                except orjson.JSONDecodeError:
                    continue
                self.usage = (read_audio_usage(tree.get("usage")) if isinstance(tree, dict) else None) or self.usage
        return data

    def finished(self) -> bool:
        """Whether the last event says that it is the last one; some servers send none such."""
        return self.done or b'"transcript.text.done"' in self._last

    def ending(self, estimate: Usage, extra: Mapping[str, Any] | None = None) -> bytes:  # noqa: ARG002 -- as elsewhere
        """Only `extra`, as an event."""
        told = b"" if extra is None else b"data: " + orjson.dumps({"type": "ilaas.extra", **extra}) + b"\n\n"
        return told + self.closing()

    def closing(self) -> bytes:
        """`[DONE]` only where it was held back: not every server of transcriptions ends with it."""
        return b"data: [DONE]\n\n" if self._held else b""
