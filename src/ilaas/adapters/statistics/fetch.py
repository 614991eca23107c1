"""Gets one page of a server, bounded in size and in time. Every failure is a value, none is raised."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome
from ilaas.ports.upstream import UpstreamPages

MAX_BYTES = 4 * 1024 * 1024
"""A larger page is not read to its end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `fault` names what went wrong, without any address or content in it; None is a 2xx answer."""

    status: int = 0
    text: str = ""
    fault: str | None = None

    @property
    def missing(self) -> bool:
        """The server has no such page, which says nothing about its health."""
        return self.status in (404, 405, 501)


async def fetch(pages: UpstreamPages, server: ServerSpec, path: str, timeout_s: float) -> Answer:
    """Send a GET. `timeout_s` is for the whole of it, so that no server drips for ever."""
    page = _Page()
    try:
        call = pages.get(server, path.encode(), timeout_s, page)
    except ValueError:
        return Answer(fault="the URL is not valid")
    try:
        async with asyncio.timeout(timeout_s):
            return await page.answer
    except TimeoutError:
        return Answer(fault="no answer in time")
    finally:
        if not page.whole:
            call.abort()


class _Page:
    """Collects one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.whole = False
        """Nothing more will come."""
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def upstream_sent(self) -> None:
        pass

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status
        if not 200 <= status < 300:
            self._settle(Answer(status, fault=f"HTTP {status}"))
        elif any(name == b"content-encoding" and value != b"identity" for name, value in headers):
            self._settle(Answer(status, fault="compressed, though not asked to be"))

    def upstream_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_BYTES:
            self._settle(Answer(self._status, fault="longer than 4 MiB"))
        elif not self.answer.done():
            self._parts.append(data)

    def upstream_end(self) -> None:
        self.whole = True
        self._settle(Answer(self._status, b"".join(self._parts).decode("utf-8", "replace")))

    def upstream_failed(self, outcome: Outcome, detail: str) -> None:
        self.whole = True
        self._settle(Answer(fault="no answer in time" if outcome is Outcome.CONNECT_TIMEOUT else detail))

    def _settle(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
