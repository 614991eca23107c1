"""How long a test waits for what was promised: in turns of the loop, so that a busy machine lengthens the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ilaas.sim.server import SimServer

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


async def client_left(sim: SimServer, promised_s: float = 1.0) -> bool:
    """Whether the server learns within the promised time that the client of its newest request has left."""

    async def told() -> bool:
        return sim.journal.notes[-1].result == "client_left"

    return await holds_within(promised_s, told)
