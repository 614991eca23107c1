"""Commands beside a running `ilaas serve`: what they change holds at once, with no restart."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.processes import Ilaas, ilaas

CHAT = {"model": "mistral", "messages": [{"role": "user", "content": "Bonjour"}], "max_tokens": 4}
WHO = ("--organisation", "uni-a", "--project", "tests", "--name")


@dataclass
class Gateway:
    command: Ilaas
    folder: Path
    sims: dict[str, SimServer]
    http: httpx.AsyncClient

    @property
    def config(self) -> Path:
        return self.folder / "ilaas.yaml"

    @property
    def run_file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state" / "run.json").read_text())
        return found

    async def ilaas(self, *arguments: str) -> str:
        return await asyncio.to_thread(ilaas, *arguments, "--state-dir", "state", folder=self.folder)

    async def models(self, key: str) -> httpx.Response:
        return await self.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})

    async def chat(self, key: str) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {key}"})

    async def new_key(self, name: str = "alice") -> str:
        return (await self.ilaas("key", "create", *WHO, name)).strip()

    async def servers(self) -> dict[str, str]:
        """State by server, of the live state."""
        state = (await self.http.get(f"http://127.0.0.1:{self.run_file['ops_port']}/state")).json()
        return {server["id"]: server["state"] for model in state["models"] for server in model["servers"]}

    async def becomes(self, ask: Callable[[], Any], right: Callable[[Any], bool], what: str) -> None:
        """Ask until the answer is right."""
        begun = time.monotonic()
        while not right(await ask()):
            assert time.monotonic() - begun < 20, what
            await asyncio.sleep(0.02)


def write_config(path: Path, sims: dict[str, SimServer], more: str = "") -> None:
    servers = "\n".join(f"      - {{id: {name}, url: '{sim.url}', organisation: uni-a}}" for name, sim in sims.items())
    path.write_text(
        "state_dir: state\nport: 0\nmetrics: {port: 0}\nhealth_interval: 500ms\nshutdown_grace: 1s\n"
        f"models:\n  - name: mistral\n    model: sim\n    servers:\n{servers}\n{more}"
    )


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    sims = {name: SimServer(SimServerOptions(engine="h200")) for name in ("one", "two")}
    for sim in sims.values():
        await sim.start()
    write_config(tmp_path / "ilaas.yaml", {"one": sims["one"]})
    command = Ilaas(("serve", "--config", "ilaas.yaml", "--log-format", "json"), tmp_path)
    try:
        await asyncio.to_thread(command.says, "gateway_started")
        run = json.loads((tmp_path / "state" / "run.json").read_text())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{run['port']}", timeout=30) as http:
            yield Gateway(command, tmp_path, sims, http)
    finally:
        command.kill()
        for sim in sims.values():
            await sim.stop()


async def test_a_key_works_after_its_creation_and_not_after_its_revocation(gateway: Gateway) -> None:
    key = await gateway.new_key()
    assert (await gateway.chat(key)).status_code == 200
    await gateway.ilaas("key", "revoke", key)
    refused = await gateway.chat(key)
    assert refused.status_code == 401
    assert "revoked" in refused.json()["error"]["message"]


async def test_both_secrets_of_a_rotated_key_work(gateway: Gateway) -> None:
    old = await gateway.new_key()
    new = (await gateway.ilaas("key", "rotate", old, "--overlap", "1h")).strip()
    assert (await gateway.models(new)).status_code == 200
    assert (await gateway.models(old)).status_code == 200


async def test_servers_are_added_drained_resumed_and_removed_with_no_restart(gateway: Gateway) -> None:
    key = await gateway.new_key()
    process = gateway.run_file["pid"]
    where = (
        "--url",
        gateway.sims["two"].url,
        "--site",
        "lille",
        "--owner",
        "uni-b",
        "--allow-private",
        "--id",
        "added",
    )
    await gateway.ilaas("organisation", "add", "uni-b")
    assert (await gateway.ilaas("server", "add", "mistral", *where)).strip() == "added"
    await gateway.becomes(gateway.servers, lambda found: found.get("added") == "up", "the added server is up")

    await gateway.ilaas("server", "drain", "one")
    await gateway.becomes(gateway.servers, lambda found: found["one"] == "draining", "the first drains")
    answers = [await gateway.chat(key) for _ in range(4)]
    assert {answer.headers["x-ilaas-server-site"] for answer in answers} == {"lille"}

    await gateway.ilaas("server", "resume", "one")
    await gateway.becomes(gateway.servers, lambda found: found["one"] == "up", "the first is back")
    await gateway.ilaas("server", "remove", "added")
    await gateway.becomes(gateway.servers, lambda found: set(found) == {"one"}, "the added one is gone")
    assert (await gateway.chat(key)).headers["x-ilaas-server-site"] == "uni-a"
    assert gateway.run_file["pid"] == process


async def test_lists_show_the_live_state(gateway: Gateway) -> None:
    await gateway.becomes(gateway.servers, lambda found: found["one"] == "up", "the server is up")
    (model,) = json.loads(await gateway.ilaas("model", "list", "--json"))
    assert (model["model"], model["state"], model["category"]) == ("mistral", "available", "generalist")
    (server,) = json.loads(await gateway.ilaas("server", "list", "--json"))
    assert (server["id"], server["state"], server["model"]) == ("one", "up", "mistral")


async def test_a_changed_file_is_taken_over_by_itself(gateway: Gateway) -> None:
    write_config(gateway.config, gateway.sims)
    await gateway.becomes(gateway.servers, lambda found: set(found) == {"one", "two"}, "the second server")


async def test_a_bad_file_keeps_the_old_one_and_says_so_and_a_good_one_heals(gateway: Gateway) -> None:
    key = await gateway.new_key()
    write_config(gateway.config, gateway.sims, "nonsense: true\n")
    await asyncio.to_thread(gateway.command.says, "configuration_rejected")
    rejected = next(line for line in gateway.command.err.splitlines() if "configuration_rejected" in line)
    assert f"ilaas.yaml:{gateway.config.read_text().splitlines().index('nonsense: true') + 1}:" in rejected
    assert set(await gateway.servers()) == {"one"}
    assert (await gateway.chat(key)).status_code == 200
    write_config(gateway.config, gateway.sims)
    await gateway.becomes(gateway.servers, lambda found: set(found) == {"one", "two"}, "the second server")


async def test_sighup_reads_the_file_again(gateway: Gateway) -> None:
    applied = gateway.command.err.count("configuration_applied")
    gateway.command.signal(signal.SIGHUP)

    async def count() -> int:
        return gateway.command.err.count("configuration_applied")

    await gateway.becomes(count, lambda now: now > applied, "the file was applied")
    assert gateway.command.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_gateway_that_is_told_to_stop_ends_with_0_and_its_run_file_goes(
    gateway: Gateway, number: signal.Signals
) -> None:
    gateway.command.signal(number)
    assert await asyncio.to_thread(gateway.command.process.wait, 20) == 0
    assert not (gateway.folder / "state" / "run.json").exists()
    assert "Traceback" not in gateway.command.err


async def test_top_tells_of_the_running_gateway_line_by_line_where_there_is_no_terminal(gateway: Gateway) -> None:
    top = Ilaas(("top", "--state-dir", "../state"), gateway.folder / "top")
    try:
        await asyncio.to_thread(top.says, "servers up 1/1")
        top.signal(signal.SIGINT)
        assert await asyncio.to_thread(top.process.wait, 20) == 0
        assert top.err == ""
    finally:
        top.kill()


async def test_no_secret_is_in_the_log(gateway: Gateway) -> None:
    key = await gateway.new_key()
    await gateway.chat(key)
    await gateway.models("ilaas-wrong")
    gateway.command.signal(signal.SIGTERM)
    await asyncio.to_thread(gateway.command.process.wait, 20)
    assert key not in gateway.command.err
    assert "Bonjour" not in gateway.command.err
