"""The load generator: `python -m tests.bench.load JSON` runs one `Load` and prints its `Result` as JSON.

It is a process of its own, on raw protocols, so that its cost neither falls on the proxy's account nor limits it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httptools
import orjson
import uvloop

RECEIVE_BUFFER_BYTES = 32 * 1024
"""Of a slow reader's socket: what it doesn't read must wait in the proxy, not in its own kernel buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send, and how."""

    port: int
    model: str
    key: str
    connections: int
    requests: int
    """Over all connections; each connection sends its next request when the last answer is whole."""
    chunks: int = 0
    """Content chunks per streamed answer; 0 asks for plain answers."""
    gap_ms: int = 20
    prompt_bytes: int = 200
    spread_s: float = 0.0
    """Connections start evenly over this time."""
    read_bytes_per_s: int = 0
    """Above 0: slow readers, which take so much and no more."""
    stop_after_s: float = 0.0
    """Above 0: leave after so long, whatever is under way."""


@dataclass(slots=True)
class Result:
    """What came back. `latencies_ms` holds the whole answer, `first_ms` the time to the first event."""

    answers: int = 0
    errors: int = 0
    events: int = 0
    bytes: int = 0
    wall_s: float = 0.0
    peak_open: int = 0
    """Streams that had begun and not ended, at once."""
    latencies_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)


def quantile(values: list[float], share: float) -> float:
    """The value below which that share lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def body_of(load: Load) -> bytes:
    """The chat request; `max_tokens` and `seed` steer the upstream (see there)."""
    fields: dict[str, Any] = {
        "model": load.model,
        "messages": [
            {"role": "system", "content": "Answer in French."},
            {"role": "user", "content": "x" * load.prompt_bytes},
        ],
        "max_tokens": load.chunks or 50,
        "seed": load.gap_ms,
        "stream": load.chunks > 0,
    }
    if load.chunks:
        fields["stream_options"] = {"include_usage": True}
    return orjson.dumps(fields)


class Run:
    """One load under way: what its connections share."""

    def __init__(self, load: Load) -> None:
        body = body_of(load)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\nauthorization: Bearer {load.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.load = load
        self.request = head.encode() + body
        self.left = load.requests
        self.result = Result()
        self.open = 0
        self.over = asyncio.get_running_loop().create_future()
        self._connections = load.connections

    def take(self) -> bool:
        """Whether one more request is to be sent."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def failed(self, cause: str) -> None:
        """Count an error and keep the first few causes."""
        self.result.errors += 1
        if len(self.result.causes) < 5:
            self.result.causes.append(cause)

    def connection_done(self) -> None:
        """The last connection to finish ends the run."""
        self._connections -= 1
        if self._connections == 0 and not self.over.done():
            self.over.set_result(None)


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: Any = None
        self._parser: Any = None
        self._busy = False
        self._started_s = 0.0
        self._first_s = 0.0
        self._events = 0
        self._last = b""
        self._sample = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._run.load.read_bytes_per_s:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._next()

    def _next(self) -> None:
        if not self._run.take():
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._busy = True
        self._events = 0
        self._last = self._sample = b""
        self._first_s = 0.0
        self._started_s = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        run = self._run
        run.result.bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            run.failed(f"not HTTP: {error}")
            self._busy = False
            self._transport.abort()
            return
        rate = run.load.read_bytes_per_s
        if rate and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(len(data) / rate, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def on_body(self, data: bytes) -> None:
        if not self._first_s:
            self._first_s = time.perf_counter()
            self._sample = data[:200]
            if self._run.load.chunks:
                self._run.open += 1
                self._run.result.peak_open = max(self._run.result.peak_open, self._run.open)
        if self._run.load.chunks:
            self._events += data.count(b"\n\n") + (self._last == b"\n" and data[:1] == b"\n")
            self._last = data[-1:]

    def on_message_complete(self) -> None:
        run, status = self._run, self._parser.get_status_code()
        now = time.perf_counter()
        self._leave()
        if status != 200:
            run.failed(f"status {status}: {self._sample!r}")
        elif self._events < run.load.chunks:
            run.failed(f"{self._events} events, not {run.load.chunks}: {self._sample!r}")
        else:
            run.result.answers += 1
            run.result.events += self._events
            run.result.latencies_ms.append(1000 * (now - self._started_s))
            run.result.first_ms.append(1000 * (self._first_s - self._started_s))
        if self._parser.should_keep_alive():
            self._next()
        else:
            self._transport.close()

    def _leave(self) -> None:
        if self._busy and self._first_s and self._run.load.chunks:
            self._run.open -= 1
        self._busy = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy and not self._run.over.done():
            self._run.failed(f"connection lost: {exc}")
        self._leave()
        self._transport = None
        if self._run.left > 0 and not self._run.over.done():
            asyncio.get_running_loop().create_task(connect(self._run))
        else:
            self._run.connection_done()


async def connect(run: Run, delay_s: float = 0.0) -> None:
    """Open one connection; it sends as soon as it stands."""
    await asyncio.sleep(delay_s)
    try:
        await asyncio.get_running_loop().create_connection(lambda: Client(run), "127.0.0.1", run.load.port)
    except OSError as error:
        run.failed(f"no connection: {error}")
        run.connection_done()


async def perform(load: Load) -> Result:
    """Run a load to its end."""
    run = Run(load)
    started_s = time.perf_counter()
    gap_s = load.spread_s / load.connections
    starts = [asyncio.create_task(connect(run, number * gap_s)) for number in range(load.connections)]
    try:
        await asyncio.wait_for(asyncio.shield(run.over), load.stop_after_s or None)
    except TimeoutError:
        run.over.cancel()
    for start in starts:
        start.cancel()
    run.result.wall_s = time.perf_counter() - started_s
    return run.result


if __name__ == "__main__":
    outcome = uvloop.run(perform(Load(**json.loads(sys.argv[1]))))
    sys.stdout.buffer.write(orjson.dumps(dataclasses.asdict(outcome)))
