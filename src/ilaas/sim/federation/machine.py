"""One server in a run: its engine, whether it is there and answers, and its gauges as the gateway reads them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ilaas.core.dispatch.events import ServerStatistics
from ilaas.sim.federation.engine import CoarseEngine
from ilaas.sim.federation.plan import Box

_KV_STEPS = 200
"""The share of the KV cache is told in steps of half a percent, so that equal readings are one object."""

Readings = dict[tuple[int, int, int], ServerStatistics]


@dataclass(slots=True)
class Worked:
    """What the engines that a machine had before have done."""

    active_s: float = 0.0
    computed_tokens: int = 0
    generated_tokens: float = 0.0


class Machine:
    """A server, running or not."""

    __slots__ = (
        "alive",
        "box",
        "busy_slot_s",
        "comings",
        "draining",
        "engine",
        "goings",
        "held",
        "here",
        "here_s",
        "index",
        "interrupted",
        "since_s",
        "wake_s",
        "worked",
    )

    def __init__(self, index: int, box: Box) -> None:
        self.index = index
        self.box = box
        self.engine = CoarseEngine(box.engine)
        self.here = box.here
        """In the catalogue."""
        self.alive = True
        self.draining = False
        self.wake_s = inf
        """When its engine is looked at next."""
        self.held: dict[int, float] = {}
        """Requests that hold a slot, with the time of the grant."""
        self.worked = Worked()
        self.busy_slot_s = 0.0
        self.here_s = 0.0
        self.since_s = 0.0
        self.comings = self.goings = self.interrupted = 0

    @property
    def up(self) -> bool:
        """It takes requests and answers them."""
        return self.here and self.alive

    @property
    def slots(self) -> int:
        """Slots that new requests may take."""
        return self.box.max_parallel if self.up and not self.draining else 0

    def count_time(self, now: float) -> None:
        """Add the time since the last call, if it was up."""
        if self.up:
            self.here_s += now - self.since_s
        self.since_s = now

    def restart(self, now: float) -> None:
        """A new process: all work and caches are gone."""
        engine, worked = self.engine, self.worked
        engine.advance(now)
        worked.active_s += engine.active_s
        worked.computed_tokens += engine.computed_tokens
        worked.generated_tokens += engine.generated_tokens
        self.engine = CoarseEngine(self.box.engine)
        self.wake_s = inf

    def statistics(self, readings: Readings) -> ServerStatistics:
        """One reading. `readings` keeps those made before."""
        engine = self.engine
        key = (engine.running, engine.waiting, int(min(1.0, max(0.0, engine.kv_usage)) * _KV_STEPS))
        reading = readings.get(key)
        if reading is None:
            reading = readings[key] = ServerStatistics(
                running=key[0], waiting=key[1], kv_cache_usage=key[2] / _KV_STEPS
            )
        return reading
