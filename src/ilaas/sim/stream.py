"""One choice of an answer: which token comes next, and which chunk it becomes."""

from __future__ import annotations

from typing import Protocol

from ilaas.sim.shapes import Shapes


class StreamOwner(Protocol):
    """The job that a choice belongs to."""

    @property
    def streams(self) -> bool:
        """Whether tokens are told as they come."""

    def started(self, cached_tokens: int) -> None:
        """The choice left the engine's queue."""

    def emit(self, choice: ChoiceStream, count: int) -> int:
        """Send tokens; returns how many must wait."""

    def finished(self) -> None:
        """The choice is complete."""


class ChoiceStream:
    """The listener of one sequence."""

    __slots__ = ("_at", "_done", "_held", "_owner", "_segment", "_shapes", "index")

    def __init__(self, owner: StreamOwner, shapes: Shapes, index: int) -> None:
        self._owner = owner
        self._shapes = shapes
        self.index = index
        self._segment = 0
        self._at = 0
        self._held = 0
        """Tokens computed that the client could not take yet."""
        self._done = False

    def started(self, cached_tokens: int) -> None:
        """Its prompt is being computed."""
        self._owner.started(cached_tokens)

    def tokens(self, count: int) -> None:
        """More tokens are there."""
        if self._owner.streams:
            self._held = self._owner.emit(self, self._held + count)

    def finished(self) -> None:
        """All tokens are there; the end is told when the client has them."""
        self._done = True
        if not self._held:
            self._owner.finished()

    def flush(self) -> None:
        """The client can take tokens again."""
        if not self._held:
            return
        self._held = self._owner.emit(self, self._held)
        if self._done and not self._held:
            self._owner.finished()

    def take(self, count: int) -> list[bytes]:
        """The next `count` tokens as events."""
        events: list[bytes] = []
        segments = self._shapes.generation.answers[self.index].segments
        if not self._at and not self._segment and count:
            events += self._shapes.opening(self.index)
        while count > 0 and self._segment < len(segments):
            words = segments[self._segment].words
            taken = words.escaped[self._at : self._at + count]
            events += self._shapes.tokens(self.index, self._segment, taken)
            count -= len(taken)
            self._at += len(taken)
            if self._at >= len(words.escaped):
                self._segment += 1
                self._at = 0
        return events
