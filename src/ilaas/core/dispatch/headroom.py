"""Slots that batch may not take, so that an interactive request finds one free.

A user who has read an answer sends the next request a moment later: a slot given back by an interactive request is
kept for `HOLD_S`, or until an interactive request takes one. Beside that, a level between 1 and a tenth of the idle
slots follows what is needed: +1 when an interactive request has to wait while batch runs, -0.04 when one has not, which
settles where about 4 % of them wait (stochastic approximation of a quantile, Robbins and Monro 1951). Together they
never pass a tenth of all slots (or 1), and they are 0 when no interactive request came for `QUIET_S`.
"""

from __future__ import annotations

from collections import deque

HOLD_S = 0.25
QUIET_S = 30.0
SHARE = 0.1
STEP_DOWN = 0.04


class Headroom:
    """How many slots of one model are kept from batch."""

    __slots__ = ("_holds", "_last_s", "_level")

    def __init__(self) -> None:
        self._level = 1.0
        self._holds: deque[float] = deque()
        """When each hold ends, in order."""
        self._last_s = float("-inf")

    def arrived(self, now: float, *, behind_batch: bool) -> None:
        """An interactive request came; `behind_batch` says that it waits while batch has slots."""
        self._last_s = now
        self._level = self._level + 1.0 if behind_batch else max(1.0, self._level - STEP_DOWN)

    def granted(self) -> None:
        """An interactive request took a slot: that is what one was held for."""
        if self._holds:
            self._holds.popleft()

    def released(self, now: float) -> None:
        """An interactive request gave its slot back."""
        self._expire(now)
        self._holds.append(now + HOLD_S)

    def slots(self, limit: int, interactive: int, now: float) -> int:
        """Slots to keep, of `limit` in all, with `interactive` requests under way."""
        if limit < 2 or now - self._last_s > QUIET_S:
            return 0
        self._expire(now)
        most = max(1.0, SHARE * (limit - interactive))
        self._level = min(self._level, most)
        return min(int(self._level) + len(self._holds), max(1, int(SHARE * limit)))

    def changes_at_s(self, now: float) -> float:
        """When it next shrinks if nothing happens."""
        self._expire(now)
        return self._holds[0] if self._holds else self._last_s + QUIET_S + 0.001

    def _expire(self, now: float) -> None:
        holds = self._holds
        while holds and holds[0] <= now:
            holds.popleft()
