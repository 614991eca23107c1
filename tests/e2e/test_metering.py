"""A gateway that is killed, or whose database is locked, loses no usage record and stops no inference."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

from ilaas.adapters.outbox import FileOutbox
from ilaas.adapters.secret import load_secret
from ilaas.app.settings import Settings
from ilaas.app.wiring import open_store
from ilaas.core.periods import Period
from ilaas.core.rollups import UsageQuery
from ilaas.services.administration import Administration, NewKey
from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.federation import Site, bearer, chat, federation
from tests.support.patience import PATIENCE_S

GATEWAY = """
import asyncio, json, sys
from pathlib import Path
from ilaas.app.runtime import Run, serve
from ilaas.app.settings import Settings
from ilaas.core.catalogue import ModelSpec, ServerSpec

folder, url = sys.argv[1:]
server = ServerSpec(id="one", url=url, site="s", owner="uni-a", served_name="org/served", max_parallel_requests=100)
settings = Settings(
    state_dir=Path(folder), port=0, ops_port=0, models=(ModelSpec(name="mistral", servers=(server,)),),
    allow_private_addresses=True, health_interval_s=0.5, statistics_interval_s=0.2,
)
asyncio.run(serve(settings, Run(ready=lambda address: print(address.port, flush=True))))
"""


def on_disk(folder: Path) -> set[str]:
    """Ids in the outbox's files: what was acknowledged."""
    found: set[str] = set()
    for path in (folder / "outbox").glob("*.jsonl"):
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:  # emptied meanwhile
            continue
        for line in lines[1:]:
            if line.endswith(b"\n"):
                found |= {values[0] for values in json.loads(line)}
    return found


def in_store(folder: Path) -> Counter[str]:
    with sqlite3.connect(folder / "ilaas.db") as connection:
        return Counter(row[0] for row in connection.execute("SELECT id FROM usage_records"))


async def until_it_listens(client: httpx.AsyncClient) -> None:
    while True:
        try:
            await client.get("/health")
        except httpx.ConnectError:
            await asyncio.sleep(0.02)
        else:
            return


async def test_a_gateway_killed_at_any_instant_loses_no_acknowledged_record(tmp_path: Path) -> None:
    sim = SimServer(SimServerOptions(models=("org/served",)))
    await sim.start()
    settings = Settings(state_dir=tmp_path / "state")
    store = open_store(settings)
    await store.open()
    admin = Administration(
        store, load_secret(settings.state_dir).pepper, time.time, secrets.token_bytes, lambda _: None
    )
    secret, _ = await admin.create_key(NewKey(organisation="uni-a", project="tests", name="main"))
    acknowledged: set[str] = set()
    for kill_after in (30, 75):  # before and after the first emptying of the outbox, more or less
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", GATEWAY, str(settings.state_dir), sim.url), stdout=asyncio.subprocess.PIPE
        )
        assert gateway.stdout is not None
        port = int(await gateway.stdout.readline())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer(secret), timeout=30) as client:
            answered = 0
            async with asyncio.timeout(60):
                await until_it_listens(client)
                while answered < kill_after:
                    answers = await asyncio.gather(
                        *(client.post("/v1/chat/completions", json=chat(max_tokens=1)) for _ in range(5))
                    )
                    answered += sum(answer.status_code == 200 for answer in answers)
                under_way = [
                    asyncio.create_task(client.post("/v1/chat/completions", json=chat(max_tokens=50))) for _ in range(5)
                ]
                while len(acknowledged | on_disk(settings.state_dir) | set(in_store(settings.state_dir))) < kill_after:
                    await asyncio.sleep(0.005)
            acknowledged |= on_disk(settings.state_dir) | set(in_store(settings.state_dir))
            os.kill(gateway.pid, signal.SIGKILL)
            await gateway.wait()
            await asyncio.gather(*under_way, return_exceptions=True)
    outbox = FileOutbox(settings.state_dir / "outbox")
    await outbox.drain(store)
    await outbox.close()
    found = in_store(settings.state_dir)
    assert len(acknowledged) >= 75
    assert acknowledged <= set(found)
    (total,) = await store.usage_lines(UsageQuery(period=Period(0, 100_000)))
    assert total.totals.requests == len(found)
    await store.close()
    await sim.stop()


async def test_a_database_that_is_locked_stops_no_inference(tmp_path: Path) -> None:
    async with federation(tmp_path, Site("one")) as fed:
        with sqlite3.connect(fed.settings.state_dir / "ilaas.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(20):
                answer = await fed.http.post("/v1/chat/completions", json=chat(max_tokens=1), headers=bearer(fed.key))
                assert answer.status_code == 200
            async with asyncio.timeout(PATIENCE_S):
                while len(on_disk(fed.settings.state_dir)) < 20:
                    await asyncio.sleep(0.01)
            assert not in_store(fed.settings.state_dir)
            other.execute("ROLLBACK")
        assert len(await fed.records(20)) == 20
