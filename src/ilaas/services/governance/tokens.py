"""Personal access tokens: what people sign in to the API with. They are never good for inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ilaas.core import keys
from ilaas.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from ilaas.core.people import Person, PersonToken
from ilaas.core.rights import Action, Caller, PersonRef
from ilaas.services.audit_values import token_json
from ilaas.services.checks import check_names
from ilaas.services.governance.office import Office
from ilaas.services.governance.people import People

MAX_LIVE_TOKENS = 20
TOUCH_S = 60.0
"""Last use is noted at most this often."""
_HOW = "Send the header 'Authorization: Bearer ilaas-…' with a personal access token."


class Tokens:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._people = People(office)

    async def authenticate(self, header: str | None) -> Caller:
        """The caller behind an Authorization header. Asks the store: a revocation holds at once.

        Raises Unauthenticated.
        """
        scheme, _, presented = (header or "").partition(" ")
        presented = presented.strip()
        if scheme.lower() != "bearer" or not presented:
            raise Unauthenticated(f"No personal access token was given. {_HOW}")
        if keys.is_mistyped(presented):
            raise Unauthenticated("The token is mistyped: its checksum is wrong. Copy it again, whole.")
        digest = keys.digest(presented.encode("utf-8", "replace"), self._office.pepper)
        token = await self._office.store.find_token(digest)
        if token is None:
            raise Unauthenticated("The token is not known. Keys for inference are not good for administration.")
        now = self._office.epoch()
        person = await self._office.store.person(token.person_id)
        if not token.usable_at(now) or person is None or not person.active:
            raise Unauthenticated("The token is expired or revoked, or its person no longer active. Make a new one.")
        if token.last_used_at_s is None or now - token.last_used_at_s >= TOUCH_S:
            await self._office.store.touch_token(token.id, now)
        return await self.caller_of(person)

    async def caller_of(self, person: Person) -> Caller:
        """The person as a caller, with the roles of this moment; for single sign-on as well."""
        grants = await self._office.store.grants_of(person.id)
        return Caller(name=person.id, grants=grants, person_id=person.id)

    async def list(self, caller: Caller, person_id: str) -> Sequence[PersonToken]:
        """All tokens of a person, dead ones too. Raises NotFound, Forbidden."""
        _, grants = await self._people.whole(caller, person_id)
        self._office.demand(caller, Action.TOKEN_VIEW, PersonRef(person_id, grants))
        return await self._office.store.tokens_of(person_id)

    async def create(
        self, caller: Caller, person_id: str, name: str, expires_at_s: float | None
    ) -> tuple[str, PersonToken]:
        """Make a token; returns its secret, to be shown this once. Raises NotFound, Forbidden, Conflict and so on."""
        person, grants = await self._people.whole(caller, person_id)
        self._office.demand(caller, Action.TOKEN_CREATE, PersonRef(person_id, grants))
        check_names(name=name)
        now = self._office.epoch()
        if expires_at_s is not None and expires_at_s <= now:
            raise InvalidRequest(
                "The token would be expired already: give an expiry in the future.", param="expires_at"
            )
        if not person.active:
            raise Conflict("This person is not active and can't sign in.", param="person")
        live = [token for token in await self._office.store.tokens_of(person_id) if token.usable_at(now)]
        if len(live) >= MAX_LIVE_TOKENS:
            raise Conflict(f"This person has {len(live)} tokens already: revoke those not needed.", param="person")
        secret = keys.make_key(self._office.entropy(32))
        token = PersonToken(
            id=self._office.new_id("token"),
            digest=keys.digest(secret.encode(), self._office.pepper),
            hint=keys.hint(secret),
            name=name,
            person_id=person_id,
            created_at_s=now,
            expires_at_s=expires_at_s,
        )
        line = self._office.line(caller, "token.created", f"person:{person_id}")
        await self._office.store.add_token(token, replace(line, after=token_json(token)))
        return secret, token

    async def revoke(self, caller: Caller, person_id: str, token_id: str) -> None:
        """End it at once. Raises NotFound, Forbidden."""
        _, grants = await self._people.whole(caller, person_id)
        self._office.demand(caller, Action.TOKEN_REVOKE, PersonRef(person_id, grants))
        now = self._office.epoch()
        for token in await self._office.store.tokens_of(person_id):
            if token.id == token_id:
                if token.revoked_at_s is None:
                    line = self._office.line(caller, "token.revoked", f"person:{person_id}")
                    ended = replace(token, revoked_at_s=now)
                    line = replace(line, before=token_json(token), after=token_json(ended))
                    await self._office.store.revoke_token(token_id, now, line)
                return
        raise NotFound(f"This person has no token '{token_id[:100]}'.", param="token")
