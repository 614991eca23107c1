"""Organisations: who takes part, under which agreement, with which weight and limits."""

from __future__ import annotations

import math
from dataclasses import replace

from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.rights import Action, Caller, Place, reach
from ilaas.core.tenancy import Organisation
from ilaas.services.audit_values import organisation_json
from ilaas.services.checks import check_link, check_names
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match
from ilaas.services.governance.views import organisation_view

MAX_WEIGHT = 1000.0


class Organisations:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest) -> Page[Organisation]:
        """Those the caller may see, by name."""
        within = reach(caller, Action.ORGANISATION_VIEW)
        everyone = (await self._office.store.directory()).organisations.values()
        return request.of_all([each for each in everyone if within.covers(Place(each.name))], lambda each: (each.name,))

    async def get(self, caller: Caller, name: str) -> Organisation:
        """Raises NotFound, also when the caller may not see it."""
        missing = NotFound(f"There is no organisation '{name[:100]}' that you may see.", param="organisation")
        self._office.demand_sight(caller, Action.ORGANISATION_VIEW, Place(name), missing)
        organisation = (await self._office.store.directory()).organisations.get(name)
        if organisation is None:
            raise missing
        return organisation

    async def create(self, caller: Caller, organisation: Organisation) -> Organisation:
        """Raises Forbidden, Conflict, or InvalidRequest and Unprocessable for values that can't be."""
        self._office.demand(caller, Action.ORGANISATION_CREATE, Place())
        check_names(name=organisation.name)
        if "/" in organisation.name:
            raise Unprocessable("The name of an organisation has no '/': it stands in addresses.", param="name")
        _check(organisation)
        line = self._office.line(caller, "organisation.created", f"organisation:{organisation.name}", organisation.name)
        line = replace(line, after=organisation_json(organisation))
        if not await self._office.store.add_organisation(organisation, line):
            raise Conflict(f"There is an organisation '{organisation.name}' already.", param="name")
        return organisation

    async def change(self, caller: Caller, changed: Organisation, if_match: str | None) -> Organisation:
        """Replace the organisation of that name. Raises NotFound, Forbidden, Stale, PreconditionRequired as well."""
        old = await self.get(caller, changed.name)
        self._office.demand(caller, Action.ORGANISATION_CHANGE, Place(old.name))
        check_match(if_match, organisation_view(old))
        _check(changed)
        if changed != old:
            line = self._office.line(caller, "organisation.changed", f"organisation:{old.name}", old.name)
            line = replace(line, before=organisation_json(old), after=organisation_json(changed))
            await self._office.store.change_organisation(old, changed, line)
        return changed


def _check(organisation: Organisation) -> None:
    if not (math.isfinite(organisation.weight) and 0 < organisation.weight <= MAX_WEIGHT):
        raise Unprocessable(f"The weight is a number above 0 and up to {MAX_WEIGHT:g}.", param="weight")
    if organisation.agreement.document_url is not None:
        check_link(organisation.agreement.document_url, "agreement.document_url")
    for model in organisation.model_limits:
        check_names(model_limits=model)
