"""A private PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ilaas.app.local.child import Child, Program, free_ports, inherited, missing, private_folder
from ilaas.core.errors import ConfigError

_VERSIONS = Path("/usr/lib/postgresql")
_USER = "postgres"
_START_S = 60.0
_END_S = 20.0
_COMMAND_S = 60.0
_PASSWORD_BYTES = 16


_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # What a crash of the machine may cost is not worth waiting for; a crash of the server loses nothing by it.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


class PrivatePostgres:
    """One database server whose state is all in `folder`; started again, it has the same port, password and data."""

    def __init__(self, folder: Path) -> None:
        """Nothing is run yet."""
        self._folder = private_folder(folder)
        self._data = self._folder / "data"
        self._server: Child | None = None
        (self._port,) = free_ports(1)
        self._password = ""

    @property
    def url(self) -> str:
        """SQLAlchemy's URL (asyncpg) of the database `postgres`; there is none before the first start."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The same for another database."""
        return f"postgresql+asyncpg://{_USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._server is not None and self._server.running

    def start(self) -> str:
        """Make the data's folder at the first time, start, wait until it answers; returns `url`. Raises ConfigError."""
        binaries = self._binaries()
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries)
        self._password = (self._folder / "password").read_text()
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with self._opened() as (descriptor, folder):
            self._server = Child(
                Program(
                    name="PostgreSQL",
                    command=(str(binaries / "postgres"), "-D", f"{folder}/data", "-p", str(self._port), *settings),
                    env=inherited(),
                    cwd=Path("/"),
                    log=self._folder / "log.txt",
                    user=self._user(),
                    descriptors=(descriptor,),
                )
            )
        self._server.wait_until(self._is_ready, _START_S)
        return self.url

    def stop(self) -> None:
        """Close connections, write everything, end. Harmless when it does not run."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End at once without writing anything, as a crash would; the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start again, with the same URL."""
        self.stop()
        self.start()

    def create_database(self, name: str) -> str:
        """Make an empty database while it runs; returns its URL. Raises ConfigError when it is there."""
        self._client("createdb", name)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it. Raises ConfigError when it is not there."""
        self._client("dropdb", "--force", name)

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.end(number, _END_S)

    def _client(self, program: str, *arguments: str) -> None:
        options = ("-h", "127.0.0.1", "-p", str(self._port), "-U", _USER, "-w")
        self._command([str(self._binaries() / program), *options, *arguments], inherited(PGPASSWORD=self._password))

    def _is_ready(self) -> bool:
        # Its last line tells; the port is open before recovery has ended.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self._server.pid if self._server else 0)] and lines[-1].strip() == "ready"

    def _initialise(self, binaries: Path) -> None:
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(_PASSWORD_BYTES))
        shutil.rmtree(self._data, ignore_errors=True)  # of a start that was interrupted
        self._data.mkdir(mode=0o700)
        user = self._user()
        drop: Sequence[str] = ()
        if user is not None:
            for path in (self._folder, password, self._data):
                shutil.chown(path, user, user)
            drop = ("setpriv", "--reuid", user, "--regid", user, "--init-groups", "--")
        options = ("-U", _USER, "-E", "UTF8", "--no-locale", "--no-sync", "--auth=scram-sha-256")
        with self._opened() as (descriptor, folder):
            places = ("-D", f"{folder}/data", f"--pwfile={folder}/password")
            self._command([*drop, str(binaries / "initdb"), *places, *options], inherited(), descriptor)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[int, str]]:
        """The folder as an open file, and its name for a program that inherits this.

        By that name the server's user gets in, and nobody needs to be let into the folders above it: a checkout may lie
        in root's home.
        """
        descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            yield descriptor, f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def _command(self, command: Sequence[str], env: dict[str, str], *descriptors: int) -> None:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
            command,
            env=env,
            cwd="/",
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S,
        )
        if done.returncode:
            raise ConfigError(f"a command of PostgreSQL failed: {done.stderr.strip()}")

    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root; its package brings a user for it."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(_USER).pw_name
        except KeyError:
            raise missing("PostgreSQL's user 'postgres'", "postgresql") from None

    def _binaries(self) -> Path:
        """Of the version that made the data, else of the newest one."""
        made_by = self._data / "PG_VERSION"
        wanted = made_by.read_text().strip() if made_by.exists() else None
        found = {
            path.parent.parent.name: path.parent
            for path in _VERSIONS.glob("*/bin/postgres")
            if re.fullmatch(r"\d+", path.parent.parent.name)
        }
        if not found or (wanted is not None and wanted not in found):
            raise missing("PostgreSQL", f"postgresql-{wanted}" if wanted else "postgresql")
        return found[wanted or max(found, key=int)]
