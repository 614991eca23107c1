"""Keeps the quotas of several gateways together: tells the others four times a second, and hears them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ilaas.core.quota import QuotaBook
from ilaas.core.quota.sharing import Sharing
from ilaas.ports.gossip import Gossip

TOPIC = "quotas"
INTERVAL_S = 0.25
ASK_S = 1.0
"""How soon it is asked again at first; the way to the others may not be there yet."""
MAX_ASK_S = 10.0


class QuotaSharing:
    """Beside the path of requests: that only meets the counters, which hold what others told."""

    def __init__(
        self, book: QuotaBook, gossip: Gossip, sender: str, clock: Callable[[], float], epoch: Callable[[], float]
    ) -> None:
        """`sender` is new for each start of the process; `clock` is monotonic seconds, `epoch` epoch seconds."""
        self._sharing = Sharing(book, sender)
        self._gossip = gossip
        self._clock = clock
        self._epoch = epoch
        self._caught_up = asyncio.Event()
        gossip.subscribe(TOPIC, self._receive)

    def ask(self) -> None:
        """Ask all others for what they counted."""
        self._gossip.publish(TOPIC, self._sharing.ask())

    async def catch_up(self, within_s: float) -> bool:
        """Ask, and wait for the first answers; tells whether one came. Without another gateway none does."""
        self.ask()
        try:
            await asyncio.wait_for(self._caught_up.wait(), within_s)
        except TimeoutError:
            return False
        return True

    def tell(self) -> None:
        """Send what changed since the last time; to be called each `INTERVAL_S`, and once at the end."""
        for message in self._sharing.due(self._clock(), self._epoch()):
            self._gossip.publish(TOPIC, message)

    async def run(self) -> None:
        """Tell until cancelled, and ask until another gateway has answered."""
        ask_s, pause_s = self._clock(), ASK_S
        while True:
            if not self._caught_up.is_set() and self._clock() >= ask_s:
                self.ask()
                ask_s = self._clock() + pause_s
                pause_s = min(2 * pause_s, MAX_ASK_S)
            self.tell()
            await asyncio.sleep(INTERVAL_S)

    def _receive(self, message: bytes) -> None:
        self._sharing.receive(message, self._clock(), self._epoch())
        if self._sharing.asked:
            self.tell()
        if self._sharing.caught_up:
            self._caught_up.set()
