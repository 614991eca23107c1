"""People: who may sign in, and how. What they may do is their roles (`roles`); what they sign in with is `tokens`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ilaas.core.errors import InvalidRequest, NotFound
from ilaas.core.people import Person, RoleGrant
from ilaas.core.rights import Action, Caller, PersonRef, Place, may, reach
from ilaas.services.audit_values import person_json
from ilaas.services.checks import check_names
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match
from ilaas.services.governance.views import person_view

KnownPerson = tuple[Person, frozenset[RoleGrant]]


class People:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest) -> Page[KnownPerson]:
        """Those with a role where the caller may see people, with the roles that the caller may see; by id."""
        store = self._office.store
        within = reach(caller, Action.PERSON_VIEW)
        found = await store.page_of_people(within, request.after_text(), request.limit + 1)
        known = [(person, await store.grants_of(person.id)) for person in found[: request.limit]]
        page = request.page(found, lambda person: (person.id,))
        return Page([(person, self._seen(caller, person.id, grants)) for person, grants in known], page.next_cursor)

    async def get(self, caller: Caller, person_id: str) -> KnownPerson:
        """The person and the roles that the caller may see. Raises NotFound, also when the caller may not see any."""
        person, grants = await self.whole(caller, person_id)
        return person, self._seen(caller, person_id, grants)

    async def find(self, caller: Caller, id_or_email: str) -> KnownPerson:
        """By id or e-mail. Raises NotFound as `get` does."""
        if "@" not in id_or_email:
            return await self.get(caller, id_or_email)
        person = await self._office.store.find_person(email=id_or_email.lower())
        if person is None:
            raise NotFound("There is no person with this e-mail that you may see.", param="person")
        return await self.get(caller, person.id)

    async def whole(self, caller: Caller, person_id: str) -> KnownPerson:
        """The person and every role, for decisions. Raises NotFound as `get` does."""
        missing = NotFound(f"There is no person '{person_id[:100]}' that you may see.", param="person")
        person = await self._office.store.person(person_id)
        if person is None:
            raise missing
        grants = await self._office.store.grants_of(person_id)
        self._office.demand_sight(caller, Action.PERSON_VIEW, PersonRef(person_id, grants), missing)
        return person, grants

    async def create(self, caller: Caller, person: Person, grants: Sequence[RoleGrant]) -> KnownPerson:
        """Make a person with these roles; the id and the time are given here.

        Who is no operator names at least one role, and only where the caller may grant roles. Raises Forbidden,
        Conflict for an address that another person has, NotFound for an unknown organisation or project.
        """
        if not grants:
            self._office.demand(caller, Action.PERSON_CREATE, Place())
        directory = await self._office.store.directory()
        for grant in grants:
            place = Place(grant.organisation, grant.project)
            self._office.demand(caller, Action.PERSON_CREATE, place)
            self._office.demand(caller, Action.ROLE_GRANT, place)
            if grant.organisation is not None and grant.organisation not in directory.organisations:
                raise NotFound(f"There is no organisation '{grant.organisation}'.", param="roles")
            if grant.project is not None and (grant.organisation, grant.project) not in directory.projects:
                raise NotFound(f"'{grant.organisation}' has no project '{grant.project}'.", param="roles")
        person = replace(
            _checked(person), id=self._office.new_id("person"), created_at_s=self._office.epoch(), active=True
        )
        given = frozenset(grants)
        line = self._office.line(caller, "person.created", f"person:{person.id}", _one_organisation(given))
        await self._office.store.add_person(
            person, sorted(given, key=str), replace(line, after=person_json(person, given))
        )
        return person, given

    async def change(self, caller: Caller, changed: Person, if_match: str | None) -> KnownPerson:
        """Replace name, addresses and whether active. Raises NotFound, Forbidden, Conflict, Stale and so on."""
        old, grants = await self.whole(caller, changed.id)
        self._office.demand(caller, Action.PERSON_CHANGE, PersonRef(old.id, grants))
        seen = self._seen(caller, old.id, grants)
        check_match(if_match, person_view(old, seen))
        new = replace(_checked(changed), created_at_s=old.created_at_s)
        if new != old:
            line = self._office.line(caller, "person.changed", f"person:{old.id}", _one_organisation(grants))
            line = replace(line, before=person_json(old), after=_with_changes(old, new))
            await self._office.store.change_person(old, new, line)
        return new, seen

    @staticmethod
    def _seen(caller: Caller, person_id: str, grants: frozenset[RoleGrant]) -> frozenset[RoleGrant]:
        """Everyone sees all of the own roles, and of others those in places where the caller sees people."""
        if caller.person_id == person_id:
            return grants
        return frozenset(
            grant for grant in grants if may(caller, Action.PERSON_VIEW, Place(grant.organisation, grant.project))
        )


def _checked(person: Person) -> Person:
    check_names(name=person.name)
    if person.subject is not None:
        check_names(subject=person.subject)
    if person.email is None:
        return person
    email = person.email.lower()
    name, _, host = email.rpartition("@")
    if not name or not host or " " in email or "@" in name:
        raise InvalidRequest("The e-mail is an address such as anne@example.org.", param="email")
    check_names(email=email)
    return replace(person, email=email)


def _one_organisation(grants: frozenset[RoleGrant]) -> str | None:
    """Whose managers see the line: only when all roles are in one organisation."""
    named = {grant.organisation for grant in grants}
    return named.pop() if len(named) == 1 else None


def _with_changes(old: Person, new: Person) -> str:
    """What the person is now, and which of the personal data were changed: not their values."""
    changed = [name for name in ("name", "email", "subject") if getattr(old, name) != getattr(new, name)]
    return person_json(new)[:-1] + ',"changed":[' + ",".join(f'"{name}"' for name in changed) + "]}"
