"""Writes gathered over one turn of the event loop.

A transport sends at once, and each send wakes the process at the other end: on a busy machine the two take turns on the
processor for every single message. Sent together when all that was read is worked off, the wake-ups fall together too.
"""

from __future__ import annotations

import asyncio

LARGE_BYTES = 64 * 1024
"""Parts from this size on are sent at once, so that a large answer meets back-pressure and isn't copied."""


class TurnWrites:
    """Implements ports.runtime.Writes."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[asyncio.WriteTransport, bytes] = {}

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """See ports.runtime."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self._send)
        if transport in waiting:
            data = waiting.pop(transport) + data
        if len(data) < LARGE_BYTES:
            waiting[transport] = data
        elif not transport.is_closing():
            transport.write(data)

    def close(self, transport: asyncio.WriteTransport) -> None:
        """See ports.runtime."""
        data = self._waiting.pop(transport, None)
        if data is not None and not transport.is_closing():
            transport.write(data)
        transport.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for transport, data in waiting.items():
            if not transport.is_closing():
                transport.write(data)
