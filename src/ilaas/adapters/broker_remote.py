"""The broker as requests see it when dispatchers are other processes: calls in, waiters told, the rest gathered.

Apart from the connection (`rabbit.broker`), so that what every request passes can be compiled: it holds no `await`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from ilaas.core.dispatch.distributed.gateway import RemoteDispatch
from ilaas.core.dispatch.events import (
    Effect,
    Grant,
    ModelView,
    QueuePosition,
    ServerStatistics,
    Settlement,
    Ticket,
)
from ilaas.ports.broker import Waiter

GATHER_S = 0.05
"""How long what nobody waits for may be gathered before it is sent."""


class RemoteBroker:
    """Implements ports.broker.Broker. As `MemoryBroker`, it tells what a waiter causes after what is under way."""

    def __init__(self, core: RemoteDispatch, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        """`clock` is monotonic seconds; `wake` is called when what `core` has gathered should be sent."""
        self._core = core
        self._clock = clock
        self._wake = wake
        self._waiters: dict[str, Waiter] = {}
        self._effects: deque[Effect] = deque()
        self._telling = False
        self._gathering = False

    def submit(self, ticket: Ticket, waiter: Waiter) -> None:
        """See ports.broker."""
        self._waiters[ticket.id] = waiter
        self.tell(self._core.submit(ticket, self._clock()))

    def cancel(self, ticket: Ticket) -> None:
        """See ports.broker."""
        self._waiters.pop(ticket.id, None)
        self._core.cancel(ticket)
        self.stir()

    def settle(self, ticket: Ticket, settlement: Settlement) -> None:
        """See ports.broker."""
        if not settlement.retry:
            self._waiters.pop(ticket.id, None)
        self.tell(self._core.settle(ticket, settlement, self._clock()))

    def first_token(self, ticket: Ticket, ttft_s: float) -> None:
        """See ports.broker."""
        self._core.first_token(ticket, ttft_s)
        self.stir()

    def position(self, ticket: Ticket) -> QueuePosition | None:
        """See ports.broker."""
        return self._core.position(ticket)

    def report(self, model: str, server_id: str, statistics: ServerStatistics) -> None:
        """Servers are watched by the dispatchers."""

    def check(self, model: str, server_id: str, *, ok: bool) -> None:
        """Servers are watched by the dispatchers."""

    def view(self, model: str) -> ModelView | None:
        """See ports.broker."""
        return self._core.views.get(model)

    def views(self) -> list[ModelView]:
        """All models whose dispatcher has told of them."""
        return list(self._core.views.values())

    # -- the connection's ----------------------------------------------------------------------------------------------

    def tell(self, effects: Iterable[Effect]) -> None:
        """Tell waiters what became of their tickets, and see that what has gathered is sent."""
        self._effects.extend(effects)
        if self._telling:
            return
        self._telling = True
        try:
            while self._effects:
                self._tell_one(self._effects.popleft())
        finally:
            self._telling = False
        self.stir()

    def _tell_one(self, effect: Effect) -> None:
        ticket = effect.ticket
        if isinstance(effect, Grant):
            waiter = self._waiters.get(ticket.id)
            if waiter is not None:
                waiter.granted(effect)
            else:  # it left between the grant and this call: the slot must come back
                self._core.abandon(ticket, self._clock())
            return
        waiter = self._waiters.pop(ticket.id, None)
        if waiter is not None:
            waiter.refused(effect)

    def stir(self) -> None:
        """See that what has gathered is sent: at once when somebody waits for it."""
        if self._core.urgent:
            self._wake()
        elif not self._gathering and self._core.pending:
            self._gathering = True
            asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self._wake()
