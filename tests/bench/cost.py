"""CPU per plain request and per streamed chunk, and latency: every target in turn, several times over."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.bench.load import Load, quantile
from tests.bench.measure import Cost, measure
from tests.bench.report import Figure, Report
from tests.bench.targets import Target

FLOOR = "nginx"
SUBJECT = "ilaas"
RIVAL = "sglang-router"

BAR_PLAIN = 3.5
BAR_CHUNK = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much is sent."""

    repeats: int = 7
    requests: int = 6000
    streams: int = 100
    chunks: int = 200
    warm_up: int = 1000


def plain(target: Target, requests: int, connections: int = 32) -> Load:
    """Requests that aren't streamed."""
    return Load(port=target.port, model=target.model, key=target.key, connections=connections, requests=requests)


def streamed(target: Target, streams: int, chunks: int) -> Load:
    """Streams at once, a chunk every 20 ms each; in step, as a server that batches its streams gives them."""
    return Load(
        port=target.port,
        model=target.model,
        key=target.key,
        connections=streams,
        requests=streams,
        chunks=chunks,
    )


def compare(direct: Target, targets: Sequence[Target], amounts: Amounts, report: Report) -> None:
    """Measure all targets interleaved (A B C, B C A, ...), and compare medians of the ratios within one round."""
    targets = [target for target in targets if _works(target, amounts, report)]
    kinds: dict[str, tuple[Callable[[Target], Load], Callable[[Cost], float], float]] = {
        "plain request": (lambda t: plain(t, amounts.requests), lambda cost: cost.us_per_request, BAR_PLAIN),
        "streamed chunk": (
            lambda t: streamed(t, amounts.streams, amounts.chunks),
            lambda cost: cost.us_per_event,
            BAR_CHUNK,
        ),
    }
    for kind, (make, read, bar) in kinds.items():
        values: dict[str, list[float]] = {target.name: [] for target in targets}
        for repeat in range(amounts.repeats):
            turn = repeat % len(targets)
            for target in (*targets[turn:], *targets[:turn]):
                cost = measure(target, make(target))
                _sound(cost, target, report)
                values[target.name].append(read(cost))
        report.figures[f"CPU per {kind}"] = _figures(values, bar)
    report.figures["latency of a plain request, 4 at once"] = [
        figure for target in (direct, *targets) for figure in _latency(target, amounts)
    ]
    report.figures["first chunk of a stream, 100 at once"] = [
        figure for target in (direct, *targets) for figure in _first_chunk(target, amounts)
    ]


def _figures(values: dict[str, list[float]], bar: float) -> list[Figure]:
    figures = [Figure(name, statistics.median(costs), "µs") for name, costs in values.items()]
    if SUBJECT in values:
        for other, most in ((FLOOR, bar), (RIVAL, 1.0)):
            if other in values:
                ratios = [mine / theirs for mine, theirs in zip(values[SUBJECT], values[other], strict=True)]
                figures.append(Figure(f"{SUBJECT} / {other}", statistics.median(ratios), "times", most))
    return figures


def _latency(target: Target, amounts: Amounts) -> list[Figure]:
    times = measure(target, plain(target, amounts.requests // 3, connections=4)).result.latencies_ms
    return [Figure(f"{target.name} p{percent}", quantile(times, percent / 100), "ms") for percent in (50, 99)]


def _first_chunk(target: Target, amounts: Amounts) -> list[Figure]:
    load = replace(streamed(target, amounts.streams, 5), requests=10 * amounts.streams)
    times = measure(target, load).result.first_ms
    return [Figure(f"{target.name} p{percent}", quantile(times, percent / 100), "ms") for percent in (50, 99)]


def _works(target: Target, amounts: Amounts, report: Report) -> bool:
    """Warm the target up. One that fails already here is left out: numbers that hold errors are worth nothing."""
    for load in (plain(target, amounts.warm_up), streamed(target, amounts.streams, 20)):
        if not _sound(measure(target, load), target, report):
            return False
    return True


def _sound(cost: Cost, target: Target, report: Report) -> bool:
    """Whether every request was answered rightly; of the gateway itself an error is a missed bar."""
    errors = cost.result.errors
    if errors:
        report.skipped.append(f"{target.name} answered {errors} requests wrongly: {cost.result.causes[0]}")
        if target.name == SUBJECT:
            report.figures.setdefault("errors", []).append(Figure(f"{target.name} errors", errors, "", 0))
    return not errors
