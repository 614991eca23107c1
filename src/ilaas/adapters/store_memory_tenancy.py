"""The part of the Store in memory with which the federation is governed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ilaas.core.errors import Conflict, NotFound, Stale
from ilaas.core.people import Person, PersonToken, RoleGrant
from ilaas.core.rights import Place, Reach
from ilaas.core.tenancy import Key, Organisation, Project
from ilaas.ports.tenancy import AuditLine, KeptAnswer, KeyFilter, NumberedLine


class MemoryTenancy:
    """`ports.tenancy.TenancyStore` in dicts; `MemoryStore` is one."""

    def __init__(self) -> None:
        self._organisations: dict[str, Organisation] = {}
        self._projects: dict[tuple[str, str], Project] = {}
        self._keys: dict[str, Key] = {}
        self._people: dict[str, Person] = {}
        self._roles: dict[tuple[str, str, str, str], RoleGrant] = {}
        self._tokens: dict[str, PersonToken] = {}
        self._answers: dict[tuple[str, str], KeptAnswer] = {}
        self._audit: list[AuditLine] = []
        self._revision = 1

    async def change_organisation(self, old: Organisation, new: Organisation, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        _check(self._organisations.get(old.name), old, f"organisation '{old.name}'")
        self._organisations[old.name] = replace(new, name=old.name)
        self._changed(audit)

    async def add_project(self, project: Project, audit: AuditLine) -> bool:
        """Create it unless it is there; says whether it did. Raises NotFound."""
        if project.organisation not in self._organisations:
            raise NotFound(f"There is no organisation '{project.organisation}'.", param="organisation")
        if (project.organisation, project.name) in self._projects:
            return False
        self._projects[project.organisation, project.name] = project
        self._changed(audit)
        return True

    async def change_project(self, old: Project, new: Project, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        place = (old.organisation, old.name)
        _check(self._projects.get(place), old, f"project '{old.name}'")
        self._projects[place] = replace(new, organisation=old.organisation, name=old.name)
        self._changed(audit)

    async def update_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        known = self._keys.get(old.id)
        used = None if known is None else known.last_used_at_s
        _check(known, replace(old, last_used_at_s=used), f"key '{old.id}'")
        self._keys[old.id] = replace(
            new, id=old.id, digest=old.digest, created_at_s=old.created_at_s, last_used_at_s=used
        )
        self._changed(audit)

    async def key(self, key_id: str) -> Key | None:
        """The key of that id, dead or alive."""
        return self._keys.get(key_id)

    async def page_of_keys(self, which: KeyFilter, after: str | None, limit: int) -> Sequence[Key]:
        """Keys by id."""
        found = [
            key
            for key_id, key in sorted(self._keys.items())
            if (after is None or key_id > after)
            and which.reach.covers(Place(key.organisation, key.project))
            and which.organisation in {None, key.organisation}
            and which.project in {None, key.project}
            and (which.live_at_s is None or key.usable_at(which.live_at_s))
        ]
        return found[:limit]

    # -- people -------------------------------------------------------------------------------------------------------

    async def add_person(self, person: Person, grants: Sequence[RoleGrant], audit: AuditLine) -> None:
        """Raises Conflict."""
        if person.id in self._people:
            raise Conflict(f"There is a person '{person.id}' already.")
        self._check_unique(person)
        self._people[person.id] = person
        for grant in grants:
            self._roles[_place(person.id, grant)] = grant
        self._changed(audit)

    async def change_person(self, old: Person, new: Person, audit: AuditLine) -> None:
        """Raises NotFound, Stale or Conflict."""
        _check(self._people.get(old.id), old, f"person '{old.id}'")
        changed = replace(new, id=old.id, created_at_s=old.created_at_s)
        self._check_unique(changed)
        self._people[old.id] = changed
        self._changed(audit)

    async def person(self, person_id: str) -> Person | None:
        """The person of that id."""
        return self._people.get(person_id)

    async def find_person(self, *, email: str | None = None, subject: str | None = None) -> Person | None:
        """The person with that e-mail or that subject."""
        for person in self._people.values():
            if (subject is None and email is not None and person.email == email) or (
                subject is not None and person.subject == subject
            ):
                return person
        return None

    async def page_of_people(self, reach: Reach, after: str | None, limit: int) -> Sequence[Person]:
        """People by id, with a role within reach."""
        near = {
            person_id
            for (person_id, *_), grant in self._roles.items()
            if reach.covers(Place(grant.organisation, grant.project))
        }
        found = [
            person
            for person_id, person in sorted(self._people.items())
            if (after is None or person_id > after) and (reach.everywhere or person_id in near)
        ]
        return found[:limit]

    async def grants_of(self, person_id: str) -> frozenset[RoleGrant]:
        """The roles of a person."""
        return frozenset(grant for (owner, *_), grant in self._roles.items() if owner == person_id)

    async def page_of_grants(
        self, reach: Reach, after: tuple[str, str, str, str] | None, limit: int
    ) -> Sequence[tuple[str, RoleGrant]]:
        """Roles within reach."""
        found = [
            (place[0], grant)
            for place, grant in sorted(self._roles.items())
            if (after is None or place > after) and reach.covers(Place(grant.organisation, grant.project))
        ]
        return found[:limit]

    async def grant_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether it was new. Raises NotFound."""
        if person_id not in self._people:
            raise NotFound(f"There is no person '{person_id}'.", param="person")
        if _place(person_id, grant) in self._roles:
            return False
        organisation, project = grant.organisation, grant.project
        if organisation and organisation not in self._organisations:
            raise NotFound(f"There is no organisation '{organisation}'.", param="organisation")
        if organisation and project and (organisation, project) not in self._projects:
            raise NotFound(f"The organisation '{organisation}' has no project '{project}'.", param="project")
        self._roles[_place(person_id, grant)] = grant
        self._changed(audit)
        return True

    async def take_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether the person had it."""
        if self._roles.pop(_place(person_id, grant), None) is None:
            return False
        self._changed(audit)
        return True

    # -- tokens -------------------------------------------------------------------------------------------------------

    async def add_token(self, token: PersonToken, audit: AuditLine) -> None:
        """Raises NotFound for an unknown person."""
        if token.person_id not in self._people:
            raise NotFound(f"There is no person '{token.person_id}'.", param="person")
        if token.id in self._tokens or await self.find_token(token.digest) is not None:
            raise Conflict("This token exists already.")
        self._tokens[token.id] = token
        self._changed(audit)

    async def revoke_token(self, token_id: str, at_s: float, audit: AuditLine) -> None:
        """Raises NotFound."""
        token = self._tokens.get(token_id)
        if token is None:
            raise NotFound(f"There is no token '{token_id}'.", param="token")
        if token.revoked_at_s is None:
            self._tokens[token_id] = replace(token, revoked_at_s=at_s)
        self._changed(audit)

    async def tokens_of(self, person_id: str) -> Sequence[PersonToken]:
        """By creation, dead ones too."""
        found = [token for token in self._tokens.values() if token.person_id == person_id]
        return sorted(found, key=lambda token: (token.created_at_s, token.id))

    async def find_token(self, digest: bytes) -> PersonToken | None:
        """The token with that digest, dead or alive."""
        return next((token for token in self._tokens.values() if token.digest == digest), None)

    async def touch_token(self, token_id: str, at_s: float) -> None:
        """Note its last use."""
        if token_id in self._tokens:
            self._tokens[token_id] = replace(self._tokens[token_id], last_used_at_s=at_s)

    # -- repeated requests, audit -------------------------------------------------------------------------------------

    async def claim_answer(self, claim: KeptAnswer, keep_s: float, claim_s: float) -> KeptAnswer | None:
        """Take the idempotency key, or tell what it is taken by."""
        for place, answer in list(self._answers.items()):
            if answer.at_s < claim.at_s - (claim_s if answer.status is None else keep_s):
                del self._answers[place]
        taken = self._answers.get((claim.caller, claim.key))
        if taken is None:
            self._answers[claim.caller, claim.key] = claim
        return taken

    async def keep_answer(self, answer: KeptAnswer) -> None:
        """The claimed request was answered."""
        known = self._answers.get((answer.caller, answer.key))
        if known is not None:
            self._answers[answer.caller, answer.key] = replace(known, status=answer.status, body=answer.body)

    async def drop_claim(self, caller: str, key: str) -> None:
        """The claimed request failed: it may be tried again."""
        self._answers.pop((caller, key), None)

    async def page_of_audit(
        self, reach: Reach, subject: str | None, before: int | None, limit: int
    ) -> Sequence[NumberedLine]:
        """The newest lines first."""
        found = [
            NumberedLine(number, line)
            for number, line in enumerate(self._audit, start=1)
            if (before is None or number < before)
            and reach.covers(Place(line.organisation))
            and subject in {None, line.subject}
        ]
        return found[::-1][:limit]

    def _changed(self, audit: AuditLine) -> None:
        self._revision += 1
        self._audit.append(audit)

    def _check_unique(self, person: Person) -> None:
        for param in ("email", "subject"):
            value = getattr(person, param)
            others = (other for other in self._people.values() if other.id != person.id)
            if value is not None and any(getattr(other, param) == value for other in others):
                raise Conflict(f"Another person has this {param} already.", param=param)


def _check(known: object, old: object, what: str) -> None:
    if known is None:
        raise NotFound(f"There is no {what}.")
    if known != old:
        raise Stale(f"The {what} was changed meanwhile. Read it again.")


def _place(person_id: str, grant: RoleGrant) -> tuple[str, str, str, str]:
    return (person_id, grant.organisation or "", grant.project or "", str(grant.role))
