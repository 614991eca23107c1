"""Reads the requests of one connection: which way each goes, and what of it is refused before it is handed on.

Apart from the connection itself so that it can be compiled: what inherits from uvicorn's protocol can't be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import httptools

from ilaas.core.audio import UPLOADS
from ilaas.core.errors import IlaasError, MalformedHttp
from ilaas.core.requests import ENDPOINTS
from ilaas.http.checks import (
    MAX_TARGET_BYTES,
    body_too_large,
    check_head,
    check_length,
    check_target,
    head_too_large,
    malformed,
    target_too_long,
)
from ilaas.http.front import Front
from ilaas.http.writing import ClientWriter
from ilaas.ports.client import InboundRequest

INFERENCE_PATHS = {path.encode(): path for path in ENDPOINTS}
UPLOAD_PATHS = {path.encode(): path for path in UPLOADS}
MEDIA_PATH = b"/api/v1/enrichments/upload"
"""Media are handed on as they come, to the speech API, which looks at the sender before it reads any."""


class Connection(Protocol):
    """The connection, as its reader sees it."""

    def busy(self) -> bool:
        """An answer is not complete yet."""

    def asgi_head(self, headers: dict[bytes, bytes]) -> None:
        """The head of a request that is not for inference is there."""

    def asgi_body(self, body: bytes) -> None:
        """A part of its body."""

    def asgi_complete(self) -> None:
        """It is whole."""

    def form_head(self, headers: dict[bytes, bytes]) -> None:
        """The head of a form with a file is there. Raises IlaasError when the rest need not be received."""

    def form_body(self, body: bytes) -> None:
        """A part of it. Raises IlaasError."""

    def form_complete(self) -> bool:
        """It is whole. False when its file is not yet: the connection begins the request itself. Raises IlaasError."""

    def continue_100(self) -> None:
        """The client waits for leave to send the body."""


class RequestReader:
    """Is fed what the client sends. The attributes may be read at any time."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_connection",
        "_fast",
        "_form",
        "_front",
        "_head_bytes",
        "_inference",
        "_limits",
        "_max_body_bytes",
        "_now",
        "_ready",
        "_writer",
        "early",
        "headers",
        "in_head",
        "inbound",
        "parser",
        "problem",
        "since_s",
        "url",
    )

    def __init__(
        self,
        connection: Connection,
        writer: ClientWriter,
        front: Front,
        now: Callable[[], float],
    ) -> None:
        """`now` is the event loop's clock."""
        self._connection = connection
        self._writer = writer
        self._front = front
        self._inference = front.inference
        self._limits = limits = front.limits
        self._now = now
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn: such bytes are `early`
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """As they came, names in lower case."""
        self.early = False
        """A further request came before the answer was complete: nothing more is read."""
        self.in_head = True
        self.problem: IlaasError | None = None
        """Why the request is refused; whoever takes it sets it back."""
        self.since_s = 0.0
        """When the part of a request that is under way began (head) or last grew (body); 0 between requests."""
        self.inbound: InboundRequest | None = None
        """The inference request that is being received."""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._max_body_bytes = limits.max_body_bytes
        self._head_bytes = 0
        self._form = False
        """It is a form with a file."""
        self._fast = False
        """The message being read is an inference request."""
        self._ready = False

    def feed(self, data: bytes) -> InboundRequest | None:
        """Parse; returns the inference request whose last byte came."""
        if not self.in_head:
            self.since_s = self._now()
        else:
            self._head_bytes += len(data)
            if not self.since_s:
                self.since_s = self._now()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stop()  # answered as plain HTTP/1.1; the parser has passed over a body, if there was one
            if self._fast:
                self.problem = MalformedHttp("This server does not switch protocols: leave the header 'Upgrade' out.")
        except httptools.HttpParserError as error:
            if self.problem is None and not self._ready:
                self.problem = malformed(error)
            self._stop()  # nothing behind it can be read
        if self.in_head and self._head_bytes > self._limits.max_header_bytes and len(self.url) <= MAX_TARGET_BYTES:
            self.problem = head_too_large(self._limits)
        if self.problem is not None or not self._ready:
            return None
        self._ready = False
        return self.take()

    def take(self) -> InboundRequest | None:
        """The inference request that was received."""
        inbound, self.inbound = self.inbound, None
        return inbound

    def given_id(self) -> bytes | None:
        """What the client calls the request that is being read."""
        return dict(self.headers).get(b"x-request-id")

    def _stop(self) -> None:
        self.early = True
        self._writer.keep_alive = False

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._fast = self._form = False
        if self._ready or self._connection.busy():
            self._stop()
            return
        self.url = b""
        self.headers = []
        self._body_bytes = 0
        self._max_body_bytes = self._limits.max_body_bytes

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if self.early or self.problem is not None:
            return
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            self.problem = target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not self.early:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there: choose the way, and refuse what need not be received."""
        if self.early or self.problem is not None:
            return
        self.in_head = False
        headers = dict(self.headers)
        version = self.parser.get_http_version()
        self.problem = check_head(self.headers, headers, self._head_bytes, version, self._limits)
        if self.problem is not None:
            return
        target = self.url.partition(b"?")[0]
        path = INFERENCE_PATHS.get(target)
        form = UPLOAD_PATHS.get(target) if path is None else None
        if (path is None and form is None) or self.parser.get_method() != b"POST":
            limits = self._limits
            self._max_body_bytes = limits.max_media_bytes if target == MEDIA_PATH else limits.max_body_bytes
            self.problem = check_length(headers, self._max_body_bytes) or check_target(self.url)
            if self.problem is None:
                self._connection.asgi_head(headers)
            return
        self._fast = True
        self._body = []
        self._writer.keep_alive = self.parser.should_keep_alive() and not self._front.ending
        self._writer.chunked = version == "1.1"
        inference = self._inference
        self.inbound = InboundRequest(path or form or "", headers, b"", inference.context.clock())
        if form is not None:
            self._max_body_bytes = self._limits.max_upload_bytes
        try:
            if len(headers.get(b"content-length", b"1234567")) > 5:  # 100,000 bytes or more, or unknown
                self.problem = check_length(headers, self._max_body_bytes)
                if self.problem is not None:
                    return
                if form is None:
                    inference.admission.authenticate(headers)
            if form is not None:
                self._connection.form_head(headers)
                self._form = True
        except IlaasError as error:
            self.problem = error
            return
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._connection.continue_100()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self.early or self.problem is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self.problem = body_too_large(self._max_body_bytes)
        elif self._form:
            try:
                self._connection.form_body(body)
            except IlaasError as error:
                self.problem = error
        elif self._fast:
            self._body.append(body)
        else:
            self._connection.asgi_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.early or self.problem is not None:
            return
        self.since_s = 0.0
        self._head_bytes = 0
        self.in_head = True
        if not self._fast:
            self._connection.asgi_complete()
            return
        if self._form:
            try:
                self._ready = self._connection.form_complete()
            except IlaasError as error:
                self.problem = error
        elif self.inbound is not None:
            self.inbound.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body = []
            self._ready = True
