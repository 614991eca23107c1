"""The clients of today's dispatcher, as its `users` table has them (contracts/aristote-dispatcher, A5)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherUser:
    """One row, as it stands there: nothing is checked yet."""

    number: int
    """Its id in the table."""
    token: str = field(repr=False)
    name: str
    organization: str | None = None
    email: str | None = None
    priority: int = 0
    """Higher goes first, as in a key."""
    threshold: int | None = None
    """Refused when more than this many requests wait for the model."""
    client_type: str | None = None
    default_routing_mode: str = "any"
