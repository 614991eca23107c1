"""What a run says: counts, times to first token, fairness, use of slots; and the series that the picture draws."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from ilaas.core.values import RequestClass
from ilaas.sim.recording import Held, Played, Recording, Steps
from ilaas.sim.scenario import Scenario

CLASSES = tuple(request_class.value for request_class in RequestClass)
SERIES_S = 1.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of a duration in seconds (nearest rank); None when nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of unsorted values."""
        ordered = sorted(values)
        if not ordered:
            return cls(None, None, None, None)
        p50, p95, p99 = (ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for percent in (50, 95, 99))
        return cls(*(round(value, 6) for value in (p50, p95, p99, ordered[-1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Requests that have something in common."""

    requests: int
    outcomes: dict[str, int]
    """Ended requests by outcome; the others were under way at the end (`unfinished`)."""
    unfinished: int
    ttft_s: Spread
    """From sending to the first token, waiting in the queue included."""
    queue_s: Spread
    """Waiting in the dispatcher before the last grant, of those that got a server."""
    tokens_per_s: float
    """Prompt and answer, of the requests that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """How slots were used. Times slots are slot-seconds, by exact integration of the leases.

    Idle slots are those that owners and interactive requests leave: slots that all may use (of servers that are up and
    not draining, the smaller of what may be granted and what the engine has, less those reserved for the owner) minus
    the leases that are not batch. Only times in which batch requests wait count, since only then batch could use them.
    Each model is counted by itself, then they are added.
    """

    slot_s: float
    used_share: float | None
    """Of all slots, by all classes."""
    idle_slot_s: float
    """Left by owners and interactive requests while batch requests waited."""
    batch_share_of_idle: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A report on a span of the run: on the requests that ended in it (`whole`: on all)."""

    from_s: float
    to_s: float
    classes: dict[str, Group]
    organisations: dict[str, Group]
    models: dict[str, Group]
    workloads: dict[str, Group]
    servers: dict[str, int]
    """Leases that ended, by server."""
    jain_index: float | None
    """Fairness between organisations: of tokens served, divided by weight. 1 is equal, 1/n is all for one. Counts
    organisations that had a request waiting for more than half of the span: the others got all they asked for."""
    slots: Slots
    engine_waiting_mean: float | None
    """Requests in the servers' own queues, per server and reading."""
    engine_waiting_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One value a second, by class; `running` is leases held, `engine_waiting` the servers' own queues together."""

    at_s: list[float]
    waiting: dict[str, list[int]]
    running: dict[str, list[int]]
    slots: list[int]
    engine_waiting: list[int]
    ttft: dict[str, list[tuple[float, float]]]
    """(time of the first token, time to it) of each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything said about one run."""

    scenario: str
    description: str
    seed: int
    ended_s: float
    whole: Part
    windows: dict[str, Part]
    series: Series

    def to_json(self) -> str:
        """As a JSON document, the same for the same run."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


def build_report(scenario: Scenario, recording: Recording) -> Report:
    """Work out the report of a recording."""
    end_s = recording.ended_s
    return Report(
        scenario=scenario.name,
        description=scenario.description,
        seed=scenario.seed,
        ended_s=end_s,
        whole=_part(scenario, recording, 0.0, end_s),
        windows={
            window.name: _part(scenario, recording, window.from_s, min(window.to_s, end_s))
            for window in scenario.windows
            if window.from_s < end_s
        },
        series=_series(recording),
    )


def write_json(report: Report, path: Path) -> Path:
    """Write the report into a file."""
    path.write_text(report.to_json() + "\n", encoding="utf-8")
    return path


def _part(scenario: Scenario, recording: Recording, from_s: float, to_s: float) -> Part:
    whole = to_s >= recording.ended_s and from_s <= 0
    chosen = [
        played
        for played in recording.played
        if whole or (played.ended_s is not None and from_s <= played.ended_s < to_s)
    ]
    span_s = max(to_s - from_s, 1e-9)

    def grouped(name: Callable[[Played], str]) -> dict[str, Group]:
        groups: dict[str, list[Played]] = defaultdict(list)
        for played in chosen:
            groups[name(played)].append(played)
        return {key: _group(groups[key], span_s) for key in sorted(groups)}

    by_class = grouped(lambda played: played.request_class.value)
    organisations = grouped(lambda played: played.planned.organisation)
    waiting = [gauge.waiting for gauge in recording.gauges if from_s <= gauge.at_s < to_s]
    leases = (lease.server for played in recording.played for lease in played.leases if _ended(lease, from_s, to_s))
    return Part(
        from_s=from_s,
        to_s=to_s,
        classes={name: by_class[name] for name in CLASSES if name in by_class},
        organisations=organisations,
        models=grouped(lambda played: played.planned.model),
        workloads=grouped(lambda played: played.planned.workload),
        servers=dict(sorted(Counter(leases).items())),
        jain_index=_jain(scenario, recording, organisations, (from_s, to_s)),
        slots=_slots(recording, from_s, to_s),
        engine_waiting_mean=round(sum(waiting) / len(waiting), 6) if waiting else None,
        engine_waiting_max=max(waiting, default=None),
    )


def _ended(lease: Held, from_s: float, to_s: float) -> bool:
    return lease.ended_s is not None and from_s <= lease.ended_s < to_s


def _group(requests: Sequence[Played], span_s: float) -> Group:
    outcomes = Counter(played.outcome.value for played in requests if played.outcome is not None)
    return Group(
        requests=len(requests),
        outcomes=dict(sorted(outcomes.items())),
        unfinished=len(requests) - outcomes.total(),
        ttft_s=Spread.of(played.ttft_s for played in requests if played.ttft_s is not None),
        queue_s=Spread.of(played.leases[-1].granted_s - played.sent_s for played in requests if played.leases),
        tokens_per_s=round(sum(played.tokens for played in requests) / span_s, 3),
    )


def jain(values: Sequence[float]) -> float | None:
    """Jain's fairness index: (Σx)² / (n·Σx²); None without values (Jain, Chiu and Hawe, 1984)."""
    squares = sum(value * value for value in values)
    return round(sum(values) ** 2 / (len(values) * squares), 6) if squares else None


def _jain(
    scenario: Scenario, recording: Recording, organisations: dict[str, Group], span: tuple[float, float]
) -> float | None:
    weights = scenario.weights
    shares = []
    for name, group in organisations.items():
        own = (played for played in recording.played if played.planned.organisation == name)
        steps = Steps(wait for played in own for wait in played.waits(recording.ended_s))
        if integral(span, lambda level: float(level > 0), steps) > (span[1] - span[0]) / 2:
            shares.append(group.tokens_per_s / weights.get(name, 1.0))
    return jain(shares)


def integral(span: tuple[float, float], value: Callable[..., float], *levels: Steps) -> float:
    """The integral over a span of seconds of a function of numbers that change in steps."""
    from_s, to_s = span
    times = sorted({from_s, to_s, *(at_s for steps in levels for at_s, _ in steps.changes if from_s < at_s < to_s)})
    sampled = zip(*(steps.sampled(times) for steps in levels), strict=True)
    widths = (later - earlier for earlier, later in pairwise(times))
    return sum(width * value(*now) for width, now in zip(widths, sampled, strict=False))


def _slots(recording: Recording, from_s: float, to_s: float) -> Slots:
    slot_s = used_s = idle_s = filled_s = 0.0
    for model in recording.slots:
        levels = _levels(recording, model)
        slot_s += integral((from_s, to_s), lambda slots, *_: slots, *levels)
        used_s += integral((from_s, to_s), lambda slots, others, own, _: min(slots, others + own), *levels)
        idle_s += integral((from_s, to_s), lambda slots, others, _, queue: queue and max(0, slots - others), *levels)
        filled_s += integral(
            (from_s, to_s), lambda slots, others, own, queue: queue and min(own, max(0, slots - others)), *levels
        )
    return Slots(
        slot_s=round(slot_s, 3),
        used_share=round(used_s / slot_s, 6) if slot_s else None,
        idle_slot_s=round(idle_s, 3),
        batch_share_of_idle=round(filled_s / idle_s, 6) if idle_s else None,
    )


def _levels(recording: Recording, model: str) -> tuple[Steps, Steps, Steps, Steps]:
    """Of one model: slots, leases of others than batch, leases of batch, and whether batch requests wait (0 or 1)."""
    end_s, batch = recording.ended_s, RequestClass.BATCH
    requests = [played for played in recording.played if played.planned.model == model]
    held = [lease for played in requests for lease in played.leases]

    def leases(*, of_batch: bool) -> Steps:
        chosen = (lease for lease in held if (lease.request_class is batch) == of_batch)
        return Steps((lease.granted_s, end_s if lease.ended_s is None else lease.ended_s) for lease in chosen)

    waits = Steps(wait for played in requests if played.planned.request_class is batch for wait in played.waits(end_s))
    times = [at_s for at_s, _ in waits.changes]
    queue = Steps.of_values(zip(times, (int(level > 0) for level in waits.sampled(times)), strict=True))
    return Steps.of_values(recording.slots[model]), leases(of_batch=False), leases(of_batch=True), queue


def _series(recording: Recording) -> Series:
    end_s = recording.ended_s
    times = [index * SERIES_S for index in range(max(1, math.ceil(end_s / SERIES_S)))]
    waits: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSES}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSES}
    ttft: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSES}
    for played in recording.played:
        name = played.request_class.value
        waits[name].extend(played.waits(end_s))
        for lease in played.leases:
            span = (lease.granted_s, end_s if lease.ended_s is None else lease.ended_s)
            runs[lease.request_class.value].append(span)
        if played.first_token_s is not None and played.ttft_s is not None:
            ttft[name].append((round(played.first_token_s, 6), round(played.ttft_s, 6)))
    engine_waiting = []
    last: dict[str, int] = {}
    gauges = iter(recording.gauges)
    gauge = next(gauges, None)
    for at_s in times:
        while gauge is not None and gauge.at_s <= at_s:
            last[gauge.server] = gauge.waiting
            gauge = next(gauges, None)
        engine_waiting.append(sum(last.values()))
    by_model = [Steps.of_values(values).sampled(times) for values in recording.slots.values()]
    return Series(
        at_s=times,
        waiting={name: Steps(spans).sampled(times) for name, spans in waits.items()},
        running={name: Steps(spans).sampled(times) for name, spans in runs.items()},
        slots=[sum(slots) for slots in zip(*by_model, strict=True)],
        engine_waiting=engine_waiting,
        ttft=ttft,
    )
