"""What a connection to an inference server asks of the system."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ilaas.adapters.writes import TurnWrites
from ilaas.relay.connection import UpstreamConnection
from tests.unit.relay.test_upstream import OK, Sink

STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n"
)


class Transport:
    """Notes what is set on its socket; it is its own socket."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int]] = []

    def get_extra_info(self, name: str) -> Transport | None:
        return self if name == "socket" else None

    def setsockopt(self, level: int, option: int, _value: int) -> None:
        self.options.append((level, option))


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
@pytest.mark.parametrize(("answer", "seldom"), [(STREAM, True), (OK, False)])
def test_packets_of_a_stream_are_acknowledged_together_and_a_whole_answer_as_the_system_likes(
    answer: bytes, seldom: bool
) -> None:
    transport: Any = Transport()
    connection = UpstreamConnection(("h", 1, False), TurnWrites(), lambda _connection, _reusable: None)
    connection.connection_made(transport)
    connection.sink = Sink()
    connection.data_received(answer)
    assert ((socket.IPPROTO_TCP, socket.TCP_QUICKACK) in transport.options) is seldom
