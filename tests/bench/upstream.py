"""A server that costs nearly nothing: `python -m tests.bench.upstream PORT...`, the far end of every measurement.

It answers like vLLM. Two ordinary fields of the request steer it, because every proxy passes them on: `max_tokens` is
the number of content chunks of a stream, `seed` the milliseconds between two (0: as fast as the reader takes them).
`GET /bench` tells what it sees: streams open and paused, bytes written.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import Any

import httptools
import orjson
import uvloop

NAME = "bench-served"
"""The model's name on this server, different from its public one."""

SEND_BUFFER_BYTES = 64 * 1024
"""Small, so that a reader that stops is felt soon, not after megabytes in the kernel."""

BURST_CHUNKS = 64
"""Chunks in one write of a stream that runs as fast as it can."""


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(**fields: object) -> bytes:
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": NAME,
    } | fields
    return _chunked(b"data: " + orjson.dumps(chunk) + b"\n\n")


USAGE = {"prompt_tokens": 60, "completion_tokens": 50, "total_tokens": 110}
DELTA = {"index": 0, "delta": {"content": " bonjour"}, "logprobs": None, "finish_reason": None}
CHUNK = _event(choices=[DELTA])
LAST_CHUNK = _event(choices=[DELTA | {"finish_reason": "stop"}])
END = _event(choices=[], usage=USAGE) + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
METRICS = "".join(
    f'vllm:{name}{{model_name="{NAME}"}} 0.0\n'
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
).encode()


def _answer(body: bytes, content_type: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (content_type, len(body))
    return head + body


COMPLETION = _answer(
    orjson.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": NAME,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Bonjour " * 50},
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }
    )
)
MODELS = _answer(
    orjson.dumps(
        {"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "vllm", "max_model_len": 32768}]}
    )
)
FIXED = {
    b"/v1/models": MODELS,
    b"/metrics": _answer(METRICS, b"text/plain; version=0.0.4"),
    b"/health": _answer(b"{}"),
    b"/get_model_info": _answer(orjson.dumps({"model_path": NAME, "is_generation": True})),
    b"/get_server_info": _answer(orjson.dumps({"model_path": NAME, "served_model_name": NAME})),
}


class Counters:
    """What the server sees, over all its connections."""

    def __init__(self) -> None:
        self.open = 0
        self.paused = 0
        self.written_bytes = 0
        self.requests = 0


class Connection(asyncio.Protocol):
    """One connection; answers one request after another."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url = b""
        self._body: list[bytes] = []
        self._left = 0
        self._gap_s = 0.0
        self._streaming = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        self._transport = None
        self._stop()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, self._url = self._url.partition(b"?")[0], b""
        body, self._body = b"".join(self._body), []
        if path == b"/v1/chat/completions":
            self._complete(orjson.loads(body))
        elif path == b"/bench":
            counters = self._counters
            state = {name: getattr(counters, name) for name in ("open", "paused", "written_bytes", "requests")}
            self._transport.write(_answer(orjson.dumps(state)))
        else:
            self._transport.write(FIXED.get(path) or _answer(b"{}"))

    def _complete(self, fields: dict[str, Any]) -> None:
        self._counters.requests += 1
        if not fields.get("stream"):
            self._transport.write(COMPLETION)
            return
        self._left = fields.get("max_tokens") or fields["max_completion_tokens"]  # some proxies rename it
        self._gap_s = (fields.get("seed") or 0) / 1000
        self._streaming = True
        self._counters.open += 1
        self._transport.write(STREAM_HEAD)
        self._step()

    def _step(self) -> None:
        if not self._streaming or self._paused:
            return
        count = min(self._left - 1, 1 if self._gap_s else BURST_CHUNKS)
        if count > 0:
            self._write(CHUNK * count)
            self._left -= count
            if self._gap_s:
                # a server that batches gives all its streams a token in the same step: at multiples of the gap
                self._loop.call_at((self._loop.time() // self._gap_s + 1) * self._gap_s, self._step)
            else:
                self._loop.call_soon(self._step)
        else:
            self._write(LAST_CHUNK + END)
            self._stop()

    def _write(self, data: bytes) -> None:
        self._counters.written_bytes += len(data)
        self._transport.write(data)

    def _stop(self) -> None:
        if self._streaming:
            self._streaming = False
            self._counters.open -= 1

    def pause_writing(self) -> None:
        self._paused = True
        self._counters.paused += 1

    def resume_writing(self) -> None:
        if self._paused:
            self._paused = False
            self._counters.paused -= 1
            self._loop.call_soon(self._step)


async def serve(ports: Sequence[int]) -> None:
    """Listen on every port until the process is ended."""
    counters = Counters()
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Connection(counters), "127.0.0.1", port, backlog=4096) for port in ports
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
