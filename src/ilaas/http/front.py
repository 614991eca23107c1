"""What all connections of the public listener share."""

from __future__ import annotations

from typing import Protocol

from ilaas.http.limits import Limits
from ilaas.http.uploads import Uploads
from ilaas.ports.runtime import Writes
from ilaas.services.inference import Inference


class Connection(Protocol):
    """One client's connection, as the sweep sees it."""

    def sweep(self) -> None:
        """Close it when it is idle or slow."""


class Front:
    """The use case behind the connections, and the connections themselves."""

    def __init__(self, inference: Inference, limits: Limits, writes: Writes, uploads: Uploads | None = None) -> None:
        self.uploads = uploads or Uploads(limits)
        self.inference = inference
        self.limits = limits
        self.writes = writes
        self.connections: set[Connection] = set()
        self.ending = False
        """This gateway is about to stop: answers close their connection: the next request goes elsewhere."""
        self._date: tuple[object, bytes] = (None, b"")

    def sweep(self) -> None:
        """Close connections that are idle, or slow to send a request. Called about once a second."""
        for connection in list(self.connections):
            connection.sweep()

    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's default headers (the date) as ready lines; it makes a new list each second."""
        if self._date[0] is not headers:
            self._date = (headers, b"".join(b"%b: %b\r\n" % header for header in headers))
        return self._date[1]
