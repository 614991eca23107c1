"""Where projects, people, their roles and tokens live, and the answers that a repeated request gets again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ilaas.core.people import Person, PersonToken, RoleGrant
from ilaas.core.rights import Reach
from ilaas.core.tenancy import Key, Organisation, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One change, append-only: who did what to what, and what it was before and is after (JSON, no secrets)."""

    at_s: float
    actor: str
    action: str
    subject: str
    before: str | None = None
    after: str | None = None
    organisation: str | None = None
    """Whose change it is, for those who may see it; None concerns the federation."""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A line of the audit trail with its number, which grows."""

    number: int
    line: AuditLine


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What a creation was answered, without its secret, to be answered again when the client repeats it."""

    caller: str
    key: str
    """What the client sent as Idempotency-Key."""
    request: bytes
    """Digest of the path and the body: the same key with another request is the client's mistake."""
    at_s: float
    status: int | None = None
    """None while the first request is still under way."""
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys a page shows."""

    reach: Reach
    organisation: str | None = None
    project: str | None = None
    live_at_s: float | None = None
    """None shows expired and revoked ones too."""


class TenancyStore(Protocol):
    """The part of the Store with which the federation is governed. All of it raises as `ports.store.Store` does.

    Every `change_*` takes the value that was read and the new one, and raises `Stale` when the stored one is no longer
    the first, `NotFound` when there is none. Pages are in a fixed order and begin after the sort key of the last value.
    """

    async def change_organisation(self, old: Organisation, new: Organisation, audit: AuditLine) -> None:
        """Replace it; the name stays."""

    async def add_project(self, project: Project, audit: AuditLine) -> bool:
        """Create it unless it is there; says whether it did. Raises `NotFound` without its organisation."""

    async def change_project(self, old: Project, new: Project, audit: AuditLine) -> None:
        """Replace it; organisation and name stay."""

    async def update_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """As `change_key`, unless the key was changed since it was read; a use is no change."""

    async def key(self, key_id: str) -> Key | None:
        """The key of that id, dead or alive."""

    async def page_of_keys(self, which: KeyFilter, after: str | None, limit: int) -> Sequence[Key]:
        """Keys by id."""

    async def add_person(self, person: Person, grants: Sequence[RoleGrant], audit: AuditLine) -> None:
        """Raises `Conflict` when the id, e-mail or subject is taken."""

    async def change_person(self, old: Person, new: Person, audit: AuditLine) -> None:
        """Replace the person; id and creation stay. Raises `Conflict` when the e-mail or subject is taken."""

    async def person(self, person_id: str) -> Person | None:
        """The person of that id."""

    async def find_person(self, *, email: str | None = None, subject: str | None = None) -> Person | None:
        """The person with that e-mail or that subject."""

    async def page_of_people(self, reach: Reach, after: str | None, limit: int) -> Sequence[Person]:
        """People by id, with a role within reach."""

    async def grants_of(self, person_id: str) -> frozenset[RoleGrant]:
        """The roles of a person."""

    async def page_of_grants(
        self, reach: Reach, after: tuple[str, str, str, str] | None, limit: int
    ) -> Sequence[tuple[str, RoleGrant]]:
        """Person and role by person, organisation, project and role (empty text for none), of roles within reach."""

    async def grant_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether it was new. Raises `NotFound` for an unknown person, organisation or project."""

    async def take_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether the person had it."""

    async def add_token(self, token: PersonToken, audit: AuditLine) -> None:
        """Raises `NotFound` for an unknown person."""

    async def revoke_token(self, token_id: str, at_s: float, audit: AuditLine) -> None:
        """Raises `NotFound`. One that is revoked stays as it is."""

    async def tokens_of(self, person_id: str) -> Sequence[PersonToken]:
        """By creation, dead ones too."""

    async def find_token(self, digest: bytes) -> PersonToken | None:
        """The token with that digest, dead or alive."""

    async def touch_token(self, token_id: str, at_s: float) -> None:
        """Note its last use; no revision, no audit line."""

    async def claim_answer(self, claim: KeptAnswer, keep_s: float, claim_s: float) -> KeptAnswer | None:
        """Take the idempotency key, or tell what it is taken by.

        Answers older than `keep_s`, and claims without an answer older than `claim_s` (their process died), are
        forgotten first.
        """

    async def keep_answer(self, answer: KeptAnswer) -> None:
        """The claimed request was answered."""

    async def drop_claim(self, caller: str, key: str) -> None:
        """The claimed request failed: it may be tried again."""

    async def page_of_audit(
        self, reach: Reach, subject: str | None, before: int | None, limit: int
    ) -> Sequence[NumberedLine]:
        """The newest lines first, of changes within reach and, where given, of that subject."""
