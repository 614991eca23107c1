"""A gateway's connection to RabbitMQ: carries what `broker_remote` gathers, and implements ports.gossip.Gossip."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import orjson
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, DeliveryError
from pamqp.commands import Basic

from ilaas.adapters.broker_remote import RemoteBroker
from ilaas.adapters.rabbit.link import FAILURES, Link, send
from ilaas.adapters.rabbit.topology import DISPATCHERS, GATEWAYS, GOSSIP, Topology
from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.distributed.gateway import RemoteDispatch
from ilaas.core.dispatch.events import RefusalReason

BEAT_S = 1.0
SILENT_S = 5.0
"""Without a word of any dispatcher, the link is taken for down: the broker hangs, or no dispatcher lives."""
MOST_UNCONFIRMED = 128
"""Tickets that are published and not confirmed yet."""
_PERSISTENT = 2

log = structlog.get_logger(__name__)


class RabbitBroker(Link):
    """Tickets out, grants in. Requests call its `broker`; one task writes what has gathered."""

    def __init__(self, url: str, name: str, clock: Callable[[], float], topology: Topology | None = None) -> None:
        """`name` is new for each start of the process; `clock` is monotonic seconds."""
        super().__init__(url, topology or Topology())
        self._name = name
        self._clock = clock
        self._core = RemoteDispatch(name)
        self.broker = RemoteBroker(self._core, clock, self._wake.set)
        self._tickets: AbstractChannel | None = None
        self._declared: set[str] = set()
        self._wanted: set[str] = set()
        self._gossip: list[tuple[str, bytes]] = []
        self._listeners: dict[str, Callable[[bytes], None]] = {}
        self._beat_s = float("-inf")
        self._heard_s = float("-inf")
        self._hearing = False
        self._ready = False
        self._unpublished: deque[tuple[str, str, bytes]] = deque()
        """Tickets: model, wire id, body."""
        self._publishing: set[asyncio.Task[None]] = set()

    # -- the runtime's -------------------------------------------------------------------------------------------------

    def configure(self, catalogue: Catalogue, weights: Mapping[str, float]) -> None:  # noqa: ARG002  # as others do
        """Take the catalogue: models come, change and go; weights are the dispatchers' concern."""
        self._wanted = set(catalogue.models)
        self.broker.tell(self._core.configure(catalogue, self._clock()))
        self._wake.set()

    def tick(self) -> None:
        """Called about four times a second."""
        now = self._clock()
        self._hear(now)
        self.broker.tell(self._core.tick(now))
        if now - self._beat_s >= BEAT_S:
            self._wake.set()

    def ready(self) -> bool:
        """Whether it was connected once: later the gateway serves by credit without the broker, and says so if not."""
        return self._ready

    def counts(self) -> tuple[int, int]:
        """Requests that wait, and that have a slot."""
        return self._core.counts()

    def credits(self) -> dict[str, int]:
        """Requests that may begin without asking a dispatcher, by model."""
        return self._core.credits()

    def strange(self) -> int:
        """Messages that made no sense, or came from an owner of the past."""
        return self._core.strange()

    # -- ports.gossip --------------------------------------------------------------------------------------------------

    def publish(self, topic: str, message: bytes) -> None:
        """See ports.gossip."""
        if self.connected:
            self._gossip.append((topic, message))
            self._wake.set()

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> None:
        """See ports.gossip."""
        self._listeners[topic] = receive

    # -- the link's ----------------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[str, list[str]]:
        return self._name, [DISPATCHERS, f"{GOSSIP}.*"]

    async def _up(self, connection: AbstractConnection) -> None:
        self._tickets = channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.closing.add_done_callback(lambda _: self._broken.set())
        self._declared = set()
        await self._declare(channel)
        self._heard_s = self._clock()
        self._hear(self._heard_s)
        self._beat_s = float("-inf")
        self._ready = True
        self._wake.set()

    def _down(self) -> None:
        self._tickets = None
        self._unpublished.clear()  # all who wait are published anew on the next connection
        self._gossip = []
        self._hear(self._clock())

    def _hear(self, now: float) -> None:
        """The link is up while dispatchers are heard over it."""
        up = self._tickets is not None and now - self._heard_s < SILENT_S
        if up is not self._hearing:
            self._hearing = up
            if self._tickets is not None:
                log.info("dispatchers_heard" if up else "dispatchers_silent", seconds=round(now - self._heard_s, 1))
            self.broker.tell(self._core.link(now, up=up))
            self.broker.stir()

    async def _declare(self, channel: AbstractChannel) -> None:
        for model in sorted(self._wanted - self._declared):
            await self._topology.declare_model(channel, model)
            self._declared.add(model)

    async def _send(self, channel: AbstractChannel) -> None:
        tickets = self._tickets
        if tickets is None:
            return
        if not self._wanted <= self._declared:
            await self._declare(tickets)
        now = self._clock()
        if now - self._beat_s >= BEAT_S or self._stopping:
            self._beat_s = now
            await self._tell(channel, GATEWAYS, orjson.dumps([self._name, self._stopping]))
        outgoing = self._core.drain()
        self._unpublished.extend(outgoing.tickets)
        self._publish_on(tickets)
        for to, body in outgoing.bodies(self._name):
            await self._mail(channel, to, body)
        gossip, self._gossip = self._gossip, []
        for topic, message in gossip:
            properties = Basic.Properties(app_id=self._name, delivery_mode=1)
            await send(channel, message, self._topology.news, f"{GOSSIP}.{topic}", properties)

    def _publish_on(self, channel: AbstractChannel) -> None:
        """See that tickets are published, so many at a time that confirmations overlap and memory stays bounded."""
        while self._unpublished and len(self._publishing) < MOST_UNCONFIRMED:
            task = asyncio.create_task(self._publish_one(channel, *self._unpublished.popleft()))
            self._publishing.add(task)
            task.add_done_callback(lambda done: self._published(done, channel))

    def _published(self, task: asyncio.Task[None], channel: AbstractChannel) -> None:
        self._publishing.discard(task)
        if channel is self._tickets:
            self._publish_on(channel)

    async def _publish_one(self, channel: AbstractChannel, model: str, wire: str, body: bytes) -> None:
        """A ticket is safe when the broker has confirmed it. One whose connection breaks is published again."""
        properties = Basic.Properties(message_id=wire, delivery_mode=_PERSISTENT)
        try:
            await send(channel, body, self._topology.tickets, model, properties)
            self._core.confirmed(model, wire)
        except DeliveryError:  # the model's queue holds all that it may
            self.broker.tell(self._core.turned_away(model, wire, RefusalReason.QUEUE_FULL))
        except FAILURES as error:
            if isinstance(error, AMQPError):
                log.debug("ticket_not_published", reason=type(error).__name__)

    async def _news(self, message: DeliveredMessage) -> None:
        key = message.routing_key or ""
        if key == DISPATCHERS:
            now = self._clock()
            self._heard_s = now
            self._hear(now)
            self._core.news_came(message.body, now)
            self.broker.stir()
        elif message.header.properties.app_id != self._name:
            listener = self._listeners.get(key.partition(".")[2])
            if listener is not None:
                listener(message.body)

    async def _letter(self, message: DeliveredMessage) -> None:
        self.broker.tell(self._core.letter(message.body, self._clock()))
