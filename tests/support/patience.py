"""How long a test waits for what was promised: in turns of the loop, so that a busy machine lengthens the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0
"""For what is promised no time: long enough that only a fault takes longer."""
TURN_S = 0.01


async def holds_within(promised_s: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it comes to hold within a promised time, which is counted in naps of 10 ms and not by the wall clock.

    A process that gets half of its core has twice the time; one that polls too seldom, or forgets, still fails.
    """
    for _ in range(round(promised_s / TURN_S)):
        if await holds():
            return True
        await asyncio.sleep(TURN_S)
    return await holds()
