"""How fast and how large a simulated engine is, with presets for machines seen in the federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParams:
    """The size and speed of one engine. Raises ValueError for a value that is not positive.

    One step of continuous batching lasts `decode_base_s + decode_per_sequence_s · decoding + chunk / prefill_tps`
    seconds, where `chunk` is the number of prompt tokens computed in that step (chunked prefill).
    """

    slots: int = 64
    """Simultaneous sequences (vLLM's max_num_seqs); others wait in the engine's own queue."""
    prefill_tps: float = 5_000.0
    """Prompt tokens computed per second when nothing else runs."""
    decode_base_s: float = 0.02
    """Fixed cost of a step: reading the weights."""
    decode_per_sequence_s: float = 0.0002
    """Added to a step by each sequence that decodes in it."""
    max_batched_tokens: int = 2_048
    """Token budget of a step: one for each decoding sequence, the rest for prompts."""
    kv_tokens: int = 200_000
    """Tokens that the KV cache holds, over all running sequences."""
    prefix_cache_tokens: int = 200_000
    """Tokens of computed prompts kept for reuse."""
    max_model_len: int = 32_768
    """Context window of one sequence."""

    def __post_init__(self) -> None:
        may_be_zero = {"decode_per_sequence_s", "prefix_cache_tokens"}
        for item in fields(self):
            value = getattr(self, item.name)
            if value < 0 or (value == 0 and item.name not in may_be_zero):
                raise ValueError(f"{item.name} must be greater than 0, not {value}")

    @property
    def context_tokens(self) -> int:
        """The largest prompt plus answer that one sequence may have."""
        return min(self.max_model_len, self.kv_tokens)


PRESETS: Mapping[str, EngineParams] = MappingProxyType(
    {
        "h200": EngineParams(
            slots=256,
            prefill_tps=14_000.0,
            decode_base_s=0.012,
            decode_per_sequence_s=0.00008,
            max_batched_tokens=8_192,
            kv_tokens=600_000,
            prefix_cache_tokens=600_000,
            max_model_len=131_072,
        ),
        "a100": EngineParams(
            slots=128,
            prefill_tps=6_000.0,
            decode_base_s=0.022,
            decode_per_sequence_s=0.0002,
            max_batched_tokens=4_096,
            kv_tokens=250_000,
            prefix_cache_tokens=250_000,
            max_model_len=65_536,
        ),
        "l40s": EngineParams(
            slots=64,
            prefill_tps=3_500.0,
            decode_base_s=0.03,
            decode_per_sequence_s=0.0005,
            kv_tokens=90_000,
            prefix_cache_tokens=90_000,
        ),
        "workstation-ollama": EngineParams(
            slots=4,
            prefill_tps=900.0,
            decode_base_s=0.025,
            decode_per_sequence_s=0.005,
            max_batched_tokens=512,
            kv_tokens=32_768,
            prefix_cache_tokens=8_192,
            max_model_len=8_192,
        ),
        "slow-spot": EngineParams(
            slots=16,
            prefill_tps=1_200.0,
            decode_base_s=0.06,
            decode_per_sequence_s=0.001,
            kv_tokens=60_000,
            prefix_cache_tokens=60_000,
            max_model_len=16_384,
        ),
    }
)
"""Plausible for a model of some 30 billion parameters; orders of magnitude, not measurements of a product."""
