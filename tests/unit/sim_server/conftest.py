"""Simulated servers in this process, on free ports, talked to over real sockets."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServer, SimServerOptions

FAST = EngineParams(
    slots=8, prefill_tps=1e6, decode_base_s=0.0005, decode_per_sequence_s=0.00001, kv_tokens=20_000, max_model_len=4_096
)
"""Quick enough for tests; answers of 20 tokens in some 10 ms."""


def chat(text: str = "Bonjour", **more: Any) -> dict[str, Any]:
    """The body of a chat."""
    return {"model": "sim", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **more}


@dataclass
class Site:
    """A server and a client of it."""

    server: SimServer
    http: httpx.AsyncClient

    async def post(self, body: dict[str, Any], path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        return await self.http.post(path, json=body, **more)

    async def events(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> list[str]:
        """The data of all events of a stream."""
        answer = await self.post({**body, "stream": True}, path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]

    async def state(self) -> dict[str, Any]:
        return (await self.http.get("/sim/state")).json()


@pytest.fixture
async def site() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    """Starts a site with these options."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Site:
            server = await stack.enter_async_context(SimServer(SimServerOptions(**{"engine": FAST, **options})))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=10))
            return Site(server, http)

        yield start
