"""Processes under measurement: start, wait for the port, CPU time and memory of the whole tree, end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

_CPU_CLOCK_OF_PROCESS = 2
"""CPUCLOCK_SCHED of Linux: nanoseconds on a processor, ended threads included. /proc/PID/stat counts in 10 ms ticks."""


class StartFailed(Exception):
    """A process ended, or its port stayed closed; the message holds the end of its log."""


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children_of(pid: int) -> set[int]:
    """The process and all its descendants."""
    found = {pid}
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return set()
    for task in tasks:
        try:
            direct = (task / "children").read_text().split()
        except OSError:
            continue
        for child in direct:
            found |= children_of(int(child))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds the process tree has used so far."""
    total = 0.0
    for member in children_of(pid):
        try:
            total += time.clock_gettime((~member << 3) | _CPU_CLOCK_OF_PROCESS)
        except OSError:
            continue  # ended in between
    return total


def memory_bytes(pid: int, *, peak: bool = False) -> int:
    """Resident memory of the process tree, now or at its highest."""
    name = "VmHWM:" if peak else "VmRSS:"
    total = 0
    for member in children_of(pid):
        try:
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    return total


@dataclass(slots=True)
class Running:
    """One started process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    ports: tuple[int, ...] = field(default=())

    @property
    def pid(self) -> int:
        """Of the process itself; its children are found from it."""
        return self.process.pid

    def wait_for(self, path: str, port: int, statuses: Sequence[int] = (200,)) -> None:
        """Until a GET is answered with one of the statuses. Raises StartFailed."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise StartFailed(f"{self.name} ended with code {self.process.returncode}:\n{self.last_words()}")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", path)
                if connection.getresponse().status in statuses:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        raise StartFailed(f"{self.name} did not answer on port {port} in {START_TIMEOUT_S:g} s:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def __enter__(self) -> Self:
        """The process, until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever happened."""
        self.stop()

    def stop(self) -> None:
        """Ask it to end, then end it."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for member in children_of(self.pid):
                os.kill(member, signal.SIGKILL)
            self.process.wait()


def start(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    ports: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Start a process with its output in `folder`."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ) | dict(environment or {}),
        )
    return Running(name, process, log, ports)
