"""JSON Web Tokens (RFC 7519) signed with RS256, the form of the tokens that the speech API has always given."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from ilaas.core.enrichment.clients import SigningKey

_ALGORITHM = "RS256"
_KEY_BITS = 2048
_MAX_CHARS = 4_096
"""A longer text is no token of ours: nothing of it is decoded."""


class JwtSigner:
    """See ports.tokens."""

    def __init__(self) -> None:
        self._rsa = lru_cache(maxsize=16)(_imported)  # reading a key takes longer than signing with it

    async def new_key(self, key_id: str, at_s: float) -> SigningKey:
        """See ports.tokens."""
        made = await asyncio.to_thread(RSAKey.generate_key, _KEY_BITS, {"kid": key_id}, private=True)
        return SigningKey(id=key_id, private_pem=made.as_pem(private=True).decode("ascii"), created_at_s=at_s)

    def sign(self, claims: Mapping[str, Any], key: SigningKey) -> str:
        """See ports.tokens."""
        header = {"typ": "JWT", "alg": _ALGORITHM, "kid": key.id}
        return jwt.encode(header, dict(claims), self._rsa(key.id, key.private_pem), algorithms=[_ALGORITHM])

    def read(self, token: str, keys: Sequence[SigningKey]) -> Mapping[str, Any] | None:
        """See ports.tokens."""
        key_id = self.key_id(token)
        found = [key for key in keys if key.id == key_id]
        if not found:
            return None
        try:
            ring = KeySet([self._rsa(key.id, key.private_pem) for key in found])
            claims: Mapping[str, Any] = jwt.decode(token, ring, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError, RecursionError):
            return None
        return claims if isinstance(claims, dict) else None

    def key_id(self, token: str) -> str | None:
        """See ports.tokens."""
        if len(token) > _MAX_CHARS or not token.isascii():
            return None
        head = token.partition(".")[0]
        try:
            found = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        except (ValueError, binascii.Error):
            return None
        key_id = found.get("kid") if isinstance(found, dict) else None
        return key_id if isinstance(key_id, str) else None


def _imported(key_id: str, pem: str) -> RSAKey:
    return RSAKey.import_key(pem, {"kid": key_id})
