"""Watches every server of the catalogue: reads its gauges and checks its health, each server for itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from ilaas.adapters.statistics.engines import NOTHING, READERS, Reader
from ilaas.adapters.statistics.fetch import Answer, fetch
from ilaas.adapters.statistics.ttft import TtftWindow
from ilaas.core.catalogue import Catalogue, ServerSpec
from ilaas.core.dispatch.events import ServerStatistics
from ilaas.core.values import Engine
from ilaas.ports.upstream import UpstreamPages

MODELS_PATH = "/v1/models"
HEALTH_PATH = "/health"
"""Asked of a server that has no list of models (rerankers, speech)."""

_FOLLOW_S = 0.5
_BACK_OFF = (1, 2, 4, 8)
"""Times the statistics interval that a reader pauses after so many failures in a row."""

log = structlog.stdlib.get_logger(__name__)


class CheckSink(Protocol):
    """Takes the result of one health check (`ports.broker.Broker.check`)."""

    def __call__(self, model: str, server_id: str, *, ok: bool) -> None:
        """`ok` is whether the server answered 2xx."""


ReportSink = Callable[[str, str, ServerStatistics], None]
"""Takes model, server id and a reading (`ports.broker.Broker.report`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """How often servers are asked. The last two stand for the world in tests."""

    statistics_interval_s: float = 1.0
    health_interval_s: float = 5.0
    timeout_s: float = 3.0
    """For the whole of one answer."""
    max_reads_per_s: float = 500.0
    """Of statistics, over all servers: one costs 0.1 ms of CPU, so that with more servers each is read less often."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random
    """0 to 1: spreads the starts, so that hundreds of servers aren't asked in the same moment."""


@dataclass(frozen=True, slots=True)
class _Address:
    """What is asked once, however many models it serves."""

    url: str
    engine: Engine
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Member:
    """One model's server at an address."""

    model: str
    server: ServerSpec


@dataclass(slots=True)
class _Condition:
    """Whether something works, so that only a change is logged."""

    failures: int = 0
    fault: str | None = None

    def change(self, fault: str | None) -> bool:
        """Note a result; whether it differs from the one before in being good or bad."""
        changed = (fault is None) != (self.fault is None)
        self.fault = fault
        self.failures = 0 if fault is None else self.failures + 1
        return changed


class _Target:
    """One address under watch, with the models behind it."""

    def __init__(self, address: _Address) -> None:
        self.address = address
        self.reader: Reader | None = READERS.get(address.engine)
        self.members: tuple[_Member, ...] = ()
        self.statistics = _Condition()
        self.health = _Condition()
        self.tasks: list[asyncio.Task[None]] = []
        self._windows: dict[str, TtftWindow] = {}

    def follow(self, members: tuple[_Member, ...]) -> None:
        """Serve these from now on; the windows of models that stay are kept."""
        self.members = members
        names = {member.server.served_name for member in members}
        self._windows = {name: self._windows.get(name) or TtftWindow() for name in names}

    def read(self, reader: Reader, pages: dict[str, str]) -> dict[str, ServerStatistics]:
        """The reading of each served model, by its name on the server."""
        return {name: reader.parse(pages, name, window) for name, window in self._windows.items()}


class Monitor:
    """Polls servers until it is cancelled. A server that fails or hangs is waited for by its own tasks only."""

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        pages: UpstreamPages,
        report: ReportSink,
        check: CheckSink,
        options: MonitorOptions | None = None,
    ) -> None:
        """`report` and `check` are called on the event loop, once per model and server."""
        self._catalogue = catalogue
        self._pages = pages
        self._report = report
        self._check = check
        self._options = options or MonitorOptions()
        self._targets: dict[_Address, _Target] = {}
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """The catalogue was swapped: follow it at once (it is looked at twice a second anyway)."""
        self._changed.set()

    async def run(self) -> None:
        """Watch for ever. On cancellation every task ends."""
        try:
            followed: Catalogue | None = None
            while True:
                current = self._catalogue()
                if current is not followed:
                    followed = current
                    self._follow(current)
                await self._pause()
        finally:
            await self._stop(list(self._targets.values()))
            self._targets.clear()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_FOLLOW_S):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def _follow(self, catalogue: Catalogue) -> None:
        wanted: dict[_Address, list[_Member]] = {}
        for model in catalogue.models.values():
            for server in model.servers:
                address = _Address(server.url, server.engine, server.token)
                wanted.setdefault(address, []).append(_Member(model.name, server))
        for address in [address for address in self._targets if address not in wanted]:
            for task in self._targets.pop(address).tasks:
                task.cancel()
        for address, members in wanted.items():
            target = self._targets.get(address)
            if target is None:
                target = self._targets[address] = _Target(address)
                target.tasks = [asyncio.create_task(self._watch_health(target))]
                if target.reader is not None:
                    target.tasks.append(asyncio.create_task(self._watch_statistics(target, target.reader)))
            target.follow(tuple(members))

    @staticmethod
    async def _stop(targets: Iterable[_Target]) -> None:
        tasks = [task for target in targets for task in target.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one server ----------------------------------------------------------------------------------------------------

    async def _watch_statistics(self, target: _Target, reader: Reader) -> None:
        interval_s = self._options.statistics_interval_s
        own = _Condition()
        await self._options.sleep(interval_s * self._options.jitter())
        while True:
            await self._guarded(self._read_statistics(target, reader), target, own)
            failures = min(target.statistics.failures, len(_BACK_OFF) - 1)
            least_s = len(self._targets) / self._options.max_reads_per_s
            await self._options.sleep(max(interval_s, least_s) * _BACK_OFF[failures])

    async def _watch_health(self, target: _Target) -> None:
        interval_s = self._options.health_interval_s
        own = _Condition()
        await self._options.sleep(min(interval_s, 1.0) * self._options.jitter())
        while True:
            await self._guarded(self._check_health(target), target, own)
            await self._options.sleep(interval_s)

    @staticmethod
    async def _guarded(step: Awaitable[None], target: _Target, condition: _Condition) -> None:
        """A fault of our own, or of who is told, must not blind the dispatcher to this server for good."""
        fault = None
        try:
            await step
        except Exception as error:  # noqa: BLE001  # see above; only its kind is told: it might quote the server
            fault = type(error).__name__
        if condition.change(fault):
            _tell("server_monitor_recovered", "server_monitor_failed", target, fault)

    async def _read_statistics(self, target: _Target, reader: Reader) -> None:
        pages: dict[str, str] = {}
        fault = None
        for path in reader.paths:
            answer = await self._get(target, path)
            if answer.fault is None:
                pages[path] = answer.text
            else:
                fault = answer.fault
        readings = target.read(reader, pages) if pages else {}
        told = {name: reading for name, reading in readings.items() if reading != NOTHING}
        if pages and not told:
            fault = "no statistics on the page"
        if target.statistics.change(None if told else fault):
            _tell("server_statistics_recovered", "server_statistics_failed", target, target.statistics.fault)
        for member in target.members:
            reading = told.get(member.server.served_name)
            if reading is not None:
                self._report(member.model, member.server.id, reading)

    async def _get(self, target: _Target, path: str) -> Answer:
        """By the first of the models that share the address: what is sent is the same for all of them."""
        return await fetch(self._pages, target.members[0].server, path, self._options.timeout_s)

    async def _check_health(self, target: _Target) -> None:
        answer = await self._get(target, MODELS_PATH)
        if answer.missing:
            answer = await self._get(target, HEALTH_PATH)
            if answer.missing:
                return  # nothing to ask: what requests show of this server is all there is
        if target.health.change(answer.fault):
            _tell("server_health_recovered", "server_health_failed", target, answer.fault)
        for member in target.members:
            self._check(member.model, member.server.id, ok=answer.fault is None)


def _tell(working: str, failing: str, target: _Target, fault: str | None) -> None:
    """One event when something begins to fail or to work again; never at each try."""
    servers = [member.server.id for member in target.members]
    host = _host(target.address.url)
    if fault is None:
        log.info(working, servers=servers, host=host)
    else:
        log.warning(failing, servers=servers, host=host, fault=fault)


def _host(url: str) -> str:
    """Host and port only: a URL may carry a password."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "invalid"
