"""The demonstration over several processes: RabbitMQ, PostgreSQL, dispatchers, and gateways behind HAProxy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from ilaas.app.demo import PORT, Demo, DemoOptions, check_free, demo_keys, settings_of, until_view_ends
from ilaas.app.demo_federation import configuration
from ilaas.app.demo_folder import DemoFolder
from ilaas.app.demo_servers import DemoServers
from ilaas.app.local import PrivateHAProxy, PrivatePostgres, PrivateRabbitMQ
from ilaas.app.local.cluster import Cluster
from ilaas.app.process import Run, handle_signals
from ilaas.app.run_file import Address, write_run_file
from ilaas.app.settings import RUN_FILE, Role

GATEWAYS = 3
DISPATCHERS = 2


async def run_distributed_demo(options: DemoOptions, show: Callable[[Demo], Awaitable[None]]) -> None:
    """As `demo.run_demo`, over processes of this machine. Raises ConfigError when it can't start."""
    folder = DemoFolder(options.state_dir)
    folder.check(fresh=options.fresh)
    port = PORT if options.port is None else options.port
    check_free(port)
    folder.make(fresh=options.fresh)
    run = Run()
    handle_signals(run, None)
    parts = _Parts(folder, options, port)
    try:
        await _show(parts, run, show)
    finally:
        await parts.stop()


async def _show(parts: _Parts, run: Run, show: Callable[[Demo], Awaitable[None]]) -> None:
    starting = asyncio.create_task(parts.start())
    stopped = asyncio.create_task(run.stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await asyncio.gather(starting, return_exceptions=True)  # what began to start must be there to be stopped
        return
    stopped.cancel()
    await until_view_ends(starting.result(), run.stop, show)


def _configure(folder: DemoFolder, ports: Mapping[str, int], lines: Mapping[str, str]) -> None:
    """Write the configuration at the first start; later only the addresses, which may be others."""
    text = folder.config.read_text() if folder.config.exists() else configuration(ports, 0, 0)
    for name, value in lines.items():
        text, found = re.subn(rf"(?m)^{name}:.*$", f"{name}: {value}", text)
        if not found:
            text = text.replace("\nhost:", f"\n{name}: {value}\nhost:", 1)
    folder.config.write_text(text)


class _Parts:
    """All that runs, in the order in which it starts."""

    def __init__(self, folder: DemoFolder, options: DemoOptions, port: int) -> None:
        path = folder.path
        self._folder = folder
        self._options = options
        self._servers = DemoServers(folder.servers_log)
        self._rabbitmq = PrivateRabbitMQ(path / "rabbitmq")
        self._postgres = PrivatePostgres(path / "postgresql")
        self._haproxy = PrivateHAProxy(path / "haproxy", port=port)
        self._cluster: Cluster | None = None

    async def start(self) -> Demo:
        """Start all. Blocking starts run in threads."""
        folder = self._folder
        ports = await self._servers.start(folder.kept_ports())
        folder.keep_ports(ports)
        broker, store = await asyncio.gather(
            asyncio.to_thread(self._rabbitmq.start), asyncio.to_thread(self._postgres.start)
        )
        _configure(folder, ports, {"broker": broker, "store": store, "shutdown_notice": "3s"})
        settings = settings_of(folder)
        keys = await demo_keys(settings, folder, traffic=bool(self._options.traffic_users))
        self._cluster = cluster = Cluster(folder.path / "parts", folder.config.resolve(), folder.path / "secret.key")
        dispatchers = [f"dispatcher-{number}" for number in range(1, DISPATCHERS + 1)]
        gateways = [f"gateway-{number}" for number in range(1, GATEWAYS + 1)]
        for role, names in ((Role.DISPATCHER, dispatchers), (Role.GATEWAY, gateways)):
            await asyncio.gather(*(asyncio.to_thread(cluster.start, role, name) for name in names))
        await asyncio.to_thread(self._haproxy.start, {part.name: part.port for part in cluster.gateways})
        first = cluster.gateways[0]
        ops_port = int(first.ops_url.rpartition(":")[2])
        address = Address("127.0.0.1", self._haproxy.port, "127.0.0.1", ops_port)
        write_run_file(settings.run_file, address)  # by which commands find it, as they find a gateway alone
        return Demo(
            options=self._options,
            folder=folder,
            settings=replace(settings, port=self._haproxy.port),
            address=address,
            keys=keys,
            logs=f"each part logs to {folder.path / 'parts'}/NAME/log.jsonl ({', '.join(cluster.parts)})",
            ops_urls=tuple(part.ops_url for part in (*cluster.gateways, *cluster.dispatchers)),
        )

    async def stop(self) -> None:
        """End all, in the reverse order."""
        (self._folder.path / RUN_FILE).unlink(missing_ok=True)
        await asyncio.to_thread(self._haproxy.stop)
        if self._cluster is not None:
            await asyncio.to_thread(self._cluster.stop)
        await asyncio.gather(asyncio.to_thread(self._rabbitmq.stop), asyncio.to_thread(self._postgres.stop))
        await self._servers.stop()
