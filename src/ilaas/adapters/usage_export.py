"""Single usage records as a CSV or Parquet file, in batches: memory does not grow with their number."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from dataclasses import fields
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from ilaas.core.usage import UsageRecord
from ilaas.ports.usage import RecordFilter, UsageStore

_BATCH = 5_000
_COLUMNS = tuple(field.name for field in fields(UsageRecord))
_ENUMS = frozenset({"request_class", "routing_mode", "outcome"})
_values = attrgetter(*(f"{name}._value_" if name in _ENUMS else name for name in _COLUMNS))


class Format(StrEnum):
    """Kinds of files."""

    CSV = "csv"
    PARQUET = "parquet"


class _Sink(Protocol):
    def write(self, rows: Sequence[tuple[Any, ...]]) -> None: ...
    def close(self) -> None: ...


async def export_usage(store: UsageStore, which: RecordFilter, kind: Format, path: Path) -> int:
    """Write the records to the file, which is there only when it is complete; returns how many. Raises OSError."""
    partial = path.with_name(f"{path.name}.part")
    count = 0
    sink: _Sink = await asyncio.to_thread(_CsvSink if kind is Format.CSV else _ParquetSink, partial)
    try:
        after = None
        while page := await store.page_of_usage(which, after, _BATCH):
            await asyncio.to_thread(sink.write, list(map(_values, page)))
            count += len(page)
            after = (page[-1].finished_at_ms, page[-1].id)
        await asyncio.to_thread(sink.close)
        partial.replace(path)
    finally:
        sink.close()
        partial.unlink(missing_ok=True)
    return count


class _CsvSink:
    """RFC 4180, with the names of the columns as first line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(_COLUMNS)

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._writer.writerows(rows)

    def close(self) -> None:
        self._file.close()


class _ParquetSink:
    """One row group a batch; columns of text as dictionaries, which repeat themselves."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa  # noqa: PLC0415  # 100 ms and 60 MB that nothing else needs
        import pyarrow.parquet as pq  # noqa: PLC0415

        kinds = {"str": pa.string(), "int": pa.int64(), "bool": pa.bool_()}
        named = {field.name: getattr(field.type, "__name__", field.type) for field in fields(UsageRecord)}
        types = {name: kinds.get(str(kind), pa.string()) for name, kind in named.items()}
        self._schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])
        self._arrow = pa
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
