"""What a client was given of a stream, as bytes: kept in bounded memory, and read only if its server dies."""

from __future__ import annotations

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""An answer whose events are longer than this together is not continued."""
MAX_BYTES = 256 * 1024 * 1024
"""Of all answers of a gateway together; those that come later are not continued."""

STEP_BYTES = 64 * 1024
"""In which room is taken, so that most parts cost no more than adding."""
PART_BYTES = 48
"""What a part takes beside its bytes."""


_SEPARATORS = (b"\n\n", b"\r\n\r\n")


class Room:
    """The memory that all answers share."""

    __slots__ = ("limit_bytes", "taken_bytes")

    def __init__(self, limit_bytes: int = MAX_BYTES) -> None:
        """One for a gateway."""
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0

    def take(self, wanted: int) -> bool:
        """Whether there was so much room; it is taken then."""
        if self.taken_bytes + wanted > self.limit_bytes:
            return False
        self.taken_bytes += wanted
        return True


class Kept:
    """The parts of one answer."""

    __slots__ = ("_bytes", "_limit_bytes", "_parts", "_room", "_taken_bytes")

    def __init__(self, room: Room, limit_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._room = room
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._bytes = 0
        self._taken_bytes = 0

    def add(self, part: bytes) -> bool:
        """Keep one more part. False when there is no room for it: then nothing is kept any more."""
        self._parts.append(part)
        self._bytes += len(part) + PART_BYTES
        return self._bytes <= self._taken_bytes or self._grow()

    def _grow(self) -> bool:
        wanted = -(-(self._bytes - self._taken_bytes) // STEP_BYTES) * STEP_BYTES
        if self._bytes <= self._limit_bytes and self._room.take(wanted):
            self._taken_bytes += wanted
            return True
        self.drop()
        return False

    def drop(self) -> None:
        """Give the room back."""
        self._parts.clear()
        self._room.taken_bytes -= self._taken_bytes
        self._bytes = self._taken_bytes = 0

    def whole(self) -> bytes:
        """All that the client was given."""
        return b"".join(self._parts)


def before_error(part: bytes) -> bytes:
    """A part of whole events without its last error event and what follows it."""
    at = part.rfind(b'"error"')
    if at < 0:
        return part
    ends = (part.rfind(separator, 0, at) + len(separator) for separator in _SEPARATORS if separator in part[:at])
    return part[: max(ends, default=0)]
