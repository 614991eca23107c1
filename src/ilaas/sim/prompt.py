"""What a request says, as the bytes that are counted, hashed and answered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from ilaas.sim.answers import count_tokens, prefix_of
from ilaas.sim.api_errors import ApiError
from ilaas.sim.prefix_cache import Prefix

IMAGE_TOKENS = 576
"""What an image costs, and roughly a short sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt, without the answer that is to be continued."""

    raw: bytes
    tokens: int
    """With images and the partial answer."""
    prefix: Prefix | None
    partial: str | None = None
    """The beginning of the answer, given by the client."""
    last_user: str = ""

    @property
    def partial_tokens(self) -> int:
        """Of the partial answer, in `tokens`."""
        return count_tokens((self.partial or "").encode("utf-8", "surrogatepass"))

    def begun(self, partial: str) -> Prompt:
        """The same prompt, its end taken for the beginning of the answer."""
        raw = self.raw[: -len(partial.encode("utf-8", "surrogatepass"))]
        prompt = replace(self, raw=raw, partial=partial)
        return replace(prompt, tokens=max(count_tokens(raw), 1) + prompt.partial_tokens)


def read_chat(body: dict[str, Any]) -> Prompt:
    """Read `messages`. Raises ApiError."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages: Field required; a list of at least one message", "messages")
    partial = _partial(body, messages)
    parts: list[bytes] = []
    images = 0
    last_user = ""
    for message in messages if partial is None else messages[:-1]:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ApiError(400, "messages: each message is an object with a role", "messages")
        text, seen = _content(message.get("content"))
        images += seen
        if message["role"] == "user":
            last_user = text
        if message.get("tool_calls"):
            text += orjson.dumps(message["tool_calls"]).decode()
        parts += (message["role"].encode("utf-8", "surrogatepass"), b"\n", text.encode("utf-8", "surrogatepass"), b"\n")
    raw = b"".join(parts)
    counted = count_tokens(raw) + count_tokens((partial or "").encode()) + IMAGE_TOKENS * images
    return Prompt(raw=raw, tokens=max(counted, 1), prefix=prefix_of(raw), partial=partial, last_user=last_user)


def read_completion(body: dict[str, Any]) -> Prompt:
    """Read `prompt`: a text or a list of token numbers. Raises ApiError."""
    given = body.get("prompt")
    if isinstance(given, list) and len(given) == 1 and not isinstance(given[0], int):
        given = given[0]
    if isinstance(given, str):
        raw = given.encode("utf-8", "surrogatepass")
        return Prompt(raw=raw, tokens=max(count_tokens(raw), 1), prefix=prefix_of(raw), last_user=given)
    if isinstance(given, list) and given and all(type(token) is int for token in given):
        raw = b"".join((token & 0xFFFFFFFF).to_bytes(4, "little") for token in given)
        return Prompt(raw=raw, tokens=len(given), prefix=prefix_of(raw))
    raise ApiError(400, "prompt: Field required; one text, or one list of token numbers", "prompt")


def _partial(body: dict[str, Any], messages: list[Any]) -> str | None:
    if not body.get("continue_final_message"):
        return None
    if body.get("add_generation_prompt", True):
        raise ApiError(
            400,
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
            "continue_final_message",
        )
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "assistant":
        raise ApiError(400, "continue_final_message: the last message must be the assistant's", "messages")
    return _content(last.get("content"))[0]


def _content(content: object) -> tuple[str, int]:
    """The text of a message's content, and how many parts of it are no text."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        raise ApiError(400, "messages: content is a text or a list of parts", "messages")
    texts: list[str] = []
    others = 0
    for part in content:
        if not isinstance(part, dict):
            raise ApiError(400, "messages: each part of content is an object with a type", "messages")
        if part.get("type") in {"text", "input_text"}:
            texts.append(str(part.get("text", "")))
        else:
            others += 1
            # The same image is the same prompt, another one is not.
            texts.append(orjson.dumps(part, option=orjson.OPT_SORT_KEYS).decode()[-64:])
    return "\n".join(texts), others
