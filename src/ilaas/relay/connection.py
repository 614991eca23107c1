"""One HTTP/1.1 connection to an inference server: parses answers with httptools and hands them to a sink."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Callable
from typing import Any

import httptools

from ilaas.core.values import Outcome
from ilaas.ports.runtime import Writes
from ilaas.ports.upstream import UpstreamSink

MAX_HEAD_BYTES = 64 * 1024

RECEIVE_BUFFER_BYTES = 256 * 1024
"""The system's own buffer of an answer: it grows to megabytes otherwise, which a slow client would keep full."""

MAX_UNPACKED_BYTES = 16 * 1024 * 1024
"""Of one packet."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Of Linux only."""

_DECODERS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""Compressed answers are unpacked: they must be read for metering, and we asked for none."""


class UpstreamConnection:
    """Carries one answer at a time; goes back to the pool between two.

    An `asyncio.Protocol` in all but its base class, which would keep it from being compiled to fixed attributes.
    """

    __slots__ = (
        "_bytes_of_head",
        "_complete",
        "_decoder",
        "_framed",
        "_head_ready",
        "_headers",
        "_overrun",
        "_parser",
        "_part",
        "_paused",
        "_release",
        "_reusable",
        "_status",
        "_writes",
        "answered",
        "fresh",
        "idle_since_s",
        "key",
        "on_writable",
        "sending",
        "sink",
        "transport",
    )

    def __init__(
        self, key: tuple[str, int, bool], writes: Writes, release: Callable[[UpstreamConnection, bool], None]
    ) -> None:
        """`release(connection, reusable)` is called when an answer is complete or the connection is lost."""
        self.key = key
        self.sink: UpstreamSink | None = None
        self.transport: asyncio.Transport | None = None
        self.fresh = True
        """Not used for an answer yet."""
        self.answered = False
        """Some byte of the present answer came."""
        self.idle_since_s = 0.0
        self.sending = False
        """A body is being sent piece by piece (`relay.sending`): an answer that ends before it is the last one."""
        self.on_writable: Callable[[], None] | None = None
        """Called when the server takes bytes again, or is gone."""
        self._writes = writes
        self._release = release
        self._parser: Any = httptools.HttpResponseParser(self)
        self._part: bytes | None = None
        self._complete = False
        self._paused = False
        self._overrun = False
        self._reusable = False
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._status = 0
        self._framed = False
        self._head_ready = False
        self._decoder: Any = None
        self._bytes_of_head = 0

    # -- used by the pool ----------------------------------------------------------------------------------------------

    def send(self, head: bytes, body: bytes, sink: UpstreamSink) -> None:
        """Write one request; its answer goes to the sink."""
        self.sink = sink
        self.answered = False
        self._reset()
        transport = self.transport
        if transport is None:
            raise RuntimeError("the connection is not open")
        self._writes.write(transport, head + body)
        sink.upstream_sent()

    def begin(self, sink: UpstreamSink) -> asyncio.Transport:
        """The same for a request that the caller writes itself, piece by piece."""
        self.sink = sink
        self.answered = False
        self._reset()
        transport = self.transport
        if transport is None:
            raise RuntimeError("the connection is not open")
        self.sending = True
        return transport

    def abort(self) -> None:
        """Forget the sink and close at once, so that the server stops working."""
        self.sink = None
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self.transport is not None and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self.transport is not None:
                self.transport.resume_reading()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by construction
        server = transport.get_extra_info("socket")
        if server is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse a packet; the sink gets its body bytes in one call.

        The sink is called after the parser has returned, never inside it: it may abort, or send the next request.
        """
        sink = self.sink
        if sink is None:  # bytes nobody asked for
            self.abort()
            return
        self.answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self.fail(Outcome.UPSTREAM_ERROR, "the answer is not HTTP")
                return
            self._overrun = True
        if self._status == 0:
            self._bytes_of_head += len(data)
            if self._bytes_of_head > MAX_HEAD_BYTES:
                self.fail(Outcome.UPSTREAM_ERROR, "the head of the answer is too long")
            return
        if self._head_ready:
            self._head_ready = False
            sink.upstream_head(self._status, self._headers)
        part = self._part
        if part is not None:
            self._part = None
            if self._decoder is not None:
                part = self._decode(part)
            sink = self.sink  # the head may have changed it, or ended the call
            if part and sink is not None:
                sink.upstream_body(part)
        if self._complete:
            self._finish()

    def pause_writing(self) -> None:
        """The server reads slowly: who sends piece by piece asks the transport itself."""

    def resume_writing(self) -> None:
        """The server has taken most of what was written."""
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed: the end of an answer without length, else a failure."""
        self.transport = None
        self.resume_writing()
        self._release(self, False)
        sink, self.sink = self.sink, None
        if sink is None:
            return
        if self._status and not self._framed and exc is None:
            sink.upstream_end()
        elif self._status:
            sink.upstream_failed(Outcome.STREAM_BROKEN, "the server closed the connection in the middle of an answer")
        else:
            sink.upstream_failed(Outcome.CONNECT_FAILED, "the server closed the connection without an answer")

    def eof_received(self) -> None:
        """The server closed its side: the transport closes, and `connection_lost` follows."""

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
            if name == b"transfer-encoding":
                self._acknowledge_seldom()
        elif name == b"content-encoding" and (window := _DECODERS.get(value.strip().lower())) is not None:
            self._decoder = zlib.decompressobj(window)
            return
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is there; informational ones are passed over."""
        if self._complete:  # a second answer to one request
            self._overrun = True
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = []
            self._framed = False
            return
        self._status = status
        if status in (204, 304):
            self._framed = True
        self._head_ready = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body; pieces of one packet are joined."""
        if self._overrun:
            return
        self._part = body if self._part is None else self._part + body

    def on_message_complete(self) -> None:
        """The answer is whole (informational answers have no end of their own)."""
        if self._status:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()  # asked later, the parser has forgotten the framing

    def _acknowledge_seldom(self) -> None:
        """Acknowledge every second packet of a stream. By itself the system would do so at each one, as it is read.

        An acknowledgement is a packet of its own here: some 15 % of what relaying a chunk costs.
        """
        if self.transport is None or _QUICKACK is None:
            return
        system = self.transport.get_extra_info("socket")
        if system is not None:
            system.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 0)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._complete = False
        sink, self.sink = self.sink, None
        self.fresh = False
        if self.sending and self.transport is not None:
            self.transport.abort()  # who has answered already would not take the rest
        self.resume()
        self._release(self, self._reusable and not self._overrun and not self.sending)
        if sink is not None:
            sink.upstream_end()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Close at once, and tell the sink."""
        sink = self.sink
        self.abort()
        if sink is not None:
            sink.upstream_failed(outcome, detail)

    def _decode(self, part: bytes) -> bytes:
        try:
            plain = bytes(self._decoder.decompress(part, MAX_UNPACKED_BYTES))
            if not self._decoder.unconsumed_tail:
                return plain
            self.fail(Outcome.UPSTREAM_ERROR, "the answer unpacks to more than is sane")
            return b""
        except zlib.error:
            self.fail(Outcome.UPSTREAM_ERROR, "the answer's compression is broken")
            return b""
