"""All routes of the administration API, and their description."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Security
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.responses import JSONResponse, Response

from ilaas.http.admin_api import audit, finance, keys, organisations, people, projects, roles, servers
from ilaas.http.admin_api.door import guarded_route
from ilaas.http.admin_api.shapes import ErrorBody
from ilaas.services.governance import Governance

PREFIX = "/admin/v1"
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request can't be understood."},
    401: {"model": ErrorBody, "description": "No personal access token, or one that is unknown, expired or revoked."},
    403: {"model": ErrorBody, "description": "The caller's roles do not allow it."},
    404: {"model": ErrorBody, "description": "No such thing, or none that the caller may see."},
    409: {"model": ErrorBody, "description": "It exists already, or its state does not allow the change."},
    412: {"model": ErrorBody, "description": "It changed since its ETag was read."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    415: {"model": ErrorBody, "description": "The body is not JSON."},
    422: {"model": ErrorBody, "description": "A field is unknown, missing, or out of its range; `param` names it."},
    428: {"model": ErrorBody, "description": "The header If-Match is missing."},
    503: {"model": ErrorBody, "description": "The database does not answer."},
}
_ABOUT = (
    "Organisations, projects, keys, people, roles, servers, models, the audit trail, usage, tariffs and closed "
    "statements of a federation. Lists come in pages; `next_cursor` is opaque. A PATCH needs the ETag of the last "
    "answer in If-Match. A POST with an Idempotency-Key is done once; its repetition is answered the same, without the "
    "secret."
)


def build_admin_router(
    governance: Governance,
    version: str,
    follow: Callable[[], Awaitable[None]],
    parts: Sequence[Callable[[APIRouter], None]] = (),
) -> APIRouter:
    """Everything under `/admin/v1`. Who calls is asked before anything else of a request is read.

    `follow` takes a change over, so that it holds in this gateway when its caller is answered. `parts` add routes of
    other use cases, behind the same door and in the same description.
    """
    api = APIRouter(
        prefix=PREFIX,
        route_class=guarded_route(governance.tokens, follow),
        dependencies=[Security(HTTPBearer(auto_error=False, description="A personal access token"))],
        responses=_ERRORS,
    )
    for part in (organisations, projects, keys, people, roles, servers, audit, finance):
        part.add_routes(api, governance)
    for add_routes in parts:
        add_routes(api)
    routes = tuple(api.routes)

    @functools.cache
    def description() -> dict[str, Any]:  # not at the start, which it would make wait
        return get_openapi(title="ilaas administration", version=version, description=_ABOUT, routes=routes)

    async def openapi() -> Response:
        return JSONResponse(description())

    api.routes.append(APIRoute(f"{PREFIX}/openapi.json", openapi, include_in_schema=False))
    return api
