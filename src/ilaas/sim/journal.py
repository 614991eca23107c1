"""What became of the last requests, and who waits to hear of it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

PHASES = ("queue", "prefill", "decode")


@dataclass(slots=True)
class Note:
    """One request."""

    id: str
    path: str
    model: str
    began_s: float
    result: str = "running"
    """`running`, `finished`, `client_left`, `refused`, or the fault that ended it."""
    status: int = 0
    phase: str | None = None
    """Where it stood when its client left: `queue`, `prefill` or `decode`."""
    tokens: int = 0
    """Tokens sent."""
    after_s: float | None = None
    """From its arrival to its end."""


class Journal:
    """The last 500 requests, and counts of all."""

    def __init__(self, site: str, clock: Callable[[], float]) -> None:
        self._site = site
        self._clock = clock
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.notes: deque[Note] = deque(maxlen=500)
        self.results: Counter[str] = Counter()
        self.clients_left: Counter[str] = Counter()

    def begin(self, request_id: str, path: str, model: str) -> Note:
        """A request arrived."""
        note = Note(request_id, path, model, self._clock())
        self.notes.append(note)
        self.changed()
        return note

    def end(self, note: Note, result: str, *, status: int = 0) -> None:
        """A request is over."""
        note.result, note.status, note.after_s = str(result), status, self._clock() - note.began_s
        self.results[str(result)] += 1
        self.changed()

    def left(self, note: Note, phase: str) -> None:
        """The client of a request went away before its answer was whole."""
        note.phase = phase
        self.clients_left[phase] += 1
        self.end(note, "client_left")
        log.info(
            "client_left",
            site=self._site,
            request_id=note.id,
            path=note.path,
            model=note.model,
            phase=phase,
            tokens=note.tokens,
            after_s=round(note.after_s or 0.0, 4),
        )

    def changed(self) -> None:
        """Wake those whose wish has come true."""
        if not self._waiters:
            return
        for holds, waiter in list(self._waiters):
            if not waiter.done() and holds():
                waiter.set_result(None)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`; looked at whenever a request arrives, starts, gives its first token or ends."""
        if holds():
            return
        entry = (holds, asyncio.get_running_loop().create_future())
        self._waiters.append(entry)
        try:
            await entry[1]
        finally:
            self._waiters.remove(entry)

    def as_dict(self) -> dict[str, Any]:
        """For `/sim/state`."""
        return {
            "requests": [asdict(note) for note in self.notes],
            "results": dict(self.results),
            "clients_left": {phase: self.clients_left[phase] for phase in PHASES},
        }
