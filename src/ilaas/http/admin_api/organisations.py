"""`/organisations`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.tenancy import Organisation
from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import NewOrganisation, OrganisationChange
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import OrganisationShape, PageShape
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, organisation_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    organisations = governance.organisations

    @api.get("/organisations", response_model=PageShape[OrganisationShape], tags=["organisations"])
    async def list_organisations(request: Request, page: Annotated[PageRequest, Depends(page_request)]) -> View:
        return paged(await organisations.page(caller_of(request), page), organisation_view)

    @api.post("/organisations", status_code=201, response_model=OrganisationShape, tags=["organisations"])
    async def create_organisation(request: Request, body: NewOrganisation, creating: Creating) -> Response:
        async def make() -> Made:
            return Made(
                organisation_view(await organisations.create(caller_of(request), Organisation(**body.changes())))
            )

        return await creating.answer(governance.repeats, make)

    @api.get("/organisations/{name:path}", response_model=OrganisationShape, tags=["organisations"])
    async def get_organisation(request: Request, name: str) -> Response:
        return shown(organisation_view(await organisations.get(caller_of(request), name)))

    @api.patch("/organisations/{name:path}", response_model=OrganisationShape, tags=["organisations"])
    async def change_organisation(
        request: Request, name: str, body: OrganisationChange, if_match: IfMatch = None
    ) -> Response:
        caller = caller_of(request)
        changed = replace(await organisations.get(caller, name), **body.changes())
        return shown(organisation_view(await organisations.change(caller, changed, if_match)))
