"""The request with which another server is asked for the rest of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ilaas.core.continuation.rules import FLAGGED
from ilaas.core.continuation.so_far import SoFar
from ilaas.core.requests import ParsedRequest
from ilaas.core.values import Engine

_LIMITS = ("max_tokens", "max_completion_tokens")


def used_up(parsed: ParsedRequest, so_far: SoFar) -> bool:
    """Whether the answer has all the tokens that were asked for."""
    limits = [limit for name in _LIMITS if type(limit := parsed.fields.get(name)) is int]
    return bool(limits) and min(limits) <= so_far.tokens


def rest_of(parsed: ParsedRequest, so_far: SoFar, engine: Engine) -> ParsedRequest:
    """The client's request, with the text so far and as many tokens less; stop sequences and seed stay.

    The request itself when no word of the answer was told yet.
    """
    if so_far.anew:
        return parsed
    fields = dict(parsed.fields)
    if parsed.endpoint.chat:
        fields["messages"] = _messages(fields, so_far.partial)
        if engine in FLAGGED:
            fields["continue_final_message"] = True
            fields["add_generation_prompt"] = False
        else:
            fields.pop("continue_final_message", None)
            fields.pop("add_generation_prompt", None)
    else:
        fields["prompt"] += so_far.partial
    given = so_far.tokens - so_far.regained_tokens
    for name in _LIMITS:
        if type(fields.get(name)) is int:
            fields[name] = max(fields[name] - given, 1)
    if type(fields.get("min_tokens")) is int:
        fields["min_tokens"] = max(fields["min_tokens"] - given, 0)
    return replace(parsed, fields=fields, raw=orjson.dumps(fields))


def _messages(fields: dict[str, Any], partial: str) -> list[Any]:
    """A partial message more; joined with the client's own when it began the answer itself."""
    messages = fields["messages"]
    if fields.get("continue_final_message") is True:
        return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + partial}]
    return [*messages, {"role": "assistant", "content": partial}]
