"""Writes of one turn of the event loop: nothing is lost, nothing changes places, a large part is not held back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.writes import LARGE_BYTES, TurnWrites


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written after the close"
        self.parts.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_a_part_is_sent_in_the_same_turn_and_parts_of_one_transport_are_joined() -> None:
    writes, one, other = TurnWrites(), Transport(), Transport()
    for transport, data in ((one, b"a"), (other, b"x"), (one, b"b")):
        writes.write(transport, data)
    assert one.parts == other.parts == []
    await asyncio.sleep(0)
    assert one.parts == [b"ab"]
    assert other.parts == [b"x"]


@given(sizes=st.lists(st.sampled_from([1, 3, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1]), max_size=8))
def test_the_order_of_a_transport_is_kept_whatever_the_sizes(sizes: list[int]) -> None:
    async def run() -> tuple[list[bytes], int]:
        writes, transport = TurnWrites(), Transport()
        for number, size in enumerate(sizes):
            writes.write(transport, bytes([number]) * size)
        at_once = sum(map(len, transport.parts))
        await asyncio.sleep(0)
        return transport.parts, at_once

    parts, at_once = asyncio.run(run())
    assert b"".join(parts) == b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert sum(sizes) - at_once < LARGE_BYTES, "more is held back than a small part"


async def test_closing_sends_what_waits_first() -> None:
    writes, transport = TurnWrites(), Transport()
    writes.write(transport, b"last words")
    writes.close(transport)
    assert transport.parts == [b"last words"]
    assert transport.closed
    await asyncio.sleep(0)


async def test_what_waits_for_a_transport_that_breaks_is_dropped_and_the_others_get_theirs() -> None:
    writes, broken, whole = TurnWrites(), Transport(), Transport()
    writes.write(broken, b"lost")
    writes.write(whole, b"kept")
    broken.abort()
    writes.close(broken)
    await asyncio.sleep(0)
    assert broken.parts == []
    assert whole.parts == [b"kept"]


async def test_a_write_that_a_send_brings_about_goes_out_in_the_next_turn() -> None:
    writes, second = TurnWrites(), Transport()

    class Answering(Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            writes.write(second, b"in turn")

    writes.write(Answering(), b"first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert second.parts == [b"in turn"]


@contextlib.asynccontextmanager
async def stalled_peer() -> AsyncIterator[tuple[asyncio.Transport, asyncio.Event]]:
    """A real connection to a peer that reads nothing, and the event of its protocol's pause."""
    paused = asyncio.Event()

    class Client(asyncio.Protocol):
        def pause_writing(self) -> None:
            paused.set()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    transport, _ = await asyncio.get_running_loop().create_connection(Client, *server.sockets[0].getsockname())
    try:
        yield transport, paused
    finally:
        transport.abort()
        server.close()


async def test_small_parts_meet_the_transports_back_pressure() -> None:
    async with stalled_peer() as (transport, paused):
        writes = TurnWrites()
        for _ in range(10_000):
            writes.write(transport, b"x" * 4096)
            if paused.is_set():
                break
            await asyncio.sleep(0)
        assert paused.is_set()
