"""Virtual time: what happens when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any


@dataclass(slots=True)
class Timeline:
    """Actions in order of time, and of being planned where the time is the same."""

    now: float = 0.0
    _heap: list[tuple[float, int, Callable[[Any], None], Any]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def at(self, at_s: float, action: Callable[[Any], None], argument: object = None) -> None:
        """Call `action(argument)` at that time, or now when it has passed."""
        heappush(self._heap, (max(at_s, self.now), next(self._numbers), action, argument))

    def step(self, end_s: float) -> bool:
        """Let the next thing happen; false when nothing is left before `end_s`."""
        if not self._heap or self._heap[0][0] >= end_s:
            return False
        self.now, _, action, argument = heappop(self._heap)
        action(argument)
        return True
