"""Runs a dispatcher: it owns the models whose queues the broker gives it, and watches their servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
import uvicorn

from ilaas.adapters.folder_lock import FolderLock
from ilaas.adapters.secret import load_secret
from ilaas.adapters.writes import TurnWrites
from ilaas.app.config import load_config
from ilaas.app.config_watch import ConfigWatcher
from ilaas.app.dispatch_wiring import Deciding, build_deciding
from ilaas.app.observe import dispatcher_sources
from ilaas.app.process import QuietServer, Run, every, handle_signals, listen
from ilaas.app.run_file import Address, write_run_file
from ilaas.app.settings import Settings
from ilaas.app.wiring import open_store
from ilaas.core.errors import ConfigError, StoreUnavailable
from ilaas.core.quota import QuotaBook
from ilaas.http.ops import build_ops_app
from ilaas.ports.store import Store
from ilaas.relay.upstream import HttpUpstream
from ilaas.services.reconcile import Reconcile
from ilaas.services.registry import Registry

TICK_S = 0.25
REFRESH_S = 0.5
STORE_S = 2.0
"""Between two tries to reach the store at the start; without it the servers added at run time are not known."""

log = structlog.get_logger(__name__)


async def serve_dispatcher(settings: Settings, run: Run) -> None:
    """Run one dispatcher until it is told to stop. Raises ConfigError when it can't start."""
    if settings.broker_url is None:
        raise ConfigError("a dispatcher needs RabbitMQ: set 'broker: amqp://…' in the configuration file")
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FolderLock(settings.state_dir):
        store = open_store(settings)
        registry = Registry(load_secret(settings.state_dir).pepper)
        pages = HttpUpstream(time.monotonic, TurnWrites())
        deciding = build_deciding(settings, lambda: registry.catalogue, time.monotonic, pages)
        reconcile = Reconcile(store, registry, QuotaBook(), deciding.dispatching.configure)
        try:
            await _serve(settings, run, deciding, (store, reconcile))
        finally:
            await pages.close()
            await store.close()


async def _serve(settings: Settings, run: Run, deciding: Deciding, state: tuple[Store, Reconcile]) -> None:
    store, reconcile = state
    watcher = _watcher(settings, run, reconcile)
    handle_signals(run, watcher.reload_now if watcher is not None else None)
    with listen(settings.ops_host, settings.ops_port) as ops:
        address = Address(settings.ops_host, ops.getsockname()[1], settings.ops_host, ops.getsockname()[1])
        server = QuietServer(_ops_config(deciding, reconcile))
        listening = asyncio.create_task(server.serve(sockets=[ops]), name="ops")
        write_run_file(settings.run_file, address)
        try:
            if not await _opened(store, run):
                return
            reconcile.use_file(settings.models, settings.organisations, settings.sites)
            await reconcile.refresh()
            jobs = [
                listening,
                asyncio.create_task(every(TICK_S, _as_work(deciding.dispatching.tick)), name="tick"),
                asyncio.create_task(every(REFRESH_S, reconcile.refresh), name="refresh"),
                *(asyncio.create_task(job(), name=name) for name, job in deciding.jobs),
                *((asyncio.create_task(watcher.run(), name="watch"),) if watcher is not None else ()),
            ]
            run.ready(address)
            await _until_stopped(run, jobs)
            await deciding.dispatching.leave()
            await deciding.dispatching.close()
            for job in jobs[1:]:
                job.cancel()
            await asyncio.gather(*jobs[1:], return_exceptions=True)
        finally:
            settings.run_file.unlink(missing_ok=True)
            server.end()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


async def _opened(store: Store, run: Run) -> bool:
    """Wait for the store; False when the process is told to stop before it answers."""
    told = False
    while not run.stop.is_set():
        try:
            await store.open()
        except StoreUnavailable as error:
            if not told:
                log.warning("store_unavailable", reason=error.message)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.stop.wait(), STORE_S)
        else:
            return True
    return False


async def _until_stopped(run: Run, jobs: list[asyncio.Task[None]]) -> None:
    stop = asyncio.create_task(run.stop.wait())
    done, _ = await asyncio.wait([stop, *jobs], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    for task in done - {stop}:
        log.error("part_ended", part=task.get_name(), exc_info=task.exception())


def _as_work(step: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A step that awaits nothing, for `every`."""

    async def work() -> None:
        step()

    return work


def _watcher(settings: Settings, run: Run, reconcile: Reconcile) -> ConfigWatcher | None:
    path = settings.config_path
    if path is None:
        return None

    def apply(new: Settings) -> None:
        reconcile.use_file(new.models, new.organisations, new.sites)

    return ConfigWatcher(path, lambda: load_config(path, run.environ), apply, current=replace(settings))


def _ops_config(deciding: Deciding, reconcile: Reconcile) -> uvicorn.Config:
    sources = dispatcher_sources(deciding.dispatching, time.time(), deciding.gauges, reconcile.follow)
    return uvicorn.Config(build_ops_app(sources), ws="none", lifespan="off", log_config=None, access_log=False)
