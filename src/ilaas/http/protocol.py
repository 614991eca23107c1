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

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from ilaas.core.errors import IlaasError, MalformedHttp, RequestTimeout
from ilaas.http.front import Front
from ilaas.http.reading import RequestReader
from ilaas.http.uploads import Hooks, Upload
from ilaas.http.writing import ClientWriter
from ilaas.ports.client import Exchange, InboundRequest
from ilaas.ports.upload import ReceivedForm
from ilaas.services.answers import error_body, error_headers

UNSENT_BYTES = 128 * 1024
"""What the system takes at most for a client before it is on the wire: more would wait there for slow readers only."""

log = structlog.get_logger(__name__)


def protocol_class(front: Front) -> Callable[..., asyncio.Protocol]:
    """The value of uvicorn's `http` setting: makes the protocol of each new connection."""
    return partial(GatewayProtocol, front)


class GatewayProtocol(HttpToolsProtocol):
    """One connection: `reading` takes its requests, `writing` their answers; this is what brings them together."""

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
        self._limits = front.limits
        self._writes = front.writes
        self._exchange: Exchange | None = None
        self._upload: Upload | None = None
        """The form that is being received, in the place of a body."""
        self._upload_since_s = 0.0
        self._closing = False
        """Refused: what still comes is dropped."""
        self._writer = ClientWriter(self, front, STATUS_LINE)
        self._reader = RequestReader(self, self._writer, front, self.loop.time)
        self.parser = self._reader.parser
        self._idle_since_s = self.loop.time()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """A client connected."""
        super().connection_made(transport)
        self._writer.transport = transport
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
        self._reader.parser = None  # they know each other

    def data_received(self, data: bytes) -> None:
        """Parse; start the request whose last byte came."""
        reader = self._reader
        if self._closing or reader.early:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        inbound = reader.feed(data)
        if reader.problem is not None:
            self.refuse(reader.problem)
        elif inbound is not None:
            self._begin(inbound)

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

    # -- the reader's call-backs ---------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """An answer is not complete yet."""
        cycle: Any = self.cycle  # None at first, whatever its type says
        return self._exchange is not None or (cycle is not None and not cycle.response_complete)

    def asgi_head(self, headers: dict[bytes, bytes]) -> None:
        """Hand the request to uvicorn's own handling, which wants its scope made first."""
        super().on_message_begin()
        self.url = self._reader.url
        self.headers.extend(self._reader.headers)
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()

    def asgi_body(self, body: bytes) -> None:
        """A part of a body for uvicorn's handling."""
        super().on_body(body)

    def asgi_complete(self) -> None:
        """Such a request is whole."""
        super().on_message_complete()

    def form_head(self, headers: dict[bytes, bytes]) -> None:
        """A form's head is there: its file is kept aside as it comes, and the request begins when it is whole."""
        inference = self._front.inference
        hooks = Hooks(
            early=partial(inference.check_form, headers),
            full=self.flow.pause_reading,
            room=self._room,
            ready=self._form_ready,
            failed=self._form_failed,
        )
        inference.check_form(headers, [])
        self._upload = self._front.uploads.begin(headers, hooks)
        self._upload_since_s = self.loop.time()

    def form_body(self, body: bytes) -> None:
        """A part of it. Raises IlaasError."""
        if self._upload is not None:
            self._upload.feed(body)

    def form_complete(self) -> bool:
        """The form's last byte came. False when its file is not written yet. Raises IlaasError."""
        form = self._upload.finish() if self._upload is not None else None
        if form is None:
            self._exchange = self._upload  # no further request before this one
        else:
            self._complete(form)
        return form is not None

    def continue_100(self) -> None:
        """Tell a client that asks before it sends its body to go on."""
        self._writes.write(self.transport, b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- requests ------------------------------------------------------------------------------------------------------

    def _begin(self, inbound: InboundRequest) -> None:
        try:
            self._exchange = self._front.inference.begin(inbound, self._writer)
        except Exception:  # a fault of ours must end in an answer, not in a cut connection
            log.exception("request_failed", path=inbound.path)
            self.refuse(IlaasError("The gateway failed on this request; it was logged."))
        if self._upload is not None:
            if self._exchange is None:
                self._drop_upload()
            self._upload = None  # its exchange looks after it

    def _room(self) -> None:
        self._reader.since_s = self.loop.time()
        self.flow.resume_reading()

    def _form_ready(self, form: ReceivedForm) -> None:
        self._exchange = None
        self._complete(form)
        inbound = self._reader.take()
        if inbound is not None:
            self._begin(inbound)

    def _complete(self, form: ReceivedForm) -> None:
        """The time of the request begins now: a slow line has used up nothing of it."""
        inbound = self._reader.inbound
        if inbound is not None:
            inbound.form = form
            inbound.received_s = self._front.inference.context.clock()

    def _form_failed(self, error: IlaasError) -> None:
        self._exchange = None
        self.refuse(error)

    def _drop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()

    def refuse(self, error: IlaasError) -> None:
        """Answer an error that was met before the use case, and close; what the client still sends is dropped."""
        if self._closing:
            return
        self._reader.problem = None
        self._closing = True
        self._drop_upload()
        self._front.inference.context.accounting.rejected(error.code)
        if self.busy():  # an answer is being written: it can't be told apart from this one
            self.transport.abort()
            return
        self.flow.resume_reading()
        self._writer.keep_alive = False
        request_id = self._front.inference.name_refused(self._reader.given_id())
        headers = error_headers(error) + b"x-request-id: %b\r\n" % request_id
        self._writer.write_whole(error.status, headers, error_body(error))
        self.loop.call_later(self._limits.linger_s, self._writes.close, self.transport)

    # -- the writer's call-backs ---------------------------------------------------------------------------------------

    def answered(self) -> None:
        """The answer is complete: wait for the next request, or close."""
        self._exchange = None
        self.server_state.total_requests += 1
        if self._writer.keep_alive:
            self._idle_since_s = self.loop.time()
        else:
            self._closing = True
            self._writes.close(self.transport)

    def cut(self) -> None:
        """Break the connection."""
        self._exchange = None
        self._closing = True
        self.transport.abort()

    def date_lines(self) -> bytes:
        """The header lines of every answer."""
        return self._front.default_headers(self.server_state.default_headers)

    # -- uvicorn -------------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """An ASGI answer is complete."""
        super().on_response_complete()
        self._idle_since_s = self.loop.time()
        if self._reader.early and not self.transport.is_closing():
            self._writes.close(self.transport)

    def send_400_response(self, msg: str) -> None:
        """In our own error shape."""
        self.refuse(MalformedHttp(msg))

    def shutdown(self) -> None:
        """Close when idle, else after the answer under way."""
        self._writer.keep_alive = False
        if self._exchange is not None:
            return
        if self.busy():
            super().shutdown()
        else:
            self._writes.close(self.transport)

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Called about once a second."""
        if self._closing or self._exchange is not None:
            return
        now, reader = self.loop.time(), self._reader
        upload = self._upload
        if self.flow.read_paused and reader.since_s:
            reader.since_s = now  # it is us who are slow
        if upload is not None and now - self._upload_since_s > self._limits.upload_timeout_s:
            self.refuse(RequestTimeout("The form did not come whole in time."))
        elif reader.since_s:
            if now - reader.since_s > self._limits.header_timeout_s and (upload is None or not upload.waits):
                what = "head" if reader.in_head else "body"
                self.refuse(RequestTimeout(f"The {what} of the request did not come in time."))
        elif not self.busy() and now - self._idle_since_s > self._limits.keep_alive_s:
            self._closing = True
            self._writes.close(self.transport)
