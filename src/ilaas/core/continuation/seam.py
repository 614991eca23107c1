"""The stream of the server that goes on, made into the rest of the one that broke off."""

from __future__ import annotations

import re
from typing import Any

import orjson

from ilaas.core.continuation.so_far import SoFar, parts_of, payload
from ilaas.core.usage import Usage
from ilaas.core.wire import MAX_EVENT_BYTES, EventStream, read_usage

_VALUES = {"id": rb'"(?:[^"\\]|\\.)*"', "created": rb"\d+", "model": rb'"(?:[^"\\]|\\.)*"'}
_FIELDS = {name: re.compile(rb'"%b"\s*:\s*(%b)' % (name.encode(), value)) for name, value in _VALUES.items()}
_TEXT, _REASONING = 0, 1
_WRONG = b'data: {"error":{"message":"The server did not go on with the answer.","code":"not_continued"}}'


class ContinuedStream(EventStream):
    """An EventStream whose events carry the first server's id and time, tell no role again, and count all usage.

    What the client has already (white space, or reasoning that begins again) is taken out as long as it comes the same.
    In the place of a packet of which nothing is left stands an empty comment, so that the client hears of it.
    """

    __slots__ = (
        "_again",
        "_at_start",
        "_chat",
        "_cut",
        "_names",
        "_repeated",
        "_so_far",
        "_tail",
        "own_usage",
        "wrong",
    )

    def __init__(
        self, public_name: bytes, so_far: SoFar, *, chat: bool, wants_usage: bool, holds_end: bool = False
    ) -> None:
        """As EventStream; `so_far` is what the client has."""
        super().__init__(public_name, wants_usage=wants_usage, holds_end=holds_end)
        self.events = so_far.tokens + 1
        self.own_usage: Usage | None = None
        """As this server told it."""
        self.wrong = False
        """The server did not go on (it began to reason in mid-answer, say); the stream ends with an error event."""
        self._so_far = so_far
        self._chat = chat
        self._tail = b""
        self._cut = b""
        self._names: list[tuple[bytes, bytes]] | None = None
        """How this server writes the fields that stay the same, and how they are written."""
        self._again = [so_far.text[len(so_far.partial) :], so_far.reasoning if so_far.anew else ""]
        """Text and reasoning that the server is expected to give once more."""
        self._repeated = 0
        """Tokens that were taken out for that."""
        self._at_start = True

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client."""
        data = self._tail + data
        if not self._cut:
            found = [(data.find(cut), cut) for cut in (b"\n\n", b"\r\n\r\n") if cut in data]
            self._cut = min(found)[1] if found else b""
        end = data.rfind(self._cut) + len(self._cut) if self._cut and self._cut in data else 0
        self._tail = data[end:]
        if self.wrong or not end:
            # an event that long can't be read, and unread it would go on under another id
            self.wrong = self.wrong or len(self._tail) > MAX_EVENT_BYTES
            return b""
        if not self._at_start and b'"usage"' not in data:
            return super().feed(self._renamed(data[:end]))
        kept = self._mended(data[:end].split(self._cut)[:-1])
        out = super().feed(b"".join(event + self._cut for event in kept or [b":"]))
        self.events -= not kept
        return out

    def failed(self) -> bool:
        """As EventStream, or when the server did not go on."""
        return self.wrong or super().failed()

    def _mended(self, events: list[bytes]) -> list[bytes]:
        kept = []
        for event in events:
            mended = self._mend(event)
            if mended:
                kept.append(mended)
            if self.wrong:
                break
        return kept

    def _mend(self, event: bytes) -> bytes:
        """The event as it goes on; nothing when the client has all of it."""
        tree = payload(event)
        if tree is None or type(choices := tree.get("choices")) is not list:
            return self._renamed(event)
        if self._names is None:
            self._names = self._names_in(event, tree)
        usage = read_usage(tree.get("usage"))
        if usage is not None:
            self.own_usage = usage
            tree["usage"] = self._summed(tree["usage"], usage)
        at_start = self._at_start
        if at_start and choices and type(choices[0]) is dict:
            fresh = self._trim(choices[0])
            if self.wrong:
                return _WRONG
            if not fresh and usage is None:
                return b""
        if not at_start and usage is None:
            return self._renamed(event)
        for name, value in self._same().items():
            if name in tree:
                tree[name] = value
        return b"data: " + orjson.dumps(tree)

    def _same(self) -> dict[str, Any]:
        """The fields that are the same in all chunks of an answer."""
        so_far = self._so_far
        same = {"id": so_far.id, "created": so_far.created, "model": so_far.model}
        return {name: value for name, value in same.items() if value is not None}

    def _names_in(self, event: bytes, tree: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        names = []
        for name, value in self._same().items():
            for found in _FIELDS[name].finditer(event):
                if orjson.loads(found[1]) == tree.get(name) != value:
                    names.append((found[0], b'"%b":%b' % (name.encode(), orjson.dumps(value))))
                    break
        return names

    def _renamed(self, data: bytes) -> bytes:
        for old, new in self._names or ():
            data = data.replace(old, new)
        return data

    def _trim(self, choice: dict[str, Any]) -> bool:
        """Take out what the client has; says whether anything is left."""
        delta = choice.get("delta")
        if type(delta) is dict:
            delta.pop("role", None)
        parts = parts_of(choice, chat=self._chat)
        if parts is None:  # a tool call, say
            self._at_start = False
            return True
        text, reasoning = parts
        if reasoning and not self._so_far.anew:
            self.wrong = True
            return False
        if text:
            self._again[_REASONING] = ""
        new_text, new_reasoning = self._fresh(_TEXT, text), self._fresh(_REASONING, reasoning)
        self._repeated += bool(text or reasoning) and not (new_text or new_reasoning)
        if new_text != text or new_reasoning != reasoning:
            _put(delta if self._chat else choice, new_text, new_reasoning)
        ended = bool(choice.get("finish_reason"))
        if ended or ((new_text or new_reasoning) and not any(self._again)):
            self._at_start = False
        return ended or bool(new_text or new_reasoning)

    def _fresh(self, which: int, text: str) -> str:
        again = self._again[which]
        if not again or not text:
            return text
        shorter = min(len(again), len(text))
        same = next((at for at in range(shorter) if again[at] != text[at]), shorter)
        self._again[which] = again[same:] if same == len(text) else ""
        return text[same:]

    def _summed(self, told: dict[str, Any], own: Usage) -> dict[str, Any]:
        """The usage of the whole answer: the text so far is answer for the client, and was prompt for this server."""
        so_far = self._so_far
        if so_far.anew:
            return told
        prompt = max(own.prompt_tokens - so_far.sent_tokens, 1)
        completion = own.completion_tokens + so_far.tokens - self._repeated
        whole = {
            **told,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if own.cached_tokens > prompt:
            whole["prompt_tokens_details"] = {**told["prompt_tokens_details"], "cached_tokens": prompt}
        if own.reasoning_tokens or (so_far.reasoning_tokens and told.get("completion_tokens_details")):
            details = {"reasoning_tokens": own.reasoning_tokens + so_far.reasoning_tokens}
            whole["completion_tokens_details"] = {**told["completion_tokens_details"], **details}
        return whole


def _put(where: Any, text: str, reasoning: str) -> None:
    for name, value in (("content", text), ("text", text), ("reasoning_content", reasoning), ("reasoning", reasoning)):
        if where.get(name):
            where[name] = value
