"""One model's dispatcher behind several gateways, in virtual time: the production code of both sides, letters late.

Has the methods of `ModelScheduler` that a run uses. What needs no letter (a credit) is decided within the call; the
rest comes later, through `tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ilaas.core.catalogue import Catalogue, ModelSpec
from ilaas.core.dispatch.distributed.dispatcher import Dispatcher
from ilaas.core.dispatch.distributed.gateway import RemoteDispatch
from ilaas.core.dispatch.distributed.messages import write_baton
from ilaas.core.dispatch.events import Effect, ServerStatistics, Settlement, Ticket
from ilaas.sim.timeline import Timeline

LETTER_S = 0.001
"""From one process to another, through the broker."""
BEAT_TICKS = 4
"""Heartbeats once a second, at four ticks."""
_NAME = "dispatcher"


class ManyGateways:
    """`gateways` of them share the requests in turn."""

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, float],
        clock: Timeline,
        tell: Callable[[Iterable[Effect]], None],
        gateways: int,
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._model = spec.name
        self._weights = weights
        self._dispatcher = Dispatcher(_NAME)
        self._gateways = [RemoteDispatch(f"gateway-{number}") for number in range(gateways)]
        self._of: dict[str, RemoteDispatch] = {}
        """The gateway of each request."""
        self._tickets: dict[str, Ticket] = {}
        self._arrived = 0
        self._ticks = 0
        self._tags = 0
        self.configure(spec, weights, clock.now)
        self._dispatcher.link(_NAME, clock.now, up=True)
        for gateway in self._gateways:
            gateway.link(clock.now, up=True)
        self._deliver(write_baton(_NAME))
        self._beat()

    # -- as ModelScheduler ---------------------------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, now: float) -> list[Effect]:
        """A request at the next gateway in turn."""
        self._arrived += 1
        gateway = self._of[ticket.id] = self._gateways[self._arrived % len(self._gateways)]
        self._tickets[ticket.id] = ticket
        return self._sent(gateway, gateway.submit(ticket, now))

    def cancel(self, ticket_id: str, now: float) -> list[Effect]:  # noqa: ARG002  # as the scheduler's
        """The client left while it waited."""
        gateway, ticket = self._of.pop(ticket_id), self._tickets.pop(ticket_id)
        gateway.cancel(ticket)
        return self._sent(gateway, [])

    def settle(self, settlement: Settlement, now: float) -> list[Effect]:
        """The lease has ended."""
        name = settlement.ticket_id
        gateway, ticket = self._of[name], self._tickets[name]
        if not settlement.retry:
            del self._of[name], self._tickets[name]
        return self._sent(gateway, gateway.settle(ticket, settlement, now))

    def first_token(self, ticket_id: str, ttft_s: float, now: float) -> list[Effect]:  # noqa: ARG002  # likewise
        """The server has begun to answer."""
        gateway = self._of[ticket_id]
        gateway.first_token(self._tickets[ticket_id], ttft_s)
        return self._sent(gateway, [])

    def report(self, server_id: str, statistics: ServerStatistics, now: float) -> list[Effect]:
        """A reading of a server's gauges, by the dispatcher."""
        self._dispatcher.report(self._model, server_id, statistics, now)
        return self._written()

    def check(self, server_id: str, ok: bool, now: float) -> list[Effect]:
        """The result of a health check, by the dispatcher."""
        self._dispatcher.check(self._model, server_id, now, ok=ok)
        return self._written()

    def configure(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> list[Effect]:
        """The servers changed, for all at once."""
        catalogue = Catalogue.of([spec])
        self._dispatcher.configure(catalogue, weights, now)
        effects = [effect for gateway in self._gateways for effect in gateway.configure(catalogue, now)]
        return [*effects, *self._written()]

    def tick(self, now: float) -> list[Effect]:
        """Four times a second, for every process."""
        self._ticks += 1
        if self._ticks % BEAT_TICKS == 0:
            self._beat()
        self._dispatcher.tick(now)
        effects = [effect for gateway in self._gateways for effect in self._sent(gateway, gateway.tick(now))]
        return [*effects, *self._written()]

    # -- letters -------------------------------------------------------------------------------------------------------

    def _later(self, action: Callable[[Any], None], what: object) -> None:
        self._clock.at(self._clock.now + LETTER_S, action, what)

    def _sent(self, gateway: RemoteDispatch, effects: list[Effect]) -> list[Effect]:
        """Post what a gateway has gathered; its decisions go on."""
        outgoing = gateway.drain()
        for model, wire, body in outgoing.tickets:
            self._deliver(body)
            gateway.confirmed(model, wire)
        for _, body in outgoing.bodies(gateway.name):
            self._later(self._read_gateway, body)
        return effects

    def _written(self) -> list[Effect]:
        """Post what the dispatcher has gathered."""
        outgoing = self._dispatcher.drain()
        for to, body in outgoing.bodies(_NAME):
            self._later(self._read_dispatcher, (to, body))
        if outgoing.news:
            self._beat()
        return []

    def _deliver(self, body: bytes) -> None:
        self._tags += 1
        self._later(self._take, (self._tags, body))

    def _take(self, what: tuple[int, bytes]) -> None:
        tag, body = what
        self._dispatcher.delivery(self._model, tag, body, self._clock.now)
        self._written()

    def _read_gateway(self, body: bytes) -> None:
        self._dispatcher.letter(body, self._clock.now)
        self._written()

    def _read_dispatcher(self, what: tuple[str, bytes]) -> None:
        to, body = what
        gateway = next(each for each in self._gateways if each.name == to)
        self._tell(self._sent(gateway, gateway.letter(body, self._clock.now)))

    def _beat(self) -> None:
        """Heartbeats of all, and the dispatcher's news."""
        self._later(self._heard, self._dispatcher.news(self._clock.now, views=False))

    def _heard(self, news: bytes) -> None:
        now = self._clock.now
        for gateway in self._gateways:
            self._dispatcher.gateway_lives(gateway.name, now)
            gateway.news_came(news, now)
            self._tell(self._sent(gateway, []))
        self._dispatcher.news_came(news, now)
        self._written()
