"""Brokers as tests drive them, step by step: in this process, and over a real RabbitMQ with a dispatcher behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ilaas.adapters.broker_memory import MemoryBroker
from ilaas.adapters.rabbit.broker import RabbitBroker
from ilaas.adapters.rabbit.dispatching import RabbitDispatching
from ilaas.adapters.rabbit.topology import Topology
from ilaas.core.catalogue import Catalogue
from ilaas.ports.broker import Broker

T = TypeVar("T")
PATIENCE_S = 20.0


class Bench(Protocol):
    """A broker that is ready for the models of a catalogue."""

    def serve(self, catalogue: Catalogue) -> None:
        """These models, and no others; returns when they are dispatched."""

    def do(self, action: Callable[[Broker, float], T]) -> T:
        """Call the broker where it lives; the time is by its clock."""

    def until(self, condition: Callable[[], bool]) -> bool:
        """Let the broker work until it holds; False when it does not come to hold."""

    def close(self) -> None:
        """End it."""


class MemoryBench:
    """Everything happens inside the calls."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(time.monotonic)

    def serve(self, catalogue: Catalogue) -> None:
        self._broker.configure(catalogue, {})

    def do(self, action: Callable[[Broker, float], T]) -> T:
        return action(self._broker, time.monotonic())

    def until(self, condition: Callable[[], bool]) -> bool:
        self._broker.tick()
        return condition()

    def close(self) -> None:
        """Nothing to end."""


class RabbitBench:
    """A gateway's broker and two dispatchers on an event loop of their own."""

    def __init__(self, url: str, namespace: str, *, quorum: bool = False) -> None:
        topology = Topology(namespace, quorum=quorum)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._gateway = self._run(self._make(RabbitBroker, url, f"{namespace}-g", topology))
        self._dispatchers = [
            self._run(self._make(RabbitDispatching, url, f"{namespace}-d{number}", topology)) for number in range(2)
        ]
        self._tasks = self._run(self._start())

    @staticmethod
    async def _make(kind: Callable[..., T], url: str, name: str, topology: Topology) -> T:
        return kind(url, name, time.monotonic, topology)

    async def _start(self) -> list[asyncio.Task[None]]:
        parts = [self._gateway, *self._dispatchers]
        return [asyncio.create_task(part.run()) for part in parts] + [asyncio.create_task(self._tick())]

    async def _tick(self) -> None:
        while True:
            for part in (self._gateway, *self._dispatchers):
                part.tick()
            await asyncio.sleep(0.05)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def serve(self, catalogue: Catalogue) -> None:
        async def configure() -> None:
            for part in (self._gateway, *self._dispatchers):
                part.configure(catalogue, {})

        self._run(configure())
        models = set(catalogue.models)
        assert self.until(lambda: set(self._owned()) == models), "no dispatcher took the models"

    def _owned(self) -> list[str]:
        return [model for dispatcher in self._dispatchers for model in dispatcher.owned()]

    def running(self, model: str) -> int:
        """Requests that the dispatcher of the model has noted."""
        views = [view for dispatcher in self._dispatchers for view in dispatcher.views() if view.model == model]
        return views[0].running if views else -1

    def do(self, action: Callable[[Broker, float], T]) -> T:
        async def call() -> T:
            return action(self._gateway.broker, time.monotonic())

        return self._run(call())

    def until(self, condition: Callable[[], bool]) -> bool:
        async def watch() -> bool:
            end_s = time.monotonic() + PATIENCE_S / 2
            while not condition():
                if time.monotonic() > end_s:
                    return False
                await asyncio.sleep(0.002)
            return True

        return self._run(watch())

    def close(self) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
