"""The wire of the simulated server: HTTP/1.1 with keep-alive, chunked answers, and ways to break them."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, cast

import httptools

JSON = b"application/json"
_EVENT_STREAM = b"text/event-stream; charset=utf-8"
_REASONS: Mapping[int, bytes] = MappingProxyType({status.value: status.phrase.encode() for status in HTTPStatus})
_MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_FORM_BYTES = 1024 * 1024 * 1024
_RESET = struct.pack("ii", 1, 0)
"""Linger of 0 s: closing sends RST."""


@dataclass(slots=True)
class HttpRequest:
    """A request, whole."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Exchange:
    """One request and the way to answer it. Answer once, or `begin`, `send` as often as you like and `end`."""

    __slots__ = ("_compressor", "_connection", "keep_alive", "left", "on_left", "on_writable", "request", "status")

    def __init__(self, connection: Connection, request: HttpRequest, keep_alive: bool) -> None:
        self._connection = connection
        self._compressor: Any = None
        self.request = request
        self.keep_alive = keep_alive
        self.status = 0
        self.left = False
        """The connection is gone: nothing more can be sent."""
        self.on_left: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def choked(self) -> bool:
        """The client reads too slowly: hold back until `on_writable`."""
        return self._connection.choked

    def split(self) -> None:
        """From now on write byte by byte."""
        self._connection.drip = True

    def compress(self) -> None:
        """Gzip the answer, asked or not."""
        self._compressor = zlib.compressobj(wbits=31)

    def answer(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """A whole answer; `extra` holds further header lines, each with its end."""
        if self.left:
            return
        if self._compressor is not None:
            body = gzip.compress(body)
            extra += b"content-encoding: gzip\r\n"
        self.status = status
        head = self.head(status, len(body), content_type, extra)
        self._connection.write(head + body)
        self._connection.finished(self)

    def head(self, status: int, length: int, content_type: bytes = JSON, extra: bytes = b"") -> bytes:
        """Status line and headers of a whole answer."""
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        return b"HTTP/1.1 %d %b\r\nserver: uvicorn\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            status,
            _REASONS.get(status, b"Unknown"),
            content_type,
            length,
            extra,
        )

    def begin(self, content_type: bytes = _EVENT_STREAM) -> None:
        """Send the head of a stream."""
        self.status = 200
        head = (
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n" % content_type
        )
        if self._compressor is not None:
            head += b"content-encoding: gzip\r\n"
        if not self.keep_alive:
            head += b"connection: close\r\n"
        self._connection.write(head + b"\r\n")

    def send(self, event: bytes) -> None:
        """Send one chunk of a stream."""
        if self.left:
            return
        if self._compressor is not None:
            event = self._compressor.compress(event) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        self._connection.write(b"%x\r\n%b\r\n" % (len(event), event))

    @property
    def framing(self) -> bool:
        """Whether a caller may frame chunks itself and write them `raw`."""
        return self._compressor is None

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        if not self.left:
            self._connection.write(data)

    def end(self) -> None:
        """End a stream."""
        if self.left:
            return
        last = b""
        if self._compressor is not None:
            rest = self._compressor.flush()
            last = b"%x\r\n%b\r\n" % (len(rest), rest)
        self._connection.write(last + b"0\r\n\r\n")
        self._connection.finished(self)

    def cut(self, *, reset: bool) -> None:
        """Break the connection once what was written is out: by RST, or by a clean close."""
        self.left = True
        self.on_left = self.on_writable = None
        self._connection.cut(reset=reset)


class Connection(asyncio.Protocol):
    """One client's connection. Requests that come before the answer to the last one wait for it."""

    def __init__(self, handle: Callable[[Exchange], None], refuses: Callable[[], bool], all_: set[Connection]) -> None:
        self._handle = handle
        self._refuses = refuses
        self._all = all_
        self._transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._request = HttpRequest()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._exchange: Exchange | None = None
        self._next: deque[Exchange] = deque()
        self._dripping: deque[int] = deque()
        self._ending: Callable[[], None] | None = None
        self._refused = False
        self.drip = False
        self.choked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client."""
        self._transport = cast("asyncio.Transport", transport)
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the reason changes nothing
        """Tell the request under way that its client left."""
        self._all.discard(self)
        self._next.clear()
        self._dripping.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.left = True
            if exchange.on_left is not None:
                exchange.on_left()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            # Our own mistake, not the client's: let the loop report it.
            self._transport.abort()
            raise
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._transport.close()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self.choked = True

    def resume_writing(self) -> None:
        """The client has read."""
        self.choked = False
        if self._exchange is not None and self._exchange.on_writable is not None:
            self._exchange.on_writable()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request = HttpRequest()
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse the request, or let a client go on that asks before it sends a large body."""
        # a server that refuses everybody must still be told to stop it
        self._refused = not self._request.path.startswith("/sim/") and self._refuses()
        if self._refused:
            self._transport.close()
        elif self._request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        form = self._request.headers.get("content-type", "").startswith("multipart/")
        if self._body_bytes > (_MAX_FORM_BYTES if form else _MAX_BODY_BYTES):
            self._transport.close()
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._refused:
            return
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.path = request.path.partition("?")[0]
        request.body = b"".join(self._body)
        exchange = Exchange(self, request, bool(self._parser.should_keep_alive()))
        if self._exchange is not None:
            self._next.append(exchange)
            return
        self._exchange = exchange
        self._handle(exchange)

    # -- for the exchange ---------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write, or drip byte by byte."""
        if not self.drip:
            self._transport.write(data)
            return
        if not self._dripping:
            asyncio.get_running_loop().call_soon(self._drop)
        self._dripping.extend(data)

    def _drop(self) -> None:
        """Write one byte in each turn of the loop, so that each goes out on its own."""
        if self._dripping:
            self._transport.write(bytes((self._dripping.popleft(),)))
        if self._dripping:
            asyncio.get_running_loop().call_soon(self._drop)
        elif self._ending is not None:
            self._ending()

    def finished(self, exchange: Exchange) -> None:
        """The answer is written: take the next request or close."""
        exchange.on_left = exchange.on_writable = None
        self._exchange = None
        if not exchange.keep_alive:
            self._after_drip(self._transport.close)
        elif self._next:
            self._exchange = self._next.popleft()
            asyncio.get_running_loop().call_soon(self._handle, self._exchange)

    def cut(self, *, reset: bool) -> None:
        """Break the connection once all is written."""
        self._exchange = None
        self._after_drip(self._reset if reset else self._transport.close)

    def close_if_idle(self) -> None:
        """Close unless an answer is under way."""
        if self._exchange is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _after_drip(self, action: Callable[[], None]) -> None:
        if self._dripping:
            self._ending = action
        else:
            action()

    def _reset(self) -> None:
        """Wait until the kernel has all that was written: RST throws away what it holds not."""
        if self._transport.get_write_buffer_size() and not self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._reset)
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None and not self._transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()
