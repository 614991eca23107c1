"""The public listener on a free port, with the use case on twins behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import uvicorn
from fastapi import APIRouter
from starlette.types import ASGIApp

from ilaas.adapters.writes import TurnWrites
from ilaas.http.app import AppSources, build_app
from ilaas.http.front import Front
from ilaas.http.limits import Limits
from ilaas.http.protocol import protocol_class
from ilaas.services.models import ModelPages
from tests.support.twins import SECRET, House


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """Where it listens, and what a test does with it."""

    def __init__(self, house: House, front: Front, server: uvicorn.Server, port: int) -> None:
        self.house = house
        self.front = front
        self.server = server
        self.port = port

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))


class Client:
    """A raw connection: tests send bytes that no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """One answer with a length, or a chunked one put together."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")[:-2]
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
            status = int(lines[0].split()[1])
            if b"content-length" in headers:
                return status, headers, await self.reader.readexactly(int(headers[b"content-length"]))
            if b"transfer-encoding" not in headers:
                return status, headers, await self.reader.read()
            body = b""
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                body += (await self.reader.readexactly(size + 2))[:-2]
                if not size:
                    return status, headers, body

    async def closed(self) -> bool:
        """The server closes without another byte."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self.writer.close()


def post(body: bytes, path: str = "/v1/chat/completions", extra: str = "", key: str = SECRET) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n{extra}\r\n".encode() + body


async def until(condition: object) -> None:
    """Wait until a callable says yes; the loop runs in between."""
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def listening(
    house: House,
    limits: Limits | None = None,
    routers: Sequence[APIRouter] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
) -> AsyncIterator[Listener]:
    """Start, and end with nothing left behind."""
    front = Front(house.inference, limits or Limits(), TurnWrites())
    admission = house.inference.admission
    app = build_app(
        AppSources(
            admission=admission,
            pages=ModelPages(admission, house.broker, 1),
            ready=lambda: True,
            version="0",
            routers=routers,
            mounts=mounts or {},
        )
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=protocol_class(front),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    try:
        yield Listener(house, front, server, listener.getsockname()[1])
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
