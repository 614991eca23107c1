"""Gets one page of a server, bounded in size and in time. Every failure is a value, none is raised."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

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


async def fetch(client: httpx.AsyncClient, request: httpx.Request, timeout_s: float) -> Answer:
    """Send a GET. `timeout_s` is for the whole of it: httpx's own limits would let a server drip for ever."""
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.send(request, stream=True)
            try:
                return await _read(response)
            finally:
                await response.aclose()
    except TimeoutError:
        return Answer(fault="no answer in time")
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        return Answer(fault=type(error).__name__)


async def _read(response: httpx.Response) -> Answer:
    if not response.is_success:
        return Answer(response.status_code, fault=f"HTTP {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        return Answer(response.status_code, fault="compressed, though not asked to be")
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            return Answer(response.status_code, fault="longer than 4 MiB")
    return Answer(response.status_code, b"".join(parts).decode("utf-8", "replace"))
