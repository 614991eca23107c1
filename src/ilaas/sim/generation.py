"""From the body of a request to what will be answered, token by token, before any token has its time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ilaas.sim.answers import Library, Words, cut_words, digest, words_of
from ilaas.sim.api_errors import ApiError
from ilaas.sim.enriching import enrichment
from ilaas.sim.options import SimServerOptions
from ilaas.sim.prefix_cache import Prefix
from ilaas.sim.prompt import Prompt, read_chat, read_completion
from ilaas.sim.schemas import instance

_KEPT_PLANS = 256
"""Equal bodies have equal answers: a benchmark sends the same one thousands of times."""
_LARGEST_KEPT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that are told in the same kind of delta: `opening`, the token, `closing`."""

    opening: bytes
    closing: bytes
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One choice."""

    segments: tuple[Segment, ...]
    message: Mapping[str, Any]
    """The same, whole: the message of a chat, or `{"text": …}`."""
    finish_reason: str
    tokens: int
    given_tokens: int = 0
    """Of the beginning of the answer, which the prompt holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A chat or text completion, decided."""

    chat: bool
    model: str
    prompt_tokens: int
    prefix: Prefix | None
    stream: bool
    include_usage: bool
    logprobs: bool
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    limit: int
    """Tokens that may be generated."""
    endless: bool
    """Go to the limit whatever the natural length."""
    least: int
    stops: tuple[str, ...]


class Author:
    """Writes the answers of one server."""

    def __init__(self, options: SimServerOptions) -> None:
        self._options = options
        self._context = options.params.context_tokens
        self._library = Library(options.median_tokens)
        self._plans: OrderedDict[tuple[bool, bytes], Generation] = OrderedDict()

    def plan(self, raw: bytes, body: dict[str, Any], *, chat: bool) -> Generation:
        """Decide the answer to a body, given as it came and parsed. Raises ApiError."""
        plan = self._plans.get((chat, raw))
        if plan is None:
            plan = self._plan(body, chat=chat)
            if len(raw) <= _LARGEST_KEPT_BYTES:
                self._plans[chat, raw] = plan
                if len(self._plans) > _KEPT_PLANS:
                    self._plans.popitem(last=False)
        return plan

    def _plan(self, body: dict[str, Any], *, chat: bool) -> Generation:
        prompt = read_chat(body) if chat else self._begun(read_completion(body))
        bounds = self._bounds(body, prompt.tokens, chat=chat)
        choices = _integer(body, "n", 1, least=1)
        if choices > 128:
            raise ApiError(400, "n must be at most 128", "n")
        stream = body.get("stream", False)
        if not isinstance(stream, bool):
            raise ApiError(400, "stream: Input should be a valid boolean", "stream")
        stream_options = body.get("stream_options")
        if stream_options is not None and not stream:
            raise ApiError(400, "Stream options can only be defined when `stream=True`.", "stream_options")
        answers = tuple(self._answer(body, prompt, bounds, index, chat=chat) for index in range(choices))
        return Generation(
            chat=chat,
            model=body["model"],
            prompt_tokens=prompt.tokens - prompt.partial_tokens + answers[0].given_tokens,
            prefix=prompt.prefix,
            stream=stream,
            include_usage=isinstance(stream_options, dict) and bool(stream_options.get("include_usage")),
            logprobs=bool(body.get("logprobs")),
            answers=answers,
        )

    def _bounds(self, body: dict[str, Any], prompt_tokens: int, *, chat: bool) -> _Bounds:
        name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
        asked = _integer(body, name, 0, least=1) or None
        if prompt_tokens + (asked or 1) > self._context:
            raise ApiError(
                400,
                f"This model's maximum context length is {self._context} tokens. However, you requested "
                f"{prompt_tokens + (asked or 0)} tokens ({prompt_tokens} in the messages, {asked or 0} in the "
                "completion). Please reduce the length of the messages or completion.",
                name if asked else "messages",
            )
        stop = body.get("stop") or ()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(isinstance(item, str) and item for item in stops):
            raise ApiError(400, "stop must be a string or a list of strings that are not empty", "stop")
        return _Bounds(
            limit=asked or self._context - prompt_tokens,
            endless=bool(asked) and (self._options.gap_s is not None or bool(body.get("ignore_eos"))),
            least=_integer(body, "min_tokens", 0, least=0),
            stops=stops,
        )

    def _answer(self, body: dict[str, Any], prompt: Prompt, bounds: _Bounds, index: int, *, chat: bool) -> Answer:
        key = digest(self._options.seed, str(body.get("seed") or 0), index, prompt.raw)
        if not chat:
            words, reason, given = self._text(prompt, bounds, key, None)
            message: dict[str, Any] = {"text": "".join(words.texts)}
            return Answer(
                segments=(Segment(b'"', b'"', words),),
                message=message,
                finish_reason=reason,
                tokens=len(words.texts),
                given_tokens=given,
            )
        tool = _chosen_tool(body, prompt)
        if tool is not None:
            return _tool_answer(tool, key, bounds)
        structured = _structured(body, prompt)
        thoughts = Words((), ())
        if self._options.reasoning_tokens and prompt.partial is None:
            thoughts = self._library.write(
                digest(key, "reasoning"), min(self._options.reasoning_tokens, bounds.limit - 1)
            )
        bounds = replace(bounds, limit=bounds.limit - len(thoughts.texts))
        words, reason, given = self._text(prompt, bounds, key, structured)
        message = {"role": "assistant", "content": "".join(words.texts)}
        segments: tuple[Segment, ...] = (Segment(b'{"content":"', b'"}', words),)
        if thoughts.texts:
            message["reasoning_content"] = "".join(thoughts.texts)
            segments = (Segment(b'{"reasoning_content":"', b'"}', thoughts), *segments)
        tokens = len(words.texts) + len(thoughts.texts)
        return Answer(segments=segments, message=message, finish_reason=reason, tokens=tokens, given_tokens=given)

    def _begun(self, prompt: Prompt) -> Prompt:
        """A text completion whose prompt ends with the beginning of the answer in the script."""
        text = prompt.last_user
        for part, scripted in self._options.script.items():
            if part in text:
                longest = min(len(scripted), len(text))
                length = next((size for size in range(longest, 0, -1) if text.endswith(scripted[:size])), 0)
                if length:
                    return prompt.begun(text[-length:])
        return prompt

    def _text(self, prompt: Prompt, bounds: _Bounds, key: int, fixed: str | None) -> tuple[Words, str, int]:
        """The text from where the partial answer leaves off, bounded; why it ends; and the tokens before."""
        partial = prompt.partial or ""
        words = self._source(prompt, bounds, key, fixed)
        text = "".join(words.texts)
        if not text.startswith(partial):  # not ours: go on with something of its own
            words = self._library.write(digest(key, partial), min(self._library.natural_tokens(key), bounds.limit + 1))
            text, partial = "".join(words.texts), ""
        given = prompt.partial_tokens
        if partial:
            given = len(cut_words(words, 0, len(partial)).texts)
        ends = [at for at in (text.find(stop) for stop in bounds.stops) if at >= 0]
        end = max(min(ends), len(partial)) if ends else len(text)
        if partial or ends:
            words = cut_words(words, len(partial), end)
        if len(words.texts) > bounds.limit:
            return Words(words.texts[: bounds.limit], words.escaped[: bounds.limit]), "length", given
        return words, "stop", given

    def _source(self, prompt: Prompt, bounds: _Bounds, key: int, fixed: str | None) -> Words:
        """The whole answer as it would be unbounded, at least as much of it as can be needed."""
        if fixed is not None:
            return words_of(fixed)
        for part, scripted in self._options.script.items():
            if part.encode() in prompt.raw:
                return words_of(scripted)
        natural = math.inf if bounds.endless else max(self._library.natural_tokens(key), bounds.least)
        return self._library.write(key, int(min(natural, bounds.limit + len(prompt.partial or "") + 1)))


def _integer(body: dict[str, Any], name: str, default: int, *, least: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or value < least:
        raise ApiError(400, f"{name} must be an integer of at least {least}, got {value!r}.", name)
    return value


def _chosen_tool(body: dict[str, Any], prompt: Prompt) -> dict[str, Any] | None:
    """The function to call, if one is to be called."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools or choice == "none":
        return None
    functions: list[dict[str, Any]] = [
        tool["function"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        named = next((function for function in functions if function.get("name") == wanted), None)
        if named is None:
            raise ApiError(400, f"The tool specified in `tool_choice` does not match any of the `tools`: {wanted}.")
        return named
    if functions and (choice == "required" or "tool" in prompt.last_user.lower()):
        return functions[0]
    return None


def _tool_answer(function: dict[str, Any], key: int, bounds: _Bounds) -> Answer:
    name = str(function.get("name", ""))
    arguments = orjson.dumps(instance(function.get("parameters") or {"type": "object"})).decode()
    call = {"id": f"chatcmpl-tool-{key:016x}", "type": "function"}
    delta = {"tool_calls": [{**call, "index": 0, "function": {"name": name, "arguments": ""}}]}
    words = words_of(arguments)
    kept = Words(words.texts[: bounds.limit - 1], words.escaped[: bounds.limit - 1])
    given = "".join(kept.texts)
    return Answer(
        segments=(
            Segment(orjson.dumps(delta), b"", Words(("",), (b"",))),
            Segment(b'{"tool_calls":[{"index":0,"function":{"arguments":"', b'"}}]}', kept),
        ),
        message={
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "function": {"name": name, "arguments": given}}],
        },
        finish_reason="tool_calls" if given == arguments else "length",
        tokens=1 + len(kept.texts),
    )


def _structured(body: dict[str, Any], prompt: Prompt) -> str | None:
    """The JSON that `response_format` asks for."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    match wanted.get("type"):
        case "json_object":
            return orjson.dumps({"answer": "oui", "number": len(prompt.raw)}).decode()
        case "json_schema":
            described = wanted.get("json_schema")
            if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
                raise ApiError(400, "response_format.json_schema.schema is missing", "response_format")
            schema = described["schema"]
            told = enrichment(schema, prompt.last_user)
            return orjson.dumps(instance(schema) if told is None else told).decode()
        case _:
            return None
