"""Media in an S3 bucket (or another service that speaks its protocol), through obstore.

Uploads go out in parts as they come in, at most a few of them in memory. One that is cut off by a dying process leaves
parts that only the bucket's own rule on incomplete uploads removes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import MemoryStore, S3Store

from ilaas.adapters.objects_keys import check_key, put_all
from ilaas.core.errors import BodyTooLarge, Conflict, NotFound, StoreUnavailable
from ilaas.ports.content import StoredObject

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config

_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_WAITING_CHUNKS = 4
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Which bucket, and how it is reached."""

    bucket: str
    endpoint_url: str | None = None
    """None: Amazon's own."""
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    """None: as the environment says (AWS_ACCESS_KEY_ID and so on)."""
    prefix: str | None = None
    """Before every key."""
    path_style: bool = True
    """The bucket in the path, not in the host's name."""


def s3_objects(settings: S3Settings) -> S3Objects:
    """The store of a bucket. Nothing is reached yet."""
    config: S3Config = {"virtual_hosted_style_request": not settings.path_style}
    if settings.endpoint_url is not None:
        config["endpoint"] = settings.endpoint_url
    if settings.region is not None:
        config["region"] = settings.region
    if settings.access_key_id is not None:
        config["access_key_id"] = settings.access_key_id
    if settings.secret_access_key is not None:
        config["secret_access_key"] = settings.secret_access_key
    allow_http = (settings.endpoint_url or "").startswith("http://")
    store = S3Store(settings.bucket, prefix=settings.prefix, config=config, client_options={"allow_http": allow_http})
    return S3Objects(store)


class S3Objects:
    """`ports.content.ObjectStore` on what obstore reaches: S3, or memory for tests."""

    def __init__(self, store: S3Store | MemoryStore) -> None:
        self._store = store

    async def resume(self, key: str, *, max_bytes: int) -> S3Upload:
        """Always from the beginning: a broken connection to the sender can be mended, a dead process can't."""
        check_key(key)
        return S3Upload(self._store, key, max_bytes)

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> StoredObject:
        """Raises `BodyTooLarge`."""
        return await put_all(await self.resume(key, max_bytes=max_bytes), chunks)

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """In pieces of about 1 MB. Raises `NotFound`."""
        check_key(key)
        with _translated(key):
            size = (await obstore.head_async(self._store, key))["size"]
            stop = size if end is None else min(end, size)
            if start >= stop:
                return
            result = await obstore.get_async(self._store, key, options={"range": (start, stop)})
            async for piece in result.stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)

    async def info(self, key: str) -> StoredObject | None:
        """None when there is none."""
        check_key(key)
        try:
            with _translated(key):
                return _stored(await obstore.head_async(self._store, key))
        except NotFound:
            return None

    async def delete(self, key: str) -> None:
        """Nothing happens when there is none."""
        check_key(key)
        with suppress(NotFound), _translated(key):
            await obstore.delete_async(self._store, key)

    async def list(self, prefix: str = "", *, unfinished: bool = False, limit: int = 1_000) -> Sequence[StoredObject]:
        """By key. What is unfinished is not to be seen here."""
        if unfinished:
            return []
        found: list[StoredObject] = []
        # Buckets are asked by whole names of folders; a name may begin with what follows the last slash.
        folder = prefix.rpartition("/")[0]
        with _translated(prefix):
            async for chunk in obstore.list(self._store, folder or None, chunk_size=1_000):
                found.extend(_stored(each) for each in chunk if each["path"].startswith(prefix))
        return sorted(found, key=lambda each: each.key)[:limit]

    async def link(self, key: str, expires_s: float) -> str | None:
        """A signed address."""
        check_key(key)
        if not isinstance(self._store, S3Store):
            return None
        with _translated(key):
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=expires_s))

    async def close(self) -> None:
        """obstore closes its connections by itself."""


class _Aborted(Exception):
    """Ends the stream that is being stored, so that nothing of it is kept."""


class S3Upload:
    """`ports.content.Upload` by a task that stores what is written to its queue."""

    def __init__(self, store: S3Store | MemoryStore, key: str, max_bytes: int) -> None:
        self._store = store
        self._key = key
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._queue: asyncio.Queue[bytes | _Aborted | None] = asyncio.Queue(_WAITING_CHUNKS)
        self._task: asyncio.Task[Any] = asyncio.create_task(self._run())
        self._ended = False

    @property
    def size_bytes(self) -> int:
        """How much came so far."""
        return self._size_bytes

    async def write(self, chunk: bytes) -> None:
        """Raises `BodyTooLarge`; then nothing is left."""
        if self._ended:
            raise Conflict(f"The upload of '{self._key}' has ended.")
        if self._size_bytes + len(chunk) > self._max_bytes:
            await self.abort()
            raise BodyTooLarge(f"The file is larger than the {self._max_bytes} bytes that are allowed.", param="file")
        if chunk:
            await self._hand_over(bytes(chunk))
            self._size_bytes += len(chunk)

    async def finish(self) -> StoredObject:
        """Seen from now on."""
        if self._ended:
            raise Conflict(f"The upload of '{self._key}' has ended.")
        await self._hand_over(None)
        self._ended = True
        with _translated(self._key):
            await self._task
            return _stored(await obstore.head_async(self._store, self._key))

    async def pause(self) -> None:
        """Nothing can be kept."""
        await self.abort()

    async def abort(self) -> None:
        """Nothing happens when it has ended already."""
        if self._ended:
            return
        self._ended = True
        with suppress(StoreUnavailable):
            await self._hand_over(_Aborted())
        with suppress(_Aborted, BaseError):
            await self._task

    async def _hand_over(self, item: bytes | _Aborted | None) -> None:
        """Wait for room, but not for a task that has failed."""
        putting = asyncio.ensure_future(self._queue.put(item))
        try:
            await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.done():
                putting.cancel()
        if self._task.done():
            self._ended = True
            with _translated(self._key):
                self._task.result()

    async def _run(self) -> None:
        await obstore.put_async(
            self._store,
            self._key,
            self._chunks(),
            use_multipart=True,
            chunk_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            item = await self._queue.get()
            if item is None:
                return
            if isinstance(item, _Aborted):
                raise item
            yield item


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise NotFound(f"There is no stored object '{key}'.") from None
    except (BaseError, OSError, TimeoutError) as error:
        line, _, _ = str(error).strip().partition("\n")
        raise StoreUnavailable(f"The object store does not answer: {line[:200]}.") from error


def _stored(meta: ObjectMeta) -> StoredObject:
    return StoredObject(key=meta["path"], size_bytes=meta["size"], changed_at_s=meta["last_modified"].timestamp())
