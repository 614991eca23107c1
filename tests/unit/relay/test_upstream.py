"""The client side to inference servers, against real sockets that answer byte for byte what the test says."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from ilaas.adapters.writes import TurnWrites
from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome
from ilaas.ports.upstream import UpstreamRequest
from ilaas.relay.upstream import HttpUpstream
from tests.support.twins import Clock, server

REQUEST = UpstreamRequest(b"/v1/chat/completions", b"x-request-id: r\r\n", b'{"a":1}', 5.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Sink:
    """Keeps what came, in order."""

    sent: int = 0
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    outcome: Outcome | None = None
    detail: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    on_head: Callable[[], None] | None = None
    on_body: Callable[[], None] | None = None

    def upstream_sent(self) -> None:
        self.sent += 1

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.status
        self.status, self.headers = status, dict(headers)
        if self.on_head:
            self.on_head()

    def upstream_body(self, data: bytes) -> None:
        assert self.status
        self.body += data
        if self.on_body:
            self.on_body()

    def upstream_end(self) -> None:
        assert not self.done.is_set(), "two ends"
        self.done.set()

    def upstream_failed(self, outcome: Outcome, detail: str) -> None:
        assert not self.done.is_set(), "two ends"
        self.outcome, self.detail = outcome, detail
        self.done.set()

    async def wait(self) -> Sink:
        async with asyncio.timeout(10):
            await self.done.wait()
        return self


class Site:
    """A server whose answers are given byte by byte; keeps what it was sent."""

    def __init__(self, answers: list[bytes | None]) -> None:
        """`None` closes without an answer; the last answer is given again and again."""
        self.answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await self.hold.wait()
                if answer is None:
                    break
                writer.write(answer)
                if b"content-length" not in answer and b"chunked" not in answer:
                    break
                if b"connection: close" in answer or answer.endswith(b"#cut"):
                    break
        writer.close()
        self.gone.set()

    def spec(self, **fields: object) -> ServerSpec:
        return server("s", **{"url": f"http://127.0.0.1:{self.port}", **fields})


@contextlib.asynccontextmanager
async def site(*answers: bytes | None) -> AsyncIterator[tuple[Site, HttpUpstream]]:
    held = Site(list(answers))
    listener = await asyncio.start_server(held.serve, "127.0.0.1", 0)
    held.port = listener.sockets[0].getsockname()[1]
    upstream = HttpUpstream(Clock(), TurnWrites())
    try:
        yield held, upstream
    finally:
        held.hold.set()
        await upstream.close()
        listener.close()


async def ask(held: Site, upstream: HttpUpstream) -> Sink:
    sink = Sink()
    upstream.send(held.spec(), REQUEST, sink)
    return await sink.wait()


async def test_the_server_gets_its_own_token_and_nothing_but_what_is_meant_for_it() -> None:
    async with site(OK) as (held, upstream):
        sink = Sink()
        upstream.send(held.spec(token="secret", url=f"http://127.0.0.1:{held.port}/base/"), REQUEST, sink)
        await sink.wait()
        head, _, body = held.requests[0].partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /base/v1/chat/completions HTTP/1.1",
            b"host: 127.0.0.1:%d" % held.port,
            b"content-type: application/json",
            b"accept-encoding: identity",
            b"authorization: Bearer secret",
            b"x-request-id: r",
            b"content-length: 7",
        ]
        assert body == b'{"a":1}'
        assert (sink.status, sink.body, sink.outcome) == (200, b"{}", None)


async def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    async with site(OK) as (held, upstream):
        for _ in range(5):
            assert (await ask(held, upstream)).status == 200
        assert held.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra",
        OK + b"garbage",
    ],
    ids=["close", "http-1.0", "no-length", "answer-too-many", "garbage-behind"],
)
async def test_a_connection_that_can_not_be_trusted_is_not_used_again(answer: bytes) -> None:
    async with site(answer) as (held, upstream):
        for _ in range(2):
            sink = await ask(held, upstream)
            assert (sink.status, sink.body, sink.outcome) == (200, b"{}", None)
        assert held.connections == 2


async def test_a_pooled_connection_that_the_server_has_closed_meanwhile_is_replaced_unseen() -> None:
    async with site(OK, None, OK) as (held, upstream):
        await ask(held, upstream)
        sink = await ask(held, upstream)
        assert (sink.status, sink.outcome) == (200, None)
        assert held.connections == 2
        assert len(held.requests) == 3


async def test_a_new_connection_closed_without_an_answer_is_a_failure_and_not_sent_twice() -> None:
    async with site(None) as (held, upstream):
        assert (await ask(held, upstream)).outcome is Outcome.CONNECT_FAILED
        assert len(held.requests) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort#cut", Outcome.STREAM_BROKEN),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n#cut", Outcome.UPSTREAM_ERROR),
        (b"SSH-2.0-OpenSSH content-length #cut", Outcome.UPSTREAM_ERROR),
        (b"HTTP/1.1 200 OK\r\nx: content-length" + b"a" * 70_000 + b"#cut", Outcome.UPSTREAM_ERROR),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\nx: chunked\r\n\r\n#cut", None),
    ],
    ids=["cut", "bad-chunk", "not-http", "endless-head", "switch"],
)
async def test_an_answer_that_is_not_whole_or_not_http_is_a_failure(answer: bytes, outcome: Outcome | None) -> None:
    async with site(answer) as (held, upstream):
        sink = await ask(held, upstream)
        assert sink.outcome is not None
        if outcome is not None:
            assert sink.outcome is outcome


async def test_an_informational_answer_is_passed_over() -> None:
    async with site(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK) as (held, upstream):
        sink = await ask(held, upstream)
        assert (sink.status, sink.body) == (200, b"{}")


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_compressed_answer_is_unpacked(framing: str) -> None:
    packed = gzip.compress(b'{"x":"' + b"y" * 1000 + b'"}')
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
    if framing == "length":
        answer = head + b"content-length: %d\r\n\r\n" % len(packed) + packed
    else:
        answer = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    async with site(answer) as (held, upstream):
        sink = await ask(held, upstream)
        assert len(sink.body) == 1008
        assert b"content-encoding" not in sink.headers


async def test_a_compression_bomb_and_broken_compression_are_failures() -> None:
    bomb = gzip.compress(b"0" * (40 * 1024 * 1024))
    for packed in (bomb, b"not gzip at all"):
        answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed
        async with site(answer) as (held, upstream):
            sink = await ask(held, upstream)
            assert sink.outcome is Outcome.UPSTREAM_ERROR
            assert len(sink.body) <= 16 * 1024 * 1024


async def test_nobody_listening_is_a_failed_connect() -> None:
    async with site(OK) as (held, upstream):
        pass
    assert (await ask(held, upstream)).outcome is Outcome.CONNECT_FAILED


async def test_a_host_that_does_not_exist_is_a_failed_connect() -> None:
    sink = Sink()
    HttpUpstream(Clock(), TurnWrites()).send(server("s", url="http://no-such-host.invalid:1"), REQUEST, sink)
    assert (await sink.wait()).outcome in (Outcome.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT)


async def test_an_aborted_call_closes_the_connection_so_that_the_server_stops() -> None:
    async with site(OK) as (held, upstream):
        held.hold.clear()
        sink = Sink()
        call = upstream.send(held.spec(), REQUEST, sink)
        async with asyncio.timeout(10):
            while not held.requests:
                await asyncio.sleep(0.001)
        call.abort()
        held.hold.set()
        async with asyncio.timeout(10):
            await held.gone.wait()
        assert not sink.done.is_set()
        assert sink.status == 0


async def test_a_call_aborted_before_it_is_connected_never_speaks() -> None:
    async with site(OK) as (held, upstream):
        sink = Sink()
        upstream.send(held.spec(), REQUEST, sink).abort()
        assert (await ask(held, upstream)).status == 200
        assert not sink.sent
        assert len(held.requests) == 1


async def test_a_sink_may_abort_and_send_anew_from_inside_its_own_call_backs() -> None:
    async with site(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}", OK) as (held, upstream):
        first, second = Sink(), Sink()

        def again() -> None:
            call.abort()
            upstream.send(held.spec(), REQUEST, second)

        first.on_head = again
        call = upstream.send(held.spec(), REQUEST, first)
        assert (await second.wait()).status == 200
        assert not first.done.is_set()
        assert first.body == b""


async def test_a_paused_call_reads_no_further_until_it_is_resumed() -> None:
    size = 30_000_000
    async with site(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size) as (held, upstream):
        sink = Sink()
        call = upstream.send(held.spec(), REQUEST, sink)
        sink.on_body = call.pause
        async with asyncio.timeout(10):
            while not sink.body:
                await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert len(sink.body) < size
        sink.on_body = None
        call.resume()
        await sink.wait()
        assert len(sink.body) == size


async def test_an_answer_in_single_bytes_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'{"a":1}')
        for index in range(len(chunked)):
            writer.write(chunked[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0)

    listener = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with listener:
        sink = Sink()
        spec = server("s", url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        upstream = HttpUpstream(Clock(), TurnWrites())
        upstream.send(spec, REQUEST, sink)
        await sink.wait()
        assert sink.body == b"abcde"
        await upstream.close()


async def test_idle_connections_are_closed_after_their_time() -> None:
    async with site(OK) as (held, upstream):
        await ask(held, upstream)
        upstream.drop_idle(-1.0)
        async with asyncio.timeout(10):
            await held.gone.wait()
        assert (await ask(held, upstream)).status == 200
        assert held.connections == 2
