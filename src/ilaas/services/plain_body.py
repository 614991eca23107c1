"""An answer that isn't streamed, gathered within a limit."""

from __future__ import annotations

MAX_ERROR_BYTES = 64 * 1024


class PlainBody:
    """The body of a whole answer, or of a server's refusal."""

    __slots__ = ("_bytes", "_limit_bytes", "_parts")

    def __init__(self, limit_bytes: int) -> None:
        """What passes the limit is not kept."""
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._bytes = 0

    def add(self, data: bytes) -> bool:
        """Keep a part; False when it is too much."""
        self._bytes += len(data)
        if self._bytes > self._limit_bytes:
            return False
        self._parts.append(data)
        return True

    def whole(self) -> bytes:
        """All of it."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


def whole(body: PlainBody | None) -> bytes:
    """All of it; None is a body of which nothing came."""
    return body.whole() if body is not None else b""
