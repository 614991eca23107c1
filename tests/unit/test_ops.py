"""The ops listener: three pages and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import httpx
import pytest

from ilaas.app.observe import nothing_to_follow
from ilaas.core.dispatch.events import ModelView
from ilaas.core.values import RequestClass
from ilaas.http.ops import OpsSources, build_ops_app

VIEW = ModelView(
    model="m",
    strategy="least-busy",
    queued={RequestClass.BATCH: 2},
    queued_by_organisation={},
    running=0,
    predicted_wait_s=0.0,
    state="available",
    servers=(),
)


def client(
    *, ready: bool = True, threads: list[int] | None = None, follow: Callable[[], Awaitable[None]] = nothing_to_follow
) -> httpx.AsyncClient:
    def make_text() -> bytes:
        if threads is not None:
            threads.append(threading.get_ident())
        return b"ilaas_up 1\n"

    def take():
        if threads is not None:
            threads.append(threading.get_ident())
        return make_text

    sources = OpsSources(
        metrics=take, state=lambda: {"version": "1", "models": [VIEW]}, ready=lambda: ready, follow=follow
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(build_ops_app(sources)), base_url="http://ops")


async def test_metrics_are_prometheus_text():
    answer = await client().get("/metrics")
    assert (answer.status_code, answer.text) == (200, "ilaas_up 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_numbers_are_taken_on_the_loop_and_the_text_is_made_beside_it():
    threads: list[int] = []
    await client(threads=threads).get("/metrics")
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


async def test_the_state_is_json_with_the_views_as_objects():
    answer = await client().get("/state")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["models"][0]["queued"] == {"batch": 2}


@pytest.mark.parametrize(("ready", "status", "text"), [(True, 200, "OK"), (False, 503, "KO")])
async def test_health_tells_whether_the_gateway_is_ready(ready, status, text):
    answer = await client(ready=ready).get("/health")
    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/v1/models", "/metrics/x"])
async def test_there_is_nothing_else(path):
    assert (await client().get(path)).status_code == 404


async def test_after_a_change_in_the_store_it_can_be_asked_to_take_it_over():
    asked: list[str] = []

    async def follow() -> None:
        asked.append("follow")

    assert (await client(follow=follow).get("/follow")).status_code == 405
    assert asked == []
    assert (await client(follow=follow).post("/follow")).status_code == 204
    assert asked == ["follow"]


async def test_nothing_can_be_changed_through_it():
    assert (await client().post("/state")).status_code == 405
