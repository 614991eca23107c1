"""The public listener's connections: uvicorn's protocol, with inference requests answered inside it.

An inference request (an allow-listed path, by POST) never becomes an ASGI call: when its last byte is there, the use
case is called, and it writes the answer through this object. Every other path goes to the ASGI application as usual.
One request at a time: bytes of a further one that come before the answer is complete are dropped and the connection
is closed after the answer, as RFC 9112 (9.3.2) allows; no client of ours pipelines, and request smuggling needs it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from ilaas.core.audio import UPLOADS
from ilaas.core.errors import IlaasError, MalformedHttp, RequestTimeout
from ilaas.core.requests import ENDPOINTS
from ilaas.http.checks import body_too_large, check_head, check_length, head_too_large, malformed
from ilaas.http.front import Front
from ilaas.http.receiving import ReceivingProtocol
from ilaas.services.answers import error_body, error_headers

INFERENCE_PATHS = {path.encode(): path for path in ENDPOINTS}
UPLOAD_PATHS = {path.encode(): path for path in UPLOADS}

EARLY_CHECK_BYTES = 64 * 1024
"""A body larger than this (or of unknown length) is only received from a caller with a valid key."""

UNSENT_BYTES = 128 * 1024
"""What the system takes at most for a client before it is on the wire: more would wait there for slow readers only."""

log = structlog.get_logger(__name__)


def protocol_class(front: Front) -> Callable[..., asyncio.Protocol]:
    """The value of uvicorn's `http` setting: makes the protocol of each new connection."""
    return partial(GatewayProtocol, front)


class GatewayProtocol(ReceivingProtocol):
    """One connection."""

    def __init__(
        self,
        front: Front,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(front, config, server_state, app_state, _loop)
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """A client connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=self._limits.client_write_buffer_bytes)
        client = transport.get_extra_info("socket")
        if client is not None and client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._front.connections.add(self)
        if len(self._front.connections) > self._limits.max_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._front.connections.discard(self)
        self._closing = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()
        self._drop_upload()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; start the request whose last byte came."""
        if self._closing or self._early:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if not self._in_head:
            self._since_s = self.loop.time()
        else:
            self._head_bytes += len(data)
            if not self._since_s:
                self._since_s = self.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._early = True  # answered as plain HTTP/1.1; the parser has passed over a body, if there was one
            if self._fast:
                self._problem = MalformedHttp("This server does not switch protocols: leave the header 'Upgrade' out.")
        except httptools.HttpParserError as error:
            if self._problem is None and not self._ready:
                self._problem = malformed(error)
            self._early = True  # nothing behind it can be read
        if self._in_head and self._head_bytes > self._limits.max_header_bytes:
            self._problem = head_too_large(self._limits)
        if self._problem is not None:
            self.refuse(self._problem)
        elif self._ready:
            self._ready = False
            self._begin()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.resume()

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._fast = False
        if self._ready or self._busy():
            self._early = True
            return
        self.url = b""
        self.headers = []
        self._body_bytes = 0
        self._max_body_bytes = self._limits.max_body_bytes

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if not self._early:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not self._early:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there: choose the way, and refuse what need not be received."""
        if self._early or self._problem is not None:
            return
        self._in_head = False
        headers = dict(self.headers)
        self._problem = check_head(
            self.headers, headers, self._head_bytes, self.parser.get_http_version(), self._limits
        )
        if self._problem is not None:
            return
        target = self.url.partition(b"?")[0]
        path = INFERENCE_PATHS.get(target)
        if path is None or self.parser.get_method() != b"POST":
            if target in UPLOAD_PATHS and self.parser.get_method() == b"POST":
                self._receive(UPLOAD_PATHS[target], headers)
            else:
                self._problem = check_length(headers, self._max_body_bytes)
                if self._problem is None:
                    self._to_asgi(headers)
            return
        self._take(path, headers)
        if len(headers.get(b"content-length", b"1234567")) > 5:  # 100,000 bytes or more, or unknown
            self._problem = check_length(headers, self._max_body_bytes)
            if self._problem is not None:
                return
            try:
                self._front.inference.admission.authenticate(headers)
            except IlaasError as error:
                self._problem = error
                return
        self._let_come(headers)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._early or self._problem is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._problem = body_too_large(self._max_body_bytes)
        elif self._upload is not None:
            self._feed(self._upload, body)
        elif self._fast:
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._early or self._problem is not None:
            return
        self._since_s = 0.0
        self._head_bytes = 0
        self._in_head = True
        if not self._fast:
            super().on_message_complete()
            return
        inbound = self._inbound
        if self._upload is not None:
            self._finish(self._upload)
        elif inbound is not None:
            inbound.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []
            self._ready = True

    # -- requests ------------------------------------------------------------------------------------------------------

    def _busy(self) -> bool:
        """An answer is not complete yet."""
        cycle: Any = self.cycle  # None at first, whatever its type says
        return self._exchange is not None or (cycle is not None and not cycle.response_complete)

    def _to_asgi(self, headers: dict[bytes, bytes]) -> None:
        """Hand the request to uvicorn's own handling, which wants its scope made first."""
        url, fields = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(fields)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()

    def _begin(self) -> None:
        inbound, self._inbound = self._inbound, None
        if inbound is None:
            return
        try:
            self._exchange = self._front.inference.begin(inbound, self)
        except Exception:  # a fault of ours must end in an answer, not in a cut connection
            log.exception("request_failed", path=inbound.path)
            self.refuse(IlaasError("The gateway failed on this request; it was logged."))
        if self._upload is not None:
            if self._exchange is None:
                self._drop_upload()
            self._upload = None  # its exchange looks after it

    def refuse(self, error: IlaasError) -> None:
        """Answer an error that was met before the use case, and close; what the client still sends is dropped."""
        if self._closing:
            return
        self._problem = None
        self._closing = True
        self._drop_upload()
        self._front.inference.context.accounting.rejected(error.code)
        if self._busy():  # an answer is being written: it can't be told apart from this one
            self.transport.abort()
            return
        self.flow.resume_reading()
        self._keep_alive = False
        self._write_answer(error.status, error_headers(error), error_body(error))
        self.loop.call_later(self._limits.linger_s, self._writes.close, self.transport)

    # -- uvicorn -------------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An ASGI answer is complete."""
        super().on_response_complete()
        self._idle_since_s = self.loop.time()
        if self._early and not self.transport.is_closing():
            self._writes.close(self.transport)

    def send_400_response(self, msg: str) -> None:
        """In our own error shape."""
        self.refuse(MalformedHttp(msg))

    def shutdown(self) -> None:
        """Close when idle, else after the answer under way."""
        self._keep_alive = False
        if self._exchange is not None:
            return
        if self._busy():
            super().shutdown()
        else:
            self._writes.close(self.transport)

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Called about once a second."""
        if self._closing or self._exchange is not None:
            return
        now = self.loop.time()
        upload = self._upload
        if upload is not None and now - self._upload_since_s > self._limits.upload_timeout_s:
            self.refuse(RequestTimeout("The form did not come whole in time."))
        elif self._since_s:
            if now - self._since_s > self._limits.header_timeout_s and (upload is None or not upload.waits):
                what = "head" if self._in_head else "body"
                self.refuse(RequestTimeout(f"The {what} of the request did not come in time."))
        elif not self._busy() and now - self._idle_since_s > self._limits.keep_alive_s:
            self._closing = True
            self._writes.close(self.transport)
