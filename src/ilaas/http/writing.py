"""Writes the answers of one connection. Apart from the connection itself so that it can be compiled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from ilaas.http.front import Front

_SMALL = 4096
_CHUNK_HEADS = [b"%x\r\n" % size for size in range(_SMALL)]
"""Ready-made, since most chunks are one token's: formatting is slower than all else that is done here."""
_CRLF = b"\r\n"


class Answerer(Protocol):
    """The connection, as its writer sees it."""

    def answered(self) -> None:
        """The answer is complete."""

    def cut(self) -> None:
        """It can't be completed."""

    def date_lines(self) -> bytes:
        """The header lines of every answer."""


class ClientWriter:
    """Implements ports.client.AnswerWriter, for one answer after the other."""

    __slots__ = ("_answerer", "_front", "_head", "_status_lines", "chunked", "keep_alive", "transport")

    def __init__(self, answerer: Answerer, front: Front, status_lines: Mapping[int, bytes]) -> None:
        """`status_lines` by status, each ending in CRLF."""
        self._answerer = answerer
        self._front = front
        self._status_lines = status_lines
        self._head = b""
        """Of a streamed answer, until its first byte is there."""
        self.chunked = True
        """The client knows chunks; and while an answer is written, whether it comes in chunks."""
        self.keep_alive = True
        """The connection stays open after the answer."""
        self.transport: asyncio.Transport | None = None

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        """See ports.client; sent together with the first part of the body."""
        if length is not None:
            framing = b"content-length: %d\r\n" % length
            self.chunked = False
        elif self.chunked:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b""
            self.keep_alive = False
        self._head = self._head_of(status, headers, framing)

    def write(self, data: bytes) -> None:
        """See ports.client."""
        if self.chunked:
            size = len(data)
            head = _CHUNK_HEADS[size] if size < _SMALL else b"%x\r\n" % size
            data = head + data + _CRLF
        if self._head:
            data = self._head + data
            self._head = b""
        self._send(data)

    def finish(self) -> None:
        """See ports.client."""
        rest = self._head + b"0\r\n\r\n" if self.chunked else self._head
        self._head = b""
        if rest:
            self._send(rest)
        self._answerer.answered()

    def abort(self) -> None:
        """See ports.client."""
        self._answerer.cut()

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """See ports.client."""
        self.write_whole(status, headers, body)
        self._answerer.answered()

    def write_whole(self, status: int, headers: bytes, body: bytes) -> None:
        """Head and body, without a word to the connection."""
        self._send(self._head_of(status, headers, b"content-length: %d\r\n" % len(body)) + body)

    def _head_of(self, status: int, headers: bytes, framing: bytes) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b%b\r\n" % (
            self._status_lines[status],
            self._answerer.date_lines(),
            headers,
            framing,
            close,
        )

    def _send(self, data: bytes) -> None:
        if self.transport is not None:
            self._front.writes.write(self.transport, data)
