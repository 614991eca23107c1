"""Runs workers of the speech service: beside the gateway, or as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import structlog
import uvicorn

from ilaas.app.observe import dispatcher_sources
from ilaas.app.process import QuietServer, Run, handle_signals, listen
from ilaas.app.run_file import Address, public_url, read_run_file
from ilaas.app.settings import Settings
from ilaas.app.speech_settings import SpeechSettings
from ilaas.app.speech_wiring import Speech, build_speech, build_speech_worker
from ilaas.app.wiring import open_store
from ilaas.core.dispatch.events import ModelView
from ilaas.core.errors import ConfigError, StoreUnavailable
from ilaas.http.ops import build_ops_app
from ilaas.ports.store import Store

STORE_S = 2.0
"""Between two tries to reach the database at the start."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class EmbeddedWorker:
    """The worker in the gateway's own process; it does nothing when the service is off, or has other workers."""

    settings: Settings
    speech: Speech | None
    store: Store
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, address: Address) -> None:
        """Work until `stop`, through the gateway that listens there."""
        jobs = self.settings.speech.jobs
        try:
            if self.speech is None or jobs == 0:
                await self._stop.wait()
                return
            url = public_url({"host": address.host, "port": address.port})
            await build_speech_worker(self.settings, self.speech, self.store, url, jobs).run(self._stop)
        finally:
            self._done.set()

    async def stop(self) -> None:
        """Give the jobs in hand back. Before the gateway is closed: they are clients of it."""
        self._stop.set()
        await self._done.wait()


class _Facts:
    """What the ops listener of a worker shows: that it runs."""

    connected = True

    def views(self) -> list[ModelView]:
        """It decides for no model."""
        return []


async def serve_worker(settings: Settings, run: Run) -> None:
    """Run one worker process until it is told to stop. Raises ConfigError when the service is not enabled."""
    handle_signals(run, None)
    with listen(settings.ops_host, settings.ops_port) as ops:
        port = ops.getsockname()[1]
        pages = build_ops_app(dispatcher_sources(_Facts(), time.time()))
        server = QuietServer(uvicorn.Config(pages, ws="none", lifespan="off", log_config=None, access_log=False))
        listening = asyncio.create_task(server.serve(sockets=[ops]), name="ops")
        run.ready(Address(settings.ops_host, port, settings.ops_host, port))
        try:
            await run_worker(settings, run.stop)
        finally:
            server.end()
            await listening


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """The same without signals."""
    if not settings.speech.enabled:
        raise ConfigError("the speech service is off; set 'speech: {enabled: true}' in the configuration file")
    store, speech = open_store(settings), build_speech(settings)
    try:
        if await _opened(store, speech, stop):
            jobs = settings.speech.jobs or SpeechSettings().jobs
            await build_speech_worker(settings, speech, store, gateway_address(settings), jobs).run(stop)
    finally:
        await speech.close()
        await store.close()


async def _opened(store: Store, speech: Speech, stop: asyncio.Event) -> bool:
    """Wait for the database; False when the process is told to stop before it answers."""
    told = False
    while not stop.is_set():
        try:
            await store.open()
            await speech.open()
        except StoreUnavailable as error:
            if not told:
                log.warning("store_unavailable", reason=error.message)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STORE_S)
        else:
            return True
    return False


def gateway_address(settings: Settings) -> str:
    """Where the gateway is: as configured, else as one that runs on the same state folder says, else its port."""
    if settings.speech.gateway_url is not None:
        return settings.speech.gateway_url.rstrip("/").removesuffix("/v1")
    run = read_run_file(settings.state_dir)
    return public_url(run or {"host": settings.host, "port": settings.port})
