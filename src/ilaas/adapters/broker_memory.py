"""The dispatcher in this process: calls the schedulers directly and tells the waiters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.events import (
    Effect,
    Grant,
    ModelView,
    QueuePosition,
    Refusal,
    RefusalReason,
    ServerStatistics,
    Settlement,
    Ticket,
)
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.ports.broker import Waiter


class MemoryBroker:
    """Implements ports.broker.Broker.

    A waiter may call back from inside `granted` or `refused` (a server refuses the connection at once, say). What comes
    of that is queued and told after the call that is under way, so that the stack does not grow with the retries.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._clock = clock
        self._schedulers: dict[str, ModelScheduler] = {}
        self._waiters: dict[str, Waiter] = {}
        self._effects: deque[Effect] = deque()
        self._telling = False

    def configure(self, catalogue: Catalogue, weights: Mapping[str, float]) -> None:
        """Take the catalogue: models come, change and go; who waits for one that went is refused."""
        now = self._clock()
        effects: list[Effect] = []
        for name in [name for name in self._schedulers if name not in catalogue.models]:
            effects.extend(self._schedulers.pop(name).close())
        for name, spec in catalogue.models.items():
            known = self._schedulers.get(name)
            if known is None:
                self._schedulers[name] = ModelScheduler(spec, weights, now)
            else:
                effects.extend(known.configure(spec, weights, now))
        self._tell(effects)

    def submit(self, ticket: Ticket, waiter: Waiter) -> None:
        """See ports.broker."""
        scheduler = self._schedulers.get(ticket.model)
        if scheduler is None:
            waiter.refused(Refusal(ticket, RefusalReason.NO_SERVER, 30.0))
            return
        self._waiters[ticket.id] = waiter
        self._tell(scheduler.arrive(ticket, self._clock()))

    def cancel(self, ticket: Ticket) -> None:
        """See ports.broker."""
        self._waiters.pop(ticket.id, None)
        scheduler = self._schedulers.get(ticket.model)
        if scheduler is not None:
            self._tell(scheduler.cancel(ticket.id, self._clock()))

    def settle(self, ticket: Ticket, settlement: Settlement) -> None:
        """See ports.broker."""
        scheduler = self._schedulers.get(ticket.model)
        if scheduler is None or not scheduler.holds(ticket.id):  # the model went while the request ran
            if settlement.retry:
                self._tell([Refusal(ticket, RefusalReason.NO_SERVER, 30.0)])
            else:
                self._waiters.pop(ticket.id, None)
            return
        if not settlement.retry:
            self._waiters.pop(ticket.id, None)
        self._tell(scheduler.settle(settlement, self._clock()))

    def first_token(self, ticket: Ticket, ttft_s: float) -> None:
        """See ports.broker."""
        scheduler = self._schedulers.get(ticket.model)
        if scheduler is not None:
            self._tell(scheduler.first_token(ticket.id, ttft_s, self._clock()))

    def position(self, ticket: Ticket) -> QueuePosition | None:
        """See ports.broker."""
        scheduler = self._schedulers.get(ticket.model)
        return scheduler.position(ticket.id, self._clock()) if scheduler is not None else None

    def report(self, model: str, server_id: str, statistics: ServerStatistics) -> None:
        """See ports.broker."""
        scheduler = self._schedulers.get(model)
        if scheduler is not None:
            self._tell(scheduler.report(server_id, statistics, self._clock()))

    def check(self, model: str, server_id: str, *, ok: bool) -> None:
        """See ports.broker."""
        scheduler = self._schedulers.get(model)
        if scheduler is not None:
            self._tell(scheduler.check(server_id, ok, self._clock()))

    def view(self, model: str) -> ModelView | None:
        """See ports.broker."""
        scheduler = self._schedulers.get(model)
        return scheduler.view(self._clock()) if scheduler is not None else None

    def views(self) -> list[ModelView]:
        """All models, in the catalogue's order."""
        now = self._clock()
        return [scheduler.view(now) for scheduler in self._schedulers.values()]

    def tick(self) -> None:
        """Let time pass; called about four times a second."""
        now = self._clock()
        for scheduler in list(self._schedulers.values()):
            self._tell(scheduler.tick(now))

    def _tell(self, effects: Iterable[Effect]) -> None:
        self._effects.extend(effects)
        if self._telling:
            return
        self._telling = True
        try:
            while self._effects:
                self._tell_one(self._effects.popleft())
        finally:
            self._telling = False

    def _tell_one(self, effect: Effect) -> None:
        ticket = effect.ticket
        if isinstance(effect, Grant):
            waiter = self._waiters.get(ticket.id)
            if waiter is not None:
                waiter.granted(effect)
            else:  # it left between the grant and this call: the slot must come back
                self._give_back(ticket)
            return
        waiter = self._waiters.pop(ticket.id, None)
        if waiter is not None:
            waiter.refused(effect)

    def _give_back(self, ticket: Ticket) -> None:
        scheduler = self._schedulers.get(ticket.model)
        if scheduler is not None:
            self._effects.extend(scheduler.abandon(ticket.id, self._clock()))
