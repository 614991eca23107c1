"""`python -m tests.soak.cluster`: three RabbitMQ nodes with quorum queues; each is killed in turn, under load.

The parts connect through HAProxy, as they would through any load balancer. Every request must end with an answer or an
error that says why, answers must come again while a node is away, and every usage record must be in the store once.
Exit code 1 when that does not hold.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from ilaas.app.local.child import Child, Program, free_ports, inherited, listens
from tests.support.platform import Load, Platform, beside

NODES = 3
CLIENTS = 16
"""More than the servers have slots, so that tickets wait in the broker."""
PROXY = """\
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen amqp
    bind 127.0.0.1:{port}
    option redispatch
    retries 3
{servers}
"""


class Node(PrivateRabbitMQ):
    """One of several: they share a port mapper, a cookie and a user."""

    def __init__(self, folder: Path, number: int, first: Node | None) -> None:
        folder.mkdir(parents=True)
        if first is not None:
            shutil.copy(first._folder / "password", folder / "password")
            shutil.copy(first._folder / ".erlang.cookie", folder / ".erlang.cookie")
        super().__init__(folder)
        self.name = f"ilaas{number}@localhost"
        if first is not None:
            self._epmd, self._epmd_port = first._epmd, first._epmd_port

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "RABBITMQ_NODENAME": self.name}

    def join(self, first: Node) -> None:
        for command in (("stop_app",), ("join_cluster", first.name), ("start_app",)):
            self.ctl(*command)


class Clustered(Platform):
    """With quorum queues, and the broker behind HAProxy."""

    def configure(self, path: Path, broker: str, slots: int = 4) -> None:
        super().configure(path, broker, slots)
        path.write_text("broker_quorum: true\n" + path.read_text())


class Front(PrivateRabbitMQ):
    """What the platform takes for its broker: an address, whatever node answers there."""

    def __init__(self, node: Node, port: int) -> None:
        self._node, self._port = node, port

    @property
    def url(self) -> str:
        return self._node.url.replace(f":{self._node.port}/", f":{self._port}/")


def proxy(folder: Path, nodes: list[Node]) -> tuple[Child, int]:
    """HAProxy before the nodes; one that is dead is passed over."""
    program = shutil.which("haproxy", path=inherited()["PATH"] + ":/usr/sbin")
    assert program is not None
    (port,) = free_ports(1)
    lines = "\n".join(f"    server n{n} 127.0.0.1:{node.port} check inter 500 fall 1 rise 1 on-marked-down "
                      "shutdown-sessions" for n, node in enumerate(nodes))  # fmt: skip
    (folder / "haproxy.cfg").write_text(PROXY.format(port=port, servers=lines))
    child = Child(
        Program(
            name="HAProxy",
            command=(program, "-db", "-f", str(folder / "haproxy.cfg")),
            env=inherited(),
            cwd=folder,
            log=folder / "haproxy.log",
        )
    )
    child.wait_until(lambda: listens(port), 10.0)
    return child, port


async def play(platform: Platform, nodes: list[Node]) -> bool:
    """Kill and start each node; whether all held."""
    key = await platform.create_key("cluster")
    urls = [part.url for part in platform.cluster.gateways]
    for url in urls:
        await platform.until(lambda url=url: platform.knows(url, key))
    load: Load = platform.load(urls, key, clients=CLIENTS)
    await load.more(CLIENTS)
    print(nodes[0].ctl("list_queues", "name", "type", "leader", "members").strip(), flush=True)
    for node in nodes:
        await beside(node.kill)
        took_s = await load.more(2 * CLIENTS)
        print(f"{node.name} killed: {2 * CLIENTS} more answers after {took_s:.1f} s", flush=True)
        await beside(node.start)
        took_s = await load.more(2 * CLIENTS)
        print(f"{node.name} is back: {2 * CLIENTS} more answers after {took_s:.1f} s", flush=True)
        await asyncio.sleep(5.0)
    counts = await load.end()
    await platform.until(platform.at_rest)
    records: Counter[str] = Counter()
    for _ in range(300):
        records = await platform.records("cluster")
        if len(records) >= counts.total():
            break
        await asyncio.sleep(0.1)
    print(f"requests: {dict(counts)}; usage records: {len(records)}, each once: {set(records.values()) <= {1}}")
    return not counts["cut"] and len(records) == counts.total() and set(records.values()) == {1}


async def main() -> bool:
    """Start everything, and end it."""
    with tempfile.TemporaryDirectory(prefix="ilaas-cluster-") as place:
        folder = Path(place)
        nodes: list[Node] = []
        for number in range(NODES):
            node = Node(folder / f"n{number}", number, nodes[0] if nodes else None)
            await beside(node.start)
            if nodes:
                await beside(lambda node=node: node.join(nodes[0]))
            nodes.append(node)
        postgres = PrivatePostgres(folder / "postgresql")
        await beside(postgres.start)
        front, port = proxy(folder, nodes)
        platform = Clustered(folder / "platform", Front(nodes[0], port), postgres.create_database("cluster"), "cluster")
        try:
            await platform.start()
            return await play(platform, nodes)
        finally:
            await platform.stop()
            front.end(signal.SIGTERM, 10.0)
            await beside(postgres.stop)
            for node in reversed(nodes):
                await beside(node.stop)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
