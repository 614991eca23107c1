"""A gateway as a process of its own, as operators start it, with everything that it writes kept for inspection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx


@dataclass
class GatewayProcess:
    """`ilaas serve` on a configuration file; may be started again after its end."""

    config: Path
    state_dir: Path
    output: Path
    """Folder of what it writes to standard output and error."""
    process: asyncio.subprocess.Process | None = None
    address: dict[str, Any] = field(default_factory=dict)
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address['port']}"

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{self.address['ops_port']}"

    async def start(self) -> None:
        """Run it and wait until it is ready."""
        self.starts += 1
        self.output.mkdir(exist_ok=True)
        run_file = self.state_dir / "run.json"
        run_file.unlink(missing_ok=True)
        with (
            (self.output / f"stdout-{self.starts}").open("wb") as stdout,
            (self.output / f"stderr-{self.starts}").open("wb") as stderr,
        ):
            command = ["serve", "--config", str(self.config), "--port", "0", "--metrics-port", "0"]
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ilaas.cli.main", *command, "--log-level", "debug", "--log-format", "json"),
                stdout=stdout,
                stderr=stderr,
            )
        async with asyncio.timeout(30):
            while not run_file.exists():
                assert self.process.returncode is None, (self.output / f"stderr-{self.starts}").read_text()
                await asyncio.sleep(0.02)
            self.address = json.loads(run_file.read_text())
            async with httpx.AsyncClient() as client:
                while (await client.get(f"{self.url}/health/readiness")).status_code != 200:
                    await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        process, self.process = self.process, None
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()


@contextlib.asynccontextmanager
async def gateway_process(config: Path, state_dir: Path, output: Path) -> AsyncIterator[GatewayProcess]:
    """Started, and gone at the end whatever happens."""
    running = GatewayProcess(config, state_dir, output)
    try:
        await running.start()
        yield running
    finally:
        await running.end(signal.SIGKILL)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, whatever it is."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def tables(database: Path) -> dict[str, bytes]:
    """Every row of every table and view, as text."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        return {
            f"table {name}": "\n".join(
                repr(row)
                for row in connection.execute(f'SELECT * FROM "{name}"')  # a name of the schema itself
            ).encode()
            for (name,) in names
        }
