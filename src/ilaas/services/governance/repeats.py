"""Idempotency keys: a creation that a client sends again, because it saw no answer, is done once.

The answer is kept for a day without its secret. A secret can't be told twice: it is stored nowhere. Who lost it
rotates the key, or revokes the token and makes another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from ilaas.core.errors import Conflict, InvalidRequest, Unprocessable
from ilaas.core.rights import Caller
from ilaas.ports.tenancy import KeptAnswer
from ilaas.services.governance.office import Office

KEEP_S = 86_400.0
CLAIM_S = 60.0
"""A claim without an answer is forgotten after this: its process died."""
_MAX_CHARS = 255


class Repeats:
    """See above."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def once(
        self, caller: Caller, key: str | None, request: bytes, create: Callable[[], Awaitable[tuple[int, str]]]
    ) -> tuple[int, str, bool]:
        """Status, kept body, and whether it is a repetition; `create` is called unless it is.

        `request` is the path and the body, `create` gives the status and the body that may be kept. Raises
        InvalidRequest for a key that can't be one, Unprocessable for one that came with another request, Conflict
        while the first request is under way, and what `create` raises; then the key can be used again.
        """
        if key is None:
            status, body = await create()
            return status, body, False
        if not key or len(key) > _MAX_CHARS or not key.isascii() or not key.isprintable():
            raise InvalidRequest(
                f"An Idempotency-Key is 1 to {_MAX_CHARS} printable ASCII characters.", param="Idempotency-Key"
            )
        digest = hashlib.blake2b(request, digest_size=32).digest()
        claim = KeptAnswer(caller=caller.name, key=key, request=digest, at_s=self._office.epoch())
        known = await self._office.store.claim_answer(claim, KEEP_S, CLAIM_S)
        if known is not None:
            return self._again(known, digest)
        try:
            status, body = await create()
        except BaseException:
            await self._office.store.drop_claim(caller.name, key)
            raise
        kept = KeptAnswer(caller=caller.name, key=key, request=digest, at_s=claim.at_s, status=status, body=body)
        await self._office.store.keep_answer(kept)
        return status, body, False

    @staticmethod
    def _again(known: KeptAnswer, digest: bytes) -> tuple[int, str, bool]:
        if known.request != digest:
            raise Unprocessable(
                "This Idempotency-Key came with another request before: use a new one.", param="Idempotency-Key"
            )
        if known.status is None:
            raise Conflict("The first request with this Idempotency-Key is under way. Try again in a moment.")
        return known.status, known.body, True
