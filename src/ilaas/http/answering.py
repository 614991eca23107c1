"""How the public listener's connections write answers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from ilaas.http.front import Front
from ilaas.ports.client import Exchange


class AnsweringProtocol(HttpToolsProtocol):
    """Writes the answers of one connection, one at a time. Implements ports.client.AnswerWriter."""

    def __init__(
        self,
        front: Front,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._front = front
        self._writes = front.writes
        self._exchange: Exchange | None = None
        self._early = False
        """A further request came before the answer was complete."""
        self._closing = False
        """Refused: what still comes is dropped."""
        self._keep_alive = True
        self._chunked = True
        self._head = b""
        """Of a streamed answer, until its first byte is there."""
        self._idle_since_s = self.loop.time()

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        """See ports.client; sent together with the first part of the body."""
        if length is not None:
            framing = b"content-length: %d\r\n" % length
            self._chunked = False
        elif self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b""
            self._keep_alive = False
        self._head = self._head_of(status, headers, framing)

    def write(self, data: bytes) -> None:
        """See ports.client."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data = self._head + data
            self._head = b""
        self._writes.write(self.transport, data)

    def finish(self) -> None:
        """See ports.client."""
        rest = self._head + b"0\r\n\r\n" if self._chunked else self._head
        self._head = b""
        if rest:
            self._writes.write(self.transport, rest)
        self._answered()

    def abort(self) -> None:
        """See ports.client."""
        self._exchange = None
        self._closing = True
        self.transport.abort()

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """See ports.client."""
        self._write_answer(status, headers, body)
        self._answered()

    def _write_answer(self, status: int, headers: bytes, body: bytes) -> None:
        head = self._head_of(status, headers, b"content-length: %d\r\n" % len(body))
        self._writes.write(self.transport, head + body)

    def _head_of(self, status: int, headers: bytes, framing: bytes) -> bytes:
        default = self._front.default_headers(self.server_state.default_headers)
        close = b"" if self._keep_alive and not self._early else b"connection: close\r\n"
        return b"%b%b%b%b%b\r\n" % (STATUS_LINE[status], default, headers, framing, close)

    def _answered(self) -> None:
        self._exchange = None
        self.server_state.total_requests += 1
        if self._keep_alive and not self._early:
            self._idle_since_s = self.loop.time()
        else:
            self._closing = True
            self._writes.close(self.transport)
