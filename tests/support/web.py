"""A web server whose every answer the test writes itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One request, and how it is answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    async def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """A whole answer; `content_length` and the like become header names."""
        given = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
        await self.writer.drain()


@dataclass
class Web:
    """What was asked, and what is answered: the handlers of a path in turn, the last one for ever."""

    port: int = 0
    visits: list[Visit] = field(default_factory=list)
    handlers: dict[str, list[Handler]] = field(default_factory=dict)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def on(self, path: str, *handlers: Handler) -> str:
        """Returns the address."""
        self.handlers[path] = list(handlers)
        return self.url(path)

    async def visited(self, path: str, times: int = 1, within_s: float = 30.0) -> list[Visit]:
        """Wait until it was asked so often."""
        async with asyncio.timeout(within_s), self.came:
            await self.came.wait_for(lambda: sum(each.path == path for each in self.visits) >= times)
        return [each for each in self.visits if each.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            visit = Visit(method, path, headers, body, writer)
            handlers = self.handlers.get(path.partition("?")[0])
            if handlers is None:
                await visit.answer(404)
            else:
                await (handlers.pop(0) if len(handlers) > 1 else handlers[0])(visit)
            async with self.came:
                self.visits.append(visit)
                self.came.notify_all()
        writer.close()


@contextlib.asynccontextmanager
async def web() -> AsyncIterator[Web]:
    """Started on a free port."""
    page = Web()
    server = await asyncio.start_server(page.serve, "127.0.0.1", 0)
    page.port = server.sockets[0].getsockname()[1]
    async with server:
        yield page


def says(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    """A handler that always answers so."""

    async def handler(visit: Visit) -> None:
        await visit.answer(status, body, **headers)

    return handler


async def hangs_up(visit: Visit) -> None:
    """No answer at all."""
    visit.writer.close()


def breaks_off(body: bytes, after: int, **headers: str) -> Handler:
    """The head promises all of the body, and only the first bytes come."""

    async def handler(visit: Visit) -> None:
        await visit.answer(200, body[:after], content_length=str(len(body)), **headers)

    return handler
