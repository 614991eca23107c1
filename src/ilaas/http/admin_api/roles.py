"""`/roles`: granted by POST, taken away by DELETE with the same values in the query."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.errors import Unprocessable
from ilaas.core.people import Role, RoleGrant
from ilaas.http.admin_api.answers import Creating, Made, page_request, paged
from ilaas.http.admin_api.bodies import PersonRole
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import PageShape, PersonRoleShape
from ilaas.services.audit_values import grant_value
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View

PlaceName = Annotated[str | None, Query(min_length=1, max_length=255)]


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    roles = governance.roles

    @api.get("/roles", response_model=PageShape[PersonRoleShape], tags=["roles"])
    async def list_roles(request: Request, page: Annotated[PageRequest, Depends(page_request)]) -> View:
        return paged(await roles.page(caller_of(request), page), lambda each: _view(*each))

    @api.post("/roles", status_code=201, response_model=PersonRoleShape, tags=["roles"])
    async def grant_role(request: Request, body: PersonRole, creating: Creating) -> Response:
        async def make() -> Made:
            await roles.grant(caller_of(request), body.person, body.value())
            return Made(_view(body.person, body.value()))

        return await creating.answer(governance.repeats, make)

    @api.delete("/roles", status_code=204, tags=["roles"])
    async def revoke_role(
        request: Request, person: str, role: Role, organisation: PlaceName = None, project: PlaceName = None
    ) -> Response:
        try:
            grant = RoleGrant(role, organisation, project)
        except ValueError as error:
            raise Unprocessable(f"{error}.", param="role") from None
        await roles.take(caller_of(request), person, grant)
        return Response(status_code=204)


def _view(person_id: str, grant: RoleGrant) -> View:
    return {"person": person_id, **grant_value(grant)}
