"""How one simulated server is set up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ilaas.sim.failures import SimFailures
from ilaas.sim.params import PRESETS, EngineParams


@dataclass(frozen=True, slots=True, kw_only=True)
class SimServerOptions:
    """Everything about a simulated server. Raises ValueError for an unknown preset or failure."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    models: tuple[str, ...] = ("sim",)
    """Served names; all of them share the one engine."""
    engine: EngineParams | str = "a100"
    """The engine's size and speed, or a preset's name."""
    api_key: str | None = None
    """Asked for under `/v1` as a bearer token."""
    failures: SimFailures | str = ""
    failure_seed: int = 0
    """The failures' draws; apart from `seed`, so that servers fail differently and answer alike."""
    seed: int = 0
    """Part of every answer. Servers of one model should share it: then one can continue another's answer."""
    gap_s: float | None = None
    """Bench mode: a fixed time between two streamed tokens instead of the engine's; whole answers at once, and
    `max_tokens` is the length, not a bound."""
    site: str = "local"
    clock: Callable[[], float] = time.monotonic
    """Seconds; the timer that advances the engine is always the event loop's."""
    median_tokens: int = 180
    """Half of the answers are shorter, if nothing else bounds them."""
    reasoning_tokens: int = 0
    """So many tokens of `reasoning_content` before each chat answer."""
    script: Mapping[str, str] = field(default_factory=dict)
    """Answers given word for word when the prompt contains the key."""
    embedding_dimensions: int = 64
    record: bool = False
    """Keep the last requests, headers and body, for tests."""
    markers: bool = False
    """Let a request choose its own failures by the header `x-sim-failures`."""
    old_errors: bool = False
    """Errors as older vLLM gives them: flat, with `object: error`."""
    old_metrics: bool = False
    """Also give `vllm:gpu_cache_usage_perc`."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("a server needs at least one model")
        if isinstance(self.engine, str) and self.engine not in PRESETS:
            raise ValueError(f"unknown engine preset {self.engine!r}; known are {', '.join(PRESETS)}")
        if self.gap_s is not None and not 0 <= self.gap_s < 3600:
            raise ValueError(f"gap_s must be between 0 and 3600, not {self.gap_s}")
        _ = self.parsed_failures

    @property
    def params(self) -> EngineParams:
        """The engine's parameters."""
        return PRESETS[self.engine] if isinstance(self.engine, str) else self.engine

    @property
    def parsed_failures(self) -> SimFailures:
        """The failures as a value."""
        return SimFailures.parse(self.failures) if isinstance(self.failures, str) else self.failures
