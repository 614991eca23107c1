"""Signed tokens: what the speech API hands out and takes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ilaas.core.enrichment.clients import SigningKey


class TokenSigner(Protocol):
    """Makes keys, and signs and checks tokens with them."""

    async def new_key(self, key_id: str, at_s: float) -> SigningKey:
        """A new key; takes a moment."""

    def sign(self, claims: Mapping[str, Any], key: SigningKey) -> str:
        """A token with these claims."""

    def read(self, token: str, keys: Sequence[SigningKey]) -> Mapping[str, Any] | None:
        """Its claims when one of the keys signed it, else None. Times are not looked at."""

    def key_id(self, token: str) -> str | None:
        """The key that it says to be signed with; None when it is no token."""
