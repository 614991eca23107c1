"""The command `ilaas` as a real process, and waiting for what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

ILAAS = (sys.executable, "-m", "ilaas.cli.main")


def until(found: Callable[[], T | None], what: str, within_s: float = 30.0) -> T:
    """What `found` gives once it is neither None nor False; fails after the deadline."""
    end = time.monotonic() + within_s
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < end, f"waited {within_s} s for: {what}"
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """The environment without any setting of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ILAAS_")} | more


@dataclass
class Ilaas:
    """One running command, its output in files."""

    arguments: tuple[str, ...]
    folder: Path
    stdin: int = subprocess.DEVNULL
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "out.txt").open("wb") as out, (self.folder / "err.txt").open("wb") as err:
            self.process = subprocess.Popen(
                [*ILAAS, *self.arguments],
                stdout=out,
                stderr=err,
                stdin=self.stdin,
                cwd=self.folder,
                env=environment(PYTHONUNBUFFERED="1"),
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return (self.folder / "out.txt").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err.txt").read_text()

    def says(self, text: str, within_s: float = 30.0) -> None:
        """Wait until it has written that."""

        def there() -> bool:
            assert self.process.poll() is None or text in self.out + self.err, f"ended: {self.out}{self.err}"
            return text in self.out + self.err

        until(there, f"{text!r} in the output", within_s)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it whatever state it is in, for the end of a test."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def ilaas(*arguments: str, folder: Path, **env: str) -> str:
    """Run a command to its end; returns its standard output. Fails when the command does."""
    done = subprocess.run(
        [*ILAAS, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**env),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
