"""What it costs that any stream may be continued: per chunk while nothing happens, and once when a server dies.

On the test twins, without sockets, in CPU time of this thread: the difference is too small to be seen beside a socket.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.values import Continuation, Outcome
from tests.bench.report import Figure, Report
from tests.support.twins import Asked, House

CHUNK = (
    b'data: {"id":"chatcmpl-6b06313d0000000e","object":"chat.completion.chunk","created":1764000000,'
    b'"model":"org/served","choices":[{"index":0,"delta":{"content":" mot%03d"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
BAR_KEEPING_US = 0.6
BAR_RESUMING_MS = 20.0


@dataclass(slots=True)
class _Deaf:
    """A client that costs nothing."""

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        pass


def _streaming(mode: Continuation) -> Asked:
    house = House(dispatch=DispatchPolicy(continuation=mode))
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.exchange._answer._writer = _Deaf()  # type: ignore[attr-defined]
    asked.call.sink.upstream_body(CHUNK % 0)
    return asked


def _chunk_us(mode: Continuation, chunks: list[bytes]) -> float:
    body = _streaming(mode).call.sink.upstream_body
    began = time.thread_time_ns()
    for chunk in chunks:
        body(chunk)
    return (time.thread_time_ns() - began) / len(chunks) / 1000


def _resume_ms(chunks: list[bytes]) -> float:
    """From the death of a server to the request that the next one is sent."""
    asked = _streaming(Continuation.ON)
    for chunk in chunks:
        asked.call.sink.upstream_body(chunk)
    began = time.thread_time_ns()
    asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "closed")
    spent_ms = (time.thread_time_ns() - began) / 1e6
    if asked.call.server.id != "two":
        raise RuntimeError("the answer was not continued")
    return spent_ms


def measure(report: Report, repeats: int = 25) -> None:
    """Add the figures; medians of interleaved runs."""
    chunks = [CHUNK % number for number in range(1000)]
    without: list[float] = []
    kept: list[float] = []
    for _ in range(repeats):
        without.append(_chunk_us(Continuation.OFF, chunks))
        kept.append(_chunk_us(Continuation.ON, chunks))
    more = statistics.median(mine - theirs for mine, theirs in zip(kept, without, strict=True))
    resumed = statistics.median(_resume_ms(chunks) for _ in range(repeats))
    report.figures["continuation of streams, in the use case alone"] = [
        Figure("a chunk, never continued", statistics.median(without), "µs"),
        Figure("a chunk, kept", statistics.median(kept), "µs"),
        Figure("more per chunk", more, "µs", BAR_KEEPING_US),
        Figure("a server dies after 1,000 tokens", resumed, "ms", BAR_RESUMING_MS),
    ]
