"""A TCP proxy that does to connections what networks do: delay, throttle, hold back, close, reset, refuse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

from ilaas.app.local.child import free_ports

_READ_BYTES = 65536
_PIECES = 64
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """One client's connection and the one made for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ended: int = 0
    """Directions that came to their end."""

    def end(self, *, reset: bool) -> None:
        for task in self.tasks:
            task.cancel()
        for writer in (self.client, self.server):
            if reset and (raw := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):  # closed already
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Listens on `port` and passes on to `target`, with the faults that are set; change them at any time.

    Use as an asynchronous context manager.
    """

    def __init__(self, target: int) -> None:
        """`target` is a port of this machine; it need not be open yet."""
        self._target = target
        (self.port,) = free_ports(1)  # kept over `refuse` and `heal`
        self.delay_s = 0.0
        """Of every byte, in each direction."""
        self.bytes_per_s: float | None = None
        """In each direction of each connection; None is no limit."""
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self._links)

    def black_hole(self) -> None:
        """Keep all connections, accept new ones, and pass nothing; what comes is held back until `heal`."""
        self._passing.clear()

    def close_all(self) -> None:
        """Close each connection in good order; new ones are accepted."""
        self._end_all(reset=False)

    def reset_all(self) -> None:
        """Reset each connection; new ones are accepted."""
        self._end_all(reset=True)

    async def refuse(self) -> None:
        """Reset each connection and refuse new ones, until `heal`."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self._end_all(reset=True)
        await asyncio.sleep(0)

    async def heal(self) -> None:
        """Take back all faults. Connections that were held back go on."""
        self.delay_s = 0.0
        self.bytes_per_s = None
        self._passing.set()
        if self._listener is None:
            await self._listen()

    def _end_all(self, *, reset: bool) -> None:
        links, self._links = self._links, set()
        for link in links:
            link.end(reset=reset)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        if self._listener is None:  # refused meanwhile
            writer.transport.abort()
            far_writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        link.tasks.append(asyncio.create_task(self._pass(link, reader, far_writer)))
        link.tasks.append(asyncio.create_task(self._pass(link, far_reader, writer)))

    async def _pass(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction, until its end; an end of stream is passed on like a byte, an error ends the link."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._read(source, pieces))
                both.create_task(self._write(pieces, sink))
        except* OSError:
            self._drop(link, reset=True)
        else:
            link.ended += 1
            if link.ended == len(link.tasks):
                self._drop(link, reset=False)

    def _drop(self, link: _Link, *, reset: bool) -> None:
        if link in self._links:
            self._links.remove(link)
            link.end(reset=reset)

    async def _read(self, source: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await source.read(_READ_BYTES)
            await pieces.put((now() + self.delay_s, data))

    async def _write(self, pieces: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await pieces.get()
            if due > now():
                await asyncio.sleep(due - now())
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            await self._passing.wait()
            if not data:
                with contextlib.suppress(OSError):
                    sink.write_eof()
                return
            sink.write(data)
            await sink.drain()
