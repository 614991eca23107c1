"""What one run leaves behind: every request with its leases, and the servers' own gauges. Seconds since the start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ilaas.core.values import Outcome, RequestClass
from ilaas.sim.workload import Planned


@dataclass(slots=True)
class Held:
    """One lease: a slot held on a server."""

    server: str
    request_class: RequestClass
    granted_s: float
    ended_s: float | None = None


@dataclass(slots=True)
class Played:
    """One request as it went."""

    planned: Planned
    sent_s: float
    leases: list[Held] = field(default_factory=list)
    first_token_s: float | None = None
    ended_s: float | None = None
    outcome: Outcome | None = None
    """None while it is under way."""
    tokens: int = 0
    """Prompt and answer, as far as they were computed."""

    @property
    def request_class(self) -> RequestClass:
        """As granted (so `owner` where the owner's lane was used), else as asked."""
        return self.leases[-1].request_class if self.leases else self.planned.request_class

    @property
    def ttft_s(self) -> float | None:
        """From sending to the first token: waiting in the queue counts."""
        return None if self.first_token_s is None else self.first_token_s - self.sent_s

    def waits(self, end_s: float) -> Iterator[tuple[float, float]]:
        """The spans in which it waited in the dispatcher, up to `end_s`."""
        since_s: float | None = self.sent_s
        for lease in self.leases:
            if since_s is not None:
                yield since_s, lease.granted_s
            since_s = lease.ended_s
        if since_s is not None and (self.ended_s is None or self.ended_s > since_s):
            yield since_s, end_s if self.ended_s is None else self.ended_s


@dataclass(frozen=True, slots=True)
class Gauge:
    """One reading of one server's own gauges."""

    at_s: float
    server: str
    running: int
    waiting: int


@dataclass(slots=True)
class Recording:
    """Everything one run leaves behind."""

    ended_s: float = 0.0
    played: list[Played] = field(default_factory=list)
    gauges: list[Gauge] = field(default_factory=list)
    slots: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """By model: (time, slots that all may use from then on). Empty when not known."""

    @property
    def unfinished(self) -> int:
        """Requests under way at the end."""
        return sum(1 for played in self.played if played.outcome is None)


class Steps:
    """A number that changes in steps, made of spans that each add one."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        changes: dict[float, int] = {}
        for start_s, end_s in spans:
            if end_s > start_s:
                changes[start_s] = changes.get(start_s, 0) + 1
                changes[end_s] = changes.get(end_s, 0) - 1
        self.changes = sorted(changes.items())

    @classmethod
    def of_values(cls, values: Iterable[tuple[float, int]]) -> Steps:
        """Of (time, value from then on), in order of time."""
        steps, level = cls(()), 0
        for at_s, value in values:
            steps.changes.append((at_s, value - level))
            level = value
        return steps

    def sampled(self, times_s: list[float]) -> list[int]:
        """The value just after each of the (rising) times."""
        values, level, index = [], 0, 0
        for at_s in times_s:
            while index < len(self.changes) and self.changes[index][0] <= at_s:
                level += self.changes[index][1]
                index += 1
            values.append(level)
        return values
