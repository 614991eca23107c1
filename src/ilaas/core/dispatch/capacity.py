"""How many requests one server may be given at a time.

`round-robin`: any number. `round-robin-priority`: the configured maximum. `least-busy`: the configured maximum, bounded
by a limit that is learned, so that requests wait here, where they can be ordered, and not inside the server:

* the server reports `waiting > 0`: it is full, and `running` is what it can really do. The limit goes half of the way
  there, and the whole way when the next report says the same.
* nothing waits and the whole limit is in use: +10 % for a report (at least 1) below nine tenths of the level where
  waiting was last seen, then +1.
* the KV cache is nearly full (92 %): no growth; 97 %: -5 %. The time to first token passes the guard: -10 % a second,
  but never below a quarter of the maximum, since long prompts alone can pass it.
"""

from __future__ import annotations

from ilaas.core.catalogue import DispatchPolicy, ServerSpec
from ilaas.core.dispatch.events import ServerStatistics
from ilaas.core.values import Strategy

UNLIMITED = 1 << 40
STEP_S = 1.0
"""Without statistics the limit moves at most once in this time."""
KV_NEARLY_FULL = 0.92
KV_FULL = 0.97
TTFT_WEIGHT = 0.2
"""Of a new observation in the recent mean."""


class Capacity:
    """The limit of one server, and what it is learned from."""

    __slots__ = ("_guard_s", "_knee", "_limit", "_moved_s", "_waited", "adaptive", "limit", "maximum", "ttft_s")

    def __init__(self) -> None:
        self.adaptive = False
        self.maximum = UNLIMITED
        self.limit = UNLIMITED
        """Simultaneous requests allowed now; a whole number, at least 1."""
        self.ttft_s: float | None = None
        """Recent mean, observed by us."""
        self._limit = float(UNLIMITED)
        self._knee = float(UNLIMITED)
        self._waited = False
        self._moved_s = float("-inf")
        self._guard_s = float("inf")

    def configure(self, spec: ServerSpec, policy: DispatchPolicy) -> None:
        """Take the configured maximum; what was learned stays, within it."""
        self.adaptive = policy.strategy is Strategy.LEAST_BUSY
        self._guard_s = policy.ttft_guard_s
        maximum = spec.max_parallel_requests or policy.default_max_parallel
        self.maximum = UNLIMITED if policy.strategy is Strategy.ROUND_ROBIN else max(1, maximum)
        grown = self._limit >= self.maximum or not self.adaptive
        self._set(float(self.maximum) if grown else self._limit, self.maximum)

    def observe_ttft(self, ttft_s: float) -> None:
        """One answer's time to first token."""
        old = self.ttft_s
        self.ttft_s = ttft_s if old is None else old + TTFT_WEIGHT * (ttft_s - old)

    def report(self, statistics: ServerStatistics, in_flight: int, now: float) -> None:
        """Learn from the server's gauges."""
        if not self.adaptive:
            return
        self._moved_s = now
        ceiling = self._ceiling(statistics, in_flight)
        waiting = statistics.waiting or 0
        kv = statistics.kv_cache_usage or 0.0
        limit = min(self._limit, float(ceiling))
        if waiting > 0:
            used = min(limit, float(in_flight)) if in_flight else limit
            runs = max(1.0, float(min(in_flight - waiting, used if statistics.running is None else statistics.running)))
            limit = max(1.0, min(used, runs if self._waited else (used + runs) / 2))
            self._knee = runs
        elif kv >= KV_FULL and in_flight >= limit * 0.5:
            limit = max(1.0, min(limit, float(in_flight)) * 0.95)
        elif self._slow(statistics):
            limit = self._lowered(limit, in_flight)
        elif in_flight >= int(limit) and kv < KV_NEARLY_FULL:
            limit = self._raised(limit)
        self._waited = waiting > 0
        self._set(limit, ceiling)

    def observe(self, in_flight: int, now: float) -> None:
        """Learn from in-flight and time to first token alone, where no statistics come."""
        if not self.adaptive or now - self._moved_s < STEP_S:
            return
        if self._slow(None):
            self._moved_s = now
            self._set(self._lowered(self._limit, in_flight), self.maximum)
        elif self.limit < self.maximum and in_flight >= self.limit:
            self._moved_s = now
            self._set(self._raised(self._limit), self.maximum)

    def slowness(self) -> float:
        """Time to first token in relation to the guard, 0 to 1."""
        return 0.0 if self.ttft_s is None else min(1.0, self.ttft_s / self._guard_s)

    def _ceiling(self, statistics: ServerStatistics, in_flight: int) -> int:
        """The maximum, less what others than we have under way there when the server tells its slots."""
        if not statistics.slots:
            return self.maximum
        foreign = max(0, (statistics.running or 0) + (statistics.waiting or 0) - in_flight)
        return max(1, min(self.maximum, statistics.slots - foreign))

    def _slow(self, statistics: ServerStatistics | None) -> bool:
        told = statistics.ttft_p95_s if statistics is not None else None
        return max(self.ttft_s or 0.0, told or 0.0) > self._guard_s

    def _lowered(self, limit: float, in_flight: int) -> float:
        floor = max(1.0, self.maximum / 4)
        return min(limit, max(floor, min(limit, float(in_flight)) * 0.9))

    def _raised(self, limit: float) -> float:
        if limit < 0.9 * self._knee:
            return limit + max(1.0, 0.1 * limit)
        self._knee = max(self._knee, limit)
        return limit + 1.0

    def _set(self, limit: float, ceiling: int) -> None:
        self._limit = max(1.0, min(limit, float(ceiling)))
        self.limit = int(self._limit)
