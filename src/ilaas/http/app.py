"""Everything of the public listener that is not inference: models, health, version, and errors in OpenAI's shape."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ilaas.core.audio import UPLOADS
from ilaas.core.errors import IlaasError, MethodNotAllowed, NotFound
from ilaas.core.requests import ENDPOINTS
from ilaas.core.tenancy import Key
from ilaas.services.admission import Admission
from ilaas.services.answers import error_body, error_headers
from ilaas.services.models import ModelPages

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_LOOK = ["GET", "HEAD"]
"""Probes and monitors ask for the head alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSources:
    """What the pages show."""

    admission: Admission
    pages: ModelPages
    ready: Callable[[], bool]
    version: str
    routers: Sequence[APIRouter] = ()
    """Whole APIs with paths of their own."""
    mounts: Mapping[str, ASGIApp] = field(default_factory=dict, hash=False)
    """Applications with errors of their own, by the beginning of their paths."""


def build_app(sources: AppSources) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(title="ilaas", version=sources.version, docs_url=None, redoc_url=None, openapi_url=None)

    def caller(request: Request) -> Key:
        return sources.admission.authenticate(dict(request.scope["headers"]))

    @app.api_route("/health/liveness", methods=_LOOK, response_class=PlainTextResponse)
    async def liveness() -> str:
        return "OK"

    @app.api_route("/health/readiness", methods=_LOOK)
    async def readiness() -> Response:
        ready = sources.ready()
        return PlainTextResponse("OK" if ready else "KO", status_code=200 if ready else 503)

    @app.api_route("/health", methods=_LOOK)
    async def health() -> Response:
        return await readiness()

    @app.api_route("/", methods=_LOOK)  # workers of the speech service look here whether the server is up
    @app.api_route("/version", methods=_LOOK)
    async def version() -> dict[str, str]:
        return {"name": "ilaas", "version": sources.version}

    @app.api_route("/v1/models", methods=_LOOK)
    async def models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": sources.pages.all(caller(request))}

    @app.api_route("/v1/models/{name:path}", methods=_LOOK)
    async def model(name: str, request: Request) -> dict[str, Any]:
        return sources.pages.one(caller(request), name)

    for router in sources.routers:
        app.include_router(router)
    for path, mounted in sources.mounts.items():
        app.mount(path, mounted)
    app.add_exception_handler(IlaasError, _ilaas_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(_RequestIds)
    return app


class _RequestIds:
    """Names every request in its answer: as the client named it, else with a name of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else str(uuid.uuid4())
        scope["ilaas.request_id"] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, named)


def _answer(error: IlaasError) -> Response:
    lines = error_headers(error).decode("latin-1").split("\r\n")[:-1]
    headers = dict(line.split(": ", 1) for line in lines)
    return Response(error_body(error), status_code=error.status, headers=headers)


async def _ilaas_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, IlaasError)  # noqa: S101  # registered for this class
    return _answer(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    infers = (path in ENDPOINTS or path in UPLOADS) and request.method != "POST"
    if status == 405 or infers:
        headers = error.headers if isinstance(error, HTTPException) else None
        allowed = "POST" if infers else (headers or {}).get("Allow", "GET")
        answer = _answer(MethodNotAllowed(f"{path} takes {allowed}, not {request.method}."))
        answer.headers["allow"] = allowed
        return answer
    if status == 404:
        return _answer(NotFound(f"There is no {request.method} {path[:200]} here; the API begins at /v1."))
    return JSONResponse(
        {
            "error": {
                "message": "The request was refused.",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
        status_code=status,
    )


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of ours: the trace goes to the log, never to the client."""
    request_id = request.scope["ilaas.request_id"]  # this answer is given outside of the middleware
    log.error("request_failed", path=request.url.path, request_id=request_id, exc_info=error)
    answer = _answer(IlaasError("The gateway failed on this request; it was logged."))
    answer.headers["x-request-id"] = request_id
    return answer
