"""Forms with a file on their way in: read as they come, the file kept aside, and given on when they are whole.

A slow sender holds no place in any queue: its request begins when its last byte is there. Then the file can be sent to
one server after another, as fast as each takes it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ilaas.core.audio import Recording
from ilaas.core.errors import IlaasError, InvalidRequest, StoreUnavailable, TooBusy, UnsupportedMediaType
from ilaas.core.forms import Field, FileBegins, FileBytes, FormParser, boundary_of
from ilaas.core.media import duration_ms, guessed_ms
from ilaas.http.limits import Limits
from ilaas.http.spool import Spool
from ilaas.ports.upload import ReceivedForm

THREADS = 4
RETRY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What an upload tells the connection that it comes over."""

    early: Callable[[list[tuple[str, bytes]]], None]
    """The fields before the file are there: raises IlaasError when the rest need not be received."""
    full: Callable[[], None]
    """Read no more until `room`."""
    room: Callable[[], None]
    ready: Callable[[ReceivedForm], None]
    """It is whole, after `finish` could not say so at once."""
    failed: Callable[[IlaasError], None]


class Uploads:
    """All uploads of a gateway: how many there may be, and where their files lie."""

    def __init__(self, limits: Limits, folder: Path | None = None) -> None:
        """`folder` is made when it is first needed; None is the system's folder for temporary files."""
        self._limits = limits
        self._folder = folder
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="uploads")
        self.open: set[Upload] = set()
        self.kept_bytes = 0

    def begin(self, headers: Mapping[bytes, bytes], hooks: Hooks) -> Upload:
        """A form's head came. Raises IlaasError."""
        packed = headers.get(b"content-encoding", b"identity")
        if packed != b"identity":
            raise UnsupportedMediaType(
                f"The content encoding '{packed[:50].decode('latin-1')}' is not taken here: send the body unpacked."
            )
        boundary = boundary_of(headers.get(b"content-type"))
        if len(self.open) >= self._limits.max_uploads:
            raise TooBusy(
                f"This gateway holds {len(self.open)} recordings already. Try again in {RETRY_AFTER_S:.0f} s.",
                retry_after_s=RETRY_AFTER_S,
            )
        upload = Upload(self, FormParser(boundary), hooks)
        self.open.add(upload)
        return upload

    def spool(self, on_written: Callable[[], None]) -> Spool:
        """A place for one file."""
        return Spool(self._pool, self._folder, on_written)

    def take(self, size: int) -> None:
        """Count bytes that are kept. Raises TooBusy."""
        if self.kept_bytes + size > self._limits.max_kept_bytes:
            raise TooBusy(
                f"This gateway has no room for more recordings. Try again in {RETRY_AFTER_S:.0f} s.",
                retry_after_s=RETRY_AFTER_S,
            )
        self.kept_bytes += size

    def close(self) -> None:
        """Forget all files."""
        for upload in list(self.open):
            upload.close()
        self._pool.shutdown(wait=False)


class Upload:
    """One form. Implements ports.upload.KeptFile, and ports.client.Exchange while it is being written out."""

    def __init__(self, uploads: Uploads, parser: FormParser, hooks: Hooks) -> None:
        self._uploads = uploads
        self._parser = parser
        self._hooks = hooks
        self._spool = uploads.spool(self._written)
        self._fields: list[tuple[str, bytes]] = []
        self._file: FileBegins | None = None
        self._finishing = False
        self._full = False
        self._probe: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self._spool.size_bytes

    @property
    def memory_bytes(self) -> int:
        """What of the file lies in memory."""
        return self._spool.memory_bytes

    @property
    def waits(self) -> bool:
        """Its sender is held back, because the disk is slower."""
        return self._full

    # -- on its way in -------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The next bytes of the body. Raises IlaasError."""
        for event in self._parser.feed(data):
            if isinstance(event, FileBytes):
                self._uploads.take(len(event.data))
                self._spool.write(event.data)
            elif isinstance(event, Field):
                self._fields.append((event.name, event.value))
            elif isinstance(event, FileBegins):
                if self._file is not None:
                    raise InvalidRequest("The field 'file' is there more than once: send it once.", param="file")
                self._file = event
                self._hooks.early(self._fields)
        if self._spool.full and not self._full:
            self._full = True
            self._hooks.full()

    def finish(self) -> ReceivedForm | None:
        """The body is whole. None: what is left is still being written, and `Hooks.ready` comes later."""
        self._parser.finish()
        self._finishing = True
        self._spool.finish()
        if self._spool.in_memory:
            return self._form(_length_of(self._spool))
        if self._spool.error is not None:
            raise _no_room(self._spool.error)
        self._written()
        return None

    def _written(self) -> None:
        if self._closed:
            return
        if self._spool.error is not None:
            self._hooks.failed(_no_room(self._spool.error))
            return
        if self._full and not self._spool.full:
            self._full = False
            self._hooks.room()
        if self._finishing and self._spool.whole and self._probe is None:
            self._probe = asyncio.ensure_future(self._measure())

    async def _measure(self) -> None:
        reader = duration_ms(self.size_bytes)
        found: int | None = None
        try:
            wanted = next(reader)
            while True:
                wanted = reader.send(await self._spool.read(*wanted))
        except StopIteration as end:
            found = end.value
        except OSError as error:
            if not self._closed:
                self._hooks.failed(_no_room(error))
            return
        if not self._closed:
            self._hooks.ready(self._form(found))

    def _form(self, audio_ms: int | None) -> ReceivedForm:
        recording = None
        if self._file is not None:
            guess = guessed_ms(self.size_bytes)
            recording = Recording(self._file, self.size_bytes, audio_ms or guess, audio_ms is None)
        return ReceivedForm(self._fields, recording, self, b"ilaas-" + secrets.token_hex(16).encode())

    # -- once it is whole ----------------------------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes:
        """See ports.upload."""
        return await self._spool.read(offset, size)

    def close(self) -> None:
        """See ports.upload."""
        if self._closed:
            return
        self._closed = True
        self._uploads.open.discard(self)
        self._uploads.kept_bytes -= self.size_bytes
        if self._probe is not None and not self._probe.done() and self._probe is not asyncio.current_task():
            self._probe.cancel()
        self._spool.close()

    # -- in the place of an exchange, until there is one ---------------------------------------------------------------

    def client_left(self) -> None:
        """See ports.client."""
        self.close()

    def pause(self) -> None:
        """Nothing is being written to the client yet."""

    def resume(self) -> None:
        """As above."""

    def sweep(self, now_s: float) -> None:
        """The connection looks after the time."""


def _length_of(spool: Spool) -> int | None:
    """Of a file in memory."""
    reader = duration_ms(spool.size_bytes)
    try:
        wanted = next(reader)
        while True:
            wanted = reader.send(spool.piece(*wanted))
    except StopIteration as end:
        found: int | None = end.value
        return found


def _no_room(error: OSError) -> IlaasError:
    return StoreUnavailable(
        f"The recording can't be kept on this gateway's disk ({error.strerror}). Try again later.",
        retry_after_s=RETRY_AFTER_S,
    )
