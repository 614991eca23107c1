"""A dispatcher's side of the broker: consumes the models' queues, and sends what core decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import orjson
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

from ilaas.adapters.rabbit.link import FAILURES, Link, send
from ilaas.adapters.rabbit.topology import DISPATCHERS, GATEWAYS, Topology
from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.distributed.dispatcher import Dispatcher
from ilaas.core.dispatch.distributed.messages import write_baton
from ilaas.core.dispatch.distributed.owned import most_held
from ilaas.core.dispatch.events import ModelView, ServerStatistics

BEAT_S = 1.0
RENEW_BATON_S = 600.0

log = structlog.get_logger(__name__)


class RabbitDispatching(Link):
    """Owns the models whose queues the broker gives it. Has what `MemoryBroker` has for the runtime."""

    def __init__(self, url: str, name: str, clock: Callable[[], float], topology: Topology | None = None) -> None:
        """`name` is new for each start of the process; `clock` is monotonic seconds."""
        super().__init__(url, topology or Topology())
        self._base, self._session = name, 0
        self._clock = clock
        self._core = Dispatcher(name)
        self._held: dict[str, int] = {}
        """Most unacknowledged tickets, by model of the catalogue."""
        self._connection: AbstractConnection | None = None
        self._channels: dict[str, AbstractChannel] = {}
        self._batons_s: dict[str, float] = {}
        self._beat_s = float("-inf")
        self._leaving = False

    # -- the runtime's -------------------------------------------------------------------------------------------------

    def configure(self, catalogue: Catalogue, weights: Mapping[str, float]) -> None:
        """Take the catalogue: models come, change and go; who waits for one that went is refused."""
        self._held = {name: most_held(spec) for name, spec in catalogue.models.items()}
        self._core.configure(catalogue, weights, self._clock())
        self._wake.set()

    def report(self, model: str, server_id: str, statistics: ServerStatistics) -> None:
        """A reading of a server's own gauges."""
        self._core.report(model, server_id, statistics, self._clock())
        self._wake.set()

    def check(self, model: str, server_id: str, *, ok: bool) -> None:
        """The result of one active health check."""
        self._core.check(model, server_id, self._clock(), ok=ok)
        self._wake.set()

    def tick(self) -> None:
        """Called about four times a second."""
        self._core.tick(self._clock())
        self._wake.set()

    def view(self, model: str) -> ModelView | None:
        """The state of one model, when it is owned here."""
        return next((view for view in self.views() if view.model == model), None)

    def views(self) -> list[ModelView]:
        """The models owned here."""
        return self._core.views(self._clock())

    def owned(self) -> list[str]:
        """Their names."""
        return self._core.owned()

    def waiting(self) -> int:
        """Tickets that wait here."""
        return self._core.waiting()

    def credits(self) -> dict[str, int]:
        """Requests that gateways may begin without asking, by model."""
        return self._core.lent()

    def strange(self) -> int:
        """Messages that made no sense."""
        return self._core.strange()

    async def leave(self) -> None:
        """Before a planned end: other dispatchers take the models over at once."""
        self._leaving = True
        self._core.release()
        self._wake.set()

    # -- the link's ----------------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[str, list[str]]:
        self._session += 1
        return f"{self._base}.{self._session}", [DISPATCHERS, GATEWAYS]

    async def _up(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channels = {}
        self._core.link(f"{self._base}.{self._session}", self._clock(), up=True)
        self._beat_s = float("-inf")
        self._wake.set()

    def _down(self) -> None:
        self._connection = None
        self._channels = {}
        self._core.link(f"{self._base}.{self._session}", self._clock(), up=False)

    async def _send(self, channel: AbstractChannel) -> None:
        outgoing = self._core.drain()
        for to, body in outgoing.bodies(self._core.name):
            await self._mail(channel, to, body)
        for model, tag in outgoing.acks:
            consuming = self._channels.get(model)
            if consuming is not None:
                await consuming.basic_ack(tag, wait=False)
        for model in outgoing.released:
            await self._let_go(model)
        now = self._clock()
        if outgoing.news or now - self._beat_s >= BEAT_S:
            due = now - self._beat_s >= BEAT_S
            self._beat_s = now if due else self._beat_s
            await self._tell(channel, DISPATCHERS, self._core.news(now, left=self._leaving, views=due))
        if not self._leaving:
            await self._subscribe(now)

    async def _subscribe(self, now: float) -> None:
        """Consume the queues of the models of the catalogue, and of no others."""
        connection = self._connection
        if connection is None:
            return
        for model in [model for model in self._channels if model not in self._held]:
            await self._let_go(model)
        for model, most in self._held.items():
            if model not in self._channels:
                await self._consume(connection, model, most)
            elif now - self._batons_s[model] < RENEW_BATON_S:
                continue
            self._batons_s[model] = now
            await send(self._channels[model], write_baton(self._core.name), self._topology.tickets, model)

    async def _consume(self, connection: AbstractConnection, model: str, most: int) -> None:
        channel = await connection.channel(publisher_confirms=False)
        channel.closing.add_done_callback(lambda _: self._closed(model, channel))
        await self._topology.declare_model(channel, model)
        await channel.basic_qos(prefetch_count=most)
        self._channels[model] = channel

        async def deliver(message: DeliveredMessage) -> None:
            if self._channels.get(model) is channel:
                tag = message.delivery_tag
                assert tag is not None  # noqa: S101  # a delivery has one
                self._core.delivery(model, tag, message.body, self._clock())
                self._wake.set()

        await channel.basic_consume(self._topology.queue_of(model), deliver)

    def _closed(self, model: str, channel: AbstractChannel) -> None:
        """Not by us: begin anew, with nothing taken for held."""
        if self._channels.get(model) is channel:
            self._broken.set()

    async def _let_go(self, model: str) -> None:
        """Close the channel: all that is unacknowledged goes to the next consumer."""
        channel = self._channels.pop(model, None)
        if channel is not None:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(channel.close(), 2.0)

    async def _news(self, message: DeliveredMessage) -> None:
        now = self._clock()
        if message.routing_key == DISPATCHERS:
            self._core.news_came(message.body, now)
        else:
            with contextlib.suppress(ValueError):
                name, left = orjson.loads(message.body)
                self._core.gateway_lives(str(name), now, left=bool(left))
        self._wake.set()

    async def _letter(self, message: DeliveredMessage) -> None:
        self._core.letter(message.body, self._clock())
        self._wake.set()
