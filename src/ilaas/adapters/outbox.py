"""The outbox: usage records go to files first, and from there into the Store, so that its absence loses none.

What is safe: a record is in the system's page cache within some 2 ms, and outlives the process from then on, kill -9
included. A machine that loses its power may lose the last seconds; `fsync=True` narrows that to the last 2 ms, at the
price of one disk flush each. `outbox_segments` says how processes share a folder.

The event loop writes itself: a thread would contend with it for the interpreter's lock, which costs a busy gateway
more than the write. A disk that has just stalled (network volumes do, for seconds) is written by a thread for a while.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from ilaas.adapters.outbox_segments import ClosedSegment, SegmentLimits, SegmentWriter, Written, line_of, segments
from ilaas.core.errors import StoreUnavailable, Unprocessable
from ilaas.core.usage import UsageRecord
from ilaas.ports.store import Store

_FLUSH_S = 0.001
"""At a thousand writes a second, they cost a hundredth of a core; what is lost with the process is a millisecond."""
_RETRY_S = 0.5
_STALL_S = 0.1
"""A write that takes so long holds up every stream of the gateway."""
_WARY_S = 60.0
"""After one, writes go through the thread for so long."""
_BATCH = 10_000
_MAX_BUFFERED = 50_000
"""Records held in memory while the disk does not take them."""
_MAX_KEPT = 20_000
"""Records held in memory beside their files, so that emptying those need not read them."""

_log = structlog.get_logger(__name__)


class FileOutbox:
    """`ports.outbox.Outbox` in a folder, which several processes may share."""

    def __init__(
        self,
        folder: Path,
        limits: SegmentLimits | None = None,
        *,
        fsync: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`folder` is made when missing. Raises OSError when that can't be done. `clock` tells how long writes take."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._writer = SegmentWriter(folder, limits or SegmentLimits(), fsync=fsync)
        # One thread, so that lines are written in their order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._clock = clock
        self._wary_until_s = math.inf if fsync else 0.0
        self._buffer: list[UsageRecord] = []
        self._batch: list[UsageRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[Any] | None = None
        self._on_disk: dict[Path, int] = {}
        self._kept: dict[Path, list[UsageRecord]] = {}
        self._kept_count = 0
        self._dropped = 0
        self._failing = False
        self._closed = False

    def append(self, record: UsageRecord) -> None:
        """Take one record; it is on disk within some 2 ms. Call it in the event loop."""
        if len(self._buffer) >= _MAX_BUFFERED or self._closed:
            self._dropped += 1
            if self._closed:
                self._report_dropped()
            return
        self._buffer.append(record)
        if self._timer is None and self._writing is None:
            self._flush_in(_FLUSH_S)

    def pending(self) -> int:
        """Records that are not in the Store yet; those left by an earlier process once they were counted."""
        return len(self._buffer) + len(self._batch) + sum(self._on_disk.values())

    async def flush(self) -> bool:
        """Write all that was appended; False when the disk did not take it (it is kept, and tried again)."""
        while self._writing is not None or self._buffer:
            if self._writing is None:
                self._begin_write()
            if self._writing is not None:
                await asyncio.wait([self._writing])
            if self._failing:
                return False
        return True

    async def close(self) -> None:
        """Write what is left. What is appended later is lost, and said so."""
        if self._closed:
            return
        if not await self.flush():
            self._dropped += len(self._buffer)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._report_dropped()
        await self._rotate()
        self._thread.shutdown(wait=False)

    async def run(
        self,
        store: Store,
        *,
        interval_s: float = 1.0,
        max_interval_s: float = 10.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Empty the outbox into the Store, about once a second, until cancelled; less often while the Store is away."""
        pause_s = interval_s
        away = False
        while True:
            try:
                await self.drain(store)
            except (StoreUnavailable, OSError) as error:
                if not away:
                    _log.warning("outbox_drain_failed", reason=str(error), pending=self.pending())
                away, pause_s = True, min(2 * pause_s, max_interval_s)
            else:
                if away:
                    _log.info("outbox_drain_resumed", pending=self.pending())
                away, pause_s = False, interval_s
            await sleep(pause_s)

    async def drain(self, store: Store) -> int:
        """One pass over all segments that nobody writes; returns how many records were new to the Store.

        Raises StoreUnavailable; what is not in the Store then stays on disk.
        """
        new = 0
        if not self._closed:
            await self._rotate()
        known = frozenset(self._on_disk)
        found = await asyncio.to_thread(_find, self._folder, known)
        self._on_disk.update({path: count for path, count in found.items() if path not in self._on_disk and count})
        for gone in known.difference(found):
            self._forget(gone)
        for path in found:
            segment = await asyncio.to_thread(ClosedSegment.take, path)
            if segment is None:  # this or another process writes it, or another empties it
                continue
            try:
                new += await self._empty(segment, store)
                await asyncio.to_thread(segment.delete)
                self._forget(path)
            finally:
                segment.release()
        return new

    # -- into the files -----------------------------------------------------------------------------------------------

    def _flush_in(self, delay_s: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # appended outside of the loop: the next append inside it, or `flush`, writes it
        self._timer = loop.call_later(delay_s, self._flush_due)

    def _flush_due(self) -> None:
        self._timer = None
        if self._buffer and self._writing is None:
            self._begin_write()

    def _begin_write(self) -> None:
        """Write now; or in the thread, and `_writing` is set until that is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._batch, self._buffer = self._buffer, []
        began_s = self._clock()
        if began_s < self._wary_until_s:
            writing = asyncio.get_running_loop().run_in_executor(self._thread, self._writer.write, self._batch)
            self._writing = writing
            writing.add_done_callback(lambda done: self._wrote(done.result(), began_s))
        else:
            self._wrote(self._writer.write(self._batch), began_s)

    def _wrote(self, written: Written, began_s: float) -> None:
        batch, self._batch, self._writing = self._batch, [], None
        now_s = self._clock()
        if now_s - began_s > _STALL_S:
            if now_s > self._wary_until_s:
                _log.warning("outbox_write_stalled", seconds=round(now_s - began_s, 3), folder=str(self._folder))
            self._wary_until_s = max(self._wary_until_s, now_s + _WARY_S)
        if written.error is not None:
            self._buffer[:0] = batch  # lines that were written all the same do no harm: the Store takes an id once
            if not self._failing:
                _log.error("outbox_write_failed", reason=str(written.error), buffered=len(self._buffer))
        elif self._failing:
            _log.info("outbox_write_resumed", folder=str(self._folder))
        self._failing = written.error is not None
        if written.path is not None:
            self._written(written.path, batch, written)
        self._dropped += written.refused
        self._report_dropped()
        if self._buffer and self._timer is None and not self._closed:
            self._flush_in(_RETRY_S if self._failing else _FLUSH_S)

    async def _rotate(self) -> None:
        """Close the segment that is written; not while the thread writes it."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._clock() < self._wary_until_s:
            rotating = asyncio.get_running_loop().run_in_executor(self._thread, self._writer.rotate)
            self._writing = rotating
            rotating.add_done_callback(self._rotated)
            await asyncio.wait([rotating])
        else:
            self._writer.rotate()

    def _rotated(self, _: asyncio.Future[None]) -> None:
        self._writing = None
        if self._buffer and self._timer is None and not self._closed:
            self._flush_in(_FLUSH_S)

    def _written(self, path: Path, batch: list[UsageRecord], written: Written) -> None:
        before = self._on_disk.get(path, 0)
        self._on_disk[path] = before + written.records
        kept = self._kept.setdefault(path, [])
        if len(kept) == before and not written.refused and self._kept_count + len(batch) <= _MAX_KEPT:
            kept += batch
            self._kept_count += len(batch)

    def _forget(self, path: Path) -> None:
        self._on_disk.pop(path, None)
        self._kept_count -= len(self._kept.pop(path, ()))

    def _report_dropped(self) -> None:
        if self._dropped:
            _log.error(
                "outbox_records_lost",
                records=self._dropped,
                folder=str(self._folder),
                remedy="make room on the disk, or bring the database back",
            )
            self._dropped = 0

    # -- out of the files ---------------------------------------------------------------------------------------------

    async def _empty(self, segment: ClosedSegment, store: Store) -> int:
        kept = self._kept.get(segment.path)
        # While a write is under way, the file may hold a batch that is not noted here yet.
        if kept and self._writing is None and len(kept) == self._on_disk.get(segment.path):
            new = 0
            for first in range(0, len(kept), _BATCH):
                new += await self._put(segment, store, kept[first : first + _BATCH])
            return new
        new = 0
        more = True
        while more:
            records, bad, more = await asyncio.to_thread(segment.batch, _BATCH)
            if bad:
                await self._reject(segment, bad)
            if records:
                new += await self._put(segment, store, records)
        if segment.torn:
            _log.warning("outbox_torn_line_skipped", segment=segment.path.name)
        return new

    async def _put(self, segment: ClosedSegment, store: Store, records: Sequence[UsageRecord]) -> int:
        """Insert a batch. A record that the database can't hold is put aside, and does not hold up the others."""
        try:
            return await store.add_usage(records)
        except Unprocessable:
            if len(records) == 1:
                await self._reject(segment, [line_of(records[0])])
                return 0
        half = len(records) // 2
        return await self._put(segment, store, records[:half]) + await self._put(segment, store, records[half:])

    @staticmethod
    async def _reject(segment: ClosedSegment, lines: Sequence[bytes]) -> None:
        path = await asyncio.to_thread(segment.reject, lines)
        _log.error("outbox_records_rejected", records=len(lines), file=str(path))


def _find(folder: Path, known: frozenset[Path]) -> dict[Path, int]:
    """All segments there are, with the records in those that are seen for the first time."""
    found: dict[Path, int] = {}
    for path in segments(folder):
        found[path] = 0
        if path not in known:
            segment = ClosedSegment.take(path)
            if segment is not None:
                found[path] = segment.count()
                segment.release()
    return found
