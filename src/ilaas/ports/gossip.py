"""What gateways tell each other without waiting: sent once, to all the others, and perhaps lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Gossip(Protocol):
    """Messages by topic, to all other gateways. May be lost, come twice or late; of one sender they come in order."""

    def publish(self, topic: str, message: bytes) -> None:
        """Send; never blocks and never raises."""

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> None:
        """Call `receive` with each message of others on the topic, on the event loop."""
