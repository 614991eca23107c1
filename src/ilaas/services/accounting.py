"""Counts every request once: a usage record for the books, counters and histograms for the operators."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass
from ilaas.ports.outbox import Outbox

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histograms' buckets."""

_BOUNDS_MS = tuple(int(bound * 1000) for bound in SECONDS)


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (the last is beyond all bounds) and the sum, in milliseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum_ms: int = 0

    def observe(self, value_ms: int) -> None:
        """Count one value."""
        self.counts[bisect_left(_BOUNDS_MS, value_ms)] += 1
        self.sum_ms += value_ms


@dataclass(slots=True)
class Tally:
    """What is counted per model and class."""

    outcomes: dict[Outcome, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    audio_ms: int = 0
    continued: int = 0
    """Streams that went on at another server."""
    queue: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)


class Accounting:
    """Takes finished requests. Plain counters, exposed to Prometheus only when it asks: a request pays under 2 µs."""

    def __init__(self, outbox: Outbox, key_used: Callable[[str], None]) -> None:
        """`key_used` is told the key's id, for its last-used time."""
        self._outbox = outbox
        self._key_used = key_used
        self._tallies: dict[tuple[str, RequestClass], Tally] = {}
        self._rejections: dict[str, int] = {}

    def finished(self, record: UsageRecord) -> None:
        """One request has ended, one way or another."""
        self._outbox.append(record)
        self._key_used(record.key_id)
        tally = self._tally(record.model, record.request_class)
        outcome = record.outcome
        tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + 1
        tally.prompt_tokens += record.prompt_tokens
        tally.completion_tokens += record.completion_tokens
        tally.audio_ms += record.audio_ms
        tally.queue.observe(record.queue_ms)
        tally.duration.observe(record.duration_ms)
        if record.ttft_ms:
            tally.ttft.observe(record.ttft_ms)

    def _tally(self, model: str, request_class: RequestClass) -> Tally:
        tally = self._tallies.get((model, request_class))
        if tally is None:
            tally = self._tallies[model, request_class] = Tally()
        return tally

    def rejected(self, code: str) -> None:
        """A request that never got as far as a ticket, by error code."""
        self._rejections[code] = self._rejections.get(code, 0) + 1

    def continued(self, model: str, request_class: RequestClass) -> None:
        """A streamed answer goes on at another server, since its own died."""
        self._tally(model, request_class).continued += 1

    def tallies(self) -> Mapping[tuple[str, RequestClass], Tally]:
        """By model and class."""
        return self._tallies

    def rejections(self) -> Mapping[str, int]:
        """By error code."""
        return self._rejections
