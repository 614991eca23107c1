"""What needs no token: health, the description, a receiver to try webhooks with, and media for remote workers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from ilaas.core.enrichment.clients import Scope
from ilaas.core.enrichment.steps import Status
from ilaas.http.stt_api.answers import json_response, ok
from ilaas.http.stt_api.bodies import WebhookBody
from ilaas.http.stt_api.operations import OpenOperation, Operation
from ilaas.http.stt_api.page import page
from ilaas.http.stt_api.reading import checked_id, read_json, shaped
from ilaas.http.stt_api.workers import MEDIA_PATH
from ilaas.services.enrichment.media_links import MediaLinks
from ilaas.services.enrichment.queries import Queries
from ilaas.services.enrichment.refusals import refused
from ilaas.services.enrichment.tokens import Visitor

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"

Description = Callable[[], dict[str, Any]]


def home_operation() -> Operation:
    """Whether a token is good: 202, unlike everything else."""

    async def home(_: Request, __: Visitor) -> Response:
        return json_response({"status": "OK"}, 202)

    return Operation(
        method="GET",
        path="/v1/home",
        handler=home,
        about="Whether a token is good",
        scope=Scope.DEFAULT,
        tag="service",
        status=202,
    )


def open_operations(queries: Queries, links: MediaLinks, description: Description) -> Sequence[OpenOperation]:
    """All of them."""

    async def health(_: Request) -> Response:
        return json_response({"kernelStatus": True, "dbConnectionStatus": await queries.database_answers()})

    async def webhook(request: Request) -> Response:
        body = shaped(WebhookBody, await read_json(request))
        checked_id(body.id, "id")
        if body.status not in set(Status):
            raise refused("status", "The status is not one of an enrichment")
        return ok()

    async def document(_: Request) -> Response:
        return json_response(description(), headers={"access-control-allow-origin": "*"})

    async def document_page(_: Request) -> Response:
        return HTMLResponse(page(description()), headers={"content-security-policy": _POLICY})

    async def media(request: Request) -> Response:
        return await _media(request, links)

    return [
        OpenOperation(method="GET", path="/v1/health", handler=health, about="Whether it works", answer="Health"),
        OpenOperation(
            method="POST",
            path="/v1/webhook",
            handler=webhook,
            about="Takes what webhooks are sent, to try them",
            body=WebhookBody,
        ),
        OpenOperation(method="GET", path="/doc.json", handler=document, about="This document", answer="Any"),
        OpenOperation(method="GET", path="/doc", handler=document_page, about="The same for people", shown=False),
        OpenOperation(method="GET", path="/", handler=document_page, about="The same", shown=False),
        OpenOperation(method="GET", path=f"{MEDIA_PATH}/{{token}}", handler=media, about="A media", shown=False),
    ]


async def _media(request: Request, links: MediaLinks) -> Response:
    """The file of a link, or the part of it that is asked for (RFC 9110, 14.2)."""
    found = await links.find(str(request.path_params["token"]))
    size = found.size_bytes
    headers = {"accept-ranges": "bytes", "content-disposition": "attachment"}
    span = _span(request.headers.get("range"), size)
    if span is None:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    start, end = span
    status = 200
    if request.headers.get("range") and (start, end) != (0, size):
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, media_type=found.mime_type, headers=headers)
    body: AsyncIterator[bytes] = links.read(found, start, end)
    return StreamingResponse(body, status_code=status, media_type=found.mime_type, headers=headers)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """From where to before where; None when there is nothing there. What is no single range asks for all."""
    asked = _RANGE.fullmatch((header or "").replace(" ", ""))
    if asked is None or asked.groups() == ("", ""):
        return 0, size
    first, last = asked.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None
