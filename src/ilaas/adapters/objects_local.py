"""Media in a folder of this machine, or of a file system that all gateways and workers share.

An object appears whole or not at all. What came of an unfinished one stays, and a sender goes on from there, also
after the process died; a lock that dies with it keeps two senders apart.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from ilaas.adapters.objects_keys import check_key, put_all
from ilaas.core.errors import BodyTooLarge, Conflict, NotFound, StoreUnavailable
from ilaas.ports.content import StoredObject

P = ParamSpec("P")
R = TypeVar("R")

_PIECE_BYTES = 1024 * 1024
_MAKE_TRIES = 5
_FOLDER_GONE = frozenset({errno.ENOENT, errno.ENOTEMPTY})


class LocalObjects:
    """`ports.content.ObjectStore` in a folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when it is first written to, readable by its owner alone."""
        self._whole = folder / "objects"
        self._unfinished = folder / "unfinished"

    async def resume(self, key: str, *, max_bytes: int) -> LocalUpload:
        """Raises `Conflict` while another sender is at it."""
        check_key(key)
        upload = LocalUpload(key, self._unfinished / key, self._whole / key, max_bytes)
        await in_thread(upload.open)
        return upload

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> StoredObject:
        """From its beginning. Raises `BodyTooLarge`, `Conflict`."""
        upload = await self.resume(key, max_bytes=max_bytes)
        await in_thread(upload.empty)
        return await put_all(upload, chunks)

    async def read(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """In pieces of 1 MB. Raises `NotFound`."""
        check_key(key)
        file = await in_thread(self._opened, key, start)
        try:
            left = None if end is None else end - start
            while left is None or left > 0:
                piece = await in_thread(file.read, _PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            file.close()

    async def info(self, key: str) -> StoredObject | None:
        """None when there is none."""
        check_key(key)
        return await in_thread(_info, key, self._whole / key)

    async def delete(self, key: str) -> None:
        """The unfinished one too."""
        check_key(key)
        for root in (self._unfinished, self._whole):
            await in_thread(_remove, root, key)

    async def list(self, prefix: str = "", *, unfinished: bool = False, limit: int = 1_000) -> Sequence[StoredObject]:
        """By key."""
        return await in_thread(_listed, self._unfinished if unfinished else self._whole, prefix, limit)

    async def link(self, key: str, expires_s: float) -> str | None:
        """A folder gives no addresses."""
        del key, expires_s
        return None

    async def close(self) -> None:
        """Nothing is held."""

    def _opened(self, key: str, start: int) -> BinaryIO:
        try:
            file = (self._whole / key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(f"There is no stored object '{key}'.") from None
        file.seek(start)
        return file


class LocalUpload:
    """`ports.content.Upload` into a file. Small chunks are gathered, so that not each costs a change of thread."""

    def __init__(self, key: str, draft: Path, path: Path, max_bytes: int) -> None:
        self._key = key
        self._draft = draft
        self._path = path
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        self._kept_bytes = 0
        self._pending = bytearray()

    @property
    def size_bytes(self) -> int:
        """How much came so far."""
        return self._kept_bytes + len(self._pending)

    def open(self) -> None:
        """Open and lock the draft. Blocks."""
        file = _made(self._draft)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Conflict(f"The object '{self._key}' is being received by another worker.") from None
        if not _is_same_file(file, self._draft):  # it was finished or removed between being opened and locked
            file.close()
            raise Conflict(f"The object '{self._key}' was being received by another worker.")
        self._file = file
        self._kept_bytes = file.seek(0, os.SEEK_END)

    def empty(self) -> None:
        """Forget what came before. Blocks."""
        self._draft_file().truncate(0)
        self._draft_file().seek(0)
        self._kept_bytes = 0

    async def write(self, chunk: bytes) -> None:
        """Raises `BodyTooLarge`; then nothing is left."""
        self._draft_file()
        if self.size_bytes + len(chunk) > self._max_bytes:
            await self.abort()
            raise BodyTooLarge(f"The file is larger than the {self._max_bytes} bytes that are allowed.", param="file")
        self._pending += chunk
        if len(self._pending) >= _PIECE_BYTES:
            await self._flush()

    async def finish(self) -> StoredObject:
        """On the disk before anybody sees it."""
        await self._flush()
        return await in_thread(self._finish)

    async def pause(self) -> None:
        """Keep what came."""
        await self._flush()
        self._draft_file().close()
        self._file = None

    async def abort(self) -> None:
        """Remove what came. Nothing happens when it has ended already."""
        if self._file is not None:
            await in_thread(self._abort)

    async def _flush(self) -> None:
        pending, self._pending = bytes(self._pending), bytearray()
        if pending:
            await in_thread(self._append, pending)

    def _draft_file(self) -> BinaryIO:
        if self._file is None:
            raise Conflict(f"The upload of '{self._key}' has ended.")
        return self._file

    def _append(self, pending: bytes) -> None:
        try:
            self._draft_file().write(pending)
            self._draft_file().flush()
        except OSError:
            # Half of it may be there: what counts is what was said to be kept.
            with suppress(OSError):
                self._draft_file().truncate(self._kept_bytes)
            raise
        self._kept_bytes += len(pending)

    def _finish(self) -> StoredObject:
        file = self._draft_file()
        os.fsync(file.fileno())
        for attempt in range(_MAKE_TRIES):
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._draft.replace(self._path)
                break
            except FileNotFoundError:  # the folder was just removed, with the last other object in it
                if attempt == _MAKE_TRIES - 1:
                    raise
        _sync_folder(self._path.parent)
        file.close()
        self._file = None
        stored = _info(self._key, self._path)
        if stored is None:
            raise StoreUnavailable(f"The object '{self._key}' was removed as soon as it was stored.")
        return stored

    def _abort(self) -> None:
        self._draft.unlink(missing_ok=True)
        self._draft_file().close()
        self._file = None


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Off the event loop, its errors in our words."""
    with _translated():
        return await asyncio.to_thread(call, *args, **kwargs)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The folder of the media can't be used: {error.strerror or error}.") from error


def _made(path: Path) -> BinaryIO:
    for attempt in range(_MAKE_TRIES):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except FileNotFoundError:
            if attempt == _MAKE_TRIES - 1:
                raise
    raise AssertionError


def _is_same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _info(key: str, path: Path) -> StoredObject | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not path.is_file():
        return None
    return StoredObject(key=key, size_bytes=found.st_size, changed_at_s=found.st_mtime)


def _remove(root: Path, key: str) -> None:
    path = root / key
    try:
        path.unlink()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno in _FOLDER_GONE:
                return
            raise


def _listed(root: Path, prefix: str, limit: int) -> Sequence[StoredObject]:
    # Only below the prefix's own folder; a name may begin with what follows its last slash.
    begin = root / prefix.rpartition("/")[0]
    keys = sorted(
        key
        for folder, _, names in os.walk(begin)
        for name in names
        if (key := (Path(folder) / name).relative_to(root).as_posix()).startswith(prefix)
    )
    found = (_info(key, root / key) for key in keys[:limit])
    return [each for each in found if each is not None]
