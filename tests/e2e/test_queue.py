"""Requests that wait: where, in which order, how long, and what they hear meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.federation import Federation, Site, bearer, chat, federation
from tests.support.patience import PATIENCE_S

QUICK = EngineParams(slots=8, prefill_tps=1e6, decode_base_s=0.001)
PATIENT = DispatchPolicy(max_wait_s=1e9)


def narrow(name: str, owner: str = "uni-a", **options: Any) -> Site:
    """A server that takes one request at a time."""
    given = {"models": ("served",), "engine": QUICK, "record": True, **options}
    return Site(name, SimServerOptions(**given), owner=owner, spec={"max_parallel_requests": 1})


@dataclass
class Holder:
    """A stream that occupies a server until the test lets it go."""

    answer: httpx.Response
    site: str
    rest: asyncio.Task[bytes] | None = None

    async def let_go(self) -> None:
        await self.answer.aclose()


async def hold(fed: Federation, key: str | None = None, **headers: str) -> Holder:
    """Occupy one slot, with a stream that would go on for minutes."""
    body = chat("hold", stream=True, max_tokens=5000, ignore_eos=True)
    for sim in fed.sites.values():
        sim.set_failures("slow_tokens=0.05:x1")
    request = fed.http.build_request(
        "POST", "/v1/chat/completions", json=body, headers={**bearer(key or fed.key), **headers}
    )
    answer = await fed.http.send(request, stream=True)
    for sim in fed.sites.values():
        sim.set_failures("")
    assert answer.status_code == 200
    return Holder(answer, answer.headers["x-ilaas-server-site"].removeprefix("site-"))


def send(fed: Federation, text: str, key: str | None = None, **given: Any) -> asyncio.Task[httpx.Response]:
    """One request that is read to its end, in the background."""
    headers = {**bearer(key or fed.key), **given.pop("headers", {})}
    body = chat(text, max_tokens=3, **given)
    return asyncio.create_task(fed.http.post("/v1/chat/completions", json=body, headers=headers))


async def queued(fed: Federation, count: int) -> None:
    await fed.until_state(lambda state: sum(state["models"][0]["queued"].values()) == count)


def served(sim: SimServer) -> list[str]:
    """The texts of the requests in the order in which the server got them, without holders."""
    texts = [json.loads(request.body)["messages"][0]["content"] for request in sim.recorded]
    return [text for text in texts if text != "hold"]


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_more_users_than_slots_wait_in_the_gateway_and_never_inside_a_server(tmp_path: Path) -> None:
    engine = EngineParams(slots=4, prefill_tps=1e6, decode_base_s=0.003)
    sites = [
        Site(name, SimServerOptions(models=("served",), engine=engine), spec={"max_parallel_requests": 4})
        for name in ("one", "two")
    ]
    async with federation(tmp_path, *sites, policy=PATIENT) as fed:
        most: dict[str, int] = {}
        waited = 0

        async def watch() -> None:
            nonlocal waited
            while True:
                for name, sim in fed.sites.items():
                    most[name] = max(most.get(name, 0), sim.serving.running + sim.serving.waiting)
                waited = max(waited, sum((await fed.state())["models"][0]["queued"].values()))
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        answers = await asyncio.gather(*(send(fed, f"user {number}") for number in range(60)))
        watcher.cancel()
        assert {answer.status_code for answer in answers} == {200}
        assert set(most) == {"one", "two"}
        assert max(most.values()) <= 4  # never more than they have slots, so that nobody waits there
        assert waited >= 40
        assert sum(int(answer.headers["x-ilaas-queue-ms"]) > 0 for answer in answers) >= 40
        await fed.at_rest()


async def test_a_waiting_stream_hears_its_place_and_then_its_answer(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one"), policy=PATIENT, keepalive_comment_s=0.2) as fed:
        holder = await hold(fed)
        body = chat("second", stream=True, max_tokens=3)
        heard: list[list[str]] = [[], []]

        async def listen(number: int) -> None:
            async with fed.http.stream("POST", "/v1/chat/completions", json=body, headers=bearer(fed.key)) as answer:
                async for line in answer.aiter_lines():
                    if line:
                        heard[number].append(line)

        listening = []
        for number in (0, 1):
            listening.append(asyncio.create_task(listen(number)))
            await queued(fed, number + 1)
        async with asyncio.timeout(PATIENCE_S):
            while not all(heard):
                await asyncio.sleep(0.01)
        assert heard[0][0].startswith(": queued, position 1, about ")
        assert heard[1][0].startswith(": queued, position 2, about ")
        await holder.let_go()
        await asyncio.gather(*listening)
        for lines in heard:
            assert lines[-1] == "data: [DONE]"
            assert any('"content"' in line for line in lines)
        await fed.at_rest()


async def test_who_would_wait_too_long_is_told_at_once_when_to_come_back(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one"), policy=DispatchPolicy(max_wait_s=0.05)) as fed:
        holder = await hold(fed)
        await fed.until_state(lambda state: bool(state["models"][0]["predicted_wait_s"] > 0.1))
        answer = await send(fed, "too many")
        assert error_of(answer) == (429, "too_busy")
        assert int(answer.headers["retry-after"]) >= 1
        model = (await fed.http.get("/v1/models/mistral", headers=bearer(fed.key))).json()
        assert (model["state"], model["predicted_wait_s"] > 0) == ("busy", True)
        batch = send(fed, "batch", headers={"x-ilaas-class": "batch"})  # may wait for hours
        await queued(fed, 1)
        await holder.let_go()
        assert (await batch).status_code == 200
        assert [record["outcome"] for record in await fed.records(3)].count("refused_busy") == 1


async def test_a_full_queue_refuses_and_one_organisation_can_not_fill_it_alone(tmp_path: Path) -> None:
    policy = DispatchPolicy(max_wait_s=1e9, max_queued=3, max_queued_per_organisation=2)
    async with federation(tmp_path, narrow("one", owner="uni-z"), policy=policy) as fed:
        other = await fed.new_key("uni-b")
        threshold = await fed.new_key("uni-c", threshold=0)
        holder = await hold(fed)
        waiting = []
        for count in (1, 2):
            waiting.append(send(fed, f"a{count}"))
            await queued(fed, count)
        assert error_of(await send(fed, "a3")) == (429, "too_busy")
        assert error_of(await send(fed, "a key that wants no queue", threshold)) == (429, "too_busy")
        waiting.append(send(fed, "b1", other))
        await queued(fed, 3)
        answer = await send(fed, "b2", other)
        assert error_of(answer) == (429, "too_busy")
        assert "full" in answer.json()["error"]["message"]
        assert "retry-after" in answer.headers
        await holder.let_go()
        assert [each.status_code for each in await asyncio.gather(*waiting)] == [200, 200, 200]
        await fed.at_rest()


async def test_waiting_has_an_end_that_is_named_and_is_longer_for_batch(tmp_path: Path) -> None:
    policy = DispatchPolicy(max_wait_s=1e9, deadlines=Deadlines(queue_s=0.3, batch_queue_s=60))
    async with federation(tmp_path, narrow("one"), policy=policy) as fed:
        holder = await hold(fed)
        batch = send(fed, "batch", headers={"x-ilaas-class": "batch"})
        await queued(fed, 1)
        answer = await send(fed, "interactive")
        assert error_of(answer) == (503, "queue_timeout")
        assert int(answer.headers["retry-after"]) >= 1
        assert not batch.done()
        await holder.let_go()
        assert (await batch).status_code == 200
        await fed.at_rest()
        assert {record["outcome"] for record in await fed.records(3)} == {
            "queue_timeout",
            "completed",
            "client_left_decode",
        }


@pytest.mark.parametrize("by_header", [True, False])
async def test_private_only_waits_for_own_servers_and_private_first_does_not(tmp_path: Path, by_header: bool) -> None:
    async with federation(tmp_path, narrow("own"), narrow("other", owner="uni-b"), policy=PATIENT) as fed:

        def ask(text: str, mode: str, key: str | None = None) -> asyncio.Task[httpx.Response]:
            if by_header:
                return send(fed, text, key, headers={"x-ilaas-routing-mode": mode})
            return send(fed, text, key, **{"routing-mode": mode})

        holder = await hold(fed, **{"x-ilaas-routing-mode": "private-only"})
        assert holder.site == "own"
        private = ask("private", "private-only")
        await queued(fed, 1)
        first = await ask("first", "private-first")  # the other server is free
        assert first.headers["x-ilaas-server-site"] == "site-other"
        assert not private.done()
        await holder.let_go()
        assert (await private).headers["x-ilaas-server-site"] == "site-own"
        assert (await ask("again", "private-first")).headers["x-ilaas-server-site"] == "site-own"
        stranger = await fed.new_key("uni-c")
        assert error_of(await ask("stranger", "private-only", stranger)) == (400, "no_own_server")
        assert (await ask("stranger", "any", stranger)).status_code == 200
        assert error_of(await ask("nonsense", "sideways")) == (400, "invalid_request")
        for sim in fed.sites.values():
            assert all(b"routing" not in request.body for request in sim.recorded)


async def test_the_owner_goes_first_on_its_own_server_then_interactive_then_batch(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one", owner="uni-a"), policy=PATIENT) as fed:
        guest = await fed.new_key("uni-b")
        batcher = await fed.new_key("uni-c", classes=frozenset({"batch"}))
        holder = await hold(fed, guest)
        waiting = []
        for count, (text, key, headers) in enumerate(
            [
                ("batch", guest, {"x-ilaas-class": "batch"}),
                ("batch by key", batcher, {}),
                ("guest", guest, {}),
                ("owner", fed.key, {}),
            ]
        ):
            waiting.append(send(fed, text, key, headers=headers))
            await queued(fed, count + 1)
        await holder.let_go()
        assert {each.status_code for each in await asyncio.gather(*waiting)} == {200}
        order = served(fed.sites["one"])
        assert order[:2] == ["owner", "guest"]
        assert set(order[2:]) == {"batch", "batch by key"}
        records = [record for record in await fed.records(5) if record["outcome"] == "completed"]
        assert [record["request_class"] for record in records] == ["owner", "interactive", "batch", "batch"]


async def test_a_priority_orders_one_organisations_requests_and_can_only_be_lowered(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one", owner="uni-z"), policy=PATIENT) as fed:
        urgent = await fed.new_key(priority=5)
        holder = await hold(fed)
        waiting = []
        for count, (text, key, fields) in enumerate(
            [
                ("low", urgent, {"priority": -5}),
                ("plain", fed.key, {}),
                ("wants more than its key", fed.key, {"priority": 99}),
                ("urgent", urgent, {}),
            ]
        ):
            waiting.append(send(fed, text, key, **fields))
            await queued(fed, count + 1)
        await holder.let_go()
        await asyncio.gather(*waiting)
        assert served(fed.sites["one"]) == ["urgent", "plain", "wants more than its key", "low"]
