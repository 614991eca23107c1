"""The edge of the listener under bytes that nobody thought of: it answers or closes, and nothing else happens."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import orjson
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from ilaas.adapters.writes import TurnWrites
from ilaas.http.front import Front
from ilaas.http.limits import Limits
from ilaas.http.protocol import GatewayProtocol
from ilaas.http.reading import INFERENCE_PATHS
from tests.support.listener import post
from tests.support.twins import House

CHAT = orjson.dumps({"model": "public", "messages": [{"role": "user", "content": "Bonjour"}]})
VALID = post(CHAT)


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self.out = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.out += bytes(data)

    def writelines(self, parts: Any) -> None:
        self.out += b"".join(parts)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the ASGI application."""
    await receive()
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


class Answers:
    """Checks that what was written is a row of HTTP answers."""

    def __init__(self) -> None:
        self.count = 0

    def on_message_complete(self) -> None:
        self.count += 1


async def feed(packets: list[bytes]) -> tuple[FakeTransport, House, list[dict[str, Any]]]:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    house = House()
    config = uvicorn.Config(nothing, ws="none", log_config=None, access_log=False)
    limits = Limits(max_body_bytes=2000, max_header_bytes=1000)
    protocol = GatewayProtocol(Front(house.inference, limits, TurnWrites()), config, ServerState(), {})
    transport = FakeTransport()
    protocol.connection_made(transport)
    answered = 0
    for packet in packets:
        if transport.closing:
            break
        protocol.data_received(packet)
        for call in house.upstream.calls[answered:]:
            call.plain({"model": "org/served", "choices": []})
        answered = len(house.upstream.calls)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    return transport, house, faults


pieces = st.sampled_from(
    [
        VALID,
        CHAT,
        b"POST /v1/chat/completions HTTP/1.1\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"authorization: Bearer ilaas-test\r\n",
        b"content-length: 5\r\n",
        b"content-length: 99999999999999999999\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"connection: close\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\n",
        b"host: x\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"x" * 1500,
    ]
)
junk = st.one_of(pieces, st.binary(max_size=60))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid request with some bytes changed, put in or taken out."""
    data = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["change", "insert", "delete"]))
        if how == "change":
            data[at] = draw(st.integers(0, 255))
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        else:
            del data[at : at + draw(st.integers(1, 4))]
    return bytes(data)


def check(packets: list[bytes]) -> None:
    transport, house, faults = asyncio.run(feed(packets))
    assert not faults, faults
    assert house.at_rest()
    assert all(call.request.path in INFERENCE_PATHS for call in house.upstream.calls)
    answers = Answers()
    out = transport.out.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    httptools.HttpResponseParser(answers).feed_data(out)
    assert len(house.upstream.calls) <= answers.count
    assert b"Traceback" not in transport.out


@settings(max_examples=150, deadline=None)
@given(st.lists(junk, min_size=1, max_size=8))
def test_any_row_of_packets_ends_in_answers_and_nothing_is_left(packets: list[bytes]) -> None:
    check(packets)


@settings(max_examples=150, deadline=None)
@given(mutated(), st.lists(st.integers(0, 400), max_size=4))
def test_a_request_with_some_bytes_changed_ends_in_answers_and_nothing_is_left(data: bytes, cuts: list[int]) -> None:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    packets = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]
    check(packets)
