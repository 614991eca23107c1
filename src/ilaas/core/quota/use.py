"""What one subject used here and holds elsewhere: what gateways tell each other of it."""

from __future__ import annotations

from typing import NamedTuple


class OwnUse(NamedTuple):
    """What one subject used through one gateway, since that gateway opened its account."""

    requests: int
    """Begun, less those that were refunded."""
    in_flight: int
    settled_tokens: int
    held_tokens: int
    settled_micro_eur: int
    held_micro_eur: int

    @property
    def tokens(self) -> int:
        """That left the bucket."""
        return self.settled_tokens + self.held_tokens


NOTHING_USED = OwnUse(0, 0, 0, 0, 0, 0)


class Elsewhere(NamedTuple):
    """What one subject holds at other gateways, together."""

    in_flight: int
    held_tokens: int
    held_micro_eur: int


NOTHING_ELSEWHERE = Elsewhere(0, 0, 0)
