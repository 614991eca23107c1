"""Gateways and dispatchers as processes of this machine, from one configuration file."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ilaas.app.local.child import Child, Program, inherited, private_folder
from ilaas.app.run_file import ops_url, read_run_file
from ilaas.app.settings import Role

START_S = 60.0
END_S = 40.0


@dataclass(slots=True)
class Part:
    """One process of the platform."""

    name: str
    role: Role
    folder: Path
    child: Child
    port: int = 0
    """Of the public listener, for a gateway."""
    ops_url: str = ""
    """Base URL of metrics and live state."""

    @property
    def log(self) -> Path:
        """What it tells."""
        return self.folder / "log.jsonl"

    @property
    def url(self) -> str:
        """Base URL of a gateway."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """As the machine's end would."""
        self.child.end(signal.SIGKILL, END_S)

    def pause(self) -> None:
        """It does nothing until `resume`."""
        self.child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self.child.send(signal.SIGCONT)

    def stop(self) -> None:
        """Let it end in its order."""
        self.child.end(signal.SIGTERM, END_S)


class Cluster:
    """Starts parts and ends them. All have the same configuration and secret, and each a folder of its own."""

    def __init__(self, folder: Path, config: Path, secret: Path) -> None:
        """`secret` is the file with the federation's secret, which all parts share."""
        self._folder = private_folder(folder)
        self._config = config
        self._secret = secret
        self.parts: dict[str, Part] = {}

    def start(self, role: Role, name: str, *, port: int = 0) -> Part:
        """Start one and wait until it is up. Blocks. Raises ConfigError, with the end of its log, when it can't.

        A name that was used before has the folder it had then: what its outbox still holds is delivered.
        """
        return self.wait(self.launch(role, name, port=port))

    def launch(self, role: Role, name: str, *, port: int = 0, config: Path | None = None) -> Part:
        """Start one without waiting; `wait` must follow. `config` is another file than that of all."""
        folder = private_folder(self._folder / name)
        shutil.copyfile(self._secret, folder / "secret.key")
        (folder / "secret.key").chmod(0o600)
        (folder / "run.json").unlink(missing_ok=True)
        where = () if role is Role.DISPATCHER else ("--port", str(port))
        part = Part(name, role, folder, self._run(role, folder, config or self._config, where))
        self.parts[name] = part
        return part

    def wait(self, part: Part) -> Part:
        """Until it is up. Raises ConfigError, with the end of its log, when it does not come up."""
        part.child.wait_until(lambda: read_run_file(part.folder) is not None, START_S)
        run = read_run_file(part.folder)
        assert run is not None  # noqa: S101  # it was there just now
        part.port, part.ops_url = int(run["port"]), ops_url(run)
        return part

    def restart(self, name: str) -> Part:
        """Stop it in its order and start it again, on the same port."""
        part = self.parts[name]
        part.stop()
        return self.start(part.role, name, port=part.port)

    @property
    def gateways(self) -> list[Part]:
        """Those that were started and may still run."""
        return [part for part in self.parts.values() if part.role in {Role.GATEWAY, Role.ALL}]

    @property
    def dispatchers(self) -> list[Part]:
        """Likewise."""
        return [part for part in self.parts.values() if part.role is Role.DISPATCHER]

    def stop(self) -> None:
        """End all: gateways first, so that what they have under way can end."""
        parts = [*self.gateways, *self.dispatchers]
        for part in parts:
            part.child.send(signal.SIGCONT)
            part.child.send(signal.SIGTERM)
        for part in parts:
            part.stop()

    def _run(self, role: Role, folder: Path, config: Path, where: tuple[str, ...]) -> Child:
        command = (sys.executable, "-m", "ilaas.cli.main", "serve", "--config", str(config), "--role", role.value)
        paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        return Child(
            Program(
                name=f"the {role.value} '{folder.name}'",
                command=(*command, "--metrics-port", "0", "--state-dir", str(folder), "--log-format", "json", *where),
                env=inherited(HOME=str(folder), **paths),
                cwd=folder,
                log=folder / "log.jsonl",
            )
        )
