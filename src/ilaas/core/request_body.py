"""The body and the head that each server gets.

The body is forwarded as the client's own bytes, with the served name put in the place of the public one, unless
something must be taken out; only then is it written anew.
"""

from __future__ import annotations

import re

import orjson

from ilaas.core.catalogue import ServerSpec
from ilaas.core.request_extras import KEPT_BACK
from ilaas.core.requests import ParsedRequest
from ilaas.core.values import Engine

_ONLY_MAX_TOKENS = frozenset({Engine.LLAMACPP, Engine.OLLAMA, Engine.LMDEPLOY})
"""Engines that ignore `max_completion_tokens`."""
_ONLY_MAX_COMPLETION_TOKENS = frozenset({Engine.OPENAI})
"""Its newer models refuse `max_tokens`."""

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
        rewrite = not KEPT_BACK.isdisjoint(fields) or any(name in fields for name in drop)
    if not rewrite:
        body = _spliced(request, server.served_name, ask_usage=ask_usage)
        if body is not None:
            return body
    changed = {key: value for key, value in fields.items() if key not in KEPT_BACK and key not in drop}
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


# -- the head ---------------------------------------------------------------------------------------------------------

_ID_LINE = re.compile(rb"x-request-id: ([^\r]*)\r\n")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def uuid_only(headers: bytes, own_id: str) -> bytes:
    """The header lines with our own id in the place of one that is no UUID: `llama_cpp.server` refuses that (400)."""
    found = _ID_LINE.search(headers)
    if found is None or _UUID.fullmatch(found[1]):
        return headers
    return headers.replace(found[0], b"x-request-id: %b\r\n" % own_id.encode())
