"""The client's request: what the gateway must know of it, and the body each server gets.

The body is parsed once, to read it. It is forwarded as the client's own bytes, with the served name put in the place of
the public one, unless something must be taken out; only then is it written anew.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ilaas.core.catalogue import ServerSpec
from ilaas.core.errors import InvalidRequest, Unprocessable
from ilaas.core.values import Engine, RequestClass, RoutingMode

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

_ONLY_MAX_TOKENS = frozenset({Engine.LLAMACPP, Engine.OLLAMA, Engine.LMDEPLOY})
"""Engines that ignore `max_completion_tokens`."""
_ONLY_MAX_COMPLETION_TOKENS = frozenset({Engine.OPENAI})
"""Its newer models refuse `max_tokens`."""

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
        raise InvalidRequest(f"The body must be a JSON object, not {_json_type(fields)}.")
    model = fields.get("model")
    if type(model) is not str or not model:
        raise InvalidRequest(
            "The field 'model' is missing: name one of the models of GET /v1/models."
            if model is None or model == ""
            else f"The field 'model' must be a string, not {_json_type(model)}.",
            param="model",
        )
    stream = fields.get("stream")
    if stream is not None and type(stream) is not bool:
        raise InvalidRequest(f"The field 'stream' must be true or false, not {_json_type(stream)}.", param="stream")
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
            raise Unprocessable(f"The field '{name}' must be {kind}, not {_json_type(value)}.", param=name)
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


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


# -- the wishes of the request: extras of today's clients, and our headers ---------------------------------------------

EXTRA_FIELDS = ("routing-mode", "priority")
"""Body fields that are for the gateway and that no server gets (contracts/aristote-dispatcher, A2.5)."""

IDENTITY_FIELDS = ("user", "safety_identifier")
"""Body fields with which clients name the person behind a request: dropped, no server needs them."""

_KEPT_BACK = frozenset((*EXTRA_FIELDS, *IDENTITY_FIELDS))


_ROUTING_MODES: Mapping[str, RoutingMode] = {mode.value: mode for mode in RoutingMode}


def routing_mode(fields: dict[str, Any], header: bytes | None, default: RoutingMode) -> RoutingMode:
    """The mode asked for in the header or the body, else the key's."""
    value = header.decode("latin-1") if header is not None else fields.get("routing-mode")
    if value is None:
        return default
    mode = _ROUTING_MODES.get(value) if isinstance(value, str) else None
    if mode is None:
        shown = value[:50] if isinstance(value, str) else _json_type(value)
        raise InvalidRequest(
            f"The routing mode '{shown}' is not known: use 'any', 'private-first' or 'private-only'.",
            param="routing-mode",
        )
    return mode


def priority(fields: dict[str, Any], of_key: int) -> int:
    """The effective priority: a client may only lower its own."""
    value = fields.get("priority")
    if value is None:
        return of_key
    if type(value) is not int:
        raise InvalidRequest(
            f"The field 'priority' must be an integer, not {_json_type(value)}; higher goes first.", param="priority"
        )
    return min(value, of_key)


def request_class(header: bytes | None) -> RequestClass:
    """The class asked for by header; interactive when it says nothing."""
    if header is None:
        return RequestClass.INTERACTIVE
    value = header.decode("latin-1").strip().lower()
    if value == "batch":
        return RequestClass.BATCH
    if value == "interactive":
        return RequestClass.INTERACTIVE
    raise InvalidRequest(
        f"The class '{value[:50]}' is not known: X-Ilaas-Class takes 'interactive' or 'batch'.", param="X-Ilaas-Class"
    )


_ID_LINE = re.compile(rb"x-request-id: ([^\r]*)\r\n")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def uuid_only(headers: bytes, own_id: str) -> bytes:
    """The header lines with our own id in the place of one that is no UUID: `llama_cpp.server` refuses that (400)."""
    found = _ID_LINE.search(headers)
    if found is None or _UUID.fullmatch(found[1]):
        return headers
    return headers.replace(found[0], b"x-request-id: %b\r\n" % own_id.encode())


# -- affinity ----------------------------------------------------------------------------------------------------------


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


# -- the body for a server ---------------------------------------------------------------------------------------------

_MODEL_KEY = b'"model"'
_MODEL_VALUE = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')
_USAGE_OPTION = b'"stream_options":{"include_usage":true},'


def body_for(request: ParsedRequest, server: ServerSpec, drop: tuple[str, ...] = ()) -> bytes:
    """The body this server gets: served name, usage asked for in streams; extras, identities and `drop` taken out."""
    fields = request.fields
    rename = _length_field_to_rename(request, server.engine)
    ask_usage = request.stream and not request.wants_usage
    rewrite = rename is not None or (ask_usage and "stream_options" in fields)
    if not rewrite:
        rewrite = not _KEPT_BACK.isdisjoint(fields) or any(name in fields for name in drop)
    if not rewrite:
        body = _spliced(request, server.served_name, ask_usage=ask_usage)
        if body is not None:
            return body
    changed = {key: value for key, value in fields.items() if key not in _KEPT_BACK and key not in drop}
    changed["model"] = server.served_name
    if rename is not None:
        changed[rename[1]] = changed.pop(rename[0])
    if ask_usage:
        changed["stream_options"] = {**(fields.get("stream_options") or {}), "include_usage": True}
    return orjson.dumps(changed)


def _length_field_to_rename(request: ParsedRequest, engine: Engine) -> tuple[str, str] | None:
    """(old, new) when the engine knows the other name of the answer's length only."""
    if not request.endpoint.chat:
        return None
    fields = request.fields
    if engine in _ONLY_MAX_TOKENS and "max_completion_tokens" in fields:
        return ("max_completion_tokens", "max_tokens")
    if engine in _ONLY_MAX_COMPLETION_TOKENS and "max_tokens" in fields and "max_completion_tokens" not in fields:
        return ("max_tokens", "max_completion_tokens")
    return None


def _spliced(request: ParsedRequest, served_name: str, *, ask_usage: bool) -> bytes | None:
    """The client's own bytes with the name replaced and the usage option put in front; None when that is not safe.

    Safe means: the bytes `"model"` stand in the body once, with the value that was read. Else a server that takes the
    first of two equal keys would serve a model that nobody has checked.
    """
    body = request.raw
    at = body.find(_MODEL_KEY)
    if at < 0 or body.find(_MODEL_KEY, at + 1) >= 0:
        return None
    if request.model != served_name:
        found = _MODEL_VALUE.match(body, at)
        if found is None or orjson.loads(found[1]) != request.model:
            return None
        start, end = found.span()
        body = body[:start] + b'"model":' + orjson.dumps(served_name) + body[end:]
    if ask_usage:
        at = body.index(b"{") + 1
        body = body[:at] + _USAGE_OPTION + body[at:]
    return body
