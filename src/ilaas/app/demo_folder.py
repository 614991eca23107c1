"""The folder in which the demo keeps what it made."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ilaas.app.demo_federation import MARK
from ilaas.app.run_file import public_url, read_run_file
from ilaas.core.errors import ConfigError

_URL = re.compile(r"(http://127\.0\.0\.1:)(\d+)")
_OURS = frozenset(
    {
        "demo.yaml",
        "demo-keys.txt",
        "servers.json",
        "servers.log",
        "gateway.log",
        "ilaas.db",
        "secret.key",
        "run.json",
        "served-with.json",
        "lock",
        "outbox",
        "rabbitmq",
        "postgresql",
        "haproxy",
        "parts",
        "stt-client.json",
        "objects",
        "scratch",
        "uploads",
    }
)


class DemoFolder:
    """Paths, and the checks that keep the demo from touching a folder that is not its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "demo.yaml"
        self.keys = path / "demo-keys.txt"
        self.log = path / "gateway.log"
        self.servers_log = path / "servers.log"
        self._ports = path / "servers.json"

    def check(self, *, fresh: bool) -> None:
        """Raises ConfigError when a demo runs there, or it holds something else, which `fresh` would remove."""
        run = read_run_file(self.path)
        if run is not None:
            raise ConfigError(
                f"this demo runs already at {public_url(run)} (process {run['pid']}); use it, end it, "
                "or start another with --state-dir and --port"
            )
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            self._check_ours(whole=fresh)

    def make(self, *, fresh: bool) -> None:
        """Make the folder, empty when `fresh`; call `check` before."""
        if fresh and self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _check_ours(self, *, whole: bool) -> None:
        try:
            ours = not self.path.is_symlink() and self.config.read_text().startswith(MARK)
        except (OSError, UnicodeDecodeError):
            ours = False
        if not ours:
            raise ConfigError(
                f"the folder {self.path} holds something else than a demo (no demo.yaml of ours); name another "
                "with --state-dir"
            )
        foreign = sorted(entry.name for entry in self.path.iterdir() if not _is_ours(entry.name)) if whole else []
        if foreign:
            raise ConfigError(
                f"{self.path / foreign[0]} is not the demo's, so --fresh removes nothing; move it away first"
            )

    def kept_ports(self) -> dict[str, int]:
        """The ports of the simulated servers, of an earlier start."""
        try:
            return {str(name): int(port) for name, port in json.loads(self._ports.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def keep_ports(self, ports: Mapping[str, int]) -> None:
        """Keep them, and put those that changed into the configuration file, whose other changes stay."""
        moved = {str(port): str(ports[name]) for name, port in self.kept_ports().items() if name in ports}
        if self.config.exists() and any(old != new for old, new in moved.items()):
            text = _URL.sub(lambda found: found[1] + moved.get(found[2], found[2]), self.config.read_text())
            self.config.write_text(text)
        self._ports.write_text(json.dumps(dict(ports)))


def _is_ours(name: str) -> bool:
    stem = name.removesuffix(".part").removesuffix("-wal").removesuffix("-shm").removesuffix("-journal")
    return stem in _OURS or name == "run.part"
