"""What gives tokens their time: the engine on the real clock, or a fixed pace."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ilaas.sim.engine import Engine
from ilaas.sim.engine_events import EngineRequest, Finished, Phase, Started, Tokens


class Listener(Protocol):
    """A sequence that is told what becomes of it."""

    def started(self, cached_tokens: int) -> None:
        """Its prompt is being computed."""

    def tokens(self, count: int) -> None:
        """It has `count` tokens more (streamed sequences only)."""

    def finished(self) -> None:
        """It has all its tokens."""


def _later(delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    # uvloop's timers count milliseconds; rounded down they would fire early and spin.
    return asyncio.get_running_loop().call_later(math.ceil(max(delay_s, 0.0) * 1000) / 1000, action)


class EngineDriver:
    """Runs one engine on a clock with one timer, however many sequences it holds."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self.engine = engine
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = math.inf
        self._advancing = False

    def submit(self, request: EngineRequest, listener: Listener) -> None:
        """Queue a sequence."""
        self._listeners[request.id] = listener
        self.engine.submit(request, self._clock())
        self._arm()

    def cancel(self, request_id: str) -> Phase | None:
        """Drop a sequence and free its slot; tells where it stood."""
        if self._listeners.pop(request_id, None) is None:
            return None
        phase = self.engine.cancel(request_id, self._clock())
        self._arm()
        return phase

    def phase(self, request_id: str) -> Phase | None:
        """Where a sequence stands."""
        return self.engine.phase(request_id)

    def stop(self) -> None:
        """Forget all."""
        self._listeners.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._due_s = math.inf

    def advance(self) -> None:
        """Compute up to now and tell the listeners. The timer does it; a test with its own clock may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due_s = math.inf
        self._advancing = True
        try:
            for event in self.engine.advance(self._clock()):
                self._tell(event.request_id, event)
        finally:
            self._advancing = False
            self._arm()

    def _tell(self, request_id: str, event: object) -> None:
        listener = self._listeners.get(request_id)
        if listener is None:
            return
        if type(event) is Tokens:
            listener.tokens(event.count)
        elif type(event) is Finished:
            del self._listeners[request_id]
            listener.finished()
        elif type(event) is Started:
            listener.started(event.cached_tokens)

    def _arm(self) -> None:
        due_s = self.engine.next_event_s()
        if self._advancing or due_s is None or (self._timer is not None and self._due_s <= due_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = _later(due_s - self._clock(), self.advance)


class Paced:
    """One sequence of a pacer."""

    __slots__ = ("_pacer", "due_s", "left", "listener")

    def __init__(self, pacer: Pacer, due_s: float, left: int, listener: Listener) -> None:
        self._pacer = pacer
        self.due_s = due_s
        self.left = left
        self.listener: Listener | None = listener

    def cancel(self) -> bool:
        """Drop it; False when it is over already."""
        if self.listener is None:
            return False
        self.listener = None
        self._pacer.running -= 1
        return True


class Pacer:
    """Gives each sequence a token every `gap_s` seconds, whatever else runs. One timer for all of them.

    All have the same gap, so the order of the next tokens is the order of the last ones: a queue, no heap.
    """

    def __init__(self, gap_s: float, clock: Callable[[], float]) -> None:
        self._gap_s = gap_s
        self._clock = clock
        self._queue: deque[Paced] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.running = 0

    def submit(self, tokens: int, listener: Listener) -> Paced:
        """Begin; the first token comes in the next turn of the loop."""
        entry = Paced(self, self._clock(), tokens, listener)
        self._queue.appendleft(entry)
        self.running += 1
        if self._timer is not None:
            self._timer.cancel()
        self._timer = _later(0.0, self.advance)
        return entry

    def stop(self) -> None:
        """Forget all."""
        for entry in self._queue:
            entry.cancel()
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def advance(self) -> None:
        """Give out every token that is due."""
        self._timer = None
        now = self._clock()
        queue = self._queue
        gap_s = self._gap_s
        while queue and queue[0].due_s <= now:
            entry = queue.popleft()
            listener = entry.listener
            if listener is None:
                continue
            step = 1 if gap_s else entry.left
            if step:
                listener.tokens(step)
            entry.left -= step
            if entry.left > 0:
                entry.due_s = entry.due_s + gap_s if now - entry.due_s < gap_s else now + gap_s
                queue.append(entry)
            elif entry.cancel():
                listener.finished()
        if queue and self._timer is None:
            self._timer = _later(queue[0].due_s - now, self.advance)
