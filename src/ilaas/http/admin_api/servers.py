"""`/servers` and `/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import NewServerBody, ServerChange
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import ModelShape, PageShape, ServerShape
from ilaas.services.administration import NewServer
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, model_view, server_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    servers = governance.servers

    @api.get("/servers", response_model=PageShape[ServerShape], tags=["servers"])
    async def list_servers(request: Request, page: Annotated[PageRequest, Depends(page_request)]) -> View:
        return paged(await servers.page(caller_of(request), page), lambda placed: server_view(*placed))

    @api.post("/servers", status_code=201, response_model=ServerShape, tags=["servers"])
    async def add_server(request: Request, body: NewServerBody, creating: Creating) -> Response:
        async def make() -> Made:
            return Made(server_view(*await servers.add(caller_of(request), NewServer(**body.model_dump()))))

        return await creating.answer(governance.repeats, make)

    @api.get("/servers/{server_id:path}", response_model=ServerShape, tags=["servers"])
    async def get_server(request: Request, server_id: str) -> Response:
        return shown(server_view(*await servers.get(caller_of(request), server_id)))

    @api.patch("/servers/{server_id:path}", response_model=ServerShape, tags=["servers"])
    async def change_server(request: Request, server_id: str, body: ServerChange, if_match: IfMatch = None) -> Response:
        placed = await servers.mark(caller_of(request), server_id, if_match, draining=body.draining)
        return shown(server_view(*placed))

    @api.delete("/servers/{server_id:path}", status_code=204, tags=["servers"])
    async def remove_server(request: Request, server_id: str) -> Response:
        await servers.remove(caller_of(request), server_id)
        return Response(status_code=204)

    @api.get("/models", response_model=PageShape[ModelShape], tags=["servers"])
    async def list_models(request: Request, page: Annotated[PageRequest, Depends(page_request)]) -> View:
        return paged(servers.models(caller_of(request), page), model_view)
