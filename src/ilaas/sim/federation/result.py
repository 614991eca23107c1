"""What one model's run leaves: counts, histograms and sums, small enough to keep for every model and to add up.

Durations are counted in classes 2 % wide (below 10 ms in one), so that a percentile is right to 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilaas.core.values import Outcome
from ilaas.sim.federation.machine import Machine
from ilaas.sim.federation.requests import CLASSES, OUTCOMES, UNFINISHED
from ilaas.sim.federation.run import ModelRun

LEAST_S = 0.01
_RATIO = 1.02
BINS = math.ceil(math.log(1e6 / LEAST_S, _RATIO)) + 1
"""Up to a million seconds."""
SAMPLE_S = 300.0
"""Between two points of the series."""
OUTCOME_CODES = (*OUTCOMES, None)
"""None, the last, is under way at the end."""
_DONE = OUTCOMES.index(Outcome.COMPLETED)
_PERCENTILES = (50, 95, 99)

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResult:
    """One server's day."""

    id: str
    model: str
    site: str
    owner: str
    kind: str
    spot: bool
    slots: int
    up_s: float
    active_s: float
    """With something to compute."""
    slot_s: float
    """Slots used times time."""
    requests: int
    """Answers given whole."""
    duration_s: float
    """Mean time from grant to end of those."""
    prompt_tokens: int
    """Computed, so without those of the prefix cache."""
    output_tokens: int
    comings: int
    goings: int
    interrupted: int
    idle_w: float
    busy_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """One model's day. Arrays: classes are owner, interactive, batch; institutions as in the scenario."""

    name: str
    group: str
    outcomes: Counts
    """[class, institution, outcome]; the last outcome is 'unfinished'."""
    waits: Counts
    """[class, institution, bin]: waiting in the dispatcher, of those that got a server."""
    first_tokens: Counts
    """[class, institution, bin]: from sending to the first token."""
    tokens: Counts
    """[institution that used, institution whose server it was]: prompt and answer of completed requests."""
    arrivals: Counts
    """[class as granted, sample]: requests sent in the time up to the sample."""
    waiting: Counts
    """[class, sample]: requests that wait in the dispatcher."""
    running: Counts
    """[class, sample]: requests that hold a slot."""
    slots: Counts
    """[sample]: slots that requests may take."""
    slow: Counts
    """[sample, bin]: first tokens of interactive requests and owners that were sent in the time up to the sample."""
    servers: tuple[ServerResult, ...]
    continued: int
    """Answers that were continued on another server after their own was cut off."""


def bins_of(durations_s: Floats) -> Counts:
    """The bin of each duration."""
    with np.errstate(divide="ignore"):
        numbers = np.log(np.maximum(np.nan_to_num(durations_s), 1e-9) / LEAST_S) / math.log(_RATIO) + 1.0
    return np.clip(numbers, 0, BINS - 1).astype(np.int64)


def percentile(counts: Counts, percent: float) -> float | None:
    """Of a histogram, in the middle of its bin; None when it is empty. What took less than 10 ms is told as 0."""
    total = int(counts.sum())
    if not total:
        return None
    number = int(np.searchsorted(np.cumsum(counts), math.ceil(total * percent / 100)))
    return 0.0 if number == 0 else LEAST_S * _RATIO ** (number - 0.5)


def percentiles(counts: Counts) -> tuple[float | None, ...]:
    """The 50th, 95th and 99th."""
    return tuple(percentile(counts, percent) for percent in _PERCENTILES)


def result_of(run: ModelRun) -> ModelResult:
    """Count what happened."""
    traffic, columns, day = run.traffic, run.columns, run.plan.day
    members = len(day.institutions)
    at_s = _column(traffic.at_s, np.float64)
    granted_s, first_s = _column(columns.granted_s, np.float64), _column(columns.first_s, np.float64)
    ended_s = _column(columns.ended_s, np.float64)
    member = _column(traffic.institution, np.int16).astype(np.int64)
    lane = _column(columns.request_class, np.uint8).astype(np.int64)
    outcome = _column(columns.outcome, np.uint8).astype(np.int64)
    outcome = np.where(outcome == UNFINISHED, len(OUTCOMES), outcome)
    size = _column(traffic.prompt_tokens, np.int32).astype(np.int64) + _column(traffic.output_tokens, np.int32)
    server = _column(columns.server, np.int16).astype(np.int64)
    done = outcome == _DONE
    owners = np.array([day.institutions.index(machine.box.spec.owner) for machine in run.machines], dtype=np.int64)
    samples: Floats = np.arange(1.0, day.duration_s // SAMPLE_S + 1) * SAMPLE_S
    sample = np.minimum(at_s // SAMPLE_S, len(samples) - 1).astype(np.int64) if len(samples) else at_s.astype(np.int64)
    counted = _Counter((lane, member))
    got, begun = ~np.isnan(granted_s), ~np.isnan(first_s)
    quick = begun & (lane != len(CLASSES) - 1)
    by_lane = [lane == number for number in range(len(CLASSES))]
    durations_s = np.bincount(server[done], weights=(ended_s - granted_s)[done], minlength=len(run.machines))
    completed = np.bincount(server[done], minlength=len(run.machines))
    pairs = member[done] * members + owners[server[done]]
    return ModelResult(
        name=run.plan.name,
        group=run.plan.group,
        outcomes=counted(outcome, (members, len(OUTCOME_CODES))),
        waits=counted(bins_of(granted_s - at_s), (members, BINS), got),
        first_tokens=counted(bins_of(first_s - at_s), (members, BINS), begun),
        tokens=np.bincount(pairs, weights=size[done], minlength=members * members)
        .astype(np.int64)
        .reshape(members, members),
        arrivals=np.array([np.bincount(sample[mine], minlength=len(samples)) for mine in by_lane]),
        waiting=_levels(by_lane, samples, at_s, np.where(got, granted_s, ended_s)),
        running=_levels(by_lane, samples, granted_s, ended_s),
        slots=_steps(run.slots, samples),
        slow=np.bincount(
            sample[quick] * BINS + bins_of((first_s - at_s)[quick]), minlength=len(samples) * BINS
        ).reshape(len(samples), BINS),
        servers=tuple(
            _server(run.plan.name, machine, int(completed[number]), float(durations_s[number]))
            for number, machine in enumerate(run.machines)
        ),
        continued=run.continued,
    )


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts by class, institution and one thing more."""

    keys: tuple[Counts, Counts]

    def __call__(self, third: Counts, shape: tuple[int, int], which: NDArray[np.bool_] | None = None) -> Counts:
        (lane, member), (members, things) = self.keys, shape
        numbers = (lane * members + member) * things + third
        counts: Counts = np.bincount(
            numbers if which is None else numbers[which], minlength=len(CLASSES) * members * things
        )
        return counts.reshape(len(CLASSES), members, things)


def _column(values: Any, code: type) -> NDArray[Any]:
    return np.frombuffer(values, dtype=code) if len(values) else np.zeros(0, dtype=code)


def _levels(by_lane: Sequence[NDArray[np.bool_]], samples: Floats, begin_s: Floats, end_s: Floats) -> Counts:
    """How many were between begin and end at each sample; what has no begin was never there."""
    there = ~np.isnan(begin_s)
    rows = []
    for mine in by_lane:
        begun = np.sort(begin_s[mine & there])
        ended = np.sort(end_s[mine & there])  # those under way at the end sort last, as not a number
        rows.append(np.searchsorted(begun, samples, side="right") - np.searchsorted(ended, samples, side="right"))
    return np.array(rows)


def _steps(changes: Sequence[tuple[float, int]], samples: Floats) -> Counts:
    times = [at_s for at_s, _ in changes]
    values = np.array([value for _, value in changes], dtype=np.int64)
    return values[np.searchsorted(times, samples, side="right") - 1]


def _server(model: str, machine: Machine, requests: int, duration_s: float) -> ServerResult:
    box, engine, before = machine.box, machine.engine, machine.worked
    return ServerResult(
        id=box.spec.id,
        model=model,
        site=box.spec.site,
        owner=box.spec.owner,
        kind=box.kind,
        spot=box.spot,
        slots=box.max_parallel,
        up_s=machine.here_s,
        active_s=before.active_s + engine.active_s,
        slot_s=machine.busy_slot_s,
        requests=requests,
        duration_s=duration_s / requests if requests else 0.0,
        prompt_tokens=before.computed_tokens + engine.computed_tokens,
        output_tokens=round(before.generated_tokens + engine.generated_tokens),
        comings=machine.comings,
        goings=machine.goings,
        interrupted=machine.interrupted,
        idle_w=box.idle_w,
        busy_w=box.busy_w,
    )
