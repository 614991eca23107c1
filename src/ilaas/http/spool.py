"""A file that is kept while its request is under way: small ones in memory, others on disk without a name.

The disk is read and written in threads of its own, never in the event loop. A file on disk has no name (O_TMPFILE, or
unlinked as soon as it is open): when the process ends, however it ends, nothing of it is left.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from pathlib import Path

MEMORY_BYTES = 256 * 1024
"""Up to this size a file stays in memory: a dictated sentence needs no disk."""
BLOCK_BYTES = 256 * 1024
"""What is written at once."""
FULL_BYTES = 1024 * 1024
"""With so much unwritten its sender is not read any more."""


class Spool:
    """One file: written from its beginning to its end, then read anywhere."""

    __slots__ = (
        "_closed",
        "_file",
        "_finishing",
        "_folder",
        "_lock",
        "_memory",
        "_on_written",
        "_pool",
        "_unwritten",
        "_unwritten_bytes",
        "_writing",
        "error",
        "size_bytes",
    )

    def __init__(self, pool: ThreadPoolExecutor, folder: Path | None, on_written: Callable[[], None]) -> None:
        """`on_written` is called in the event loop after each write to the disk."""
        self.size_bytes = 0
        self.error: OSError | None = None
        """Why it could not be written."""
        self._pool = pool
        self._folder = folder
        self._on_written = on_written
        self._memory: bytes | None = None
        """All of it, when it is whole and small."""
        self._file: FileIO | None = None
        self._lock = threading.Lock()
        """Held by whoever uses the open file: it is closed under nobody's hands."""
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._writing = False
        self._finishing = False
        self._closed = False

    @property
    def full(self) -> bool:
        """Its sender is faster than the disk."""
        return self._unwritten_bytes > FULL_BYTES

    @property
    def memory_bytes(self) -> int:
        """What of it lies in memory."""
        return self._unwritten_bytes if self._memory is None else len(self._memory)

    @property
    def in_memory(self) -> bool:
        """Finished, and small."""
        return self._memory is not None

    @property
    def whole(self) -> bool:
        """Finished, and nothing is left to be written."""
        return self._memory is not None or (self._finishing and not self._writing and not self._unwritten_bytes)

    def write(self, data: bytes) -> None:
        """Append."""
        self.size_bytes += len(data)
        self._unwritten.append(data)
        self._unwritten_bytes += len(data)
        if self.size_bytes > MEMORY_BYTES and self._unwritten_bytes >= BLOCK_BYTES:
            self._flush()

    def finish(self) -> None:
        """Nothing more comes; `whole` tells when all of it is written."""
        self._finishing = True
        if self.size_bytes <= MEMORY_BYTES:
            self._memory = b"".join(self._unwritten)
            self._unwritten, self._unwritten_bytes = [], 0
        else:
            self._flush()

    def _flush(self) -> None:
        if self._writing or self._closed or not self._unwritten:
            return
        data = self._unwritten
        self._unwritten = []
        self._writing = True
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._append, data)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[int]) -> None:
        self._writing = False
        try:
            self._unwritten_bytes -= future.result()
        except OSError as error:
            self.error = error
        if self._closed:
            return
        if self.error is None and (self._finishing or self._unwritten_bytes >= BLOCK_BYTES):
            self._flush()
        self._on_written()

    def piece(self, offset: int, size: int) -> bytes:
        """Of a file in memory."""
        return b"" if self._memory is None else self._memory[offset : offset + size]

    async def read(self, offset: int, size: int) -> bytes:
        """As `ports.upload.KeptFile`."""
        if self._closed:
            raise OSError(errno.EBADF, "the file is closed")
        if self._memory is not None:
            return self.piece(offset, size)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._pread, offset, size)

    def close(self) -> None:
        """As `ports.upload.KeptFile`."""
        if self._closed:
            return
        self._closed = True
        self._memory = None
        self._unwritten, self._unwritten_bytes = [], 0
        with suppress(RuntimeError):  # the pool has ended, and the process is about to
            self._pool.submit(self._close_file)

    # -- in threads ----------------------------------------------------------------------------------------------------

    def _append(self, blocks: list[bytes]) -> int:
        with self._lock:
            if self._closed:
                return 0
            if self._file is None:
                self._file = _nameless(self._folder)
            written = 0
            for block in blocks:
                rest = memoryview(block)
                while rest:
                    rest = rest[self._file.write(rest) :]
                written += len(block)
            return written

    def _pread(self, offset: int, size: int) -> bytes:
        with self._lock:
            if self._file is None:
                raise OSError(errno.EBADF, "the file is closed")
            return os.pread(self._file.fileno(), size, offset)

    def _close_file(self) -> None:
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()


def _nameless(folder: Path | None) -> FileIO:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryFile(dir=folder, buffering=0)
