"""The outbox's files: the one that is written, and those that are complete. Everything here blocks: call it in threads.

A segment's first line names the fields of a record, each further one is a batch: a JSON array of arrays of values. That
takes a fifth of the time of an object per record. A segment is written by one process from its start to its end. The
writer holds a lock (flock) on it, which the system gives back even after kill -9: a segment that can be locked has no
writer any more, and whoever locks it may empty and delete it. Nobody writes on after another's last line, so a line
that was torn by a kill never joins a new one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ilaas.core.usage import UsageRecord, values_of
from ilaas.core.values import Outcome, RequestClass, RoutingMode

SUFFIX = ".jsonl"
REJECTED_SUFFIX = ".rejected"
_FIELDS = tuple(field.name for field in fields(UsageRecord))
_KINDS = {"request_class": RequestClass, "routing_mode": RoutingMode, "outcome": Outcome} | dict.fromkeys(
    ("streamed", "estimated", "energy_measured"), bool
)
"""Of the fields whose values are plainer in a file than in a record."""
HEADER = orjson.dumps(_FIELDS, option=orjson.OPT_APPEND_NEWLINE)
_LINE_RECORDS = 500
"""At most, so that batches read from lines are of bounded size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLimits:
    """How large files may get."""

    segment_bytes: int = 8 * 1024 * 1024
    """A segment is closed when it passes this."""
    folder_bytes: int = 2 * 1024 * 1024 * 1024
    """No more is written while all segments together hold this much: some 8 million records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a batch."""

    path: Path | None = None
    records: int = 0
    refused: int = 0
    """Records that were given up: the folder is full, or they can't be written as JSON."""
    error: OSError | None = None
    """The disk did not take the batch; some of it may be written all the same."""


class SegmentWriter:
    """Writes batches to the segment of this process, and begins a new one when it is large or was closed."""

    def __init__(self, folder: Path, limits: SegmentLimits, *, fsync: bool) -> None:
        """Nothing is opened before the first batch."""
        self._folder = folder
        self._limits = limits
        self._fsync = fsync
        self._file: int | None = None
        self._path: Path | None = None
        self._bytes = 0
        self._folder_bytes = 0
        self._count = 0

    def write(self, records: Sequence[UsageRecord]) -> Written:
        """Append them, in one write."""
        lines, count = _lines(records)
        unwritable = len(records) - count
        if not lines:
            return Written(refused=unwritable)
        data = b"".join(lines if self._file is not None else (HEADER, *lines))
        try:
            if self._folder_bytes + self._bytes + len(data) > self._limits.folder_bytes:
                self.rotate()
                data = b"".join((HEADER, *lines))
                self._folder_bytes = _size(self._folder)
                if self._folder_bytes + len(data) > self._limits.folder_bytes:
                    return Written(refused=len(records))
            if self._file is None:
                self._begin()
            self._write(data)
        except OSError as error:
            self.rotate()
            return Written(error=error)
        path = self._path
        if self._bytes >= self._limits.segment_bytes:
            self.rotate()
        return Written(path=path, records=count, refused=unwritable)

    def rotate(self) -> None:
        """Close the segment, so that it can be emptied. The next batch begins another."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._path, self._bytes = None, None, 0

    def _begin(self) -> None:
        while True:
            self._count += 1
            path = self._folder / f"{os.getpid()}-{time.time_ns():x}-{self._count}{SUFFIX}"
            try:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            # Between its making and its lock, another process may have taken the empty file for a dead one's.
            if _lock(file) and os.fstat(file).st_nlink:
                break
            os.close(file)
        self._file, self._path, self._bytes = file, path, 0
        self._folder_bytes = _size(self._folder)

    def _write(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  # `write` has just begun it
        rest = memoryview(data)
        while rest:
            done = os.write(self._file, rest)
            self._bytes += done
            rest = rest[done:]
        if self._fsync:
            os.fsync(self._file)


class ClosedSegment:
    """A segment that nobody writes any more, locked by this process until it is released."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Made by `take`."""
        self.path = path
        self.torn = False
        """Whether its last line was cut off and left out."""
        self._file = file
        self._names: tuple[str, ...] = ()

    @classmethod
    def take(cls, path: Path) -> ClosedSegment | None:
        """Lock it; None when another holds it or it is gone."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if _lock(file.fileno()) and os.fstat(file.fileno()).st_nlink:
            return cls(path, file)
        file.close()
        return None

    def count(self) -> int:
        """Records in it."""
        self._file.seek(0)
        return sum(len(records) + len(bad) for records, bad in map(self._read, self._file))

    def batch(self, size: int) -> tuple[list[UsageRecord], list[bytes], bool]:
        """The next records (some more than `size` when a line has them), what is not a record, whether more follow."""
        records: list[UsageRecord] = []
        bad: list[bytes] = []
        while len(records) + len(bad) < size:
            line = self._file.readline()
            if not line:
                return records, bad, False
            more, rejected = self._read(line)
            records += more
            bad += rejected
        return records, bad, True

    def reject(self, lines: Sequence[bytes]) -> Path:
        """Put lines aside that will never be taken, in a file beside the segment; returns its path."""
        path = self.path.with_suffix(REJECTED_SUFFIX)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "ab") as rejected:
            if not os.fstat(file).st_size:  # whoever mends it needs the names, and may then make a segment of it
                rejected.write(orjson.dumps(self._names, option=orjson.OPT_APPEND_NEWLINE) if self._names else HEADER)
            rejected.writelines(line if line.endswith(b"\n") else line + b"\n" for line in lines)
        return path

    def delete(self) -> None:
        """All of it is in the Store."""
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock it."""
        self._file.close()

    def _read(self, line: bytes) -> tuple[list[UsageRecord], list[bytes]]:
        """The records of a line, and as lines what in it is none."""
        if not line.endswith(b"\n"):
            self.torn = True
            return [], []
        try:
            found = orjson.loads(line)
        except ValueError:
            return [], [line]
        if not isinstance(found, list) or not found:
            return [], [line]
        if all(isinstance(name, str) for name in found):
            self._names = tuple(found)
            return [], []
        records: list[UsageRecord] = []
        bad: list[bytes] = []
        for values in found:
            record = _record(self._names, values)
            if record is None:
                bad.append(orjson.dumps([values], option=orjson.OPT_APPEND_NEWLINE))
            else:
                records.append(record)
        return records, bad


def segments(folder: Path) -> list[Path]:
    """Every segment in the folder, whoever writes it."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def line_of(*records: UsageRecord) -> bytes:
    """Records as one line. Raises TypeError for values that JSON does not have."""
    return orjson.dumps(tuple(map(values_of, records)), option=orjson.OPT_APPEND_NEWLINE)


def _lines(records: Sequence[UsageRecord]) -> tuple[list[bytes], int]:
    """The lines, and how many of the records are in them."""
    try:
        return [
            line_of(*records[first : first + _LINE_RECORDS]) for first in range(0, len(records), _LINE_RECORDS)
        ], len(records)
    except (TypeError, AttributeError):
        lines = [line for record in records if (line := _line_or_none(record)) is not None]
        return lines, len(lines)


def _line_or_none(record: UsageRecord) -> bytes | None:
    try:
        return line_of(record)
    except (TypeError, AttributeError):
        return None


def _record(names: tuple[str, ...], values: Any) -> UsageRecord | None:
    """The record of these values; None when they are not one. Fields of a newer version are left out."""
    try:
        given: dict[str, Any] = dict(zip(names, values, strict=True))
        if names != _FIELDS:
            given = {name: value for name, value in given.items() if name in _FIELDS}
        for name, kind in _KINDS.items():
            if name in given:
                given[name] = kind(given[name])
        record = UsageRecord(**given)
    except (ValueError, TypeError, KeyError):
        return None
    return record


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    total = 0
    for path in segments(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
