"""Which gateways live, as a dispatcher hears of them."""

from __future__ import annotations

LEASE_S = 10.0
"""Without a heartbeat for so long, a gateway is dead and what it held is free."""
CURRENT_S = 3.5
"""A gateway heard of within this is waited for at a change of owner."""
LISTEN_S = 1.5
"""Heartbeats come each second: after so long, every gateway that lives has been heard."""


class Roster:
    """Gateways by the time they were last heard. Silence counts only while this dispatcher hears itself."""

    def __init__(self) -> None:
        self._heard_s: dict[str, float] = {}
        self._echo_s = float("-inf")
        """When this dispatcher last heard its own news come back: the broker works."""
        self._up_s: float | None = None
        """Since when it listens without a gap."""

    def link(self, now: float, *, up: bool) -> None:
        """The connection is there, or gone. Nobody is dead because nobody could be heard."""
        self._up_s = now if up else None
        self._heard_s = dict.fromkeys(self._heard_s, now)

    def heard(self, gateway: str, now: float) -> None:
        """A heartbeat."""
        self._heard_s[gateway] = now

    def left(self, gateway: str) -> None:
        """The gateway said that it stops."""
        self._heard_s.pop(gateway, None)

    def echo(self, now: float) -> None:
        """The dispatcher's own news came back. After a gap, gateways get their time anew."""
        if now - self._echo_s > LEASE_S / 2:
            self._heard_s = dict.fromkeys(self._heard_s, now)
            self._up_s = now if self._up_s is not None else None
        self._echo_s = now

    def live(self, now: float) -> frozenset[str] | None:
        """Those that live; None while it is too early to say."""
        if self._up_s is None or now - self._up_s < LISTEN_S or now - self._echo_s > LEASE_S / 2:
            return None
        for gateway in [each for each, heard_s in self._heard_s.items() if now - heard_s > LEASE_S]:
            del self._heard_s[gateway]
        return frozenset(self._heard_s)
