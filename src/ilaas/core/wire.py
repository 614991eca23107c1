"""The server's answer on its way to the client: the public name put back, usage read, our own additions taken out.

Streams are handled as bytes. An event is parsed only when it can hold usage: at most a few of a whole stream. The bytes
`"model":` with plain quotes cannot stand inside a JSON string (its quotes are escaped), so replacing them is safe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from ilaas.core.usage import Usage

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""An event longer than this is passed on in pieces, unread."""

_MODEL_KEY = b'"model"'
_MODEL = re.compile(rb'"model"\s*:\s*"[^"\\]*(?:\\.[^"\\]*)*"')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = b"data: [DONE]"
DONE = _DONE + b"\n\n"
"""The end of a stream in OpenAI's manner."""
_DECODER = json.JSONDecoder()


def read_usage(tree: object) -> Usage | None:
    """The usage object of an answer or a chunk, in OpenAI's names; None when it isn't one."""
    if not isinstance(tree, dict):
        return None
    prompt = _count(tree, "prompt_tokens")
    completion = _count(tree, "completion_tokens")
    if not prompt and not completion:
        prompt = _count(tree, "total_tokens")
        if not prompt:
            return None
    return Usage(
        prompt,
        completion,
        _count(tree.get("prompt_tokens_details"), "cached_tokens"),
        _count(tree.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(tree: object, name: str) -> int:
    value = tree.get(name) if isinstance(tree, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


class PlainAnswer:
    """A whole JSON answer."""

    __slots__ = ("body", "usage", "valid")

    SMALL = 64 * 1024

    def __init__(self, body: bytes, public_name: bytes) -> None:
        """`public_name` is JSON-encoded, with its quotes."""
        self.usage: Usage | None = None
        self.valid = self._read(body)
        """Whether it is JSON; of large answers only the beginning and the end are looked at."""
        at = body.find(_MODEL_KEY)
        found = _MODEL.search(body, at) if at >= 0 else None
        if found is not None:
            start, end = found.span()
            replacement = b'"model":' + public_name
            if body[start:end] != replacement:
                body = body[:start] + replacement + body[end:]
        self.body = body

    def _read(self, body: bytes) -> bool:
        """Parse small answers whole; of large ones (embeddings) only the object behind the last `"usage"`."""
        try:
            if len(body) <= self.SMALL:
                tree = orjson.loads(body)
                if type(tree) is dict:
                    self.usage = read_usage(tree.get("usage"))
                return type(tree) is dict or type(tree) is list
            if not (body.lstrip()[:1] in (b"{", b"[") and body.rstrip()[-1:] in (b"}", b"]")):
                return False
            at = body.rfind(b'"usage"')
            if at >= 0:
                text = body[at + 7 :].decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
                self.usage = read_usage(_DECODER.raw_decode(text)[0])
            return True
        except ValueError:
            return len(body) > self.SMALL


class EventStream:
    """A stream of server-sent events. Feed it packets; it gives back what the client gets."""

    __slots__ = (
        "_carry",
        "_from",
        "_held",
        "_holds_end",
        "_last",
        "_public",
        "_separator",
        "_to",
        "_wants_usage",
        "done",
        "events",
        "usage",
    )

    def __init__(self, public_name: bytes, *, wants_usage: bool, holds_end: bool = False) -> None:
        """`public_name` is JSON-encoded, with its quotes. `wants_usage`: the client asked for the usage chunk.

        `holds_end`: something is to go before `[DONE]`, which is held back until `ending`.
        """
        self.usage: Usage | None = None
        self.events = 0
        """Events passed, for estimates when the server gives no usage."""
        self.done = False
        """`[DONE]` was seen."""
        self._public = public_name
        self._wants_usage = wants_usage
        self._holds_end = holds_end
        self._carry = b""
        self._separator = b""
        self._from: bytes | None = None
        self._to = b""
        self._last = b""
        self._held = False
        """`[DONE]` came before a chunk that the client waits for: held back until `ending`."""

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client; empty while an event is incomplete."""
        separator = self._separator
        if self._carry or not separator or not data.endswith(separator):
            data = self._complete(data)
            if not data:
                return data
            separator = self._separator
        self.events += data.count(separator)
        if self._from is not None:
            data = data.replace(self._from, self._to)
        if b'"usage"' in data:
            data = self._take_usage(data)
            if not data:
                return data
        if _DONE not in data:
            self._last = data
            return data
        self.done = True
        before = data[: data.index(_DONE)]
        self._last = before or self._last
        if self._holds_end or (self._wants_usage and self.usage is None):
            self._held = True
            return before
        return data

    def _complete(self, data: bytes) -> bytes:
        """Join with what was left over and cut behind the last whole event."""
        data = self._carry + data
        if not self._separator:
            self._learn(data)
            if not self._separator:
                self._carry = data
                return self._overflow()
        cut = data.rfind(self._separator)
        if cut < 0:
            self._carry = data
            return self._overflow()
        cut += len(self._separator)
        self._carry = data[cut:]
        return data[:cut]

    def _overflow(self) -> bytes:
        if len(self._carry) <= MAX_EVENT_BYTES:
            return b""
        data, self._carry = self._carry, b""
        if not self._separator:
            self._learn_name(data)
        return data

    def _learn(self, data: bytes) -> None:
        """From the first event: how events end, and how the server writes its model's name."""
        unix, dos = data.find(b"\n\n"), data.find(b"\r\n\r\n")
        if unix < 0 and dos < 0:
            return
        self._separator = b"\n\n" if dos < 0 or 0 <= unix < dos else b"\r\n\r\n"
        self._learn_name(data)

    def _learn_name(self, data: bytes) -> None:
        found = _MODEL.search(data)
        if found is not None:
            self._to = b'"model":' + self._public
            self._from = found.group() if found.group() != self._to else None

    def _take_usage(self, data: bytes) -> bytes:
        """Read usage from the events that have it; drop the extra chunk that the client didn't ask for."""
        kept = []
        for event in data.split(self._separator):
            if b'"usage"' in event and (chunk := _payload(event)) is not None:
                usage = read_usage(chunk.get("usage"))
                if usage is not None:
                    self.usage = usage
                    if not self._wants_usage and chunk.get("choices") == []:
                        continue
            kept.append(event)
        return self._separator.join(kept)

    def finished(self) -> bool:
        """Whether the answer is whole: `[DONE]` came, or a finish reason or the usage chunk last (without `[DONE]`)."""
        if self.done or _FINISHED.search(self._last) is not None:
            return True
        if b'"usage"' not in self._last:
            return False
        event = self._last_event() or {}
        usage = read_usage(event.get("usage"))
        return event.get("choices") == [] and usage is not None and usage.completion_tokens > 0

    def failed(self) -> bool:
        """Whether the server's last event was an error."""
        if b'"error"' not in self._last:
            return False
        event = self._last_event()
        return event is not None and bool(event.get("error")) and not event.get("choices")

    def _last_event(self) -> dict[str, Any] | None:
        return _payload(self._last.rstrip().rpartition(self._separator or b"\n\n")[2])

    def ending(self, estimate: Usage, extra: Mapping[str, Any] | None = None) -> bytes:
        """What is missing at the end: the usage chunk if it was asked for and not sent, `extra`, and `[DONE]`."""
        chunks = b""
        if self._held or not self.done:
            if self._wants_usage and self.usage is None:
                chunks = self._usage_chunk(estimate)
            if extra is not None:
                chunks += self._chunk(extra)
        return chunks + self.closing()

    def closing(self) -> bytes:
        """`[DONE]`, unless the client has it."""
        return b"" if self.done and not self._held else DONE

    def _usage_chunk(self, usage: Usage) -> bytes:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return self._chunk({"usage": counts})

    def _chunk(self, fields: Mapping[str, Any]) -> bytes:
        """OpenAI's extra chunk with empty choices, in the name of the stream's other chunks."""
        last = self._last_event() or {}
        chunk: dict[str, Any] = {name: last[name] for name in ("id", "object", "created", "model") if name in last}
        chunk["choices"] = []
        chunk.update(fields)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _payload(event: bytes) -> dict[str, Any] | None:
    start = event.find(b"data:")
    if start < 0:
        return None
    try:
        tree = orjson.loads(event[start + 5 :])
    except orjson.JSONDecodeError:
        return None
    return tree if type(tree) is dict else None


def with_field(body: bytes, name: str, value: object) -> bytes:
    """A whole answer with one more field at its end, the rest byte for byte; what is no JSON object stays as it is."""
    trimmed = body.strip()
    if not (trimmed.startswith(b"{") and trimmed.endswith(b"}")):
        return body
    fields = trimmed[:-1].rstrip()
    comma = b"" if fields == b"{" else b","
    return fields + comma + orjson.dumps({name: value})[1:]


def error_event(body: bytes) -> bytes:
    """An error inside a stream, then the end. `body` is one line of JSON."""
    return b"data: " + body + b"\n\n" + DONE
