"""Bodies with a file on their way to a server, over real sockets: back-pressure, early answers, servers that go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from ilaas.adapters.writes import TurnWrites
from ilaas.core.values import Outcome
from ilaas.ports.upload import UpstreamUpload
from ilaas.ports.upstream import UpstreamRequest
from ilaas.relay.sending import PIECE_BYTES, UNSENT_BYTES
from ilaas.relay.upstream import HttpUpstream
from tests.support.listener import until
from tests.support.twins import Clock, server
from tests.unit.relay.test_upstream import OK, Sink

MIB = 1024 * 1024


@dataclass
class Endless:
    """A file of zeros that says how far it was read."""

    size_bytes: int
    read_bytes: int = 0
    error: OSError | None = None
    short: bool = False

    async def read(self, offset: int, size: int) -> bytes:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.short and offset:
            return b""
        self.read_bytes = offset + size
        return bytes(size)

    def close(self) -> None:
        pass


@dataclass
class Site:
    """A server whose behaviour the test writes."""

    behave: Callable[[Site, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    heads: list[bytes] = field(default_factory=list)
    got_bytes: int = 0
    connections: int = 0
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self.behave(self, reader, writer)
                if writer.is_closing():
                    return


async def take_all(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int(site.heads[-1].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await site.may_read.wait()
    left = length
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise ConnectionError
        left -= len(piece)
        site.got_bytes += len(piece)
    writer.write(OK)


@contextlib.asynccontextmanager
async def running(site: Site) -> AsyncIterator[HttpUpstream]:
    listener = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(Clock(), TurnWrites())
    try:
        yield upstream
    finally:
        await upstream.close()
        listener.close()


def request(file: Endless, stall_s: float = 10.0) -> UpstreamRequest:
    upload = UpstreamUpload(b"multipart/form-data; boundary=b", b"--before--", file, b"--after--", stall_s)
    return UpstreamRequest(b"/v1/audio/transcriptions", b"x-request-id: r\r\n", b"", 5.0, upload)


async def test_a_file_is_sent_whole_with_its_length_and_the_connection_serves_again() -> None:
    site = Site(take_all)
    site.may_read.set()
    async with running(site) as upstream:
        spec = server("one", url=site.url, token="secret")
        for size in (3 * MIB + 17, 0, PIECE_BYTES):
            before = site.got_bytes
            sink = Sink()
            upstream.send(spec, request(Endless(size)), sink)
            await sink.wait()
            assert (sink.sent, sink.status, sink.body, sink.outcome) == (1, 200, b"{}", None)
            assert site.got_bytes - before == size + len("--before----after--")
            head = site.heads[-1].lower()
            assert b"content-type: multipart/form-data; boundary=b\r\n" in head
            assert b"application/json" not in head
            assert b"authorization: bearer secret\r\n" in head
        plain = Sink()
        upstream.send(spec, UpstreamRequest(b"/v1/x", b"", b"{}", 5.0), plain)
        await plain.wait()
        assert plain.status == 200
        assert site.connections == 3  # each file has a new one; what follows takes one of them again


async def test_a_slow_server_is_not_sent_more_than_it_takes() -> None:
    site, file = Site(take_all), Endless(200 * MIB)
    async with running(site) as upstream:
        sink = Sink()
        upstream.send(server("one", url=site.url), request(file), sink)
        await until(lambda: file.read_bytes > UNSENT_BYTES)
        before = -1
        while file.read_bytes != before:  # until it stands still
            before = file.read_bytes
            for _ in range(100):
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
        assert file.read_bytes < 20 * MIB  # the rest of it is not in this process; the system's buffers have some
        assert sink.sent == 0
        site.may_read.set()
        await sink.wait()
        assert (sink.sent, sink.status, site.got_bytes) == (1, 200, 200 * MIB + 19)


async def test_a_server_that_takes_nothing_is_given_up() -> None:
    site = Site(take_all)
    async with running(site) as upstream:
        sink = Sink()
        upstream.send(server("one", url=site.url), request(Endless(200 * MIB), stall_s=0.05), sink)
        await sink.wait()
        assert sink.outcome is Outcome.FIRST_TOKEN_TIMEOUT
        assert "took nothing" in sink.detail


async def test_a_server_that_dies_in_the_middle_is_a_failure_that_may_be_tried_elsewhere() -> None:
    async def die(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MIB)
        writer.transport.abort()

    async with running(Site(die)) as upstream:
        site = Site(die)
        async with running(site):
            sink = Sink()
            upstream.send(server("one", url=site.url), request(Endless(50 * MIB)), sink)
            await sink.wait()
            assert (sink.outcome, sink.sent, sink.status) == (Outcome.CONNECT_FAILED, 0, 0)
            assert site.connections == 1


async def test_a_refusal_before_the_end_is_passed_on_and_the_rest_is_not_sent() -> None:
    async def refuse(site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(MIB)
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nmore")
        await asyncio.Event().wait()

    site, file = Site(refuse), Endless(500 * MIB)
    async with running(site) as upstream:
        sink = Sink()
        upstream.send(server("one", url=site.url), request(file), sink)
        await sink.wait()
        assert (sink.status, sink.body, sink.outcome) == (413, b"more", None)
        assert file.read_bytes < 20 * MIB
        again = Sink()
        site.behave = take_all
        site.may_read.set()
        upstream.send(server("one", url=site.url), UpstreamRequest(b"/v1/x", b"", b"{}", 5.0), again)
        await again.wait()
        assert site.connections == 2  # the half-sent one is not used again


async def test_a_call_that_is_aborted_stops_the_sending() -> None:
    site, file = Site(take_all), Endless(500 * MIB)
    async with running(site) as upstream:
        sink = Sink()
        call = upstream.send(server("one", url=site.url), request(file), sink)
        await until(lambda: file.read_bytes > MIB)
        call.abort()
        stopped_at = file.read_bytes
        site.may_read.set()
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert file.read_bytes <= stopped_at + PIECE_BYTES
        assert not sink.done.is_set()
        assert sink.sent == 0


async def test_a_file_that_can_not_be_read_again_is_a_failure_with_its_reason() -> None:
    for file in (Endless(MIB, error=OSError(5, "Input/output error")), Endless(MIB, short=True)):
        site = Site(take_all)
        site.may_read.set()
        async with running(site) as upstream:
            sink = Sink()
            upstream.send(server("one", url=site.url), request(file), sink)
            await sink.wait()
            assert sink.outcome is Outcome.UPSTREAM_ERROR
            assert "read again" in sink.detail
