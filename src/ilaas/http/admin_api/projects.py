"""`/projects`: one is at `/projects/ORGANISATION/NAME`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.tenancy import Project
from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import NewProject, ProjectChange
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import PageShape, ProjectShape
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, project_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    projects = governance.projects

    @api.get("/projects", response_model=PageShape[ProjectShape], tags=["projects"])
    async def list_projects(
        request: Request, page: Annotated[PageRequest, Depends(page_request)], organisation: str | None = None
    ) -> View:
        return paged(await projects.page(caller_of(request), page, organisation), project_view)

    @api.post("/projects", status_code=201, response_model=ProjectShape, tags=["projects"])
    async def create_project(request: Request, body: NewProject, creating: Creating) -> Response:
        async def make() -> Made:
            return Made(project_view(await projects.create(caller_of(request), Project(**body.changes()))))

        return await creating.answer(governance.repeats, make)

    @api.get("/projects/{organisation}/{name:path}", response_model=ProjectShape, tags=["projects"])
    async def get_project(request: Request, organisation: str, name: str) -> Response:
        return shown(project_view(await projects.get(caller_of(request), organisation, name)))

    @api.patch("/projects/{organisation}/{name:path}", response_model=ProjectShape, tags=["projects"])
    async def change_project(
        request: Request, organisation: str, name: str, body: ProjectChange, if_match: IfMatch = None
    ) -> Response:
        caller = caller_of(request)
        changed = replace(await projects.get(caller, organisation, name), **body.changes())
        return shown(project_view(await projects.change(caller, changed, if_match)))
