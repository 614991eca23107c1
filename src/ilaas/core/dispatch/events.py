"""What goes into the scheduler and comes out of it: tickets and their ends, readings of servers, views of models."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.dispatch.tickets import Effect, Grant, Refusal, RefusalReason, Settlement, Ticket

__all__ = [
    "Effect",
    "Grant",
    "ModelView",
    "QueuePosition",
    "Refusal",
    "RefusalReason",
    "ServerStatistics",
    "ServerView",
    "Settlement",
    "Ticket",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """One reading of a server's own gauges. None is 'not told'."""

    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    """0 to 1."""
    ttft_p95_s: float | None = None
    """Over the last window."""
    slots: int | None = None
    """Simultaneous requests the server says it can run."""
    models: tuple[str, ...] | None = None
    """Models it says it has loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """Where a waiting ticket stands."""

    ahead: int
    predicted_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """One server as operators see it."""

    id: str
    site: str
    owner: str
    engine: str
    state: str
    """`up`, `probing`, `down` or `draining`."""
    in_flight: int
    limit: int | None
    """None is unlimited (round-robin)."""
    waiting: int | None
    kv_cache_usage: float | None
    ttft_s: float | None
    """Recent mean, as observed by us."""
    served: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model's queue and servers as operators and `/v1/models` see them."""

    model: str
    strategy: str
    queued: dict[str, int]
    """By request class."""
    queued_by_organisation: dict[str, int]
    running: int
    predicted_wait_s: float
    """For a new interactive request of an organisation that has none waiting."""
    state: str
    """`available`, `busy` or `unavailable`."""
    servers: tuple[ServerView, ...]
