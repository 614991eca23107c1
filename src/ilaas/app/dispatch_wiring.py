"""Where requests are dispatched: in the gateway's own process, or by dispatchers behind RabbitMQ."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilaas.adapters.broker_memory import MemoryBroker
from ilaas.adapters.monitor import Monitor, MonitorOptions
from ilaas.adapters.rabbit.broker import RabbitBroker
from ilaas.adapters.rabbit.dispatching import RabbitDispatching
from ilaas.adapters.rabbit.topology import Topology
from ilaas.app.metrics import BrokerGauges, no_broker
from ilaas.app.settings import Role, Settings
from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.events import ModelView
from ilaas.ports.broker import Broker
from ilaas.ports.gossip import Gossip
from ilaas.ports.upstream import UpstreamPages

Configure = Callable[[Catalogue, Mapping[str, float]], None]
Job = tuple[str, Callable[[], Coroutine[Any, Any, None]]]
"""A loop that runs as long as the process, and its name."""


async def _nothing() -> None:
    return


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDispatch:
    """What a gateway has of the dispatcher."""

    broker: Broker
    configure: Configure
    tick: Callable[[], None]
    views: Callable[[], Sequence[ModelView]]
    jobs: tuple[Job, ...]
    """Beside the requests, among them the one that watches servers where this process decides."""
    ready: Callable[[], bool] = _always
    """Whether requests can be dispatched."""
    gauges: Callable[[], BrokerGauges | None] = no_broker
    """What is seen of the broker."""
    gossip: Gossip | None = None
    """To the other gateways; None when there are none."""
    leave: Callable[[], Awaitable[None]] = _nothing
    """Before a planned end, while answers still run: let others decide."""
    close: Callable[[], Awaitable[None]] = _nothing
    """At the end, when nothing runs any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """A dispatcher behind the broker, with the one that watches the servers of its models."""

    dispatching: RabbitDispatching
    monitor: Monitor

    def gauges(self) -> BrokerGauges:
        """What is seen of the broker."""
        link = self.dispatching
        return BrokerGauges(
            connected=link.connected, strange=link.strange(), owned=len(link.owned()), credits=link.credits()
        )

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Its loops."""
        return (("dispatching", self.dispatching.run), ("monitor", self.monitor.run))


def build_gateway_dispatch(
    settings: Settings, catalogue: Callable[[], Catalogue], clock: Callable[[], float], pages: UpstreamPages
) -> GatewayDispatch:
    """For a gateway; `catalogue` is what holds now, `clock` monotonic seconds, `pages` reads servers' statistics."""
    if settings.broker_url is None:
        memory = MemoryBroker(clock)
        monitor = Monitor(catalogue, pages, memory.report, memory.check, _options(settings))
        return GatewayDispatch(
            broker=memory,
            configure=memory.configure,
            tick=memory.tick,
            views=memory.views,
            jobs=(("monitor", monitor.run),),
        )
    rabbit = RabbitBroker(settings.broker_url, process_name("gateway"), clock, _topology(settings))
    if settings.role is not Role.ALL:
        return GatewayDispatch(
            broker=rabbit.broker,
            configure=rabbit.configure,
            tick=rabbit.tick,
            views=rabbit.broker.views,
            jobs=(("broker", rabbit.run),),
            ready=rabbit.ready,
            gauges=lambda: _gauges(rabbit, None),
            gossip=rabbit,
            close=rabbit.close,
        )
    deciding = build_deciding(settings, catalogue, clock, pages)

    def configure(new: Catalogue, weights: Mapping[str, float]) -> None:
        deciding.dispatching.configure(new, weights)
        rabbit.configure(new, weights)

    def tick() -> None:
        deciding.dispatching.tick()
        rabbit.tick()

    async def close() -> None:
        await rabbit.close()
        await deciding.dispatching.close()

    return GatewayDispatch(
        broker=rabbit.broker,
        configure=configure,
        tick=tick,
        views=rabbit.broker.views,
        jobs=(("broker", rabbit.run), *deciding.jobs),
        ready=rabbit.ready,
        gauges=lambda: _gauges(rabbit, deciding.dispatching),
        gossip=rabbit,
        leave=deciding.dispatching.leave,
        close=close,
    )


def build_deciding(
    settings: Settings, catalogue: Callable[[], Catalogue], clock: Callable[[], float], pages: UpstreamPages
) -> Deciding:
    """For a process that decides for models. It watches the servers of those that it owns, and of no others."""
    assert settings.broker_url is not None  # noqa: S101  # the caller has looked
    dispatching = RabbitDispatching(settings.broker_url, process_name("dispatcher"), clock, _topology(settings))
    owned = _Owned(catalogue, dispatching.owned)
    monitor = Monitor(owned, pages, dispatching.report, dispatching.check, _options(settings))
    return Deciding(dispatching=dispatching, monitor=monitor)


def _gauges(link: RabbitBroker, deciding: RabbitDispatching | None) -> BrokerGauges:
    strange = link.strange() + (deciding.strange() if deciding is not None else 0)
    owned = len(deciding.owned()) if deciding is not None else None
    return BrokerGauges(connected=link.connected, strange=strange, owned=owned, credits=link.credits())


class _Owned:
    """The catalogue of the models that are owned; the same object as long as it is the same."""

    def __init__(self, catalogue: Callable[[], Catalogue], owned: Callable[[], list[str]]) -> None:
        self._catalogue = catalogue
        self._owned = owned
        self._of: tuple[Catalogue, list[str]] | None = None
        self._last = Catalogue()

    def __call__(self) -> Catalogue:
        whole, owned = self._catalogue(), self._owned()
        if self._of is None or self._of[0] is not whole or self._of[1] != owned:
            self._of = (whole, owned)
            self._last = Catalogue.of(whole.models[name] for name in owned if name in whole.models)
        return self._last


def process_name(kind: str) -> str:
    """New for each start, and telling where it runs."""
    return f"{kind}-{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


def _topology(settings: Settings) -> Topology:
    return Topology(settings.broker_namespace, quorum=settings.broker_quorum)


def _options(settings: Settings) -> MonitorOptions:
    return MonitorOptions(
        statistics_interval_s=settings.statistics_interval_s, health_interval_s=settings.health_interval_s
    )
