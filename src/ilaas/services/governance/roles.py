"""Roles: granted to people and taken away again."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.errors import Conflict, NotFound
from ilaas.core.people import RoleGrant
from ilaas.core.rights import Action, Caller, Place, reach
from ilaas.services.audit_values import as_json, grant_value
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest


class Roles:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest) -> Page[tuple[str, RoleGrant]]:
        """Person and role, where the caller may see people; by person, organisation, project, role."""
        after = request.after_texts(4)
        within = reach(caller, Action.PERSON_VIEW)
        start = None if after is None else (after[0], after[1], after[2], after[3])
        found = await self._office.store.page_of_grants(within, start, request.limit + 1)
        return request.page(
            found,
            lambda each: (each[0], each[1].organisation or "", each[1].project or "", str(each[1].role)),
        )

    async def grant(self, caller: Caller, person_id: str, grant: RoleGrant) -> None:
        """Raises Forbidden, NotFound for an unknown person or place, Conflict when the person has the role already."""
        self._office.demand(caller, Action.ROLE_GRANT, Place(grant.organisation, grant.project))
        line = self._office.line(caller, "role.granted", f"person:{person_id}", grant.organisation)
        line = replace(line, after=as_json(grant_value(grant)))
        if not await self._office.store.grant_role(person_id, grant, line):
            raise Conflict("The person has this role there already.", param="role")

    async def take(self, caller: Caller, person_id: str, grant: RoleGrant) -> None:
        """Raises Forbidden, NotFound when the person does not have the role."""
        self._office.demand(caller, Action.ROLE_GRANT, Place(grant.organisation, grant.project))
        line = self._office.line(caller, "role.revoked", f"person:{person_id}", grant.organisation)
        line = replace(line, before=as_json(grant_value(grant)))
        if not await self._office.store.take_role(person_id, grant, line):
            raise NotFound("This person does not have this role there.", param="role")
