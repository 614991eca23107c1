"""What the gateway holds under a burden: many streams at once, many requests after another, readers that are slow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from ilaas.core.continuation.kept import MAX_BYTES
from tests.bench.cost import plain
from tests.bench.load import Load, quantile
from tests.bench.measure import loading, upstream_state
from tests.bench.process import cpu_s, memory_bytes
from tests.bench.report import Figure, Report
from tests.bench.targets import Target

MB = 1e6

STREAMS_BAR_MB = 400
FLAT_BAR_BYTES = 20.0
"""Growth per request, in the steady part of the run, that still counts as flat: 8 MB over 400,000 requests."""
SLOW_BAR_KB = 1536
"""Per slow reader: the client's buffer of 256 KiB, and copies of what one read from the server brings (256 KiB)."""
KEPT_KB = MAX_BYTES / 1e3
"""For all together: what is kept of answers so that they can be continued at another server."""
SLOW_READ_BYTES_PER_S = 100_000
SLOW_RATE_BAR = 2.0
"""Buffers are refilled in bursts, so that the rate over some seconds is never quite the readers'."""

ENDLESS = 10_000_000


def many_streams(target: Target, report: Report, streams: int = 3000) -> None:
    """All streams open at the same time, slow enough for two processors to bear the far ends as well."""
    load = Load(
        port=target.port,
        model=target.model,
        key=target.key,
        connections=streams,
        requests=streams,
        chunks=50,
        gap_ms=500,
        spread_s=10.0,
    )
    before_s = cpu_s(target.running.pid)
    started_s = time.monotonic()
    peak = 0
    with loading(load) as poll:
        while (result := poll()) is None:
            peak = max(peak, memory_bytes(target.running.pid))
            time.sleep(0.1)
    spent = (cpu_s(target.running.pid) - before_s) / (time.monotonic() - started_s)
    report.skipped += [f"{target.name}, {streams} streams: {cause}" for cause in result.causes]
    report.figures[f"{streams:,} simultaneous streams, {target.name}"] = [
        Figure("memory at the highest", peak / MB, "MB", STREAMS_BAR_MB),
        Figure("errors", result.errors, "", 0),
        Figure("streams missing at the peak", streams - result.peak_open, "", 0),
        Figure("chunks relayed", result.events),
        Figure("first chunk p99", quantile(result.first_ms, 0.99), "ms"),
        Figure("of one processor", 100 * spent, "%"),
    ]


def flat_memory(target: Target, upstream: Target, report: Report, requests: int = 400_000) -> None:
    """Resident memory against the number of requests answered, after half as many to warm up.

    Faster than the store takes records, a gateway keeps the latest 20,000 of them in memory: that must be full first.
    """
    warm_up = requests // 2
    first = upstream_state(upstream)["requests"]
    samples: list[tuple[int, int]] = []
    with loading(plain(target, warm_up + requests, connections=64)) as poll:
        while (result := poll()) is None:
            done = upstream_state(upstream)["requests"] - first
            samples.append((done, memory_bytes(target.running.pid)))
            time.sleep(0.5)
    steady = [(done, memory) for done, memory in samples if done >= warm_up]
    slope = statistics.linear_regression(*zip(*steady, strict=True)).slope if len(steady) > 2 else float("inf")
    report.figures[f"memory over {requests:,} requests, {target.name}"] = [
        Figure("growth per request", slope, "bytes", FLAT_BAR_BYTES),
        Figure("errors", result.errors, "", 0),
        Figure("memory after the warm-up", steady[0][1] / MB if steady else 0, "MB"),
        Figure("memory at the end", samples[-1][1] / MB, "MB"),
        Figure("requests per second", result.answers / result.wall_s),
        Figure("latency p99, 64 at once", quantile(result.latencies_ms, 0.99), "ms"),
    ]
    report.skipped += [f"{target.name}, {requests} requests: {cause}" for cause in result.causes]


def slow_readers(target: Target, upstream: Target, report: Report, readers: int = 200) -> None:
    """Endless streams, as fast as they are taken, to clients that read slowly.

    The upstream must be held back to the clients' rate once the buffers in between are full.
    """
    rate = SLOW_READ_BYTES_PER_S
    load = Load(
        port=target.port,
        model=target.model,
        key=target.key,
        connections=readers,
        requests=readers,
        chunks=ENDLESS,
        gap_ms=0,
        spread_s=1.0,
        read_bytes_per_s=rate,
        stop_after_s=30.0,
    )
    pid = target.running.pid
    before = upstream_state(upstream)
    memory = peak = memory_bytes(pid)
    sent: list[tuple[float, int]] = []
    paused = 0
    with loading(load) as poll:
        while (result := poll()) is None:
            state = upstream_state(upstream)
            sent.append((time.monotonic(), state["written_bytes"] - before["written_bytes"]))
            paused = max(paused, state["paused"])
            peak = max(peak, memory_bytes(pid))
            time.sleep(0.25)
    inflow = _rate(sent, last_s=10.0)
    held = (sent[-1][1] - result.bytes) / readers
    _settle(lambda: upstream_state(upstream)["open"] == 0)
    left = upstream_state(upstream)["open"]
    report.figures[f"{readers} slow readers of endless streams, {target.name}"] = [
        Figure("memory held per reader", (peak - memory) / readers / 1e3, "kB", SLOW_BAR_KB + KEPT_KB / readers),
        Figure("streams not paused upstream at the fullest", readers - paused, "", readers * 0.05),
        Figure("upstream's rate / readers' rate, at the end", inflow / (rate * readers), "times", SLOW_RATE_BAR),
        Figure("under way per reader, kernel included", max(0.0, held) / 1e3, "kB"),
        Figure("streams still open upstream after they left", left, "", 0),
        Figure("errors", result.errors, "", 0),
    ]
    report.skipped += [f"{target.name}, slow readers: {cause}" for cause in result.causes]


def _rate(samples: list[tuple[float, int]], last_s: float) -> float:
    end_s, end = samples[-1]
    start_s, start = next(sample for sample in samples if sample[0] >= end_s - last_s)
    return (end - start) / max(0.001, end_s - start_s)


def _settle(reached: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not reached() and time.monotonic() < deadline_s:
        time.sleep(0.1)
