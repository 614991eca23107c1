"""One simulated server in a run: its engine, whether it is up, and its gauges as the gateway's poller reads them."""

from __future__ import annotations

from collections import deque

from ilaas.core.dispatch.events import ServerStatistics
from ilaas.sim.engine import Engine
from ilaas.sim.scenario import Server

WINDOW_READINGS = 24
"""Readings over which the time to first token is judged."""


class Station:
    """A server of the scenario, running."""

    def __init__(self, model: str, server: Server) -> None:
        self.model = model
        self.server = server
        self.engine = Engine(server.engine)
        self.up = True
        self.draining = False
        self.wake_s = float("inf")
        """When its engine is looked at next."""
        self._readings: deque[list[int]] = deque(maxlen=WINDOW_READINGS)

    @property
    def slots(self) -> int:
        """Slots that all may use: as many as may be granted and the engine has, less those kept for the owner."""
        if not self.up or self.draining:
            return 0
        slots = self.engine.params.slots
        granted = self.server.max_parallel
        return max(0, (slots if granted is None else min(slots, granted)) - self.server.owner_reserved)

    def go_down(self) -> None:
        """The process dies: all its work and its gauges are gone."""
        self.up = False
        self.engine = Engine(self.engine.params)
        self._readings.clear()

    def statistics(self) -> ServerStatistics:
        """One reading, as from vLLM's /metrics."""
        engine = self.engine
        self._readings.append(engine.ttft.cumulative())
        return ServerStatistics(
            running=engine.running,
            waiting=engine.waiting,
            kv_cache_usage=engine.kv_cache_usage,
            ttft_p95_s=self._ttft_p95_s(),
            models=(self.model,),
        )

    def _ttft_p95_s(self) -> float | None:
        """The window's 95th percentile, straight-lined inside its bucket; None when no first token came."""
        first, last = self._readings[0], self._readings[-1]
        rank = 0.95 * (last[-1] - first[-1])
        lower = below = 0.0
        for bound, earlier, later in zip(self.engine.ttft.bounds, first, last, strict=False):
            count = later - earlier
            if count >= rank and count > below:
                return lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = bound, count
        return lower if rank else None
