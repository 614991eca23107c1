"""Runs a gateway: its listeners, the loops beside the requests, reload and a graceful end."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
import uvicorn

from ilaas.adapters.folder_lock import FolderLock
from ilaas.app.config import load_config
from ilaas.app.config_watch import ConfigWatcher
from ilaas.app.observe import ops_sources
from ilaas.app.process import BACKLOG, Punctual, QuietServer, Run, every, handle_signals, listen
from ilaas.app.run_file import Address, write_run_file
from ilaas.app.settings import Settings
from ilaas.app.speech_worker import EmbeddedWorker
from ilaas.app.wiring import Gateway, build
from ilaas.http.ops import build_ops_app
from ilaas.http.protocol import protocol_class
from ilaas.services.retention import apply_retention
from ilaas.services.settlement import Settlement

__all__ = ["Address", "Run", "serve"]

SWEEP_S = 0.25
REFRESH_S = 0.5
"""How often the store's revision is asked: half of the second within which a revoked key must be dead."""
TOUCH_S = 10.0
COUNTERS_S = 60.0
"""How often quotas of days and months learn what late records and other gateways have counted."""
SPEECH_S = 5.0
"""How often the queue of the speech service is counted, for the metrics."""
RETENTION_S = 3600.0
WEIGHTS_S = 6 * 3600.0
"""The window of the weights is 90 days: a few times a day is often enough."""
FIRST_WEIGHTS_S = 60.0
"""Soon after the start, so that a gateway that is restarted every few hours derives them too."""
IDLE_UPSTREAM_S = 60.0
"""Below the keep-alive of common servers, so that a pooled connection is seldom one that they closed."""

log = structlog.get_logger(__name__)


async def serve(settings: Settings, run: Run) -> None:
    """Run one gateway until it is told to stop. Raises ConfigError when it can't start."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FolderLock(settings.state_dir):
        gateway = build(settings)
        await gateway.store.open()
        try:
            if gateway.speech is not None:
                await gateway.speech.open()
            gateway.reconcile.use_file(settings.models, settings.organisations, settings.sites)
            await gateway.reconcile.refresh()
            await gateway.counters.load()
            await _serve(gateway, run)
        finally:
            await gateway.outbox.close()
            if gateway.speech is not None:
                await gateway.speech.close()
            await gateway.store.close()


async def _serve(gateway: Gateway, run: Run) -> None:
    settings = gateway.settings
    with listen(settings.host, settings.port) as public, listen(settings.ops_host, settings.ops_port) as ops:
        address = Address(settings.host, public.getsockname()[1], settings.ops_host, ops.getsockname()[1])
        server = QuietServer(_public_config(gateway))
        ops_server = QuietServer(_ops_config(gateway))
        watcher, speech = _watcher(gateway, run), EmbeddedWorker(settings, gateway.speech, gateway.store)
        handle_signals(run, watcher.reload_now if watcher is not None else None)
        background = [
            asyncio.create_task(job, name=name)
            for name, job in (
                ("ops", ops_server.serve(sockets=[ops])),
                ("outbox", gateway.outbox.run(gateway.store)),
                *((name, job()) for name, job in gateway.dispatch.jobs),
                ("sweep", every(SWEEP_S, _sweeper(gateway))),
                ("refresh", every(REFRESH_S, _refresher(gateway))),
                ("counters", every(COUNTERS_S, gateway.counters.load)),
                *((("quotas", gateway.sharing.run()),) if gateway.sharing is not None else ()),
                ("touch", every(TOUCH_S, _toucher(gateway))),
                ("retention", every(RETENTION_S, _forgetter(gateway))),
                ("weights", every(WEIGHTS_S, _weigher(gateway), first_s=FIRST_WEIGHTS_S)),
                ("power", every(settings.power_interval_s, gateway.power.read)),
                ("speech", speech.run(address)),
                *((("speech jobs", every(SPEECH_S, gateway.speech.count_jobs)),) if gateway.speech is not None else ()),
                *((("watch", watcher.run()),) if watcher is not None else ()),
            )
        ]
        serving = asyncio.create_task(server.serve(sockets=[public]), name="public")
        write_run_file(settings.run_file, address)
        gc.collect()
        gc.freeze()  # what the start made lives as long as the process: full collections need not look at it
        gateway.ready = True
        run.ready(address)
        try:
            await _until_stopped(run, serving, background)
            await speech.stop()
            await gateway.dispatch.leave()
            await _drain(gateway, server, serving)
            if gateway.sharing is not None:
                gateway.sharing.tell()  # that the last requests have ended
            await gateway.dispatch.close()
        finally:
            settings.run_file.unlink(missing_ok=True)
            ops_server.end()
            for task in background[1:]:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await gateway.upstream.close()
            gateway.front.uploads.close()
            await gateway.power.close()


async def _until_stopped(run: Run, serving: asyncio.Task[None], background: list[asyncio.Task[None]]) -> None:
    """Wait for the stop; a part that ends by itself is a fault and ends the process rather than limping on."""
    stop = asyncio.create_task(run.stop.wait())
    done, _ = await asyncio.wait([stop, serving, *background], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    for task in done - {stop}:
        error = task.exception()
        log.error("part_ended", part=task.get_name(), exc_info=error)


async def _drain(gateway: Gateway, server: QuietServer, serving: asyncio.Task[None]) -> None:
    """Say that it is not ready; after the notice take no new connection; cut what is left after the grace period."""
    gateway.ready = False
    gateway.front.ending = True
    await asyncio.sleep(gateway.settings.shutdown_notice_s)
    server.end()
    grace_s = gateway.settings.shutdown_grace_s
    log.info("shutdown_begun", active=len(gateway.inference.active), grace_s=grace_s)
    await asyncio.wait([serving], timeout=grace_s)  # uvicorn waits until every connection has closed
    gateway.inference.draining = True
    gateway.inference.abort_all()
    server.force_exit = True
    await asyncio.wait([serving], timeout=5)
    log.info("shutdown_finished")


# -- the loops beside the requests -------------------------------------------------------------------------------------


def _sweeper(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    count, punctual, clock = 0, Punctual(SWEEP_S), asyncio.get_running_loop().time

    async def sweep() -> None:
        nonlocal count
        count += 1
        late_s = punctual.late_s(clock())
        if late_s:
            log.warning("process_was_held_up", seconds=round(late_s, 1))
            gateway.inference.slept(late_s)
        gateway.dispatch.tick()
        gateway.inference.sweep()
        if count % 4 == 0:
            gateway.front.sweep()
        if count % 40 == 0:
            gateway.upstream.drop_idle(IDLE_UPSTREAM_S)

    return sweep


def _refresher(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    async def refresh() -> None:
        await gateway.reconcile.refresh()
        await gateway.counters.load_new()

    return refresh


def _toucher(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    async def touch() -> None:
        used = gateway.registry.take_used()
        if used:
            await gateway.store.touch_keys(used)

    return touch


def _forgetter(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    async def forget() -> None:
        await apply_retention(gateway.store, time.time(), gateway.settings.usage_retention_days)

    return forget


def _weigher(gateway: Gateway) -> Callable[[], Awaitable[None]]:
    async def weigh() -> None:
        of_file = {each.name: each.weight for each in gateway.settings.organisations}
        await Settlement(gateway.store, time.time, of_file).refresh_weights(actor="gateway")

    return weigh


# -- configuration -----------------------------------------------------------------------------------------------------


def _watcher(gateway: Gateway, run: Run) -> ConfigWatcher | None:
    path = gateway.settings.config_path
    if path is None:
        return None

    def apply(settings: Settings) -> None:
        gateway.settings = replace(
            gateway.settings,
            models=settings.models,
            organisations=settings.organisations,
            sites=settings.sites,
            warnings=settings.warnings,
        )
        gateway.reconcile.use_file(settings.models, settings.organisations, settings.sites)

    return ConfigWatcher(path, lambda: load_config(path, run.environ), apply, current=gateway.settings)


# -- listeners ---------------------------------------------------------------------------------------------------------


def _public_config(gateway: Gateway) -> uvicorn.Config:
    settings = gateway.settings
    return uvicorn.Config(
        gateway.app,  # type: ignore[arg-type]  # an ASGI application, typed as object so that wiring stays small
        http=protocol_class(gateway.front),  # type: ignore[arg-type]  # any callable that makes a protocol
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(settings.limits.keep_alive_s),
    )


def _ops_config(gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        build_ops_app(ops_sources(gateway)), ws="none", lifespan="off", log_config=None, access_log=False
    )
