"""How much memory each process has, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.platform import Platform

EVERY_S = 5.0
SETTLED_S = 60.0
"""Of a life, not counted: a process fills its caches first."""
JUDGED_S = 90.0
"""A life must go on so long after that."""
GROWTH_MB = 16.0
GROWTH_SHARE = 0.15
"""More than the larger of the two is not flat."""
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(slots=True)
class Life:
    """One process."""

    name: str
    began_s: float
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Age in seconds, megabytes."""

    def growth(self) -> tuple[float, float, float] | None:
        """Megabytes when it had settled and at its end, and MB per hour between; None for a short life."""
        settled = [(age, size) for age, size in self.samples if age >= SETTLED_S]
        if not settled or settled[-1][0] - settled[0][0] < JUDGED_S:
            return None
        third = max(1, min(6, len(settled) // 3))
        first = statistics.median(size for _, size in settled[:third])
        last = statistics.median(size for _, size in settled[-third:])
        slope = statistics.linear_regression([age for age, _ in settled], [size for _, size in settled]).slope
        return first, last, slope * 3600


class Memory:
    """Looks at all processes every few seconds."""

    def __init__(self, platform: Platform) -> None:
        self.lives: dict[int, Life] = {}
        self._platform = platform

    async def go_on(self) -> None:
        """Until it is cancelled."""
        while True:
            for name, pid in self._processes():
                self._look(name, pid)
            await asyncio.sleep(EVERY_S)

    def _processes(self) -> list[tuple[str, int | None]]:
        platform = self._platform
        parts = [
            (part.name, part.child.pid if part.child.running else None) for part in platform.cluster.parts.values()
        ]
        servers = [(name, child.pid if child.running else None) for name, child in platform.servers.items()]
        haproxy = platform.haproxy._server
        return [*parts, *servers, ("rabbitmq", platform.rabbitmq.pid), ("haproxy", haproxy.pid if haproxy else None)]

    def _look(self, name: str, pid: int | None) -> None:
        if pid is None:
            return
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return
        now = time.monotonic()
        life = self.lives.setdefault(pid, Life(name, now))
        life.samples.append((now - life.began_s, pages * _PAGE_MB))

    def summary(self) -> tuple[list[dict[str, Any]], list[str]]:
        """A row for each name, of its longest life that could be judged; and what was not flat in any life."""
        rows: dict[str, dict[str, Any]] = {}
        broken: list[str] = []
        for life in self.lives.values():
            growth = life.growth()
            if growth is None:
                continue
            first, last, slope = growth
            age = life.samples[-1][0]
            if last - first > max(GROWTH_MB, GROWTH_SHARE * first):
                broken.append(f"{life.name} grew from {first:.0f} to {last:.0f} MB in {age:.0f} s")
            if life.name not in rows or rows[life.name]["lived_s"] < age:
                rows[life.name] = {
                    "process": life.name,
                    "lived_s": round(age),
                    "settled_mb": round(first, 1),
                    "end_mb": round(last, 1),
                    "mb_per_hour": round(slope, 1),
                }
        return sorted(rows.values(), key=lambda row: row["process"]), broken
