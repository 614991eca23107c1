"""Ids of what is kept: UUIDs that sort by the time they were made, as clients know them and databases like them."""

from __future__ import annotations

import uuid

ENTROPY_BYTES = 10


def uuid7(epoch_s: float, entropy: bytes) -> str:
    """A UUID of version 7 (RFC 9562, 5.7): 48 bits of milliseconds, then 74 of `entropy`'s 80 bits."""
    rest = int.from_bytes(entropy[:ENTROPY_BYTES])
    rest = rest & ~(0xF000 << 64) | 0x7000 << 64  # the version
    rest = rest & ~(0xC000 << 48) | 0x8000 << 48  # the variant
    milliseconds = int(epoch_s * 1000) % (1 << 48)
    return str(uuid.UUID(int=milliseconds << 80 | rest))
