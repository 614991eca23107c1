from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.fault_proxy import FaultProxy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """Before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1]) as proxy, asyncio.timeout(20):
        yield proxy
    server.close()


async def connect(proxy: FaultProxy) -> Pair:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def echoed(pair: Pair, data: bytes = b"hello") -> bytes:
    pair[1].write(data)
    return await pair[0].readexactly(len(data))


async def test_bytes_pass_and_the_end_of_a_stream_too(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    data = b"x" * 1_000_000
    assert await echoed(pair, data) == data
    pair[1].write_eof()
    assert await pair[0].read() == b""
    while proxy.connections:
        await asyncio.sleep(0.01)


async def test_a_delay_is_had_in_each_direction(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    proxy.delay_s = 0.1
    begin_s = asyncio.get_running_loop().time()
    await echoed(pair)
    assert asyncio.get_running_loop().time() - begin_s >= 0.2


async def test_a_throttle_lets_so_many_bytes_pass_in_a_second(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    proxy.bytes_per_s = 10_000
    begin_s = asyncio.get_running_loop().time()
    await echoed(pair, b"x" * 1000)
    assert asyncio.get_running_loop().time() - begin_s >= 0.2


async def test_a_black_hole_accepts_and_holds_back_until_it_is_healed(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await echoed(pair)
    proxy.black_hole()
    other = await connect(proxy)
    for each in (pair, other):
        each[1].write(b"late")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pair[0].read(1), 0.1)
    await proxy.heal()
    for each in (pair, other):
        assert await each[0].readexactly(4) == b"late"


async def test_connections_are_closed_or_reset_and_new_ones_work(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await echoed(pair)
    proxy.close_all()
    assert await pair[0].read() == b""
    pair = await connect(proxy)
    await echoed(pair)
    proxy.reset_all()
    with pytest.raises(ConnectionResetError):
        await pair[0].read()
    assert await echoed(await connect(proxy)) == b"hello"


async def test_refused_connections_work_again_on_the_same_port_when_healed(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await echoed(pair)
    await proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await pair[0].read()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.heal()
    assert await echoed(await connect(proxy)) == b"hello"
