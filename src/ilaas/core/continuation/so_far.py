"""The answer as far as the client has it, read from the events it was given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

_EVENT_END = re.compile(rb"\r?\n\r?\n")
_HARMLESS_DELTAS = frozenset({"role", "content", "reasoning_content", "reasoning"})


@dataclass(slots=True)
class SoFar:
    """What was told of one answer. Tokens are counted as events with text, which is what engines send."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    kind: str | None = None
    """The `object` of its chunks."""
    text: str = ""
    """Of the answer itself."""
    reasoning: str = ""
    tokens: int = 0
    """Of both."""
    reasoning_tokens: int = 0
    blank_tokens: int = 0
    """At the end of the text: of white space alone."""
    finished: bool = False
    """A finish reason was told."""
    foreign: bool = False
    """There is something in it that can't be continued: a tool call, a second choice, what isn't a chunk."""

    @property
    def partial(self) -> str:
        """What another server is given: without white space at the end, which chat templates strip anyway."""
        return self.text.rstrip()

    @property
    def anew(self) -> bool:
        """No word of the answer was told yet: another server begins from the start."""
        return not self.partial

    @property
    def regained_tokens(self) -> int:
        """How many tokens the next server is expected to give once more: the white space that was taken off."""
        return max(self.blank_tokens, 1) if self.text != self.partial else 0

    @property
    def sent_tokens(self) -> int:
        """Tokens of `partial`: they stand in the prompt of the server that goes on."""
        return self.tokens - self.reasoning_tokens - self.blank_tokens


def read(given: bytes, *, chat: bool) -> SoFar:
    """Read what the client was given."""
    so_far = SoFar()
    texts: list[str] = []
    thoughts: list[str] = []
    for event in _EVENT_END.split(given):
        if event and not event.startswith(b":"):
            _read_event(event, so_far, texts, thoughts, chat=chat)
    so_far.text, so_far.reasoning = "".join(texts), "".join(thoughts)
    for text in reversed(texts):
        if text.strip():
            break
        so_far.blank_tokens += 1
    return so_far


def _read_event(event: bytes, so_far: SoFar, texts: list[str], thoughts: list[str], *, chat: bool) -> None:
    tree = payload(event)
    choices = tree.get("choices") if tree is not None else None
    if tree is None or type(choices) is not list:
        so_far.foreign = so_far.foreign or b"[DONE]" not in event
        so_far.finished = so_far.finished or b"[DONE]" in event
        return
    if so_far.id is None:
        so_far.id, so_far.created = tree.get("id"), tree.get("created")
        so_far.model, so_far.kind = tree.get("model"), tree.get("object")
    for choice in choices:
        parts = parts_of(choice, chat=chat)
        if parts is None or choice.get("index", 0) != 0:
            so_far.foreign = True
            continue
        text, thought = parts
        if text:
            texts.append(text)
        if thought:
            thoughts.append(thought)
        if text or thought:
            so_far.tokens += 1
            so_far.reasoning_tokens += not text
        so_far.finished = so_far.finished or bool(choice.get("finish_reason"))


def parts_of(choice: Any, *, chat: bool) -> tuple[str, str] | None:
    """Text and reasoning of one choice of a chunk; None when it has something else, or isn't one."""
    if type(choice) is not dict:
        return None
    if not chat:
        text = choice.get("text") or ""
        return (text, "") if type(text) is str else None
    delta = choice.get("delta")
    if delta is None:
        delta = {}
    if type(delta) is not dict or any(value for name, value in delta.items() if name not in _HARMLESS_DELTAS):
        return None
    text, thought = delta.get("content") or "", delta.get("reasoning_content") or delta.get("reasoning") or ""
    return (text, thought) if type(text) is str and type(thought) is str else None


def payload(event: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None when it has none."""
    start = event.find(b"data:")
    if start < 0:
        return None
    try:
        tree = orjson.loads(event[start + 5 :])
    except orjson.JSONDecodeError:
        return None
    return tree if type(tree) is dict else None
