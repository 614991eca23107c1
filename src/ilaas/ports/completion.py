"""What answers a prompt: language models, reached through the gateway like anybody's requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ilaas.ports.speech import Billed


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionTask:
    """A question to a language model."""

    messages: tuple[Message, ...]
    billed: Billed
    model: str | None = None
    """None: the service's own."""
    max_tokens: int | None = None
    temperature: float = 0.0
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    """The JSON schema that the answer shall follow; servers that can, enforce it."""
    schema_name: str = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The model's answer."""

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    """`stop`, or `length` when it was cut off."""


class Completion(Protocol):
    """A language model."""

    async def complete(self, task: CompletionTask) -> Completed:
        """Raises an `IlaasError` whose `retryable` says whether trying again can help."""

    async def context_tokens(self, model: str | None) -> int | None:
        """How many tokens prompt and answer may have together; None when nobody knows."""

    async def close(self) -> None:
        """Let go of every connection."""
