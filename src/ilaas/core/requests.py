"""The client's request: what the gateway must know of it. The body is parsed once, to read it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ilaas.core.errors import InvalidRequest, Unprocessable

BYTES_PER_TOKEN = 4
"""Rough average over French and English text with JSON around it; only for estimates, corrected at settlement."""

PREFIX_BYTES = 4096
"""How much of the first messages names a conversation for prefix affinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One allow-listed inference path."""

    path: str
    name: str
    generates: bool = False
    """Answers in tokens one by one: may stream, and reports usage in a stream."""
    chat: bool = False
    audio: bool = False
    """Takes or gives sound (`core.audio`)."""
    default_completion_tokens: int = 0
    path_bytes: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "path_bytes", self.path.encode())


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(
            path="/v1/chat/completions",
            name="chat.completions",
            generates=True,
            chat=True,
            default_completion_tokens=400,
        ),
        Endpoint(path="/v1/completions", name="completions", generates=True, default_completion_tokens=200),
        Endpoint(path="/v1/embeddings", name="embeddings"),
        Endpoint(path="/v1/rerank", name="rerank"),
        Endpoint(path="/v1/score", name="score"),
        Endpoint(path="/tokenize", name="tokenize"),
        Endpoint(path="/v1/audio/speech", name="audio.speech", audio=True),
    )
}
"""Every path with a JSON body that may reach a server; beside them only the forms of `core.audio.UPLOADS` do."""

_RANGES: Mapping[str, tuple[int, int]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "max_tokens": (0, 10_000_000),
    "max_completion_tokens": (1, 10_000_000),
}
_INTEGERS = frozenset({"n", "max_tokens", "max_completion_tokens"})


@dataclass(slots=True, init=False)
class ParsedRequest:
    """What the gateway knows of one request. `raw` is the client's body, untouched."""

    endpoint: Endpoint
    raw: bytes
    fields: dict[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    """The client itself asked for usage in the stream."""
    max_tokens: int
    """Asked for, or the endpoint's usual length."""
    prompt_tokens: int
    """Estimated."""
    audio_ms: int
    """Of the recording that came with it."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        endpoint: Endpoint,
        raw: bytes,
        fields: dict[str, Any],
        model: str,
        stream: bool,
        wants_usage: bool,
        max_tokens: int,
        prompt_tokens: int,
        audio_ms: int = 0,
    ) -> None:
        self.endpoint = endpoint
        self.raw = raw
        self.fields = fields
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        self.max_tokens = max_tokens
        self.prompt_tokens = prompt_tokens
        self.audio_ms = audio_ms


def parse(endpoint: Endpoint, raw: bytes) -> ParsedRequest:
    """Read one request. Raises InvalidRequest (400) or Unprocessable (422), naming the field."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}. Send one JSON object.") from None
    if type(fields) is not dict:
        raise InvalidRequest(f"The body must be a JSON object, not {json_type(fields)}.")
    model = fields.get("model")
    if type(model) is not str or not model:
        raise InvalidRequest(
            "The field 'model' is missing: name one of the models of GET /v1/models."
            if model is None or model == ""
            else f"The field 'model' must be a string, not {json_type(model)}.",
            param="model",
        )
    stream = fields.get("stream")
    if stream is not None and type(stream) is not bool:
        raise InvalidRequest(f"The field 'stream' must be true or false, not {json_type(stream)}.", param="stream")
    wants_usage = False
    max_tokens = 0
    if endpoint.generates:
        _check_ranges(fields)
        if endpoint.chat:
            _check_messages(fields)
        options = fields.get("stream_options")
        if options is not None:
            if type(options) is not dict:
                raise InvalidRequest("The field 'stream_options' must be an object.", param="stream_options")
            wants_usage = options.get("include_usage") is True
        max_tokens = fields.get("max_completion_tokens") or fields.get("max_tokens") or 0
    return ParsedRequest(
        endpoint,
        raw,
        fields,
        model,
        stream is True and endpoint.generates,
        wants_usage,
        max_tokens or endpoint.default_completion_tokens,
        len(raw) // BYTES_PER_TOKEN + 1,
    )


def context_tokens(request: ParsedRequest, widest: int) -> int:
    """The window a server should have for this request, for choosing between servers; never more than the widest.

    Counts texts only: an image in the body is long and costs few tokens. The server has the last word.
    """
    fields = request.fields
    characters = 0
    messages = fields.get("messages")  # checked for chat only: elsewhere it may be anything
    for message in messages if type(messages) is list else ():
        content = message.get("content") if type(message) is dict else None
        if type(content) is str:
            characters += len(content)
        elif type(content) is list:
            characters += sum(
                len(text) for part in content if type(part) is dict and type(text := part.get("text")) is str
            )
    prompt = fields.get("prompt")
    if type(prompt) is str:
        characters += len(prompt)
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return min(characters // BYTES_PER_TOKEN + (asked if type(asked) is int else 0), widest)


def _check_ranges(fields: dict[str, Any]) -> None:
    for name in fields.keys() & _RANGES.keys():
        value = fields[name]
        if value is None:
            continue
        low, high = _RANGES[name]
        kind = "an integer" if name in _INTEGERS else "a number"
        if type(value) is not int and (name in _INTEGERS or type(value) is not float):
            raise Unprocessable(f"The field '{name}' must be {kind}, not {json_type(value)}.", param=name)
        if not low <= value <= high:
            raise Unprocessable(f"The field '{name}' must be between {low} and {high}, not {value}.", param=name)


def _check_messages(fields: dict[str, Any]) -> None:
    messages = fields.get("messages")
    if type(messages) is not list or not messages:
        raise InvalidRequest("The field 'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise InvalidRequest(
                f"The field 'messages[{index}]' must be an object with 'role' and 'content'.",
                param=f"messages[{index}]",
            )


def json_type(value: object) -> str:
    """The kind of a JSON value, for an error's text."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def prefix_hash(fields: dict[str, Any]) -> int:
    """A number shared by the turns of one conversation: its first two messages (system and first question), or 0.

    A server that has answered one turn holds the prefix in its cache; stable over processes.
    """
    messages = fields.get("messages")
    if type(messages) is list:
        value = 0
        for message in messages[:2]:
            content = message.get("content") if type(message) is dict else None
            if type(content) is str:
                value = zlib.crc32(content[:PREFIX_BYTES].encode("utf-8", "replace"), value)
            elif content is not None:
                value = zlib.crc32(orjson.dumps(content)[:PREFIX_BYTES], value)
        return value
    prompt = fields.get("prompt")
    return zlib.crc32(prompt[:PREFIX_BYTES].encode("utf-8", "replace")) if type(prompt) is str else 0
