"""OAuth2 client credentials (RFC 6749, 4.4): who has the secret of a client gets a signed token for a day.

The keys that sign change by themselves. A client that is switched off is refused at once, whatever tokens it has.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilaas.core import keys
from ilaas.core.enrichment.clients import ApiClient, Scope, SigningKey
from ilaas.core.errors import NotFound, Unauthenticated
from ilaas.ports.enrichment import ClientStore
from ilaas.ports.tokens import TokenSigner

TOKEN_S = 86_400.0
ROTATE_S = 30 * 86_400.0
_DIGEST = "blake2b:"
_FRESH_S = 60.0
"""Keys that another process made are seen after so long, or when a token names one."""
_ACCESS = "access"


class UnknownScope(Unauthenticated):
    """A scope that there is not, or that the client does not have."""

    code = "invalid_scope"
    status = 400

    def __init__(self, scope: str) -> None:
        super().__init__("The requested scope is invalid, unknown, or malformed", param=scope)
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Granted:
    """A token, and the seconds that it is good for."""

    token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who calls the speech API, and what the token is good for."""

    client: ApiClient
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWorld:
    """What tokens are made with."""

    store: ClientStore
    signer: TokenSigner
    pepper: bytes
    epoch: Callable[[], float]
    new_id: Callable[[], str]
    is_open: Callable[[ApiClient], bool] = lambda _: True
    """Whether the client's project may use the service now."""


def secret_digest(secret: str, pepper: bytes) -> str:
    """What is stored of a client's secret."""
    return _DIGEST + keys.digest(secret.encode("utf-8", "replace"), pepper).hex()


class ApiTokens:
    """Gives and checks tokens."""

    def __init__(self, world: TokenWorld) -> None:
        self._world = world
        self._keys: Sequence[SigningKey] = ()
        self._read_at_s = float("-inf")
        self._reading = asyncio.Lock()

    async def grant(self, client_id: str, secret: str, scopes: Sequence[str]) -> Granted:
        """A token for these scopes; none is all that the client has. Raises Unauthenticated, UnknownScope."""
        world = self._world
        client = await self._client(client_id)
        presented = secret_digest(secret, world.pepper)
        known = client.secret_digest if client is not None else _DIGEST
        if not hmac.compare_digest(presented.encode(), known.encode()) or client is None or not self._usable(client):
            raise Unauthenticated("Client authentication failed")
        allowed = {str(scope) for scope in client.scopes}
        for scope in scopes:
            if scope not in allowed:
                raise UnknownScope(scope)
        now = world.epoch()
        claims = {
            "aud": client.id,
            "sub": client.id,
            "jti": world.new_id(),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + TOKEN_S),
            "scopes": sorted(scopes or allowed),
            "use": _ACCESS,
        }
        token = world.signer.sign(claims, await self._current())
        await world.store.touch_client(client.id, token_at_s=now)
        return Granted(token, int(TOKEN_S))

    async def visitor(self, token: str) -> Visitor:
        """Who the token was given to. Raises Unauthenticated."""
        claims = await self.claims(token, _ACCESS)
        client = None if claims is None else await self._client(str(claims.get("sub")))
        if claims is None or client is None or not self._usable(client):
            raise Unauthenticated("The resource server rejected the request.")
        listed = claims.get("scopes")
        named = {str(scope) for scope in listed} if isinstance(listed, list) else set()
        # A scope that was taken from the client is not in its older tokens any more.
        return Visitor(client, frozenset(scope for scope in client.scopes if str(scope) in named))

    async def seal(self, use: str, claims: Mapping[str, Any], lasts_s: float) -> str:
        """A token of ours for another use than access."""
        now = self._world.epoch()
        sealed = {**claims, "use": use, "nbf": int(now), "exp": int(now + lasts_s)}
        return self._world.signer.sign(sealed, await self._current())

    async def claims(self, token: str, use: str) -> Mapping[str, Any] | None:
        """What a token of ours says, when it is good now and for this use; else None."""
        key_id = self._world.signer.key_id(token)
        if key_id is None:
            return None
        if all(key.id != key_id for key in self._keys):
            await self._refresh(unless_younger_s=1.0)
        claims = self._world.signer.read(token, self._keys)
        if claims is None or claims.get("use") != use:
            return None
        begins, ends = claims.get("nbf"), claims.get("exp")
        if not isinstance(begins, int) or not isinstance(ends, int):
            return None
        return claims if begins - 60 <= self._world.epoch() < ends else None

    def _usable(self, client: ApiClient) -> bool:
        return client.active and self._world.is_open(client)

    async def _client(self, client_id: str) -> ApiClient | None:
        try:
            return await self._world.store.client(client_id)
        except NotFound:
            return None

    # -- keys ----------------------------------------------------------------------------------------------------------

    async def _current(self) -> SigningKey:
        """The key that signs now; made when there is none, or when it is old."""
        world = self._world
        await self._refresh(unless_younger_s=_FRESH_S)
        now = world.epoch()
        oldest_s = now - ROTATE_S
        current = next((key for key in self._keys if key.retired_at_s is None), None)
        if current is None or current.created_at_s <= oldest_s:
            await world.store.add_signing_key(await world.signer.new_key(world.new_id(), now), unless_after_s=oldest_s)
            await world.store.drop_signing_keys(now - 2 * TOKEN_S)
            await self._refresh(unless_younger_s=0.0)
            current = next(key for key in self._keys if key.retired_at_s is None)
        return current

    async def _refresh(self, *, unless_younger_s: float) -> None:
        async with self._reading:
            now = self._world.epoch()
            if 0 <= now - self._read_at_s < unless_younger_s:
                return
            self._keys = await self._world.store.signing_keys()
            self._read_at_s = now
