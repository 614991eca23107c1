"""`/keys`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import KeyChange, NewKeyBody, Rotation
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import KeyShape, NewKeyShape, PageShape
from ilaas.services.administration import NewKey
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, key_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    keys = governance.keys

    @api.get("/keys", response_model=PageShape[KeyShape], tags=["keys"])
    async def list_keys(
        request: Request,
        page: Annotated[PageRequest, Depends(page_request)],
        organisation: str | None = None,
        project: str | None = None,
        include_dead: bool = False,  # a query parameter
    ) -> View:
        found = await keys.page(
            caller_of(request), page, organisation=organisation, project=project, include_dead=include_dead
        )
        return paged(found, key_view)

    @api.post("/keys", status_code=201, response_model=NewKeyShape, tags=["keys"])
    async def create_key(request: Request, body: NewKeyBody, creating: Creating) -> Response:
        async def make() -> Made:
            secret, key = await keys.create(caller_of(request), NewKey(**body.changes()))
            return Made(key_view(key), secret)

        return await creating.answer(governance.repeats, make)

    @api.get("/keys/{key_id}", response_model=KeyShape, tags=["keys"])
    async def get_key(request: Request, key_id: str) -> Response:
        return shown(key_view(await keys.get(caller_of(request), key_id)))

    @api.patch("/keys/{key_id}", response_model=KeyShape, tags=["keys"])
    async def change_key(request: Request, key_id: str, body: KeyChange, if_match: IfMatch = None) -> Response:
        caller = caller_of(request)
        changed = replace(await keys.get(caller, key_id), **body.changes())
        return shown(key_view(await keys.change(caller, changed, if_match)))

    @api.post("/keys/{key_id}/revoke", response_model=KeyShape, tags=["keys"])
    async def revoke_key(request: Request, key_id: str) -> Response:
        return shown(key_view(await keys.revoke(caller_of(request), key_id)))

    @api.post("/keys/{key_id}/rotate", status_code=201, response_model=NewKeyShape, tags=["keys"])
    async def rotate_key(request: Request, key_id: str, body: Rotation, creating: Creating) -> Response:
        async def make() -> Made:
            secret, key = await keys.rotate(caller_of(request), key_id, body.overlap_s)
            return Made(key_view(key), secret)

        return await creating.answer(governance.repeats, make)
