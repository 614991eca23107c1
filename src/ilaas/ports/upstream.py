"""The way to an inference server: one request, its answer by call-back, in the order head, body…, end (or failed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome
from ilaas.ports.upload import UpstreamUpload


@dataclass(slots=True, init=False)
class UpstreamRequest:
    """What is sent: an allow-listed path, the few headers that pass, and a body that is complete."""

    path: bytes
    headers: bytes
    """Ready header lines, each ending in CRLF, without host, length and authorization."""
    body: bytes
    connect_timeout_s: float
    upload: UpstreamUpload | None
    """In the place of the body."""

    def __init__(
        self,
        path: bytes,
        headers: bytes,
        body: bytes,
        connect_timeout_s: float,
        upload: UpstreamUpload | None = None,
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.connect_timeout_s = connect_timeout_s
        self.upload = upload


class UpstreamSink(Protocol):
    """Receives the answer. After `upstream_end` or `upstream_failed` nothing more comes."""

    def upstream_sent(self) -> None:
        """The request is on the wire; the wait for the first byte begins."""

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The final status and headers, names in lower case."""

    def upstream_body(self, data: bytes) -> None:
        """Some bytes of the body, without transfer coding; called at most once per packet read."""

    def upstream_end(self) -> None:
        """The answer is complete."""

    def upstream_failed(self, outcome: Outcome, detail: str) -> None:
        """Connect error or time-out, closed connection, or not HTTP. `detail` holds no content."""


class UpstreamCall(Protocol):
    """One request under way."""

    def abort(self) -> None:
        """Close the connection at once, so that the server stops working; the sink is not called any more."""

    def pause(self) -> None:
        """Read no more from the server until `resume` (the client is slow)."""

    def resume(self) -> None:
        """Read on."""


class Upstream(Protocol):
    """Sends requests over pooled connections."""

    def send(self, server: ServerSpec, request: UpstreamRequest, sink: UpstreamSink) -> UpstreamCall:
        """Start one request; may call the sink before it returns only with `upstream_sent`."""

    async def close(self) -> None:
        """Close every idle connection; calls under way go on."""


class UpstreamPages(Protocol):
    """Reads pages of servers over the same pooled connections as requests."""

    def get(self, server: ServerSpec, path: bytes, connect_timeout_s: float, sink: UpstreamSink) -> UpstreamCall:
        """Start one GET; as `Upstream.send`. Raises ValueError when the server's URL is not one."""
