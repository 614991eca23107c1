"""Starting a program that must not outlive this process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ilaas.core.errors import ConfigError

_FIRST_PORT, _END_PORT = 20_000, 32_000
_POLL_S = 0.02
_LOG_TAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is run and how."""

    name: str
    """For messages."""
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    """Takes standard output and error."""
    user: str | None = None
    """Run as this user; needs root."""
    descriptors: Sequence[int] = ()
    """Open files that it inherits."""


class Child:
    """A program that runs until it is stopped, or until this process is gone: the kernel then kills it.

    The kernel looks at the thread that started it. A thread of asyncio's default executor lives long enough; one that
    ends early takes the program with it.
    """

    def __init__(self, program: Program) -> None:
        """Raises ConfigError when it can't be run."""
        self._program = program
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ConfigError(f"to run {program.name} here needs setpriv of the package util-linux (Linux only)")
        user = ("--reuid", program.user, "--regid", program.user, "--init-groups") if program.user else ()
        with program.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - what our own modules name
                [setpriv, *user, "--pdeathsig", "KILL", "--", *program.command],
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=tuple(program.descriptors),
                start_new_session=True,  # Ctrl-C is for this process alone, which ends things in their order
            )

    @property
    def pid(self) -> int:
        """Of the program itself: nothing stands between it and this process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], within_s: float) -> None:
        """Until it is ready. Raises ConfigError, with the end of its log, when it ends or takes too long."""
        end_s = time.monotonic() + within_s
        while not ready():
            if not self.running or time.monotonic() > end_s:
                why = f"took more than {within_s:.0f} s to start" if self.running else "ended at once"
                self.end(signal.SIGKILL, 1.0)
                raise ConfigError(f"{self._program.name} {why}. {self._program.log} says:\n{self._tail()}")
            time.sleep(_POLL_S)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals, within_s: float) -> None:
        """Send the signal, wait for its end, and kill it when it does not come."""
        if self.running:
            self.send(signal.SIGCONT)  # a paused one hears nothing else
            self.send(number)
            try:
                self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _tail(self) -> str:
        return self._program.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different.

    Below those that the kernel gives to outgoing connections: a server that stops and starts again would find its port
    taken by any client, and a client that tries again and again to reach it could connect to itself.
    """
    found: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(found) < count:
            port = random.randrange(_FIRST_PORT, _END_PORT)  # noqa: S311 - no secret
            if port in found:  # with SO_REUSEADDR two sockets that do not listen can have the same
                continue
            held.append(socket.socket())
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held[-1].bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    finally:
        for each in held:
            each.close()
    return found


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def inherited(**more: str) -> dict[str, str]:
    """The part of this process' environment that a server needs, and `more`; none of our settings and secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
    # Debian keeps servers where only root's PATH looks.
    path = f"{kept.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin".lstrip(":")
    return kept | {"PATH": path, "LC_ALL": "C.UTF-8"} | more


def missing(program: str, package: str) -> ConfigError:
    """What to say when a program is not there."""
    return ConfigError(f"{program} is not installed. Install it:  sudo apt-get install {package}")


def private_folder(folder: Path) -> Path:
    """Make it, for its owner alone; returns its absolute path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()
