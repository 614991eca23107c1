"""What every request of a gateway is carried out with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ilaas.core.continuation import Room
from ilaas.ports.broker import Broker
from ilaas.ports.upstream import Upstream
from ilaas.services.accounting import Accounting
from ilaas.services.impacts import Impacts
from ilaas.services.prices import Prices
from ilaas.services.quotas import Quotas


@dataclass(frozen=True, slots=True, kw_only=True)
class InferencePolicy:
    """What is the same for all models."""

    keepalive_comment_s: float = 15.0
    client_stall_s: float = 60.0
    """A streaming client that takes nothing for so long is taken for gone."""
    max_answer_bytes: int = 64 * 1024 * 1024
    """Of an answer that isn't streamed."""
    historic_overload_text: bool = False
    """Answer overload in the words of today's dispatcher: 503 (200 for chat clients) with `{"error": "Too many…"}`."""


@dataclass(slots=True, kw_only=True)
class Context:
    """The ports and services that a request uses, put together once by the wiring."""

    broker: Broker
    upstream: Upstream
    accounting: Accounting
    quotas: Quotas
    impacts: Impacts
    prices: Prices
    clock: Callable[[], float]
    """Monotonic seconds."""
    epoch: Callable[[], float]
    """Epoch seconds."""
    policy: InferencePolicy
    room: Room = field(default_factory=Room)
    """The memory for answers that may be continued."""
