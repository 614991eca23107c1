"""HAProxy before gateways of this machine, with the configuration that operators use."""

from __future__ import annotations

import resource
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import ilaas
from ilaas.app.local.child import Child, Program, free_ports, inherited, listens, missing, private_folder
from ilaas.core.errors import ConfigError

_PLACE = Path("deploy") / "haproxy" / "haproxy.cfg"
CONFIGURATION = next(
    (folder / _PLACE for folder in Path(ilaas.__file__).parents if (folder / _PLACE).exists()),
    Path(ilaas.__file__).parents[2] / _PLACE,
)
"""Of the source's checkout, where the compiled copy of the package lies deeper; an installed package has none."""

_START_S = 15.0
_END_S = 5.0
_COMMAND_S = 5.0
_DESCRIPTORS_PER_CONNECTION = 3
_MAX_CONNECTIONS = 20_000

_SITE = """\
frontend public from ilaas-clients
    bind 127.0.0.1:{port}
    default_backend gateways

backend gateways from ilaas-gateways
{servers}
"""


class PrivateHAProxy:
    """A load balancer on one port of 127.0.0.1."""

    def __init__(self, folder: Path, *, port: int = 0, configuration: Path = CONFIGURATION) -> None:
        """`port` 0 takes a free one; it stays the same when started again."""
        self._folder = private_folder(folder)
        self._port = port or free_ports(1)[0]
        self._configuration = configuration
        self._server: Child | None = None

    @property
    def port(self) -> int:
        """Where clients come."""
        return self._port

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """What it tells: a line for each request."""
        return self._folder / "log.txt"

    def start(self, gateways: Mapping[str, int]) -> str:
        """Serve before these gateways, port by name, ready or not; returns `url`. Raises ConfigError."""
        haproxy = shutil.which("haproxy", path=inherited()["PATH"])
        if haproxy is None:
            raise missing("HAProxy", "haproxy")
        if not self._configuration.exists():
            raise ConfigError(f"{self._configuration} is missing: run this from a checkout of the source")
        site = self._folder / "site.cfg"
        servers = "\n".join(f"    server {name} 127.0.0.1:{port}" for name, port in gateways.items())
        site.write_text(_SITE.format(port=self._port, servers=servers))
        most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] // _DESCRIPTORS_PER_CONNECTION, _MAX_CONNECTIONS)
        self._server = Child(
            Program(
                name="HAProxy",
                command=(haproxy, "-db", "-n", str(most), "-f", str(self._configuration), "-f", str(site)),
                env=inherited(ILAAS_HAPROXY_SOCKET="unix@admin.sock"),
                cwd=self._folder,  # the socket's name is relative to it: a path may be too long for a socket
                log=self.log,
            )
        )
        self._server.wait_until(lambda: listens(self._port), _START_S)
        return self.url

    def stop(self) -> None:
        """End it, and what streams through it. Harmless when it does not run."""
        server, self._server = self._server, None
        if server is not None:
            server.end(signal.SIGTERM, _END_S)

    def states(self) -> dict[str, bool]:
        """Whether each gateway gets new requests, by name."""
        lines = self._ask("show stat").splitlines()
        columns = lines[0].removeprefix("# ").split(",")
        rows = (dict(zip(columns, line.split(","), strict=False)) for line in lines[1:] if line)
        return {
            row["svname"]: row["status"].startswith("UP")
            for row in rows
            if row["pxname"] == "gateways" and row["svname"] != "BACKEND"
        }

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(_COMMAND_S)
            admin.connect(str(self._folder / "admin.sock"))
            admin.sendall(f"{command}\n".encode())
            parts = []
            while part := admin.recv(65536):
                parts.append(part)
        return b"".join(parts).decode()
