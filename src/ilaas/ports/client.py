"""The way back to the client: what a use case may do with the answer it is writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ilaas.ports.upload import ReceivedForm


@dataclass(slots=True, init=False)
class InboundRequest:
    """One inference request as it came in. Header names are lower case."""

    path: str
    headers: dict[bytes, bytes]
    body: bytes
    received_s: float
    """Monotonic, when the head was complete; of a form, when all of it was."""
    form: ReceivedForm | None
    """In the place of the body."""

    def __init__(
        self,
        path: str,
        headers: dict[bytes, bytes],
        body: bytes,
        received_s: float,
        form: ReceivedForm | None = None,
    ) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.received_s = received_s
        self.form = form


class AnswerWriter(Protocol):
    """Writes one answer. `start` once, `write` any number of times, `finish` once."""

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        """Status line and ready header lines (each ending in CRLF); `length` None means chunked."""

    def write(self, data: bytes) -> None:
        """A part of the body."""

    def finish(self) -> None:
        """The answer is complete; the connection may serve the next request."""

    def abort(self) -> None:
        """Break the connection: the answer can't be completed."""

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Head and whole body in one write."""


class Exchange(Protocol):
    """One request under way, as the HTTP side holds it."""

    def client_left(self) -> None:
        """The client closed its connection: free everything."""

    def pause(self) -> None:
        """The client reads slowly: stop reading from the server."""

    def resume(self) -> None:
        """The client has caught up."""

    def sweep(self, now_s: float) -> None:
        """Called about four times a second: deadlines and keep-alive comments."""
