"""The demo's simulated servers, all in one process of their own, so that the gateway's CPU is its own.

The process lives as long as its standard input is open: it ends with the one that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import uvloop

from ilaas.app.demo_federation import MODELS, SERVERS, DemoServer
from ilaas.app.observe import configure_logging
from ilaas.core.errors import ConfigError
from ilaas.sim.server import SimServer, SimServerOptions

_START_S = 30.0
_END_S = 1.0


class DemoServers:
    """The process with the servers, seen from the one that starts it."""

    def __init__(self, log: Path) -> None:
        """`log` takes what the servers tell."""
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, kept: Mapping[str, int]) -> dict[str, int]:
        """Start all; returns the port of each: the one in `kept` or the usual one where it is free, else any.

        Raises ConfigError.
        """
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent alone, which ends things in their order
            )
        process = self._process
        assert process.stdin is not None  # noqa: S101  # both were asked for
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps(dict(kept)).encode() + b"\n")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _START_S)
            ports: dict[str, int] = json.loads(line)
        except (TimeoutError, ValueError):
            raise ConfigError(f"the simulated servers did not start; {self._log} says why") from None
        return ports

    async def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _options(server: DemoServer, port: int) -> SimServerOptions:
    model = next(model for model in MODELS if model.name == server.model)
    return SimServerOptions(
        port=port,
        models=(model.served_name,),
        engine=server.preset,
        failures=server.failures,
        reasoning_tokens=server.reasoning_tokens,
        site=server.site,
        embedding_dimensions=1024,
    )


async def _start(server: DemoServer, kept: int | None) -> SimServer:
    """Listen on the wanted port, or on any other when it is taken."""
    simulated = SimServer(_options(server, kept or server.port))
    try:
        await simulated.start()
    except OSError:
        simulated = SimServer(_options(server, 0))
        await simulated.start()
    return simulated


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    kept: dict[str, int] = json.loads(await commands.readline())
    async with contextlib.AsyncExitStack() as running:
        ports = {}
        for server in SERVERS:
            simulated = await _start(server, kept.get(server.id))
            running.push_async_callback(simulated.stop)
            ports[server.id] = simulated.port
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        await commands.read()  # until the parent closes it or is gone


if __name__ == "__main__":
    configure_logging(json=True)
    uvloop.run(_serve())
