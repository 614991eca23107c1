"""One process's connection to the broker: kept up, and told of. What is on it is the subclass's."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiormq
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

from ilaas.adapters.rabbit.topology import Topology

CONNECT_S = 5.0
RETRY_S = 0.4
CLOSE_S = 2.0
HEARTBEAT_S = 10
"""Of the connection; a broker that is silent for three of them is taken for gone."""

FAILURES = (AMQPError, OSError, asyncio.TimeoutError, asyncio.CancelledError, RuntimeError, EOFError)
"""What a connection ends with. The client library cancels its own waits when a connection breaks."""

log = structlog.get_logger(__name__)


class Link(ABC):
    """Connects, serves until the connection breaks, and connects again."""

    def __init__(self, url: str, topology: Topology) -> None:
        self._url = _with_heartbeat(url)
        self._topology = topology
        self._wake = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._broken: asyncio.Event = asyncio.Event()
        self._sending: AbstractChannel | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection is up and set up."""
        return self._sending is not None

    async def run(self) -> None:
        """Until it is cancelled, or closed."""
        told = False
        while not self._stopping:
            try:
                connection = await asyncio.wait_for(aiormq.connect(self._url), CONNECT_S)
            except FAILURES as error:
                _raise_own_cancel(error)
                if not told:
                    log.warning("broker_unreachable", reason=type(error).__name__)
                    told = True
                await asyncio.sleep(RETRY_S)
                continue
            told = False
            try:
                await self._serve(connection)
            except FAILURES as error:
                _raise_own_cancel(error)
                log.warning("broker_connection_lost", reason=type(error).__name__)
            finally:
                self._sending = None
                self._down()
                with contextlib.suppress(*FAILURES):
                    await asyncio.wait_for(connection.close(), CLOSE_S)
            if not self._stopping:
                await asyncio.sleep(RETRY_S)
        self._ended.set()

    async def _serve(self, connection: AbstractConnection) -> None:
        self._broken = asyncio.Event()
        _watch(connection, self._broken)
        channel = await connection.channel(publisher_confirms=False)
        _watch(channel, self._broken)
        await self._topology.declare_exchanges(channel)
        name, topics = self._begin()
        await self._topology.declare_process(channel, name, topics)
        await channel.basic_consume(self._topology.newsstand(name), self._news, no_ack=True)
        await channel.basic_consume(self._topology.mailbox(name), self._letter, no_ack=True)
        self._sending = channel
        await self._up(connection)
        log.info("broker_connected", process=name)
        writer = asyncio.create_task(self._write(channel), name="broker writer")
        broken = asyncio.create_task(self._broken.wait())
        try:
            await asyncio.wait([writer, broken], return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()
            if not self._stopping:
                log.warning("broker_connection_lost", reason="closed")
        finally:
            for task in (writer, broken):
                task.cancel()
            await asyncio.gather(writer, broken, return_exceptions=True)

    async def _write(self, channel: AbstractChannel) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._send(channel)
            if self._stopping:
                return

    async def close(self) -> None:
        """Send what is left, then part."""
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), CLOSE_S)

    async def _mail(self, channel: AbstractChannel, to: str, body: bytes) -> None:
        await send(channel, body, self._topology.mail, to)

    async def _tell(self, channel: AbstractChannel, topic: str, body: bytes) -> None:
        await send(channel, body, self._topology.news, topic)

    # -- the subclass's ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self) -> tuple[str, list[str]]:
        """The name of this connection's process, and the topics it listens to."""

    @abstractmethod
    async def _up(self, connection: AbstractConnection) -> None:
        """The mail box is there: go on with what else is needed."""

    @abstractmethod
    def _down(self) -> None:
        """The connection is gone."""

    @abstractmethod
    async def _send(self, channel: AbstractChannel) -> None:
        """Send what is gathered."""

    @abstractmethod
    async def _news(self, message: DeliveredMessage) -> None:
        """Something that all were told."""

    @abstractmethod
    async def _letter(self, message: DeliveredMessage) -> None:
        """Something for this process."""


async def send(
    channel: AbstractChannel, body: bytes, exchange: str, key: str, properties: Basic.Properties | None = None
) -> None:
    """Publish without waiting for the socket; on a channel with confirms, until the broker has taken it."""
    assert isinstance(channel, Channel)  # noqa: S101  # the abstract one has no `wait`
    await channel.basic_publish(
        body, exchange=exchange, routing_key=key[:255], properties=properties or Basic.Properties(), wait=False
    )


def _watch(part: AbstractConnection | AbstractChannel, broken: asyncio.Event) -> None:
    part.closing.add_done_callback(lambda _: broken.set())


def _raise_own_cancel(error: BaseException) -> None:
    """Tell our own cancellation from one that the library made of a broken connection."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


def _with_heartbeat(url: str) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query.setdefault("heartbeat", str(HEARTBEAT_S))
    return urlunsplit(parts._replace(query=urlencode(query)))
