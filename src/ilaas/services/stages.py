"""Where a request under way is, and what it is when its client leaves there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from ilaas.core.values import Outcome


class Stage(IntEnum):
    """Where a request is. One whose server died in mid-answer goes through them again."""

    QUEUED = 0
    CONNECTING = 1
    PREFILL = 2
    """Sent; nothing of the server's answer reached the client yet (a plain answer stays here until it is whole)."""
    STREAMING = 3
    DONE = 4


CLIENT_LEFT: Mapping[Stage, Outcome] = MappingProxyType(
    {
        Stage.QUEUED: Outcome.CLIENT_LEFT_QUEUE,
        Stage.CONNECTING: Outcome.CLIENT_LEFT_PREFILL,
        Stage.PREFILL: Outcome.CLIENT_LEFT_PREFILL,
        Stage.STREAMING: Outcome.CLIENT_LEFT_DECODE,
    }
)

LEFT = frozenset(CLIENT_LEFT.values())
"""What a request is when its client leaves."""
