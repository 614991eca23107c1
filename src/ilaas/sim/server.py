"""The simulated inference server: vLLM's API on a modelled engine, cheap enough for thousands of streams."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import deque
from typing import Any, Self

import orjson
import uvloop

from ilaas.sim.api_errors import ApiError
from ilaas.sim.failures import FailureDraw, SimFailures
from ilaas.sim.http import Connection, Exchange, HttpRequest
from ilaas.sim.inference import Inference
from ilaas.sim.journal import Journal
from ilaas.sim.metrics import render
from ilaas.sim.options import SimServerOptions
from ilaas.sim.serving import Serving

__all__ = ["SimServer", "SimServerOptions", "serve_forever"]

_VERSION = "0.11.0"
"""The vLLM that this looks like."""


class SimServer:
    """One simulated server, in this process. Use `start` and `stop`, or `async with`."""

    def __init__(self, options: SimServerOptions) -> None:
        self.options = options
        self.serving = Serving(options.params, options.clock)
        self.journal = Journal(options.site, options.clock)
        self.recorded: deque[HttpRequest] = deque(maxlen=1000 if options.record else 1)
        """The last requests to inference paths; only with the option `record`."""
        self.port = options.port
        self._draw = FailureDraw(options.parsed_failures, options.failure_seed)
        self._inference = Inference(options, self.serving, self.journal)
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._deaf: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._started_s = int(time.time())

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Listen; returns the port."""
        await self._listen()
        self._apply_deafness()
        return self.port

    async def stop(self) -> None:
        """Close all connections and the port."""
        if self._deaf is not None:
            self._deaf.cancel()
        for task in self._tasks:
            task.cancel()
        self._close_port()
        for connection in list(self._connections):
            connection.abort()
        self.serving.stop()
        # uvloop tells a connection's end in the next turn of the loop.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://{self.options.host}:{self.port}"

    @property
    def failures(self) -> SimFailures:
        """What it does wrong at present."""
        return self._draw.failures

    def set_failures(self, failures: SimFailures | str) -> None:
        """Exchange the failures; counts begin anew. Raises ValueError."""
        parsed = SimFailures.parse(failures) if isinstance(failures, str) else failures
        self._draw = FailureDraw(parsed, self.options.failure_seed)
        self._apply_deafness()

    async def listening(self) -> None:
        """Wait until a port that is being opened again is open."""
        await asyncio.gather(*self._tasks)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self._handle, lambda: self._draw.refuses(), self._connections),  # noqa: PLW0108  # of now
            self.options.host,
            self.port,
            backlog=2048,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def _close_port(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _apply_deafness(self) -> None:
        deaf_s = self._draw.deaf_s()
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None
        if deaf_s is None:
            self._hear_again()
            return
        self._close_port()
        for connection in list(self._connections):
            connection.close_if_idle()
        if deaf_s:
            self._deaf = asyncio.get_running_loop().call_later(deaf_s, self._hear_again)

    def _hear_again(self) -> None:
        if self._listener is None:
            task = asyncio.get_running_loop().create_task(self._listen())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            if self.options.api_key is not None and request.path.startswith("/v1"):
                self._check_key(request)
            if request.method in {"GET", "HEAD"}:
                self._handle_get(exchange, request.path)
            elif request.path == "/sim/failures":
                self._change_failures(exchange)
            else:
                self._infer(exchange)
        except _Unauthorized:
            exchange.answer(401, b'{"error":"Unauthorized"}')
        except ApiError as error:
            exchange.answer(error.status, error.body(old=self.options.old_errors))

    def _infer(self, exchange: Exchange) -> None:
        if exchange.request.path not in Inference.PATHS:
            raise ApiError(404, "Not Found")
        if exchange.request.method != "POST":
            raise ApiError(405, "Method Not Allowed")
        if self.options.record:
            self.recorded.append(exchange.request)
        self._inference.begin(exchange, self._draw)

    def _check_key(self, request: HttpRequest) -> None:
        if request.headers.get("authorization") != f"Bearer {self.options.api_key}":
            raise _Unauthorized

    def _handle_get(self, exchange: Exchange, path: str) -> None:
        if path in {"/health", "/metrics", "/v1/models"} and self._draw.unhealthy():
            raise ApiError(503, "The engine is not ready")
        match path:
            case "/":
                exchange.answer(200, b"{}")
            case "/health":
                exchange.answer(200, b"")
            case "/version":
                exchange.answer(200, orjson.dumps({"version": _VERSION}))
            case "/metrics":
                text = render(self.serving, self.journal, self.options.models[0], old=self.options.old_metrics)
                exchange.answer(200, text, b"text/plain; version=0.0.4; charset=utf-8")
            case "/v1/models":
                exchange.answer(200, orjson.dumps({"object": "list", "data": self._models()}))
            case "/sim/state":
                exchange.answer(200, orjson.dumps(self.state()))
            case _:
                raise ApiError(405 if path in Inference.PATHS else 404, "Not Found")

    def _models(self) -> list[dict[str, Any]]:
        return [
            {
                "id": name,
                "object": "model",
                "created": self._started_s,
                "owned_by": "vllm",
                "root": name,
                "parent": None,
                "max_model_len": self.options.params.context_tokens,
            }
            for name in self.options.models
        ]

    def state(self) -> dict[str, Any]:
        """What `/sim/state` tells."""
        state: dict[str, Any] = {
            "site": self.options.site,
            "models": list(self.options.models),
            "running": self.serving.running,
            "waiting": self.serving.waiting,
            "kv_cache_usage": self.serving.engine.kv_cache_usage,
            "failures": str(self.failures),
            **self.journal.as_dict(),
        }
        if self.options.record and self.recorded:
            last = self.recorded[-1]
            state["last_request"] = {
                "path": last.path,
                "headers": last.headers,
                "body": last.body.decode("utf-8", "replace"),
            }
        return state

    def _change_failures(self, exchange: Exchange) -> None:
        text = exchange.request.body.decode("utf-8", "replace")
        try:
            if text.lstrip().startswith("{"):
                text = str(orjson.loads(text)["failures"])
            self.set_failures(text)
        except (ValueError, KeyError) as error:
            raise ApiError(400, f"failures: {error}", "failures") from None
        exchange.answer(200, orjson.dumps({"failures": str(self.failures)}))


class _Unauthorized(Exception):
    """The bearer token is missing or wrong."""


def serve_forever(options: SimServerOptions) -> None:
    """Run one server until SIGINT or SIGTERM; prints a line with its address when it is ready."""
    uvloop.run(_serve(options))


async def _serve(options: SimServerOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with SimServer(options) as server:
        models = ", ".join(options.models)
        sys.stdout.write(f"Simulated server of {models} at site {options.site}: {server.url}\n")
        sys.stdout.flush()
        await stop.wait()
