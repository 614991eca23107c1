"""The time to first token's 95th percentile, out of the difference between two readings of a cumulative histogram."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence

from ilaas.adapters.statistics.scan import Sample

READINGS = 24
"""Readings in a window: as in today's dispatcher (REFRESH_COUNT_PER_WINDOW)."""

_QUANTILE = 0.95
_LARGEST_S = 86_400.0

Buckets = tuple[tuple[float, float], ...]
"""Upper bounds in seconds, ascending, each with the observations at or below it."""


def buckets(samples: Sequence[Sample]) -> Buckets:
    """The histogram in samples that carry `le`; several engines of one server are added up."""
    counts: dict[float, float] = {}
    for sample in samples:
        bound = _bound(sample.labels.get("le", ""))
        if bound is not None:
            counts[bound] = counts.get(bound, 0.0) + sample.value
    return tuple(sorted(counts.items()))


def quantile(histogram: Buckets, share: float) -> float | None:
    """The value below which `share` of the observations lie, straight-lined inside its bucket; None when there is none.

    Beyond the last finite bound that bound is answered, as Prometheus' histogram_quantile does.
    """
    total = max((count for _, count in histogram), default=0.0)
    if total <= 0:
        return None
    rank = share * total
    lower, below = 0.0, 0.0
    for bound, count in histogram:
        if count >= rank and count > below:
            if math.isinf(bound):
                break
            return lower + (bound - lower) * (rank - below) / (count - below)
        if not math.isinf(bound):
            lower = bound
        below = max(below, count)
    return lower or None


class TtftWindow:
    """The last readings of one model's histogram on one server, as packed numbers: 5 kB for 22 buckets."""

    __slots__ = ("_bounds", "_readings")

    def __init__(self, readings: int = READINGS) -> None:
        self._bounds: tuple[float, ...] = ()
        self._readings: deque[array[float]] = deque(maxlen=readings)

    def add(self, histogram: Buckets) -> float | None:
        """Take a reading; the 95th percentile in seconds of what was observed in the window, None when nothing was.

        Counts that fell mean that the server began anew: all it has counted since is new.
        """
        if not histogram:
            return None
        readings = self._readings
        bounds = tuple(bound for bound, _ in histogram)
        counts = array("d", (count for _, count in histogram))
        if bounds != self._bounds:
            self._bounds = bounds
            readings.clear()
        elif any(now < before for now, before in zip(counts, readings[-1], strict=True)):
            readings.clear()
            readings.append(array("d", bytes(8 * len(counts))))
        readings.append(counts)
        new = (now - before for now, before in zip(counts, readings[0], strict=True))
        value = quantile(tuple(zip(bounds, new, strict=True)), _QUANTILE)
        return value if value is not None and value <= _LARGEST_S else None


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return bound if bound > 0 else None
