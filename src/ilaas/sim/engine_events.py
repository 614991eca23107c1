"""What goes into a simulated engine and what it tells. Times are seconds on the clock that its caller passes in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ilaas.sim.prefix_cache import Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One sequence to be computed."""

    id: str
    prompt_tokens: int
    output_tokens: int
    """Tokens it will generate; 0 for work that only reads (embeddings, scores)."""
    prefix: Prefix | None = None
    streamed: bool = False
    """Give a `Tokens` event at each step; else only the first token and the end are told."""


class Phase(StrEnum):
    """Where a sequence stands."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(slots=True)
class Started:
    """The sequence left the waiting queue."""

    request_id: str
    at_s: float
    cached_tokens: int
    """Prompt tokens found in the prefix cache."""


@dataclass(slots=True)
class FirstToken:
    """The prompt is computed and the first token is there."""

    request_id: str
    at_s: float
    ttft_s: float


@dataclass(slots=True)
class Tokens:
    """A streamed sequence has `count` new tokens, the first one included."""

    request_id: str
    at_s: float
    count: int


@dataclass(slots=True)
class Finished:
    """The sequence has all its tokens and left the engine."""

    request_id: str
    at_s: float
    output_tokens: int


EngineEvent = Started | FirstToken | Tokens | Finished
