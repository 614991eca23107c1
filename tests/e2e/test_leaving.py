"""A client that leaves, at every stage and on every route, streamed or not: the slot is free and the server has stopped
within a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.quota import Limits
from ilaas.core.requests import ENDPOINTS
from ilaas.sim.journal import Note
from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.federation import Federation, Site, chat, federation
from tests.support.listener import Client, post
from tests.support.patience import PATIENCE_S, client_left

NOTICED_S = 1.0
"""What users are promised."""

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**chat(), "max_tokens": 5000, "ignore_eos": True},
    "/v1/completions": {"prompt": "Il était", "max_tokens": 5000, "ignore_eos": True},
    "/v1/embeddings": {"input": "Bonjour"},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/v1/score": {"text_1": "a", "text_2": ["b"]},
    "/tokenize": {"prompt": "Bonjour"},
    "/v1/audio/speech": {"input": "Bonjour", "voice": "alloy"},
}
GENERATING = [(path, stream) for path, endpoint in ENDPOINTS.items() if endpoint.generates for stream in (True, False)]
EVERY = [*GENERATING, *((path, False) for path, endpoint in ENDPOINTS.items() if not endpoint.generates)]
COMPUTING = [route for route in EVERY if route[0] != "/tokenize"]  # the simulator counts tokens without its engine

SLOW_PREFILL = EngineParams(slots=8, prefill_tps=0.1, max_batched_tokens=512)
ENDLESS = EngineParams(slots=8, prefill_tps=1e6, decode_base_s=0.01)


def test_no_route_is_left_out() -> None:
    assert BODIES.keys() == ENDPOINTS.keys()


@contextlib.asynccontextmanager
async def one_at_a_time(folder: Path, engine: EngineParams, **spec: Any) -> AsyncIterator[tuple[Federation, str]]:
    """One server, and a key that may have one request under way: a reservation kept would refuse the next."""
    site = Site("one", SimServerOptions(models=("served",), engine=engine), spec=spec)
    policy = DispatchPolicy(max_wait_s=1e9, failures_before_down=1_000_000)
    async with federation(folder, site, policy=policy) as fed:
        yield fed, await fed.new_key(limits=Limits(simultaneous_requests=1))


async def connect(fed: Federation, key: str, path: str, *, stream: bool) -> Client:
    """Send one request on a connection of its own."""
    client = Client(*await asyncio.open_connection("127.0.0.1", fed.address.port))
    body: dict[str, Any] = {"model": "mistral", **BODIES[path]}
    if stream:
        body["stream"] = True
    client.send(post(json.dumps(body).encode(), path, key=key))
    return client


async def outcomes(fed: Federation, count: int) -> list[tuple[str, bool, str]]:
    """Endpoint's path, streamed and outcome of each record, in the order of the requests."""
    names = {endpoint.name: path for path, endpoint in ENDPOINTS.items()}
    records = sorted(await fed.records(count), key=lambda record: record["id"])
    return [(names[record["endpoint"]], bool(record["streamed"]), record["outcome"]) for record in records]


def last_note(sim: SimServer) -> Note:
    return sim.journal.notes[-1]


async def test_in_the_queue(tmp_path: Path) -> None:
    async with one_at_a_time(tmp_path, ENDLESS, max_parallel_requests=1) as (fed, key):
        holder = await connect(fed, fed.key, "/v1/chat/completions", stream=True)
        await fed.until_state(lambda state: bool(state["models"][0]["servers"][0]["in_flight"] == 1))
        for path, stream in EVERY:
            client = await connect(fed, key, path, stream=stream)
            await fed.until_state(lambda state: sum(state["models"][0]["queued"].values()) == 1)
            client.close()
            await fed.until_state(lambda state: sum(state["models"][0]["queued"].values()) == 0, NOTICED_S)
        assert len(fed.sites["one"].journal.notes) == 1  # none of them ever reached the server
        holder.close()
        await fed.at_rest(NOTICED_S)
        found = await outcomes(fed, 1 + len(EVERY))
    assert found[1:] == [(path, stream, "client_left_queue") for path, stream in EVERY]


@contextlib.contextmanager
def unanswering() -> Iterator[str]:
    """The address of a host that takes no more connections, so that one who connects waits."""
    listener, first, second = socket.socket(), socket.socket(), socket.socket()
    with listener, first, second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_while_the_gateway_connects(tmp_path: Path) -> None:
    with unanswering() as url:
        async with one_at_a_time(tmp_path, ENDLESS, url=url) as (fed, key):
            for path, stream in EVERY:
                client = await connect(fed, key, path, stream=stream)
                async with asyncio.timeout(PATIENCE_S):
                    while not (await fed.gauges())["connecting"]:
                        await asyncio.sleep(0.01)
                client.close()
                await fed.at_rest(NOTICED_S)
            found = await outcomes(fed, len(EVERY))
    assert found == [(path, stream, "client_left_prefill") for path, stream in EVERY]


async def test_in_prefill(tmp_path: Path) -> None:
    async with one_at_a_time(tmp_path, SLOW_PREFILL) as (fed, key):
        sim = fed.sites["one"]
        for path, stream in COMPUTING:
            client = await connect(fed, key, path, stream=stream)
            await sim.journal.until(lambda: sim.serving.running == 1)
            client.close()
            assert await client_left(sim, NOTICED_S)
            assert last_note(sim).phase == "prefill", path
            await fed.at_rest(NOTICED_S)
        found = await outcomes(fed, len(COMPUTING))
    assert found == [(path, stream, "client_left_prefill") for path, stream in COMPUTING]


@pytest.mark.parametrize("reset", [True, False])
async def test_in_decode(tmp_path: Path, reset: bool) -> None:
    async with one_at_a_time(tmp_path, ENDLESS) as (fed, key):
        sim = fed.sites["one"]
        for path, stream in GENERATING:
            before = sim.serving.generation_tokens_total
            client = await connect(fed, key, path, stream=stream)
            async with asyncio.timeout(PATIENCE_S):
                if stream:
                    await client.reader.readuntil(b'"choices"')
                while sim.serving.generation_tokens_total == before:
                    await asyncio.sleep(0.01)
                    sim.serving.driver.advance()
            if reset:
                client.writer.transport.abort()
            else:
                client.close()
            assert await client_left(sim, NOTICED_S)
            assert last_note(sim).phase == "decode", path
            await fed.at_rest(NOTICED_S)
        found = await outcomes(fed, len(GENERATING))
    # a whole answer has not begun for the client: to the gateway it is all one wait
    assert found == [
        (path, stream, "client_left_decode" if stream else "client_left_prefill") for path, stream in GENERATING
    ]


async def test_in_the_middle_of_sending(tmp_path: Path) -> None:
    async with one_at_a_time(tmp_path, ENDLESS) as (fed, key):
        for path in BODIES:
            client = Client(*await asyncio.open_connection("127.0.0.1", fed.address.port))
            client.send(post(b'{"model": "mistral"' + b" " * 1000, path, key=key)[:-500])
            await client.writer.drain()
            client.close()
        answer = await fed.http.post(
            "/tokenize", json={"model": "mistral", "prompt": "a"}, headers={"authorization": f"Bearer {key}"}
        )
        assert answer.status_code == 200
        await fed.at_rest(NOTICED_S)
        await fed.until_state(lambda state: bool(state["connections"] == 1))
        assert await outcomes(fed, 1) == [("/tokenize", False, "completed")]
