"""The speech API as an application of its own, which is mounted under `/api`: its errors have shapes of their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ilaas.core.enrichment.clients import Scope
from ilaas.core.errors import IlaasError, Unauthenticated
from ilaas.http.stt_api.answers import ProblemError, forbidden, problem, refusal, rejected
from ilaas.http.stt_api.describe import describe
from ilaas.http.stt_api.enrichments import enrichment_operations
from ilaas.http.stt_api.operations import OpenOperation, Operation
from ilaas.http.stt_api.service import home_operation, open_operations
from ilaas.http.stt_api.token import token_operation
from ilaas.http.stt_api.versions import version_operations
from ilaas.http.stt_api.workers import worker_operations
from ilaas.services.enrichment.api_world import ApiWorld
from ilaas.services.enrichment.commands import Commands
from ilaas.services.enrichment.media_links import MediaLinks
from ilaas.services.enrichment.queries import Queries
from ilaas.services.enrichment.tokens import ApiTokens
from ilaas.services.enrichment.version_commands import VersionCommands
from ilaas.services.enrichment.workers_api import RemoteWorkers

Endpoint = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SttApi:
    """What the API works with."""

    world: ApiWorld
    tokens: ApiTokens
    version: str
    public_url: str | None = None
    """Where remote workers fetch media; None is the host that they call."""


def build_stt_app(api: SttApi) -> Starlette:
    """The application, with paths as below `/api`."""
    world, tokens = api.world, api.tokens
    queries = Queries(world)
    links = MediaLinks(world.objects, tokens)
    guarded: Sequence[Operation] = [
        *worker_operations(RemoteWorkers(world), links, api.public_url),
        *enrichment_operations(Commands(world), queries),
        *version_operations(VersionCommands(world), queries),
        home_operation(),
    ]

    @functools.cache
    def description() -> dict[str, Any]:
        return describe([*opened, *guarded], api.version)

    opened: Sequence[OpenOperation] = [token_operation(tokens), *open_operations(queries, links, description)]
    app = Starlette(
        routes=[
            *(Route(each.path, _safe(each.handler), methods=[each.method]) for each in opened),
            *(Route(each.path, _safe(_guarded(each, tokens)), methods=[each.method]) for each in guarded),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return app


def _guarded(operation: Operation, tokens: ApiTokens) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return rejected()
        try:
            visitor = await tokens.visitor(token.strip())
        except Unauthenticated:
            return rejected()
        if not visitor.scopes >= {Scope.DEFAULT, operation.scope}:
            return forbidden(operation.refusal)
        return await operation.handler(request, visitor)

    return endpoint


def _safe(handler: Endpoint) -> Endpoint:
    """The end point, whose every error is answered in one of the contract's shapes."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ProblemError as error:
            return problem(error)
        except IlaasError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception:  # a fault of ours: the trace goes to the log, never to the client
            log.exception("request_failed", path=request.url.path, request_id=request.scope.get("ilaas.request_id"))
            return problem(ProblemError(500))

    return endpoint


async def _no_route(_: Request, error: Exception) -> Response:
    """No such path, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(ProblemError(status, headers=headers))
