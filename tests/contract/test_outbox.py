"""No record that was written is lost, and none is counted twice, whatever dies in between."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ilaas.adapters.outbox import FileOutbox
from ilaas.adapters.outbox_segments import HEADER, SegmentLimits, line_of
from ilaas.adapters.sql import SqlStore
from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.errors import StoreUnavailable
from ilaas.core.usage import UsageRecord
from ilaas.services.accounting import Accounting
from tests.contract.conftest import SECRET
from tests.contract.samples import record
from tests.support.twins import House

PLAIN = {"id": "c", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

WRITER = """
import asyncio, sys
from pathlib import Path
from ilaas.adapters.outbox import FileOutbox
from ilaas.adapters.outbox_segments import SegmentLimits
from tests.contract.samples import record

async def main():
    outbox = FileOutbox(Path(sys.argv[1]), SegmentLimits(segment_bytes=20_000))
    first = int(sys.argv[2])
    number = first
    while True:
        for _ in range(37):
            outbox.append(record(number))
            number += 1
        assert await outbox.flush()
        print(number - 1, flush=True)  # all up to this one are acknowledged

asyncio.run(main())
"""


class UnsteadyStore(MemoryStore):
    """A store that is away while told so, and says when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = asyncio.Event()
        self.batches: list[int] = []

    async def add_usage(self, records: Sequence[UsageRecord]) -> int:
        self.asked.set()
        if self.away:
            raise StoreUnavailable("The database does not answer.")
        self.batches.append(len(records))
        return await super().add_usage(records)


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[FileOutbox]:
    outbox = FileOutbox(tmp_path)
    yield outbox
    await outbox.close()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_records_come_through_as_they_were(outbox: FileOutbox, tmp_path: Path) -> None:
    store = MemoryStore()
    records = [record(number) for number in range(5)]
    for one in records:
        outbox.append(one)
    assert outbox.pending() == 5
    assert await outbox.flush()
    assert outbox.pending() == 5
    assert await outbox.drain(store) == 5
    assert list(store.usage.values()) == records
    assert outbox.pending() == 0
    assert left(tmp_path) == []


async def test_a_record_is_on_disk_soon_without_being_asked_for(outbox: FileOutbox, tmp_path: Path) -> None:
    outbox.append(record(1))
    async with asyncio.timeout(10):
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            await asyncio.sleep(0.005)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [HEADER + line_of(record(1))]


async def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "outbox")
    outbox.append(record(1))
    await outbox.close()
    assert stat.S_IMODE((tmp_path / "outbox").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "outbox").iterdir()] == [0o600]


async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    outbox.append(record(1))
    await outbox.close()
    await outbox.close()
    with capture_logs() as logs:
        outbox.append(record(2))
    assert [(line["event"], line["records"]) for line in logs] == [("outbox_records_lost", 1)]
    assert b"".join(path.read_bytes() for path in tmp_path.iterdir()) == HEADER + line_of(record(1))


async def test_records_appended_before_the_loop_runs_are_kept(tmp_path: Path) -> None:
    outbox = await asyncio.to_thread(_with_one_record, tmp_path)
    store = MemoryStore()
    await outbox.close()
    assert await outbox.drain(store) == 1


def _with_one_record(folder: Path) -> FileOutbox:
    outbox = FileOutbox(folder)
    outbox.append(record(1))
    return outbox


async def test_segments_are_bounded_and_batches_too(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, SegmentLimits(segment_bytes=3_000))
    for number in range(100):
        outbox.append(record(number))
        if number % 5 == 0:
            await outbox.flush()
    await outbox.close()
    assert len(left(tmp_path)) > 5
    store = UnsteadyStore()
    assert await outbox.drain(store) == 100
    assert left(tmp_path) == []
    (tmp_path / "old.jsonl").write_bytes(HEADER)
    for first in range(100, 21_000, 100):
        line = line_of(*map(record, range(first, first + 100)))
        with (tmp_path / "old.jsonl").open("ab") as file:
            file.write(line)
    store.batches.clear()
    assert await outbox.drain(store) == 20_900
    assert max(store.batches) <= 10_500


async def test_a_store_that_is_away_loses_nothing_and_gets_all_when_it_is_back(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    store = UnsteadyStore()
    store.away = True
    running = asyncio.create_task(outbox.run(store, interval_s=0.01, max_interval_s=0.05))
    for number in range(50):
        outbox.append(record(number))
    await outbox.flush()
    async with asyncio.timeout(20):
        await store.asked.wait()
        assert outbox.pending() == 50
        for number in range(50, 60):
            outbox.append(record(number))
        await outbox.flush()
        store.away = False
        while outbox.pending():
            await asyncio.sleep(0.01)
    running.cancel()
    await outbox.close()
    assert set(store.usage) == {record(number).id for number in range(60)}
    assert left(tmp_path) == []


async def test_a_store_away_for_ten_minutes_stops_no_inference_and_loses_no_record(tmp_path: Path) -> None:
    house = House()
    outbox = FileOutbox(tmp_path, SegmentLimits(segment_bytes=50_000))
    house.inference.context.accounting = Accounting(outbox, house.registry.key_used)
    store = UnsteadyStore()
    store.away = True
    begun = house.clock.now
    tries = 0
    answered: list[str] = []

    async def virtual_sleep(seconds: float) -> None:
        nonlocal tries
        tries += store.away
        until = house.clock.now + seconds
        while house.clock.now < until:
            house.clock.now += 0.25
            asked = house.ask()
            asked.call.plain(PLAIN)
            assert asked.writer.status == 200
            answered.append(asked.writer.headers["x-request-id"])
            store.away = house.clock.now < begun + 600
        assert await outbox.flush()
        if house.clock.now > begun + 630:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await outbox.run(store, sleep=virtual_sleep)
    await outbox.close()
    await outbox.drain(store)
    assert len(answered) > 4 * 600
    assert sorted(store.usage) == sorted(answered)
    assert 60 <= tries < 70, "the store is asked again every ten seconds"
    assert left(tmp_path) == []
    assert house.at_rest()


async def test_the_log_tells_once_that_the_store_is_away_and_once_that_it_is_back(outbox: FileOutbox) -> None:
    store = UnsteadyStore()
    store.away = True
    outbox.append(record(1))
    with capture_logs() as logs:
        running = asyncio.create_task(outbox.run(store, interval_s=0.001, max_interval_s=0.002))
        async with asyncio.timeout(20):
            for _ in range(3):
                store.asked.clear()
                await store.asked.wait()
            store.away = False
            while not any(line["event"] == "outbox_drain_resumed" for line in logs):
                await asyncio.sleep(0.005)
        running.cancel()
    assert [line["event"] for line in logs] == ["outbox_drain_failed", "outbox_drain_resumed"]


async def test_what_an_earlier_process_left_is_picked_up(tmp_path: Path) -> None:
    earlier = FileOutbox(tmp_path)
    earlier.append(record(1))
    earlier.append(record(2))
    await earlier.close()
    outbox = FileOutbox(tmp_path)
    store = UnsteadyStore()
    store.away = True
    with pytest.raises(StoreUnavailable):
        await outbox.drain(store)
    assert outbox.pending() == 2
    store.away = False
    assert await outbox.drain(store) == 2
    await outbox.close()
    assert left(tmp_path) == []


async def test_a_torn_last_line_is_skipped_and_the_lines_before_it_are_kept(outbox: FileOutbox, tmp_path: Path) -> None:
    (tmp_path / "1-a-1.jsonl").write_bytes(HEADER + line_of(record(1)) + line_of(record(2))[:-30])
    store = MemoryStore()
    with capture_logs() as logs:
        assert await outbox.drain(store) == 1
    assert [line["event"] for line in logs] == ["outbox_torn_line_skipped"]
    assert set(store.usage) == {record(1).id}
    assert left(tmp_path) == []


async def test_a_line_that_is_no_record_is_put_aside_and_the_others_are_kept(
    outbox: FileOutbox, tmp_path: Path
) -> None:
    bad = [b"nonsense\n", b"[1]\n", b'[["only"]]\n', line_of(record(7)).replace(b"client_left_decode", b"melted")]
    lines = [HEADER, line_of(record(1)), *bad, line_of(record(2), record(3))]
    (tmp_path / "1-a-1.jsonl").write_bytes(b"".join(lines))
    store = MemoryStore()
    with capture_logs() as logs:
        assert await outbox.drain(store) == 3
    assert [(line["event"], line["records"]) for line in logs] == [("outbox_records_rejected", 4)]
    assert (tmp_path / "1-a-1.rejected").read_bytes() == b"".join([HEADER, *bad])
    assert left(tmp_path) == ["1-a-1.rejected"]


async def test_a_field_of_a_newer_version_does_no_harm(outbox: FileOutbox, tmp_path: Path) -> None:
    newer = HEADER.replace(b'["id"', b'["of_a_newer_version","id"') + line_of(record(1)).replace(b"[[", b"[[12,")
    (tmp_path / "1-a-1.jsonl").write_bytes(newer)
    store = MemoryStore()
    assert await outbox.drain(store) == 1
    assert store.usage == {record(1).id: record(1)}


async def test_a_field_that_an_older_version_did_not_have_gets_its_default(outbox: FileOutbox, tmp_path: Path) -> None:
    older = HEADER.replace(b',"energy_measured"', b"") + line_of(record(1)).replace(b",0]]", b"]]")
    (tmp_path / "1-a-1.jsonl").write_bytes(older)
    store = MemoryStore()
    assert await outbox.drain(store) == 1
    assert store.usage == {record(1).id: record(1)}


async def test_a_record_that_the_store_can_not_hold_does_not_hold_up_the_others(
    outbox: FileOutbox, tmp_path: Path
) -> None:
    store = MemoryStore()
    for number in range(20):
        outbox.append(record(number, prompt_tokens=2**63 if number == 13 else 1))
    await outbox.flush()
    with capture_logs() as logs:
        assert await outbox.drain(store) == 19
    assert [line["event"] for line in logs] == ["outbox_records_rejected"]
    assert [name.rpartition(".")[2] for name in left(tmp_path)] == ["rejected"]


async def test_a_record_that_can_not_be_written_does_not_hold_up_the_others(outbox: FileOutbox) -> None:
    outbox.append(record(1, model="lone \ud800 surrogate"))
    outbox.append(record(2))
    with capture_logs() as logs:
        assert await outbox.flush()
    assert [(line["event"], line["records"]) for line in logs] == [("outbox_records_lost", 1)]
    assert await outbox.drain(MemoryStore()) == 1


async def test_a_segment_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    path = tmp_path / "1-a-1.jsonl"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(HEADER + line_of(record(1)))
        file.flush()
        store = MemoryStore()
        assert await outbox.drain(store) == 0
        assert left(tmp_path) == [path.name]
        file.write(line_of(record(2)))
    assert await outbox.drain(store) == 2
    await outbox.close()


async def test_two_outboxes_in_one_folder_never_share_a_segment(tmp_path: Path) -> None:
    one, two = FileOutbox(tmp_path), FileOutbox(tmp_path)
    store = MemoryStore()
    new = 0
    for number in range(0, 40, 2):
        one.append(record(number))
        two.append(record(number + 1))
        await asyncio.gather(one.flush(), two.flush())
        new += sum(await asyncio.gather(one.drain(store), two.drain(store)))
    await one.close()
    await two.close()
    new += await one.drain(store)
    assert new == 40
    assert left(tmp_path) == []


async def test_a_full_folder_says_loudly_what_is_lost_and_takes_records_again_when_emptied(tmp_path: Path) -> None:
    size = len(line_of(record(10)))
    outbox = FileOutbox(tmp_path, SegmentLimits(segment_bytes=100 * size, folder_bytes=10 * size + len(HEADER)))
    with capture_logs() as logs:
        for number in range(10, 30):
            outbox.append(record(number))
            await outbox.flush()
    assert sum(line["records"] for line in logs if line["event"] == "outbox_records_lost") == 10
    assert {line["log_level"] for line in logs} == {"error"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10 * size + len(HEADER)
    store = MemoryStore()
    assert await outbox.drain(store) == 10
    outbox.append(record(99))
    assert await outbox.flush()
    await outbox.close()
    assert await outbox.drain(store) == 1


async def test_a_disk_that_takes_nothing_is_tried_again_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    outbox = FileOutbox(folder)
    folder.rmdir()  # no segment can be made; root is not stopped by permissions
    with capture_logs() as logs:
        outbox.append(record(1))
        assert not await outbox.flush()
        outbox.append(record(2))
        assert not await outbox.flush()
        assert outbox.pending() == 2
        folder.mkdir()
        assert await outbox.flush()
    assert [line["event"] for line in logs] == ["outbox_write_failed", "outbox_write_resumed"]
    store = MemoryStore()
    assert await outbox.drain(store) == 2
    await outbox.close()


async def test_records_outlive_kill_9_in_the_middle_of_a_write_and_are_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    store = SqlStore(f"sqlite:///{tmp_path / 'ilaas.db'}", SECRET)
    await store.open()
    new = 0
    acknowledged: list[tuple[int, int]] = []
    for first in (0, 1_000_000):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(folder), str(first), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        reader = FileOutbox(folder)
        for _ in range(20):
            last = int(await writer.stdout.readline())
        new += await reader.drain(store)  # beside the process that writes: it takes only what is closed
        os.kill(writer.pid, signal.SIGKILL)
        rest = await writer.stdout.read()
        await writer.wait()
        complete = [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
        acknowledged.append((first, max([last, *complete])))
        new += await reader.drain(store)
        await reader.close()
    assert [path for path in folder.iterdir() if path.suffix != ".jsonl"] == []
    assert left(folder) == []
    everything = [record(number) for first, last in acknowledged for number in range(first, last + 1)]
    assert await store.add_usage(everything) == 0, "an acknowledged record was lost"
    assert new >= len(everything)
    unacknowledged = [record(number) for _, last in acknowledged for number in range(last + 1, last + 100)]
    assert new + await store.add_usage(unacknowledged) == len(everything) + len(unacknowledged)
    await store.close()


async def test_emptying_while_records_keep_coming_loses_none(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path, SegmentLimits(segment_bytes=2_000))  # closed by size in the middle of everything
    store = MemoryStore()
    count = 3_000

    async def write() -> None:
        for first in range(0, count, 5):
            for number in range(first, first + 5):
                outbox.append(record(number))
            assert await outbox.flush()

    writing = asyncio.create_task(write())
    while not writing.done():
        await outbox.drain(store)
    await writing
    await outbox.close()
    await outbox.drain(store)
    assert len(store.usage) == count
    assert left(tmp_path) == []
    assert outbox.pending() == 0


class StallingClock:
    """Each write of the first `stalls` takes a second."""

    def __init__(self, stalls: int) -> None:
        self.now_s = 1000.0
        self.calls = 0
        self.stalls = stalls

    def __call__(self) -> float:
        self.calls += 1
        if self.stalls and self.calls % 2 == 0:  # asked before and after each write
            self.stalls -= 1
            self.now_s += 1.0
        return self.now_s


async def test_a_disk_that_stalls_is_written_beside_the_loop_for_a_while_and_nothing_is_lost(tmp_path: Path) -> None:
    clock = StallingClock(stalls=1)
    outbox = FileOutbox(tmp_path, clock=clock)
    with capture_logs() as logs:
        outbox.append(record(1))
        assert await outbox.flush()
        outbox.append(record(2))
        writing = asyncio.create_task(outbox.flush())
        await asyncio.sleep(0)
        outbox.append(record(3))
        assert outbox.pending() == 3
        assert await writing
        clock.now_s += 61
        outbox.append(record(4))
        assert await outbox.flush()
    assert [line["event"] for line in logs] == ["outbox_write_stalled"]
    store = MemoryStore()
    assert await outbox.drain(store) == 4
    assert sorted(store.usage) == sorted(record(number).id for number in range(1, 5))
    await outbox.close()


async def test_emptying_while_a_thread_writes_loses_none(tmp_path: Path) -> None:
    clock = StallingClock(stalls=1)
    outbox = FileOutbox(tmp_path, clock=clock)
    store = MemoryStore()
    new = 0
    for number in range(200):
        outbox.append(record(number))
        flushing = asyncio.create_task(outbox.flush())
        new += await outbox.drain(store)
        assert await flushing
    new += await outbox.drain(store)
    assert new == len(store.usage) == 200
    assert left(tmp_path) == []
    await outbox.close()
