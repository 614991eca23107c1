"""A file that a client sent, kept while its request is under way: it can be sent to one server after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ilaas.core.audio import Recording


class KeptFile(Protocol):
    """The bytes of a file. After `close` reads fail with OSError."""

    @property
    def size_bytes(self) -> int:
        """All of it."""

    async def read(self, offset: int, size: int) -> bytes:
        """A piece; shorter only at the end. Raises OSError."""

    def close(self) -> None:
        """Forget it. May be called more than once."""


@dataclass(slots=True)
class ReceivedForm:
    """A form that is whole."""

    fields: list[tuple[str, bytes]]
    """All but the file, as they came."""
    recording: Recording | None
    """What is known of the file; None when there was none."""
    file: KeptFile
    boundary: bytes
    """For the form that is sent on; in none of its parts, since nobody could know it."""


@dataclass(slots=True)
class UpstreamUpload:
    """A body with a file in it, which is read as it is sent."""

    content_type: bytes
    before: bytes
    file: KeptFile
    after: bytes
    stall_s: float
    """A server that takes nothing for so long is given up."""

    @property
    def size_bytes(self) -> int:
        """Of the whole body."""
        return len(self.before) + self.file.size_bytes + len(self.after)
