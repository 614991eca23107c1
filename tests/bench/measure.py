"""Runs a load in a process of its own and reads meanwhile what the target spends."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.load import Load, Result
from tests.bench.process import cpu_s
from tests.bench.targets import Target

QUIET_WINDOW_S = 1.2
"""Longer than the pause between two rounds of the gateway's writer."""
QUIET_SHARE = 0.05
"""Of one processor: what polling the servers and sweeping take at the most."""
QUIET_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of a load against one target."""

    cpu_s: float
    result: Result

    @property
    def us_per_request(self) -> float:
        """CPU microseconds of the target for each answer."""
        return 1e6 * self.cpu_s / max(1, self.result.answers)

    @property
    def us_per_event(self) -> float:
        """CPU microseconds of the target for each event of a stream."""
        return 1e6 * self.cpu_s / max(1, self.result.events)


@contextmanager
def loading(load: Load) -> Iterator[Callable[[], Result | None]]:
    """Run a load in the background. The call that is given back returns its result, None while it runs."""
    command = [sys.executable, "-m", "tests.bench.load", json.dumps(dataclasses.asdict(load))]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)

        def poll() -> Result | None:
            code = process.poll()
            if code is None:
                return None
            if code != 0:
                raise RuntimeError(f"the load generator ended with code {code}")
            output.seek(0)
            return Result(**json.load(output))

        try:
            yield poll
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def measure(target: Target, load: Load) -> Cost:
    """Run a load to its end and take the target's CPU time for it, work that it put off until afterwards included."""
    pids = [running.pid for running in (target.running, *target.others)]
    before_s = _cpu_s(pids)
    with loading(load) as poll:
        while (result := poll()) is None:
            time.sleep(0.02)
    return Cost(_cpu_when_quiet(pids) - before_s, result)


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(map(cpu_s, pids))


def _cpu_when_quiet(pids: Sequence[int]) -> float:
    """CPU seconds of the tree once it has come to rest: one that writes its records later is not cheaper for it."""
    deadline_s = time.monotonic() + QUIET_TIMEOUT_S
    last_s = _cpu_s(pids)
    while time.monotonic() < deadline_s:
        time.sleep(QUIET_WINDOW_S)
        now_s = _cpu_s(pids)
        if now_s - last_s < QUIET_SHARE * QUIET_WINDOW_S:
            return last_s
        last_s = now_s
    return last_s


def upstream_state(target: Target) -> dict[str, Any]:
    """The upstream's counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.running.ports[0]}/bench", timeout=10) as answer:
        state: dict[str, Any] = json.load(answer)
    return state
