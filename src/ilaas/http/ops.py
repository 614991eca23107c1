"""The ops listener: Prometheus metrics, the live state and health, for this machine and never for the public."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsSources:
    """Where the pages come from; each is called on the event loop, once per request."""

    metrics: Callable[[], Callable[[], bytes]]
    """Takes the numbers, and returns what makes Prometheus' text (format 0.0.4) of them in any thread."""
    state: Callable[[], Mapping[str, object]]
    """Dataclasses and enumerations in it are written as JSON."""
    ready: Callable[[], bool]
    follow: Callable[[], Awaitable[None]]
    """Takes over what was changed in the store just now, rather than half a second later."""


def build_ops_app(sources: OpsSources) -> Starlette:
    """GET /metrics, GET /state, GET /health, and POST /follow after a change in the store; nothing else."""

    async def metrics(_request: Request) -> Response:
        make_text = sources.metrics()
        return Response(await asyncio.to_thread(make_text), headers={"content-type": PROMETHEUS_TEXT})

    async def state(_request: Request) -> Response:
        return Response(orjson.dumps(sources.state(), option=orjson.OPT_NON_STR_KEYS), media_type="application/json")

    async def health(_request: Request) -> Response:
        ready = sources.ready()
        return PlainTextResponse("OK" if ready else "KO", status_code=200 if ready else 503)

    async def follow(_request: Request) -> Response:
        await sources.follow()
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/state", state),
            Route("/health", health),
            Route("/follow", follow, methods=["POST"]),
        ],
    )
