"""Which answers may be continued elsewhere, and by which engines. What is not known to go right is left out."""

from __future__ import annotations

from typing import Any

from ilaas.core.requests import ParsedRequest
from ilaas.core.values import Engine

FLAGGED = frozenset({Engine.VLLM, Engine.SGLANG})
"""Engines that go on with a partial assistant message when `continue_final_message` is set."""
TRAILING = frozenset({Engine.LMDEPLOY})
"""Engines that take a last message of the assistant for the beginning of their answer."""
RAW_PROMPT = FLAGGED | TRAILING | {Engine.LLAMACPP}
"""Engines whose `/v1/completions` takes the prompt as it is, without a chat template around it."""

_NEVER = frozenset(
    {
        "audio",
        "best_of",
        "ebnf",
        "echo",
        "format",
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "json_schema",
        "logprobs",
        "modalities",
        "n",
        "prompt_logprobs",
        "regex",
        "response_format",
        "return_token_ids",
        "structural_tag",
        "structured_outputs",
        "suffix",
        "tool_choice",
        "top_logprobs",
        "use_beam_search",
    }
)
_HARMLESS: dict[str, tuple[Any, ...]] = {"n": (1,), "best_of": (1,), "tool_choice": ("auto", "none")}
_ZERO_COUNTS = frozenset({"logprobs", "prompt_logprobs"})
"""0 of them is the chosen token's own."""


def may_continue(parsed: ParsedRequest) -> bool:
    """Whether this answer, once it streams, may be continued by another server."""
    fields = parsed.fields
    if not (parsed.stream and parsed.endpoint.generates):
        return False
    if any(_asked(name, value) for name, value in fields.items() if name in _NEVER):
        return False
    if not parsed.endpoint.chat:
        return type(fields.get("prompt")) is str
    last = fields["messages"][-1]
    continues = fields.get("continue_final_message") is True
    if last.get("role") == "assistant":
        return continues and type(last.get("content")) is str
    return not continues and fields.get("add_generation_prompt") in (None, True)


def _asked(name: str, value: object) -> bool:
    if value is None or value is False or value in _HARMLESS.get(name, ()):
        return False
    if name == "response_format":
        return not (isinstance(value, dict) and value.get("type") == "text")
    return bool(value) or (value == 0 and name in _ZERO_COUNTS)


def goes_on(engine: Engine, *, chat: bool) -> bool:
    """Whether a server of this engine can go on with a text that another one began."""
    return engine in (FLAGGED | TRAILING if chat else RAW_PROMPT)
