"""`/enrichments`: ordered by address or by file, listed, looked at, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.enrichment.clients import Scope
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.core.errors import InvalidRequest
from ilaas.core.forms import ONE_FILE, Field, FileBegins, FileBytes
from ilaas.http.stt_api.answers import ProblemError, json_response, ok
from ilaas.http.stt_api.bodies import OrderBody, UrlBody, parameters_of_form
from ilaas.http.stt_api.operations import BOOL, FILE, PAGE, TEXT, Operation
from ilaas.http.stt_api.reading import (
    form_parser,
    json_of_field,
    list_query,
    path_id,
    query_bool,
    read_json,
    shaped,
)
from ilaas.http.stt_api.views import enrichment_view
from ilaas.ports.enrichment import ListQuery, Page
from ilaas.services.enrichment.commands import Commands, Reception
from ilaas.services.enrichment.order_rules import Order
from ilaas.services.enrichment.queries import Queries
from ilaas.services.enrichment.tokens import Visitor

UPLOAD_PATH = "/v1/enrichments/upload"
_UPLOAD_FORM = {
    "file": FILE,
    "originalFileName": TEXT,
    "notificationWebhookUrl": TEXT,
    "notificationLevel": TEXT,
    "endUserIdentifier": TEXT,
    "enrichmentParameters": {**TEXT, "contentMediaType": "application/json"},
}


def enrichment_operations(commands: Commands, queries: Queries) -> Sequence[Operation]:
    """All of them."""

    async def list_enrichments(request: Request, visitor: Visitor) -> Response:
        query = list_query(request)
        with_status = query_bool(request, "withStatus", default=False)
        end_user = request.query_params.get("endUserIdentifier") or None
        page = await queries.enrichments(visitor.client, query, end_user)
        return paged(page, query, [enrichment_view(each, with_status=with_status) for each in page.content])

    async def combinations(_: Request, visitor: Visitor) -> Response:
        offers = await queries.offers(visitor.client)
        return json_response([{"aiModel": each.model, "infrastructure": each.infrastructure} for each in offers])

    async def one(request: Request, visitor: Visitor) -> Response:
        return json_response(
            enrichment_view(await queries.enrichment(visitor.client, path_id(request)), with_status=True)
        )

    async def delete(request: Request, visitor: Visitor) -> Response:
        await commands.delete(visitor.client, path_id(request))
        return ok()

    async def create_by_url(request: Request, visitor: Visitor) -> Response:
        raw = await read_json(request)
        body = shaped(UrlBody, raw)
        return ok(id=await commands.create_by_url(visitor.client, body.url, body.order(raw)))

    async def upload(request: Request, visitor: Visitor) -> Response:
        reception = commands.receive(visitor.client)
        try:
            fields = await _receive(request, reception)
            return ok(id=await reception.finish(_order_of_form(fields), fields.get("originalFileName") or None))
        finally:
            await reception.close()

    async def ask_again(request: Request, visitor: Visitor) -> Response:
        enrichment_id = path_id(request)
        raw = await read_json(request)
        await commands.ask_again(visitor.client, enrichment_id, shaped(OrderBody, raw).order(raw))
        return ok()

    own = Scope.CLIENT
    one_path = "/v1/enrichments/{id}"
    query = {
        **PAGE,
        "sort": {"type": "string", "enum": ["status", "createdAt", "updatedAt"], "default": "createdAt"},
        "endUserIdentifier": TEXT,
        "withStatus": BOOL,
    }
    return [
        Operation(
            method="GET",
            path="/v1/enrichments",
            handler=list_enrichments,
            about="The client's enrichments",
            scope=own,
            query=query,
            answer="EnrichmentPage",
        ),
        Operation(
            method="GET",
            path="/v1/enrichments/ai_model_infrastructure_combinations",
            handler=combinations,
            about="Models that may be asked for, and where they run",
            scope=own,
            answer="Combinations",
        ),
        Operation(
            method="POST",
            path="/v1/enrichments/url",
            handler=create_by_url,
            about="Enrich a media that lies on the web; it is fetched later",
            scope=own,
            body=UrlBody,
            answer="Created",
        ),
        Operation(
            method="POST",
            path=UPLOAD_PATH,
            handler=upload,
            about="Enrich a video, a recording or subtitles",
            scope=own,
            form=_UPLOAD_FORM,
            answer="Created",
        ),
        Operation(
            method="GET",
            path=one_path,
            handler=one,
            about="One enrichment, with its times",
            scope=own,
            answer="Enrichment",
        ),
        Operation(
            method="DELETE",
            path=one_path,
            handler=delete,
            about="Remove an enrichment and all its results",
            scope=own,
            refusal="User not authorized to delete this resource",
        ),
        Operation(
            method="POST",
            path=f"{one_path}/new_ai_version",
            handler=ask_again,
            about="Have the results made anew, with other parameters",
            scope=own,
            body=OrderBody,
        ),
    ]


def paged(page: Page[Enrichment] | Page[Version], query: ListQuery, content: list[dict[str, Any]]) -> Response:
    """A page of a list."""
    last = -(-page.total // query.size)
    return json_response(
        {
            "content": content,
            "totalElements": page.total,
            "currentPage": query.page,
            "isLastPage": page.total == 0 or query.page == last,
        }
    )


async def _receive(request: Request, reception: Reception) -> dict[str, str]:
    """Let the file into the object store as it comes; returns the other fields."""
    parser = form_parser(request, ONE_FILE)
    fields: dict[str, str] = {}
    async for data in request.stream():
        try:
            events = parser.feed(data)
        except InvalidRequest as error:
            raise ProblemError(400, error.message) from None
        for event in events:
            if isinstance(event, FileBytes):
                await reception.write(event.data)
            elif isinstance(event, FileBegins):
                await reception.begin(event.filename)
            elif isinstance(event, Field):
                fields[event.name] = event.value.decode("utf-8", "replace")
    if not parser.ended:
        raise ProblemError(400, "The form is cut off: its closing boundary is missing. Send it again, whole.")
    return fields


def _order_of_form(fields: dict[str, str]) -> Order:
    raw = json_of_field(fields.get("enrichmentParameters"), "enrichmentParameters")
    return Order(
        parameters=parameters_of_form(raw),
        webhook_url=fields.get("notificationWebhookUrl"),
        level=fields.get("notificationLevel") or None,
        end_user_identifier=fields.get("endUserIdentifier") or fields.get("enduserIdentifier") or None,
    )
