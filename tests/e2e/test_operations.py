"""What operators do while the federation runs: servers, keys, the configuration file, and the end of a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ilaas.app.config import load_config
from ilaas.core.catalogue import DispatchPolicy
from ilaas.services.administration import NewServer
from ilaas.sim.server import SimServer, SimServerOptions
from tests.e2e.test_queue import PATIENT, QUICK, error_of, hold, narrow, queued, send
from tests.support.federation import FAST, Federation, Site, bearer, chat, federation, gateway, simulated
from tests.support.patience import PATIENCE_S, holds_within

EFFECTIVE_S = 1.0
"""Within which a change is promised to hold."""


async def effective(holds: Callable[[], Awaitable[bool]]) -> None:
    assert await holds_within(EFFECTIVE_S, holds)


async def status(fed: Federation, key: str) -> int:
    return (await fed.http.get("/v1/models", headers=bearer(key))).status_code


async def sites_of(fed: Federation, count: int = 6) -> set[str]:
    answers = await asyncio.gather(*(send(fed, f"{number}") for number in range(count)))
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-ilaas-server-site"] for answer in answers}


async def test_servers_are_drained_resumed_added_and_removed_with_no_restart(tmp_path: Path) -> None:
    added = SimServerOptions(models=("served",), engine=QUICK, api_key="added-token", record=True)
    async with federation(tmp_path, narrow("one"), narrow("two"), policy=PATIENT) as fed, SimServer(added) as third:

        async def state_is(server: str, wanted: str | None) -> None:
            async def holds() -> bool:
                servers = (await fed.state())["models"][0]["servers"]
                return {each["id"]: each["state"] for each in servers}.get(server) == wanted

            await effective(holds)

        await fed.admin.drain_server("one")
        await state_is("one", "draining")
        assert await sites_of(fed) == {"site-two"}
        await fed.admin.resume_server("one")
        await state_is("one", "up")
        assert await sites_of(fed) == {"site-one", "site-two"}

        new = NewServer(
            model="mistral",
            url=f"{third.url}/v1",
            site="lille",
            owner="uni-b",
            token="added-token",
            served_name="served",
            id="three",
            max_parallel_requests=1,
        )
        await fed.admin.add_server(new)
        await state_is("three", "up")
        await fed.admin.drain_server("one")
        await fed.admin.drain_server("two")
        await state_is("two", "draining")
        assert await sites_of(fed) == {"lille"}

        third.set_failures("slow_tokens=0.02")
        running = asyncio.create_task(
            fed.http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=80), headers=bearer(fed.key))
        )
        await third.journal.until(lambda: third.journal.notes[-1].tokens > 0)
        await fed.admin.remove_server("three")
        await state_is("three", None)
        assert not running.done()
        assert (await running).text.endswith("data: [DONE]\n\n")  # what was under way came to its end
        waiting = send(fed, "late")  # all that is left is draining
        answer = await waiting
        assert error_of(answer) == (503, "no_server_available")
        await fed.at_rest()


async def test_a_drained_server_ends_its_streams_and_hands_its_queue_to_the_others(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one"), policy=PATIENT) as fed:
        holder = await hold(fed)
        waiting = send(fed, "waits")
        await queued(fed, 1)
        await fed.admin.drain_server("one")
        await fed.until_state(lambda state: bool(state["models"][0]["servers"][0]["state"] == "draining"), EFFECTIVE_S)
        await holder.let_go()
        await fed.until_state(lambda state: bool(state["models"][0]["servers"][0]["in_flight"] == 0))
        assert not waiting.done()
        await fed.admin.resume_server("one")
        assert (await waiting).status_code == 200


async def test_a_revoked_key_is_dead_within_a_second_and_what_it_had_begun_ends_well(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one"), policy=PATIENT) as fed:
        key = await fed.new_key()
        fed.sites["one"].set_failures("slow_tokens=0.03")
        running = send(fed, "running", key, stream=True, min_tokens=3)
        await fed.sites["one"].journal.until(lambda: fed.sites["one"].serving.running == 1)
        waiting = send(fed, "waiting", key)
        await queued(fed, 1)
        await fed.admin.revoke_key(key)

        async def dead() -> bool:
            return await status(fed, key) == 401

        await effective(dead)
        assert error_of(await send(fed, "late", key)) == (401, "invalid_api_key")
        assert (await running).text.endswith("data: [DONE]\n\n")
        assert (await waiting).status_code == 200
        await fed.at_rest()


async def test_a_rotated_key_and_its_successor_overlap(tmp_path: Path) -> None:
    async with federation(tmp_path, narrow("one")) as fed:
        old = await fed.new_key()
        new = await fed.admin.rotate_key(old, overlap_s=3.0)

        async def works() -> bool:
            return await status(fed, new) == 200

        await effective(works)
        assert await status(fed, old) == 200
        async with asyncio.timeout(PATIENCE_S):
            while await status(fed, old) == 200:
                await asyncio.sleep(0.05)
        assert (await status(fed, old), await status(fed, new)) == (401, 200)


# -- the configuration file --------------------------------------------------------------------------------------------


def written(path: Path, *names: str, site: Site) -> Path:
    """A configuration file in which that one server serves these models."""
    server = {
        "url": site.sim.url,
        "organisation": "uni-a",
        "max_parallel_requests": 1,
    }
    models = [{"name": name, "model": "served", "servers": [{**server, "id": f"{name}-1"}]} for name in names]
    path.write_text(json.dumps({"models": models}))
    return path


async def test_a_model_that_leaves_the_file_refuses_who_waits_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    site = narrow("one")
    async with simulated([site]):
        path = written(tmp_path / "ilaas.yaml", "mistral", "autre", site=site)
        settings = replace(
            load_config(path, {}), state_dir=tmp_path / "state", port=0, ops_port=0, shutdown_grace_s=2.0, **FAST
        )
        with capture_logs() as logs:
            async with gateway(settings, [site]) as fed:
                await change_the_file(fed, path, site, logs)
        rejected = [line for line in logs if line["event"] == "configuration_rejected"]
        assert len(rejected) == 1
        assert "ilaas.yaml:1" in rejected[0]["message"]


async def change_the_file(fed: Federation, path: Path, site: Site, logs: list[Any]) -> None:
    async def models() -> set[str]:
        answer = await fed.http.get("/v1/models", headers=bearer(fed.key))
        return {model["id"] for model in answer.json()["data"]}

    async def until_models(*names: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await models() != set(names):
                await asyncio.sleep(0.02)

    holder = await hold(fed)
    waiting = send(fed, "waits")
    await queued(fed, 1)
    path.write_text("models: [nonsense")
    async with asyncio.timeout(PATIENCE_S):
        while not any(line["event"] == "configuration_rejected" for line in logs):
            await asyncio.sleep(0.02)
    assert await models() == {"mistral", "autre"}
    assert not waiting.done()
    written(path, "autre", "nouveau", site=site)
    answer = await waiting
    assert error_of(answer) == (503, "no_server_available")
    assert "retry-after" in answer.headers
    await until_models("autre", "nouveau")
    assert error_of(await send(fed, "late")) == (404, "model_not_found")
    await holder.let_go()
    answer = await fed.http.post(
        "/v1/chat/completions", json={**chat(max_tokens=3), "model": "nouveau"}, headers=bearer(fed.key)
    )
    assert answer.status_code == 200
    await fed.at_rest()
    outcomes = sorted(record["outcome"] for record in await fed.records(3))
    assert outcomes == ["client_left_decode", "completed", "refused_no_server"]


# -- the end -----------------------------------------------------------------------------------------------------------


async def stream(fed: Federation, **fields: Any) -> str:
    answer = await fed.http.post(
        "/v1/chat/completions", json=chat(stream=True, **fields), headers=bearer(fed.key), timeout=30
    )
    return answer.text


async def test_a_gateway_that_stops_takes_nothing_new_and_lets_a_stream_end(tmp_path: Path) -> None:
    options = SimServerOptions(models=("served",), engine=QUICK, failures="slow_tokens=0.02")
    async with federation(tmp_path, Site("one", options), shutdown_grace_s=20.0) as fed:
        running = asyncio.create_task(stream(fed, max_tokens=40))
        journal = fed.sites["one"].journal
        await journal.until(lambda: bool(journal.notes) and journal.notes[-1].tokens > 0)
        fed.run.stop.set()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with httpx.AsyncClient(base_url=fed.url) as other:
                        await other.get("/health/liveness")
                except httpx.ConnectError:
                    break
                except httpx.TransportError:  # it had connected, and was not taken any more
                    continue
        assert not running.done()
        assert (await running).endswith("data: [DONE]\n\n")
        async with asyncio.timeout(PATIENCE_S):
            await fed.task
        assert not fed.settings.run_file.exists()


@pytest.mark.parametrize("stage", ["queue", "stream"])
async def test_what_does_not_end_within_the_grace_period_is_told_so(tmp_path: Path, stage: str) -> None:
    policy = DispatchPolicy(max_wait_s=1e9)
    async with federation(tmp_path, narrow("one"), policy=policy, shutdown_grace_s=0.3) as fed:
        fed.sites["one"].set_failures("hang_after=3:x1")
        first = asyncio.create_task(stream(fed, max_tokens=40))
        journal = fed.sites["one"].journal
        await journal.until(lambda: bool(journal.notes) and journal.notes[-1].tokens > 0)
        second = send(fed, "waits")
        await queued(fed, 1)
        fed.run.stop.set()
        if stage == "queue":
            answer = await second
            assert error_of(answer) == (503, "shutting_down")
            assert "retry-after" in answer.headers
            await first
        else:
            events = [line for line in (await first).split("\n\n") if line]
            assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
            assert events[-1] == "data: [DONE]"
            await second
        await journal.until(lambda: journal.notes[-1].result == "client_left")
