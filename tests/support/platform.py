"""The platform over real processes: RabbitMQ, PostgreSQL, dispatchers, gateways and simulated servers, and load."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson

from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql import SqlStore
from ilaas.app.local import PrivateHAProxy, PrivateRabbitMQ
from ilaas.app.local.child import Child, Program, free_ports, inherited, listens
from ilaas.app.local.cluster import Cluster, Part
from ilaas.app.settings import Role
from ilaas.core.quota import Limits
from ilaas.services.administration import Administration, NewKey

CONFIGURATION = """\
broker: {broker}
broker_namespace: {namespace}
store: {store}
statistics_interval: 500ms
health_interval: 1s
shutdown_notice: 2s
shutdown_grace: {grace}
allow_private_addresses: true
models:
  - name: m
    model: m
    policy: {{continuation: "on", deadlines: {{connect: 2s, first_token: 6s, idle: 4s}}}}
    servers:
{servers}
"""

SERVER = """\
      - id: {name}
        url: http://127.0.0.1:{port}
        site: {name}
        organisation: uni-{name}
        max_parallel_requests: {slots}
"""


_STARTER = ThreadPoolExecutor(1)
"""Its thread lives as long as the test run: what is started from a thread ends with it."""


async def beside(action: Callable[[], object]) -> None:
    """Do what blocks, such as a start, while the load goes on."""
    await asyncio.get_running_loop().run_in_executor(_STARTER, action)


@dataclass
class Answer:
    """What one client saw."""

    outcome: str = "cut"
    """`answered`, `error CODE` (an answer or an event that says why), or `cut` (the connection broke)."""
    text: str = ""
    ended_s: float = 0.0
    request_id: str = ""


@dataclass
class Load:
    """Clients that ask again and again until told to stop."""

    answers: list[Answer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    stopping: bool = False

    def counts(self) -> Counter[str]:
        return Counter(answer.outcome for answer in self.answers)

    async def more(self, count: int, within_s: float = 60.0) -> float:
        """Until so many more were answered; returns how long that took."""
        wanted = self.counts()["answered"] + count
        began_s = time.monotonic()
        while self.counts()["answered"] < wanted:
            assert time.monotonic() - began_s < within_s, f"no {count} more answers in {within_s} s: {self.counts()}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began_s

    async def end(self) -> Counter[str]:
        """Let the requests under way end."""
        self.stopping = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), 60.0)
        return self.counts()


class Platform:
    """Everything; `start` and `stop` it, and do to its parts what a test needs."""

    def __init__(self, folder: Path, rabbitmq: PrivateRabbitMQ, store: str, namespace: str) -> None:
        self.folder = folder
        self.rabbitmq = rabbitmq
        self.store_url = store
        self.namespace = namespace
        self.servers: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.config = folder / "ilaas.yaml"
        self.secret = folder / "secret.key"
        self.haproxy = PrivateHAProxy(folder / "haproxy")
        self.cluster = Cluster(folder / "parts", self.config, self.secret)
        self.key = ""
        self.grace = "20s"
        self.server_names: tuple[str, ...] = ("s1", "s2")
        self.server_options: tuple[str, ...] = ()
        """More of the simulated servers' command line."""
        self._clients: list[httpx.AsyncClient] = []

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def start(self, *, gateways: int = 2, dispatchers: int = 2, slots: int = 4) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        load_secret(folder)
        self.ports = dict(zip(self.server_names, free_ports(len(self.server_names)), strict=True))
        for name in self.ports:
            self.start_server(name)
        self.configure(self.config, self.rabbitmq.url, slots)
        self.key = await self.create_key("tests")
        roles = [(Role.DISPATCHER, f"d{number}") for number in range(dispatchers)]
        roles += [(Role.GATEWAY, f"g{number}") for number in range(gateways)]
        # from this thread, whose end would be theirs too
        for part in [self.cluster.launch(role, name) for role, name in roles]:
            self.cluster.wait(part)
        await self.until(lambda: self.ready("g0"))

    def configure(self, path: Path, broker: str, slots: int = 4) -> None:
        """A configuration file; more than one, when parts reach the broker in different ways."""
        servers = "".join(SERVER.format(name=name, port=port, slots=slots) for name, port in self.ports.items())
        path.write_text(
            CONFIGURATION.format(
                broker=broker, namespace=self.namespace, store=self.store_url, servers=servers, grace=self.grace
            )
        )

    def start_server(self, name: str) -> None:
        """A simulated server, on the port that it had."""
        command = (sys.executable, "-m", "ilaas.cli.main", "sim", "server", "--port", str(self.ports[name]))
        paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        self.servers[name] = Child(
            Program(
                name=f"server {name}",
                command=(*command, "--model", "m", "--preset", "a100", "--slots", "64", *self.server_options),
                env=inherited(HOME=str(self.folder), **paths),
                cwd=self.folder,
                log=self.folder / f"{name}.log",
            )
        )
        self.servers[name].wait_until(lambda: listens(self.ports[name]), 60.0)

    def kill_server(self, name: str) -> None:
        self.servers[name].end(signal.SIGKILL, 10.0)

    async def balance(self) -> None:
        """HAProxy before the gateways."""
        await beside(lambda: self.haproxy.start({part.name: part.port for part in self.cluster.gateways}))

    async def create_key(self, project: str, **limits: int) -> str:
        store, secret = self.open_store()
        await store.open()
        try:
            administration = Administration(store, secret.pepper, time.time, secrets.token_bytes, lambda _url: None)
            shown, _ = await administration.create_key(
                NewKey(organisation="uni-a", project=project, name=project, limits=Limits(**limits)), actor="tests"
            )
        finally:
            await store.close()
        return shown

    def open_store(self) -> tuple[SqlStore, Any]:
        secret = load_secret(self.folder)
        return SqlStore(self.store_url, secret), secret

    def start_again(self, name: str) -> None:
        """A part that was killed, on the port and in the folder that it had."""
        part = self.part(name)
        self.cluster.start(part.role, name, port=part.port)

    def heal(self) -> None:
        """Whatever a test has left dead runs again."""
        if not self.rabbitmq.running:
            self.rabbitmq.start()
        for name, server in self.servers.items():
            if not server.running:
                self.start_server(name)
        for name, part in list(self.cluster.parts.items()):
            if not part.child.running:
                self.start_again(name)

    async def stop(self) -> None:
        for client in self._clients:
            await client.aclose()
        await asyncio.to_thread(self.haproxy.stop)
        await asyncio.to_thread(self.cluster.stop)
        for server in self.servers.values():
            server.end(signal.SIGKILL, 10.0)

    # -- what can be seen ----------------------------------------------------------------------------------------------

    def part(self, name: str) -> Part:
        return self.cluster.parts[name]

    def _get(self, url: str) -> httpx.Response | None:
        try:
            return httpx.get(url, timeout=2.0)
        except httpx.HTTPError:
            return None

    def ready(self, name: str) -> bool:
        answer = self._get(f"{self.part(name).url}/health/readiness")
        return answer is not None and answer.status_code == 200

    def state(self, name: str) -> dict[str, Any] | None:
        answer = self._get(f"{self.part(name).ops_url}/state")
        return answer.json() if answer is not None else None

    def knows(self, url: str, key: str) -> bool:
        """Whether the gateway takes the key already."""
        try:
            answer = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=2.0)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def slots_held(self) -> int:
        """Requests under way at the servers, as the owner has noted them."""
        owner = self.owner()
        state = self.state(owner) if owner is not None else None
        return sum(view["running"] for view in state["models"]) if state is not None else 1 << 30

    def owner(self) -> str | None:
        """The dispatcher that owns the model."""
        for part in self.cluster.dispatchers:
            if not part.child.running:
                continue
            state = self.state(part.name)
            if state is not None and state["models"]:
                return part.name
        return None

    def at_rest(self) -> bool:
        """Every gauge is 0: nothing is active at any gateway, nothing runs or waits at the owner."""
        owner = self.owner()
        if owner is None:
            return False
        state = self.state(owner)
        if state is None or any(view["running"] or any(view["queued"].values()) for view in state["models"]):
            return False
        for part in self.cluster.gateways:
            if part.child.running:
                seen = self.state(part.name)
                if seen is None or seen["active"]:
                    return False
        return True

    async def until(self, condition: Callable[[], object], within_s: float = 40.0) -> float:
        """Wait for it; returns how long that took."""
        began_s = time.monotonic()
        while not await asyncio.to_thread(condition):
            assert time.monotonic() - began_s < within_s, f"waited {within_s} s: {condition}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began_s

    async def records(self, project: str) -> Counter[str]:
        """Usage records of the project in the store, by id: each must be there once."""
        connection = await asyncpg.connect(self.store_url.replace("+asyncpg", ""))
        try:
            rows = await connection.fetch("select id from usage_records where project = $1", project)
            return Counter(str(row["id"]) for row in rows)
        finally:
            await connection.close()

    # -- load ----------------------------------------------------------------------------------------------------------

    def load(self, urls: Sequence[str], key: str, *, clients: int = 8, tokens: int = 20) -> Load:
        """Clients spread over the URLs, each with one streamed request at a time."""
        load = Load()
        client = httpx.AsyncClient(timeout=60.0, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
        self._clients.append(client)

        async def ask_again(url: str) -> None:
            while not load.stopping:
                answer = await self.ask(client, url, key, tokens=tokens)
                load.answers.append(answer)
                if answer.outcome != "answered":
                    await asyncio.sleep(0.2)

        load.tasks = [asyncio.create_task(ask_again(urls[number % len(urls)])) for number in range(clients)]
        return load

    async def ask(
        self, client: httpx.AsyncClient, url: str, key: str, *, tokens: int = 20, seed: int = 1, prompt: str = "Bonjour"
    ) -> Answer:
        """One streamed chat request, to its end."""
        answer = Answer()
        body = {
            "model": "m",
            "stream": True,
            "max_tokens": tokens,
            "seed": seed,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"Authorization": f"Bearer {key}"}
        try:
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response:
                answer.request_id = response.headers.get("x-request-id", "")
                if response.status_code != 200:
                    error = orjson.loads(await response.aread())
                    answer.outcome = f"error {error['error']['code']}"
                    return answer
                await self._read(response, answer)
        except (httpx.HTTPError, OSError):
            answer.outcome = "cut"
        finally:
            answer.ended_s = time.monotonic()
        return answer

    @staticmethod
    async def _read(response: httpx.Response, answer: Answer) -> None:
        async for line in response.aiter_lines():
            if line == "data: [DONE]" and answer.outcome == "cut":
                answer.outcome = "answered"
            elif line.startswith("data: {"):
                event = orjson.loads(line[6:])
                if event.get("error"):
                    answer.outcome = f"error {event['error']['code']}"
                elif event.get("choices"):
                    answer.text += event["choices"][0]["delta"].get("content") or ""
