"""An object store in memory, for tests of what uses one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ilaas.core.errors import BodyTooLarge, NotFound
from ilaas.ports.content import StoredObject, Upload


class TwinUpload:
    def __init__(self, store: TwinObjects, key: str, max_bytes: int) -> None:
        self.store, self.key, self.max_bytes = store, key, max_bytes
        self.data = bytearray(store.unfinished.get(key, b""))

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    async def write(self, chunk: bytes) -> None:
        if len(self.data) + len(chunk) > self.max_bytes:
            await self.abort()
            raise BodyTooLarge("too large")
        self.data += chunk
        self.store.unfinished[self.key] = bytes(self.data)

    async def finish(self) -> StoredObject:
        self.store.unfinished.pop(self.key, None)
        self.store.objects[self.key] = bytes(self.data)
        return StoredObject(key=self.key, size_bytes=len(self.data), changed_at_s=0.0)

    async def pause(self) -> None:
        pass

    async def abort(self) -> None:
        self.data = bytearray()
        self.store.unfinished.pop(self.key, None)


class TwinObjects:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.unfinished: dict[str, bytes] = {}

    async def resume(self, key: str, *, max_bytes: int) -> Upload:
        return TwinUpload(self, key, max_bytes)

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> StoredObject:
        self.unfinished.pop(key, None)
        upload = await self.resume(key, max_bytes=max_bytes)
        async for chunk in chunks:
            await upload.write(chunk)
        return await upload.finish()

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if key not in self.objects:
            raise NotFound(key)
        yield self.objects[key][start:end]

    async def info(self, key: str) -> StoredObject | None:
        data = self.objects.get(key)
        return None if data is None else StoredObject(key=key, size_bytes=len(data), changed_at_s=0.0)

    async def delete(self, key: str) -> None:
        self.objects.pop(key, None)
        self.unfinished.pop(key, None)

    async def list(self, prefix: str = "", *, unfinished: bool = False, limit: int = 1_000) -> Sequence[StoredObject]:
        found = self.unfinished if unfinished else self.objects
        return [
            StoredObject(key=key, size_bytes=len(data), changed_at_s=0.0)
            for key, data in sorted(found.items())
            if key.startswith(prefix)
        ][:limit]

    async def link(self, key: str, expires_s: float) -> str | None:
        return None

    async def close(self) -> None:
        pass
