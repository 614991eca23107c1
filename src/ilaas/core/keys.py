"""API keys: `ilaas-` + 40 random characters + 6 of checksum, so that a typo is refused without looking anything up.

Only a keyed digest is stored: BLAKE2b with a pepper that lives apart from the database. Keys carry 230 bits, so a slow
password hash would add cost on every request and no safety; the pepper protects the shorter tokens that are imported
from today's dispatcher.
"""

from __future__ import annotations

import hashlib
import zlib

PREFIX = "ilaas-"
RANDOM_CHARS = 40
CHECKSUM_CHARS = 6
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"
_LENGTH = len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS


def _encode(number: int, length: int) -> str:
    chars = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        chars.append(_ALPHABET[digit])
    return "".join(reversed(chars))


def _checksum(stem: str) -> str:
    return _encode(zlib.crc32(stem.encode()), CHECKSUM_CHARS)


def make_key(entropy: bytes) -> str:
    """The key made of at least 32 bytes of entropy from the system's generator."""
    if len(entropy) < 32:
        raise ValueError("a key needs at least 32 bytes of entropy")
    stem = PREFIX + _encode(int.from_bytes(entropy, "big"), RANDOM_CHARS)
    return stem + _checksum(stem)


def is_mistyped(key: str) -> bool:
    """Whether a key of our form has a wrong length or checksum. Imported tokens of other forms are never 'mistyped'."""
    if not key.startswith(PREFIX):
        return False
    return len(key) != _LENGTH or _checksum(key[:-CHECKSUM_CHARS]) != key[-CHECKSUM_CHARS:]


def hint(key: str) -> str:
    """What may be shown of a key after its creation: enough to recognise it, useless to an attacker."""
    return f"{key[: len(PREFIX) + 4]}…" if key.startswith(PREFIX) else f"{key[:2]}…"


def digest(key: bytes, pepper: bytes) -> bytes:
    """What is stored and looked up: 32 bytes. `pepper` is 16 to 64 bytes."""
    return hashlib.blake2b(key, key=pepper, digest_size=32).digest()
