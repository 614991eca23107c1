"""`ports.gossip` among the gateways of one test."""

from __future__ import annotations

from collections.abc import Callable


class GossipRoom:
    """Where they meet. Messages wait until `deliver`, and are lost while `deaf`."""

    def __init__(self) -> None:
        self.members: list[LocalGossip] = []
        self.waiting: list[tuple[LocalGossip, str, bytes]] = []
        self.deaf = False

    def join(self) -> LocalGossip:
        member = LocalGossip(self)
        self.members.append(member)
        return member

    def deliver(self) -> int:
        """Until nothing waits any more; returns how many messages there were."""
        count = 0
        while self.waiting:
            sender, topic, message = self.waiting.pop(0)
            count += 1
            for member in self.members:
                if member is not sender and topic in member.listeners:
                    member.listeners[topic](message)
        return count


class LocalGossip:
    """One gateway's side; see ports.gossip."""

    def __init__(self, room: GossipRoom) -> None:
        self._room = room
        self.listeners: dict[str, Callable[[bytes], None]] = {}

    def publish(self, topic: str, message: bytes) -> None:
        if not self._room.deaf:
            self._room.waiting.append((self, topic, message))

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> None:
        self.listeners[topic] = receive
