"""Plays workloads against a running gateway, in real time, as its clients would: httpx, streamed answers, Stop.

The report is the one of a simulated run, as far as a client can know: no gauges of the servers, no number of slots, and
the class is the one asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from ilaas.core.errors import ModelNotFound, UpstreamFailed
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.sim.recording import Held, Played, Recording
from ilaas.sim.report import Report, build_report
from ilaas.sim.scenario import Scenario
from ilaas.sim.sources import Source, source
from ilaas.sim.workload import Planned, Workload

MAX_BATCH_CONNECTIONS = 200
"""A batch client keeps this many requests open at once and sends the next when one ends."""
_WORDS = ("campus", "energie", "modele", "reseau", "calcul", "donnees", "langue", "mesure")
_ANSWER_S = 600.0

_OUTCOMES = {
    "too_busy": Outcome.REFUSED_BUSY,
    "rate_limit_exceeded": Outcome.REJECTED_QUOTA,
    "insufficient_quota": Outcome.REJECTED_QUOTA,
    "no_server_available": Outcome.REFUSED_NO_SERVER,
    "queue_timeout": Outcome.QUEUE_TIMEOUT,
    "invalid_api_key": Outcome.REJECTED_AUTH,
    "permission_denied": Outcome.REJECTED_AUTH,
    "first_token_timeout": Outcome.FIRST_TOKEN_TIMEOUT,
    "answer_timeout": Outcome.ANSWER_TIMEOUT,
    "connect_timeout": Outcome.CONNECT_TIMEOUT,
    "idle_timeout": Outcome.IDLE_TIMEOUT,
    "total_timeout": Outcome.TOTAL_TIMEOUT,
    "upstream_stream_broken": Outcome.STREAM_BROKEN,
    "shutting_down": Outcome.SHUT_DOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The gateway that is played against."""

    url: str
    """Base URL without `/v1`."""
    keys: Mapping[str, str] = field(repr=False)
    """Key of each organisation."""
    model: str | None = None
    """Asked for instead of the workloads' models."""


class Player:
    """Plays workloads until they end or it is stopped. One event loop, one task per request."""

    def __init__(self, target: Target, workloads: Iterable[Workload], *, seed: int, duration_s: float) -> None:
        self.recording = Recording()
        self._target = target
        self._sources = [source(workload, seed, duration_s) for workload in workloads]
        self._batch = asyncio.Semaphore(MAX_BATCH_CONNECTIONS)
        self._start_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def play(self, limit_s: float | None = None) -> Recording:
        """Play; what is still under way after `limit_s` is broken off. On cancellation every connection is closed."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=1_000)
        timeout = httpx.Timeout(_ANSWER_S, connect=10.0)
        async with httpx.AsyncClient(base_url=self._target.url, limits=limits, timeout=timeout) as client:
            self._start_s = time.monotonic()
            try:
                for player in self._sources:
                    for planned in player.start():
                        self._plan(client, player, planned)
                async with asyncio.timeout(limit_s):
                    while self._tasks:
                        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            task.result()
            except TimeoutError:
                pass  # the rest is reported as unfinished
            finally:
                rest = list(self._tasks)
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
                self.recording.ended_s = self._now()
        return self.recording

    def _now(self) -> float:
        return time.monotonic() - self._start_s

    def _plan(self, client: httpx.AsyncClient, player: Source, planned: Planned | None) -> None:
        if planned is not None:
            task = asyncio.create_task(self._one(client, player, planned))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, client: httpx.AsyncClient, player: Source, planned: Planned) -> None:
        await asyncio.sleep(max(0.0, planned.at_s - self._now()))
        self._plan(client, player, player.sent(planned))
        if planned.request_class is RequestClass.BATCH:
            async with self._batch:
                retry_after_s = await self._request(client, planned)
        else:
            retry_after_s = await self._request(client, planned)
        self._plan(client, player, player.ended(planned, self._now(), retry_after_s))

    async def _request(self, client: httpx.AsyncClient, planned: Planned) -> float | None:
        """Send one request and read its answer; returns Retry-After when it was refused."""
        played = Played(planned, self._now())
        self.recording.played.append(played)
        retry_after_s = None
        try:
            async with asyncio.timeout(planned.stop_after_s):
                retry_after_s = await self._answer(client, played)
        except TimeoutError:
            left = Outcome.CLIENT_LEFT_PREFILL if played.first_token_s is None else Outcome.CLIENT_LEFT_DECODE
            played.outcome = left
        except httpx.HTTPError:
            played.outcome = Outcome.CONNECT_FAILED if played.first_token_s is None else Outcome.STREAM_BROKEN
            retry_after_s = 1.0
        played.ended_s = self._now()
        for lease in played.leases:
            lease.ended_s = played.ended_s
        return retry_after_s

    async def _answer(self, client: httpx.AsyncClient, played: Played) -> float | None:
        planned = played.planned
        body = orjson.dumps(_body(planned, self._target.model))
        headers = _headers(planned, self._target.keys[planned.organisation])
        async with client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                played.outcome = _outcome(await response.aread())
                return float(response.headers.get("retry-after", 1.0))
            self._granted(played, response.headers)
            async for line in response.aiter_lines():
                if line.startswith("data:") and self._event(played, line[5:].strip()):
                    return None
        played.outcome = Outcome.STREAM_BROKEN
        return None

    def _granted(self, played: Played, headers: httpx.Headers) -> None:
        """Note the lease, when the head tells how long the queue took (it doesn't when a comment came first)."""
        queue_ms = headers.get("x-ilaas-queue-ms")
        if queue_ms is not None:
            server = headers.get("x-ilaas-server-site", "")
            granted_s = min(played.sent_s + float(queue_ms) / 1000, self._now())
            played.leases.append(Held(server, played.planned.request_class, granted_s))

    def _event(self, played: Played, data: str) -> bool:
        """One event of the stream; true when it was the last."""
        if data == "[DONE]":
            played.outcome = Outcome.COMPLETED
            return True
        event = orjson.loads(data)
        if "error" in event:
            played.outcome = _outcome(data.encode())
            return True
        if played.first_token_s is None:
            played.first_token_s = self._now()
            if not played.leases:
                played.leases.append(Held("", played.planned.request_class, played.first_token_s))
        usage = event.get("usage")
        if usage:
            played.tokens = usage.get("total_tokens", 0)
        return False


def _body(planned: Planned, model: str | None) -> dict[str, Any]:
    """A prompt of about as many tokens (a short word is about one); conversations share their beginning."""
    seed = planned.conversation or planned.user
    start = [_WORDS[(seed + index) % len(_WORDS)] for index in range(min(planned.prompt_tokens, 200))]
    rest = [_WORDS[index % len(_WORDS)] for index in range(planned.prompt_tokens - len(start))]
    body: dict[str, Any] = {
        "model": model or planned.model,
        "messages": [{"role": "user", "content": " ".join(start + rest)}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max(1, planned.output_tokens),
    }
    if planned.priority:
        body["priority"] = planned.priority
    return body


def _headers(planned: Planned, key: str) -> dict[str, str]:
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "x-ilaas-class": planned.request_class.value,
    }
    if planned.routing_mode is not RoutingMode.ANY:
        headers["x-ilaas-routing-mode"] = planned.routing_mode.value
    return headers


def _outcome(body: bytes) -> Outcome:
    """The outcome behind an error body."""
    try:
        code = orjson.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return Outcome.UPSTREAM_ERROR
    return _OUTCOMES.get(code, Outcome.UPSTREAM_ERROR)


def run_live(scenario: Scenario, url: str, keys: Sequence[str], *, model: str | None = None) -> Report:
    """Play a scenario against a gateway. Its organisations take the keys in turn, its server events don't happen.

    Raises ModelNotFound when the gateway does not offer a model of the scenario (`model` takes the place of all),
    UpstreamFailed when it can't be reached.
    """
    names = dict.fromkeys(name for workload in scenario.workloads for name in _organisations(workload))
    target = Target(
        url=url.rstrip("/").removesuffix("/v1"),
        keys={name: keys[index % len(keys)] for index, name in enumerate(names)},
        model=model,
    )
    _check_models(target, keys[0], [model] if model else [item.name for item in scenario.models])

    async def run() -> Recording:
        player = Player(target, scenario.workloads, seed=scenario.seed, duration_s=scenario.duration_s)
        return await player.play(scenario.duration_s + scenario.drain_s)

    return build_report(scenario.model_copy(update={"name": f"{scenario.name}, live"}), asyncio.run(run()))


def _organisations(workload: Workload) -> Iterable[str]:
    return workload.organisations if workload.kind != "trace" else (line.organisation for line in workload.lines)


def _check_models(target: Target, key: str, wanted: Iterable[str]) -> None:
    try:
        response = httpx.get(f"{target.url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=10.0)
        response.raise_for_status()
        offered = [item["id"] for item in response.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise UpstreamFailed(f"The gateway at {target.url} did not tell its models ({error}).") from error
    for name in wanted:
        if name not in offered:
            raise ModelNotFound(f"The gateway does not offer the model '{name}'; it offers: {', '.join(offered)}.")
