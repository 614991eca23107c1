"""The usage record: what is kept of a request. Never content, never a key; whole numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.values import Outcome, RequestClass, RoutingMode

AUDIO_MS_PER_TOKEN = 100
"""What a recording weighs in the fair order beside tokens: a second as much as ten of them."""


@dataclass(slots=True)
class Usage:
    """Token counts and length of audio of one answer, as the server gave them or as estimated."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    audio_ms: int = 0
    """Of the recording that was heard, or of the speech that was made."""


@dataclass(slots=True, kw_only=True)
class UsageRecord:
    """One request, once. Not frozen, for speed: it is filled once at the end of a request and never changed.

    Times: `finished_at_ms` is epoch milliseconds, the others durations in milliseconds. Idempotent by `id`.
    """

    id: str
    finished_at_ms: int
    organisation: str
    project: str
    key_id: str
    endpoint: str
    model: str
    server: str
    site: str
    owner: str
    request_class: RequestClass
    routing_mode: RoutingMode
    priority: int
    outcome: Outcome
    status: int
    streamed: bool
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    audio_ms: int
    estimated: bool
    queue_ms: int
    ttft_ms: int
    duration_ms: int
    price_micro_eur: int = 0
    """By the tariff in force; 0 for the use of own servers."""
    energy_mj: int = 0
    """Millijoules of use, without the making of the machine; 0 with `impact_method` empty is 'not known'."""
    energy_low_mj: int = 0
    energy_high_mj: int = 0
    co2e_ug: int = 0
    """Micrograms of CO2e of use."""
    embodied_co2e_ug: int = 0
    """Micrograms of CO2e of the making of the machine, this request's share."""
    impact_method: str = ""
    """Method and version; empty is 'not known'."""
    energy_measured: bool = False
