"""A whole federation in the test's own event loop: simulated servers, and a gateway over real sockets before them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI

from ilaas.adapters.secret import load_secret
from ilaas.adapters.statistics import fetch
from ilaas.app.runtime import Address, Run, serve
from ilaas.app.settings import Settings
from ilaas.app.wiring import open_store
from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.services.administration import Administration, NewKey
from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.patience import PATIENCE_S, holds_within

_UNBOUNDED = httpx.Limits(max_connections=None)

FAST = {"statistics_interval_s": 0.2, "health_interval_s": 0.5}


@dataclass
class Site:
    """One simulated server and the place it has in the catalogue."""

    name: str
    options: SimServerOptions = field(default_factory=lambda: SimServerOptions(record=True, markers=True))
    owner: str = "uni-a"
    spec: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sim = SimServer(self.options)

    def server(self) -> ServerSpec:
        given: dict[str, Any] = {
            "id": self.name,
            "url": self.sim.url,
            "site": f"site-{self.name}",
            "owner": self.owner,
            "served_name": self.options.models[0],
            "token": self.options.api_key,
            "max_parallel_requests": 8,
        }
        return ServerSpec(**{**given, **self.spec})


@dataclass
class Federation:
    """What a test does with it."""

    settings: Settings
    address: Address
    admin: Administration
    key: str
    sites: dict[str, SimServer]
    http: httpx.AsyncClient
    run: Run
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address.port}"

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{self.address.ops_port}"

    def openai(self, key: str | None = None, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, **options)

    async def new_key(self, organisation: str = "uni-a", **fields: Any) -> str:
        name = f"key-{secrets.token_hex(4)}"
        secret, _ = await self.admin.create_key(NewKey(organisation=organisation, project="tests", name=name, **fields))
        await self.until_key_works(secret)
        return secret

    async def until_key_works(self, secret: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await self.http.get("/v1/models", headers=bearer(secret))).status_code != 200:
                await asyncio.sleep(0.02)

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"{self.ops}/state")).json()
        return found

    async def gauges(self) -> dict[str, int]:
        """How much is under way: in the gateway, on its way to a server, and on the servers."""
        state = await self.state()
        models = state["models"]
        sites = self.sites.values()
        return {
            "active": state["active"],
            "in_flight": sum(server["in_flight"] for model in models for server in model["servers"]),
            "queued": sum(sum(model["queued"].values()) for model in models),
            "connecting": sum(_is_connect(task) for task in asyncio.all_tasks()),
            "upstream_calls": sum(note.result == "running" for site in sites for note in site.journal.notes),
            "sequences": sum(site.serving.running + site.serving.waiting for site in sites),
        }

    async def at_rest(self, within_s: float = PATIENCE_S) -> None:
        """Wait until no request is under way, here or on any server."""
        gauges: dict[str, int] = {}

        async def found() -> bool:
            nonlocal gauges
            gauges = await self.gauges()
            return not any(gauges.values())

        assert await holds_within(within_s, found), f"still under way after {within_s} s: {gauges}"

    async def until_state(
        self, holds: Callable[[dict[str, Any]], bool], within_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """The live state, once `holds` says yes to it."""
        state: dict[str, Any] = {}

        async def found() -> bool:
            nonlocal state
            state = await self.state()
            return holds(state)

        assert await holds_within(within_s, found), f"not so after {within_s} s: {state}"
        return state

    async def records(self, count: int) -> list[dict[str, Any]]:
        """The usage records in the store, once there are so many."""
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = create_async_engine(self.settings.database_url)
        try:
            async with asyncio.timeout(10):
                while True:
                    async with engine.connect() as connection:
                        rows = (
                            await connection.execute(text("SELECT * FROM usage_records ORDER BY finished_at_ms"))
                        ).mappings()
                        found = [dict(row) for row in rows]
                    if len(found) >= count:
                        return found
                    await asyncio.sleep(0.05)
        finally:
            await engine.dispose()


def _is_connect(task: asyncio.Task[Any]) -> bool:
    """For a request: the watch over the servers connects by itself, and waits as long as it likes."""
    coroutine = task.get_coro()
    if getattr(coroutine, "__qualname__", "") != "HttpUpstream._connect":
        return False
    frame = getattr(coroutine, "cr_frame", None)
    return frame is None or type(frame.f_locals["call"].sink).__module__ != fetch.__name__


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def chat(text: str = "Bonjour", **fields: Any) -> dict[str, Any]:
    return {"model": "mistral", "messages": [{"role": "user", "content": text}], **fields}


@contextlib.asynccontextmanager
async def federation(
    folder: Path,
    *sites: Site,
    policy: DispatchPolicy | None = None,
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Federation]:
    """One model `mistral` on these sites."""
    async with simulated(sites):
        spec = ModelSpec(
            name="mistral",
            servers=tuple(site.server() for site in sites),
            policy=policy or DispatchPolicy(),
            **(model or {}),
        )
        given = Settings(
            state_dir=folder / "state",
            port=0,
            ops_port=0,
            models=(spec,),
            allow_private_addresses=True,
            **{**FAST, "shutdown_grace_s": 2.0, **settings},
        )
        async with gateway(given, sites) as running:
            yield running


@contextlib.asynccontextmanager
async def simulated(sites: Sequence[Site]) -> AsyncIterator[None]:
    """The simulated servers, listening."""
    async with contextlib.AsyncExitStack() as stack:
        for site in sites:
            await site.sim.start()
            stack.push_async_callback(site.sim.stop)
        yield


@contextlib.asynccontextmanager
async def gateway(given: Settings, sites: Sequence[Site]) -> AsyncIterator[Federation]:
    """The gateway of these settings, and a first key; `sites` listen already."""
    async with contextlib.AsyncExitStack() as stack:
        store = open_store(given)
        await store.open()
        stack.push_async_callback(store.close)
        admin = Administration(
            store, load_secret(given.state_dir).pepper, time.time, secrets.token_bytes, lambda _: None
        )
        secret, _ = await admin.create_key(NewKey(organisation="uni-a", project="tests", name="main"))
        ready: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        run = Run(ready=ready.set_result, signals=False)
        task = asyncio.create_task(serve(given, run))
        await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        address = ready.result()
        http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{address.port}", timeout=30, limits=_UNBOUNDED)
        stack.push_async_callback(http.aclose)
        try:
            named = {site.name: site.sim for site in sites}
            yield Federation(given, address, admin, secret, named, http, run, task)
        finally:
            run.stop.set()
            await task


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """For clients that are meant to break off."""
    with contextlib.suppress(httpx.HTTPError, asyncio.CancelledError):
        yield
