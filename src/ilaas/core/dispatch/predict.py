"""How long a request will wait, from what was measured.

    release rate  mu    = sum over classes of (in flight / mean duration of a lease)           slots per second
    own ahead     k     = the organisation's waiting requests of at least that priority
    others ahead  o     = min(waiting of others, (k + 1) * (weight of others waiting / own weight))
    interactive wait    = (k + o + 1) / mu
    batch wait          = (interactive waiting + k + o + 1) / max(mu - interactive arrivals/s, mu * ageing share)

The mean duration is that of the leases that ended, or the mean age of those under way when that is more: the truth is
at least that, at the start and when requests get longer.
"""

from __future__ import annotations

import math

from ilaas.core.values import RequestClass

DURATION_WEIGHT = 0.05
"""Of a new lease in the mean duration."""
RATE_WINDOW_S = 30.0
LONGEST_RETRY_S = 3600.0


class Rate:
    """Events per second, the older the less they count."""

    __slots__ = ("_at_s", "_rate")

    def __init__(self) -> None:
        self._rate = 0.0
        self._at_s = 0.0

    def count(self, now: float) -> None:
        """One event."""
        self._rate = self.per_second(now) + 1.0 / RATE_WINDOW_S
        self._at_s = now

    def per_second(self, now: float) -> float:
        """The rate as of now."""
        return self._rate * math.exp((self._at_s - now) / RATE_WINDOW_S) if self._rate else 0.0


class Flow:
    """What runs of one class, and how long it lasts."""

    __slots__ = ("_began_sum_s", "in_flight", "mean_s")

    def __init__(self) -> None:
        self.in_flight = 0
        self.mean_s: float | None = None
        """Of leases that have ended."""
        self._began_sum_s = 0.0
        """Of those under way, so that their mean age costs no look at each."""

    def granted(self, now: float) -> None:
        """A lease began."""
        self.in_flight += 1
        self._began_sum_s += now

    def settled(self, began_s: float, duration_s: float | None) -> None:
        """A lease ended; no duration when it says nothing of the others."""
        self.in_flight -= 1
        self._began_sum_s = self._began_sum_s - began_s if self.in_flight else 0.0
        if duration_s is None:
            return
        old = self.mean_s
        self.mean_s = duration_s if old is None else old + DURATION_WEIGHT * (duration_s - old)

    def duration_s(self, now: float) -> float:
        """Mean duration of a lease: of those that ended, or the mean age of those under way when they last longer."""
        age_s = now - self._began_sum_s / self.in_flight if self.in_flight else 0.0
        return max(self.mean_s or 0.0, age_s, 0.001)


class Predictor:
    """The release rate of one model and the waits that follow from it."""

    __slots__ = ("_arrivals", "batch", "interactive")

    def __init__(self) -> None:
        self.interactive = Flow()
        self.batch = Flow()
        self._arrivals = Rate()

    def of(self, request_class: RequestClass) -> Flow:
        """The flow of a class, as asked for."""
        return self.batch if request_class is RequestClass.BATCH else self.interactive

    def arrived(self, now: float) -> None:
        """An interactive request came."""
        self._arrivals.count(now)

    def arrival_rate(self, now: float) -> float:
        """Interactive requests per second."""
        return self._arrivals.per_second(now)

    def release_rate(self, now: float) -> float:
        """Slots given back per second."""
        return self.interactive.in_flight / self.interactive.duration_s(
            now
        ) + self.batch.in_flight / self.batch.duration_s(now)

    def share_of(self, in_flight: int, now: float) -> float:
        """The release rate of a part of what is in flight (one organisation's own servers)."""
        total = self.interactive.in_flight + self.batch.in_flight
        return self.release_rate(now) * in_flight / total if total else 0.0

    def batch_rate(self, ageing_share: float, now: float) -> float:
        """Slots per second that interactive requests leave to batch."""
        rate = self.release_rate(now)
        return max(rate - self._arrivals.per_second(now), rate * ageing_share)


def wait_s(ahead: float, rate: float) -> float:
    """Seconds until a slot, with `ahead` requests before it; 0 when nothing is known."""
    return (ahead + 1.0) / rate if rate > 0.0 else 0.0


def retry_after_s(seconds: float) -> float:
    """A wait as it is told to a client: at least 1 s, at most an hour."""
    return min(LONGEST_RETRY_S, max(1.0, seconds))
