"""The pool of connections to inference servers: last used first, one request per connection at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome
from ilaas.ports.runtime import Writes
from ilaas.ports.upload import UpstreamUpload
from ilaas.ports.upstream import UpstreamCall, UpstreamRequest, UpstreamSink
from ilaas.relay.connection import UpstreamConnection
from ilaas.relay.sending import UNSENT_BYTES, send_upload

MAX_IDLE_PER_SERVER = 512
JSON_TYPE = b"content-type: application/json\r\n"

Address = tuple[str, int, bool]
"""Host, port, TLS."""


class _Target:
    """What can be computed once per server: where it is and the head of every request to it."""

    __slots__ = ("address", "head", "prefix", "server")

    def __init__(self, server: ServerSpec) -> None:
        self.server = server
        parts = urlsplit(server.url)
        tls = parts.scheme == "https"
        host = parts.hostname or ""
        port = parts.port or (443 if tls else 80)
        self.address: Address = (host, port, tls)
        self.prefix = parts.path.rstrip("/").encode()
        authority = f"[{host}]" if ":" in host else host
        head = (
            f" HTTP/1.1\r\nhost: {authority}:{port}\r\ncontent-type: application/json\r\naccept-encoding: identity\r\n"
        )
        if server.token:
            head += f"authorization: Bearer {server.token}\r\n"
        self.head = head.encode("latin-1")


class _Call:
    """One request on one connection, or on the way to getting one."""

    __slots__ = (
        "_pool",
        "aborted",
        "body",
        "connection",
        "head",
        "retried",
        "sink",
        "target",
        "task",
        "timeout_s",
        "upload",
    )

    def __init__(
        self, pool: HttpUpstream, target: _Target, head: bytes, request: UpstreamRequest, sink: UpstreamSink
    ) -> None:
        self._pool = pool
        self.target = target
        self.head = head
        self.body = request.body
        self.upload = request.upload
        self.timeout_s = request.connect_timeout_s
        self.sink = sink
        self.connection: UpstreamConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.aborted = False
        self.retried = False

    def abort(self) -> None:
        """See ports.upstream."""
        self.aborted = True
        if self.task is not None:
            self.task.cancel()
        if self.connection is not None:
            self.connection.abort()
            self.connection = None

    def pause(self) -> None:
        """See ports.upstream."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """See ports.upstream."""
        if self.connection is not None:
            self.connection.resume()

    # A pooled connection may have been closed by the server at the very moment it is used again. The call stands
    # between connection and sink only for that: nothing was answered, so it is sent once more on a new connection.

    def upstream_sent(self) -> None:
        """Pass on."""
        self.sink.upstream_sent()

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Pass on; from here the connection talks to the sink itself."""
        if self.connection is not None:
            self.connection.sink = self.sink
        self.sink.upstream_head(status, headers)

    def upstream_body(self, data: bytes) -> None:
        """Only the packet that carried the head comes this way."""
        self.sink.upstream_body(data)

    def upstream_end(self) -> None:
        """As above."""
        self.sink.upstream_end()

    def upstream_failed(self, outcome: Outcome, detail: str) -> None:
        """A stale pooled connection gets one more try; all else is passed on."""
        connection = self.connection
        if connection is not None and not connection.fresh and not connection.answered and not self.retried:
            self.retried = True
            self.connection = None
            self._pool.connect(self)
            return
        self.sink.upstream_failed(outcome, detail)


class HttpUpstream:
    """Implements ports.upstream.Upstream and UpstreamPages."""

    def __init__(self, clock: Callable[[], float], writes: Writes, *, tls: ssl.SSLContext | None = None) -> None:
        """`clock` is monotonic seconds; `tls` verifies certificates by default."""
        self._clock = clock
        self._writes = writes
        self._tls = tls
        self._idle: dict[Address, dict[UpstreamConnection, None]] = {}
        self._targets: dict[str, _Target] = {}
        self._closing = False

    def send(self, server: ServerSpec, request: UpstreamRequest, sink: UpstreamSink) -> UpstreamCall:
        """See ports.upstream."""
        target = self._targets.get(server.id)
        if target is None or target.server is not server:
            target = self._remember(server)
        if request.upload is not None:
            return self._send_upload(target, request, request.upload, sink)
        head = b"POST %b%b%b%bcontent-length: %d\r\n\r\n" % (
            target.prefix,
            request.path,
            target.head,
            request.headers,
            len(request.body),
        )
        return self._start(_Call(self, target, head, request, sink))

    def get(self, server: ServerSpec, path: bytes, connect_timeout_s: float, sink: UpstreamSink) -> UpstreamCall:
        """See ports.upstream."""
        target = self._targets.get(server.id)
        if target is None or target.server is not server:
            target = self._remember(server)
        head = b"GET %b%b%b\r\n" % (target.prefix, path, target.head.replace(JSON_TYPE, b"accept: */*\r\n"))
        return self._start(_Call(self, target, head, UpstreamRequest(path, b"", b"", connect_timeout_s), sink))

    def _start(self, call: _Call) -> _Call:
        """On an idle connection, or on a new one."""
        idle = self._idle.get(call.target.address)
        while idle:
            connection = idle.popitem()[0]
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                call.connection = connection
                connection.send(call.head, call.body, call)
                return call
        self.connect(call)
        return call

    def _send_upload(
        self, target: _Target, request: UpstreamRequest, upload: UpstreamUpload, sink: UpstreamSink
    ) -> UpstreamCall:
        """On a new connection: no half of a file is lost to one that the server has just closed."""
        head = b"POST %b%b%b%bcontent-length: %d\r\n\r\n" % (
            target.prefix,
            request.path,
            target.head.replace(JSON_TYPE, b"content-type: %b\r\n" % upload.content_type),
            request.headers,
            upload.size_bytes,
        )
        call = _Call(self, target, head, request, sink)
        self.connect(call)
        return call

    def _remember(self, server: ServerSpec) -> _Target:
        if len(self._targets) > 4096:
            self._targets.clear()  # servers come and go; a computed head is cheap to make again
        target = self._targets[server.id] = _Target(server)
        return target

    def connect(self, call: _Call) -> None:
        """Open a new connection for the call, in a task of its own."""
        call.task = asyncio.ensure_future(self._connect(call))

    async def _connect(self, call: _Call) -> None:
        host, port, tls = call.target.address
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(call.timeout_s):
                # type-var: it is a protocol in all but its base class
                transport, connection = await loop.create_connection(
                    lambda: UpstreamConnection(call.target.address, self._writes, self._release),  # type: ignore[type-var]
                    host,
                    port,
                    ssl=self._context() if tls else None,
                )
        except TimeoutError:
            self._refused(call, Outcome.CONNECT_TIMEOUT, f"no connection within {call.timeout_s:g} s")
            return
        except (OSError, ssl.SSLError) as error:
            self._refused(call, Outcome.CONNECT_FAILED, f"no connection: {type(error).__name__}")
            return
        call.task = None
        if call.aborted:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        call.connection = connection
        if call.upload is None:
            connection.send(call.head, call.body, call)
            return
        call.task = asyncio.current_task()  # what stops the call stops the sending
        failure = await send_upload(connection, call.head, call.upload, call)
        call.task = None
        if failure is not None:
            connection.fail(*failure)

    def _refused(self, call: _Call, outcome: Outcome, detail: str) -> None:
        call.task = None
        if not call.aborted:
            call.sink.upstream_failed(outcome, detail)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _release(self, connection: UpstreamConnection, reusable: bool) -> None:
        """An answer is complete, or the connection is lost: pool it or forget it."""
        idle = self._idle.setdefault(connection.key, {})
        if reusable and not self._closing and len(idle) < MAX_IDLE_PER_SERVER:
            connection.idle_since_s = self._clock()
            idle[connection] = None
            return
        idle.pop(connection, None)
        if connection.transport is not None:
            connection.transport.close()

    def drop_idle(self, older_than_s: float) -> None:
        """Close connections that nobody used for so long."""
        limit = self._clock() - older_than_s
        for address, idle in list(self._idle.items()):
            for connection in [known for known in idle if known.idle_since_s < limit]:
                idle.pop(connection, None)
                if connection.transport is not None:
                    connection.transport.close()
            if not idle:
                self._idle.pop(address, None)

    async def close(self) -> None:
        """See ports.upstream."""
        self._closing = True
        self.drop_idle(-1.0)
