"""How many requests one server may be given at a time.

`round-robin`: any number. `round-robin-priority`: the configured maximum. `least-busy`: the configured maximum, bounded
by a limit that is learned, so that requests wait here, where they can be ordered, and not inside the server:

* two reports in a row say `waiting > 0`, and `running` did not grow between them: the server is full, and `running` is
  what it can really do. (A single one, or one while `running` grows, is only prompts that are about to be computed.)
* nothing waits and the whole limit is in use: half as much again as long as waiting was never seen; then +10 % for a
  report (at least 1) up to nine tenths of the level where it (or the guard) was last met, then +1, and not within 5 s.
* the KV cache is nearly full (92 %): no growth; 97 %: -5 %.
* the time to first token passes the guard: -10 %, once a second at most and each time on news, once what is in flight
  has come down to the limit; never below a quarter of the maximum (of `FIRST_LIMIT` where none is configured), since
  long prompts alone can pass the guard.

Where no maximum is configured the limit starts at `FIRST_LIMIT`, so that a long queue doesn't flood a small server.
"""

from __future__ import annotations

from ilaas.core.catalogue import DispatchPolicy, ServerSpec
from ilaas.core.dispatch.events import ServerStatistics
from ilaas.core.values import Strategy

UNLIMITED = 1 << 40
FIRST_LIMIT = 16
STEP_S = 1.0
"""Without statistics the limit moves at most once in this time, and up not before twice the time to first token."""
KV_NEARLY_FULL = 0.92
KV_FULL = 0.97
KNEE_PAUSE_S = 5.0
"""Without growth after waiting was seen."""
TTFT_WEIGHT = 0.2
"""Of a new observation in the recent mean."""


class Capacity:
    """The limit of one server, and what it is learned from."""

    __slots__ = (
        "_floor",
        "_full_s",
        "_guard_s",
        "_knee",
        "_limit",
        "_moved_s",
        "_news",
        "_running",
        "_started",
        "_waited",
        "adaptive",
        "limit",
        "maximum",
        "ttft_s",
    )

    def __init__(self) -> None:
        self.adaptive = False
        self.maximum = UNLIMITED
        self.limit = UNLIMITED
        """Simultaneous requests allowed now; a whole number, at least 1."""
        self.ttft_s: float | None = None
        """Recent mean, observed by us."""
        self._limit = float(UNLIMITED)
        self._knee = float(UNLIMITED)
        self._full_s = float("-inf")
        """When it was last seen to be full."""
        self._waited = False
        self._running = 0
        """Of the last report."""
        self._moved_s = float("-inf")
        self._guard_s = float("inf")
        self._news = False
        """A first token came since the guard last lowered the limit."""
        self._floor = 1.0
        """The guard alone does not go below this."""
        self._started = False

    def configure(self, spec: ServerSpec, policy: DispatchPolicy) -> None:
        """Take the configured maximum; what was learned stays, within it."""
        self.adaptive = policy.strategy is Strategy.LEAST_BUSY
        self._guard_s = policy.ttft_guard_s
        maximum = spec.max_parallel_requests or policy.default_max_parallel
        self.maximum = UNLIMITED if policy.strategy is Strategy.ROUND_ROBIN else max(1, maximum)
        known = spec.max_parallel_requests is not None or not self.adaptive
        self._floor = max(1.0, (self.maximum if known else FIRST_LIMIT) / 4)
        if not self._started:
            self._limit = float(self.maximum if known else FIRST_LIMIT)
            self._started = True
        elif known and not self._seen_full():
            self._limit = float(self.maximum)
        self._set(self._limit, self.maximum)

    def observe_ttft(self, ttft_s: float) -> None:
        """One answer's time to first token."""
        old = self.ttft_s
        self.ttft_s = ttft_s if old is None else old + TTFT_WEIGHT * (ttft_s - old)
        self._news = True

    def report(self, statistics: ServerStatistics, in_flight: int, now: float) -> None:
        """Learn from the server's gauges."""
        if not self.adaptive:
            return
        self._moved_s = now
        ceiling = self._ceiling(statistics, in_flight)
        waiting = statistics.waiting or 0
        running = in_flight - waiting if statistics.running is None else statistics.running
        kv = statistics.kv_cache_usage or 0.0
        limit = min(self._limit, float(ceiling))
        if waiting and self._waited and running <= self._running:
            limit = self._knee = max(1.0, min(limit, float(running), float(in_flight)))
            self._full_s = now
        elif kv >= KV_FULL and in_flight >= limit * 0.5:
            limit = max(1.0, min(limit, float(in_flight)) * 0.95)
        elif self._slow(statistics):
            limit = self._lowered(limit, in_flight, now)
        elif not waiting and in_flight >= int(limit) and kv < KV_NEARLY_FULL:
            limit = self._raised(limit, now)
        self._waited = waiting > 0
        self._running = running
        self._set(limit, ceiling)

    def observe(self, in_flight: int, now: float) -> None:
        """Learn from in-flight and time to first token alone, where no statistics come."""
        if not self.adaptive or now - self._moved_s < STEP_S:
            return
        if self._slow(None):
            self._moved_s = now
            self._set(self._lowered(self._limit, in_flight, now), self.maximum)
        elif in_flight >= self.limit and self.limit < self.maximum and self._seen_since(now):
            self._moved_s = now
            self._set(self._raised(self._limit, now), self.maximum)

    def _ceiling(self, statistics: ServerStatistics, in_flight: int) -> int:
        """The maximum, less what others than we have under way there when the server tells its slots."""
        if not statistics.slots:
            return self.maximum
        foreign = max(0, (statistics.running or 0) + (statistics.waiting or 0) - in_flight)
        return max(1, min(self.maximum, statistics.slots - foreign))

    def _seen_full(self) -> bool:
        return self._knee < UNLIMITED

    def _seen_since(self, now: float) -> bool:
        """Whether the last step can be seen by now in first tokens of what was sent after it."""
        return self.ttft_s is not None and now - self._moved_s >= 2.0 * self.ttft_s

    def _slow(self, statistics: ServerStatistics | None) -> bool:
        """By what we observed ourselves; by the server's own window only before that."""
        if self.ttft_s is not None:
            return self._news and self.ttft_s > self._guard_s
        told = statistics.ttft_p95_s if statistics is not None else None
        return told is not None and told > self._guard_s

    def _lowered(self, limit: float, in_flight: int, now: float) -> float:
        if in_flight > limit:
            return limit  # the last step has not had its effect yet
        self._news = False
        self._full_s = now
        self._knee = min(limit, max(self._floor, in_flight * 0.9))
        return self._knee

    def _raised(self, limit: float, now: float) -> float:
        if not self._seen_full():
            return limit * 1.5
        if limit < 0.9 * self._knee:
            return limit + max(1.0, 0.1 * limit)
        if now - self._full_s < KNEE_PAUSE_S:
            return limit
        self._knee = max(self._knee, limit)
        return limit + 1.0

    def _set(self, limit: float, ceiling: int) -> None:
        self._limit = max(1.0, min(limit, float(ceiling)))
        self.limit = int(self._limit)
