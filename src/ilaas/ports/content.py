"""Where media lie: large immutable objects under keys such as `medias/<client>/<id>/lecture.mp4`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object that is whole."""

    key: str
    size_bytes: int
    changed_at_s: float
    """Epoch seconds."""


class Upload(Protocol):
    """An object on its way in. Nobody sees it before `finish`."""

    @property
    def size_bytes(self) -> int:
        """How much of it is kept already: where the sender goes on."""

    async def write(self, chunk: bytes) -> None:
        """Append. Raises `BodyTooLarge` when it grows above its limit; then nothing is left of it."""

    async def finish(self) -> StoredObject:
        """Make it an object, in place of one of that key."""

    async def pause(self) -> None:
        """Let go of it, keeping what came so far where the store can: another `resume` goes on from there."""

    async def abort(self) -> None:
        """Forget it."""


class ObjectStore(Protocol):
    """Keeps objects. Every method raises `StoreUnavailable` when it can't be reached, or has no room left."""

    async def resume(self, key: str, *, max_bytes: int) -> Upload:
        """Begin an object, or go on with one that was paused or cut off. One sender at a time for each key."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> StoredObject:
        """Keep an object from its beginning, never whole in memory. Raises `BodyTooLarge`, with nothing kept."""

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `end`, in pieces. Raises `NotFound` at the first one."""

    async def info(self, key: str) -> StoredObject | None:
        """None when there is no such object."""

    async def delete(self, key: str) -> None:
        """Forget it, and what came so far of an unfinished one; nothing happens when there is none."""

    async def list(self, prefix: str = "", *, unfinished: bool = False, limit: int = 1_000) -> Sequence[StoredObject]:
        """Objects whose key begins so, by key; or the unfinished ones, which nobody else sees."""

    async def link(self, key: str, expires_s: float) -> str | None:
        """An address from which anyone may fetch it until then; None when this store can't give one."""

    async def close(self) -> None:
        """Let go of every connection."""
