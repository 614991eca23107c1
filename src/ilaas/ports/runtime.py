"""What the edges need of the event loop beside what asyncio gives."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Writes(Protocol):
    """Sends bytes over transports, at the end of the loop's present turn rather than at once.

    Order per transport is kept. Whoever writes to a transport through this closes it through this too.
    """

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Send soon. The transport's back-pressure is felt when it is sent; one that closes meanwhile drops it."""

    def close(self, transport: asyncio.WriteTransport) -> None:
        """Send what waits for this transport now, and close it."""
