"""Sends a body with a file in it, piece by piece, as fast as the server takes it."""

from __future__ import annotations

import asyncio

from ilaas.core.values import Outcome
from ilaas.ports.upload import UpstreamUpload
from ilaas.ports.upstream import UpstreamSink
from ilaas.relay.connection import UpstreamConnection

PIECE_BYTES = 256 * 1024
UNSENT_BYTES = 1024 * 1024
"""The transport's limit: from here on the next piece waits."""

Failure = tuple[Outcome, str]


async def send_upload(
    connection: UpstreamConnection, head: bytes, upload: UpstreamUpload, sink: UpstreamSink
) -> Failure | None:
    """Send the request whose head this is; its answer goes to `sink`. Returns why it could not be sent whole.

    The answer may come before all is sent (a refusal): the rest is not sent then.
    """
    transport = connection.begin(sink)
    room = asyncio.Event()
    connection.on_writable = room.set
    try:
        transport.write(head + upload.before)
        offset = 0
        while offset < upload.file.size_bytes:
            await _until_taken(transport, room, upload.stall_s)
            piece = await upload.file.read(offset, min(PIECE_BYTES, upload.file.size_bytes - offset))
            if transport.is_closing() or connection.sink is None:
                return None
            if not piece:
                return Outcome.UPSTREAM_ERROR, "the file could not be read again"
            transport.write(piece)
            offset += len(piece)
        transport.write(upload.after)
        await _until_taken(transport, room, upload.stall_s)
    except TimeoutError:
        return Outcome.FIRST_TOKEN_TIMEOUT, f"the server took nothing for {upload.stall_s:g} s"
    except OSError:
        return Outcome.UPSTREAM_ERROR, "the file could not be read again"
    finally:
        connection.on_writable = None
    if connection.sink is not None:
        connection.sending = False
        sink.upstream_sent()
    return None


async def _until_taken(transport: asyncio.Transport, room: asyncio.Event, stall_s: float) -> None:
    """Wait while more is unsent than the transport's limit. Raises TimeoutError."""
    while transport.get_write_buffer_size() > UNSENT_BYTES and not transport.is_closing():
        room.clear()
        async with asyncio.timeout(stall_s):
            await room.wait()
