"""Playing against a gateway: requests go out as clients send them, and what comes back is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ilaas.core.errors import ModelNotFound, UpstreamFailed
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.sim.live import Player, Target, run_live
from ilaas.sim.traffic import LiveTraffic
from ilaas.sim.workload import Backlog, Users, always
from tests.unit.sim_run.scenes import scenario, users

Answer = Callable[[dict[str, object], asyncio.StreamWriter], Awaitable[None]]
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-ilaas-queue-ms: 40\r\nx-ilaas-server-site: lyon\r\n"
    b"connection: close\r\n\r\n"
)
USAGE = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}}


class Gateway:
    """Answers with what it is told, and keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.url = ""
        self.heads: list[str] = []
        self.bodies: list[dict[str, object]] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if head.startswith("get"):
                await reply(writer, 200, {"data": [{"id": "m"}]})
                return
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            self.heads.append(head)
            self.bodies.append(body)
            self.asked.set()
            watch = asyncio.create_task(reader.read())
            watch.add_done_callback(lambda _: self.left.set())
            await self._answer(body, writer)
        finally:
            writer.close()


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[Gateway]:
    fake = Gateway(answer)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()


async def reply(writer: asyncio.StreamWriter, status: int, body: object, extra: str = "") -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\nconnection: close\r\n{extra}\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def stream(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b": queued, position 1, about 2 s\n\n")
    for event in ({"choices": [{"delta": {"content": "oui"}}]}, USAGE):
        writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()


async def hang(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b'data: {"choices": [{"delta": {"content": "oui"}}]}\n\n')
    await writer.drain()
    await asyncio.Event().wait()


async def played(fake: Gateway, *workloads: Users | Backlog, model: str | None = None) -> Player:
    target = Target(url=fake.url, keys={"nantes": "key-n", "lyon": "key-l"}, model=model)
    player = Player(target, workloads, seed=1, duration_s=0.2)
    await asyncio.wait_for(player.play(), 20)
    return player


async def test_requests_carry_key_class_mode_and_model_and_the_answers_are_counted() -> None:
    batch = Backlog(
        name="b",
        requests=3,
        organisations=("nantes", "lyon"),
        models=("m",),
        request_class=RequestClass.BATCH,
        routing_mode=RoutingMode.PRIVATE_FIRST,
        priority=2,
        prompt_tokens=always(20),
        output_tokens=always(3),
    )
    async with gateway(stream) as fake:
        player = await played(fake, batch, model="other")
    assert len(fake.bodies) == 3
    assert fake.bodies[0]["model"] == "other"
    assert fake.bodies[0]["max_tokens"] == 3
    assert fake.bodies[0]["priority"] == 2
    assert len(str(fake.bodies[0]["messages"][0]["content"]).split()) == 20  # type: ignore[index]
    assert "x-ilaas-class: batch" in fake.heads[0]
    assert "x-ilaas-routing-mode: private-first" in fake.heads[0]
    assert sorted(head.split("bearer ")[1].split("\r\n")[0] for head in fake.heads) == ["key-l", "key-n", "key-n"]
    for request in player.recording.played:
        assert (request.outcome, request.tokens) == (Outcome.COMPLETED, 23)
        assert request.leases[0].server == "lyon"
        assert request.first_token_s is not None


async def test_a_user_who_presses_stop_closes_the_connection() -> None:
    async with gateway(hang) as fake:
        player = await played(fake, users(number=1, stop_share=1.0, stop_after_s=0.1))
        await asyncio.wait_for(fake.left.wait(), 10)
    assert player.recording.played[0].outcome in {Outcome.CLIENT_LEFT_DECODE, Outcome.CLIENT_LEFT_PREFILL}


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (429, "too_busy", Outcome.REFUSED_BUSY),
        (503, "no_server_available", Outcome.REFUSED_NO_SERVER),
        (401, "invalid_api_key", Outcome.REJECTED_AUTH),
        (500, "what", Outcome.UPSTREAM_ERROR),
    ],
)
async def test_a_refusal_is_told_by_its_code_and_the_user_waits(status: int, code: str, outcome: Outcome) -> None:
    async def refuse(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        await reply(writer, status, {"error": {"code": code}}, "retry-after: 30\r\n")

    async with gateway(refuse) as fake:
        player = await played(fake, users(number=2))
    assert [request.outcome for request in player.recording.played] == [outcome] * 2


async def test_an_error_within_the_stream_and_a_stream_cut_short_are_told_apart_from_success() -> None:
    async def fail(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b'data: {"error": {"code": "idle_timeout"}}\n\n')

    async def cut(body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b'data: {"choices": [{"delta": {}}]}\n\n')

    for answer, outcome in ((fail, Outcome.IDLE_TIMEOUT), (cut, Outcome.STREAM_BROKEN)):
        async with gateway(answer) as fake:
            player = await played(fake, users(number=1))
        assert player.recording.played[0].outcome is outcome


async def test_a_gateway_that_is_not_there_is_an_outcome_too() -> None:
    async with gateway(stream) as fake:
        pass
    player = await played(fake, users(number=1))
    assert player.recording.played[0].outcome is Outcome.CONNECT_FAILED


async def test_everyday_traffic_starts_at_once_and_stops_with_every_connection_closed() -> None:
    async with gateway(hang) as fake:
        traffic = LiveTraffic(fake.url, {"nantes": "key-n"}, ["m"], users=4)
        traffic.start()
        await asyncio.wait_for(fake.asked.wait(), 10)
        await traffic.stop()
        await asyncio.wait_for(fake.left.wait(), 10)
        count = len(traffic.recording.played)
        await traffic.stop()
        assert count == len(traffic.recording.played) >= 1


async def test_a_scenario_is_played_live_with_the_same_report() -> None:
    async with gateway(stream) as fake:
        scene = scenario(users(number=1, organisations=("nantes", "lyon"), think_s=0.05), duration_s=0.3)
        report = await asyncio.to_thread(run_live, scene, fake.url + "/v1", ["only-key"])
        assert report.scenario == "scene, live"
        assert report.whole.classes["interactive"].outcomes["completed"] >= 1
        assert report.whole.classes["interactive"].ttft_s.p50 is not None
        assert report.whole.slots.batch_share_of_idle is None
        with pytest.raises(ModelNotFound, match="does not offer the model 'gpt'; it offers: m"):
            await asyncio.to_thread(run_live, scene, fake.url, ["k"], model="gpt")
    with pytest.raises(UpstreamFailed, match="did not tell its models"):
        await asyncio.to_thread(run_live, scene, fake.url, ["k"])
