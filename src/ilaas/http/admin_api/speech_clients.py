"""`/speech-clients`: OAuth clients of the speech API, of whoever manages the keys of their project."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, StrictBool
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.enrichment.clients import ClientPolicy, Scope
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import ModelChoice
from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import NOT_GIVEN, Body, Name
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import PageShape
from ilaas.services.enrichment.client_views import client_view, used_view
from ilaas.services.enrichment.clients import ApiClients, NewClient
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View

Seconds = Annotated[float, Field(strict=True, ge=0, le=100 * 366 * 86_400.0, allow_inf_nan=False)]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
_TAG = "speech clients"


class ChoiceBody(Body):
    """A model and where it runs; null leaves it open."""

    model: Name | None = None
    infrastructure: Name | None = None

    def value(self) -> ModelChoice:
        """As the core has it."""
        return ModelChoice(model=self.model, infrastructure=self.infrastructure)


class PolicyBody(Body):
    """What is fixed for a client; it is replaced whole. Of it, a project sets retention alone, the rest operators."""

    forced: dict[Step, ChoiceBody] = Field(default={}, description="The model of a step, whatever is asked for")
    serves: ChoiceBody = Field(default=ChoiceBody(), description="Of a remote worker: what it runs")
    treat_unspecified: StrictBool = True
    keep_media_s: Seconds = Field(default=0.0, description="After the transcription; 0 removes them with it")
    keep_results_s: Seconds | None = Field(default=None, description="null: until they are deleted")
    max_upload_bytes: Annotated[int, Field(strict=True, ge=1, le=2**62)] | None = None
    max_media_duration_s: Seconds | None = None
    interactive: StrictBool = False
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 1

    def value(self) -> ClientPolicy:
        """As the core has it."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        values["forced"] = {step: choice.value() for step, choice in self.forced.items()}
        values["serves"] = self.serves.value()
        return ClientPolicy(**values)


class ClientChange(Body):
    """What of a client changes."""

    name: Name = NOT_GIVEN
    scopes: Scopes = NOT_GIVEN
    policy: PolicyBody = NOT_GIVEN

    def changes(self) -> dict[str, Any]:
        """For `dataclasses.replace`."""
        found = self.given()
        if "scopes" in found:
            found["scopes"] = frozenset(found["scopes"])
        if "policy" in found:
            found["policy"] = found["policy"].value()
        return found


class NewClientBody(ClientChange):
    """A client that is to be."""

    name: Name
    organisation: Name
    project: Name
    signs_webhooks: StrictBool = False


class ChoiceShape(BaseModel):
    """A model and where it runs."""

    model: str | None
    infrastructure: str | None


class PolicyShape(BaseModel):
    """What is fixed for a client."""

    forced: dict[str, ChoiceShape]
    serves: ChoiceShape
    treat_unspecified: bool
    keep_media_s: float
    keep_results_s: float | None
    max_upload_bytes: int | None
    max_media_duration_s: float | None
    interactive: bool
    priority: int


class ClientShape(BaseModel):
    """A client, without its secrets."""

    id: str
    name: str
    organisation: str
    project: str
    scopes: list[str]
    active: bool
    signs_webhooks: bool
    policy: PolicyShape
    created_at: str


class UsedClientShape(ClientShape):
    """The same, with when it was used last."""

    last_token_at: str | None
    last_job_at: str | None


class NewClientShape(ClientShape):
    """A client with its secret, which is shown this once; `webhook_secret` where it signs webhooks."""

    secret: str | None
    webhook_secret: str | None = None
    note: str | None


def add_speech_client_routes(api: APIRouter, governance: Governance, clients: ApiClients) -> None:
    """Add them."""

    @api.get("/speech-clients", response_model=PageShape[UsedClientShape], tags=[_TAG])
    async def list_speech_clients(
        request: Request,
        page: Annotated[PageRequest, Depends(page_request)],
        organisation: str | None = None,
        project: str | None = None,
    ) -> View:
        found = await clients.page(caller_of(request), page, organisation=organisation, project=project)
        return paged(found, used_view)

    @api.post("/speech-clients", status_code=201, response_model=NewClientShape, tags=[_TAG])
    async def create_speech_client(request: Request, body: NewClientBody, creating: Creating) -> Response:
        async def make() -> Made:
            made = await clients.create(caller_of(request), NewClient(**body.changes()))
            signing = made.client.webhook_secret
            return Made(client_view(made.client), made.secret, {} if signing is None else {"webhook_secret": signing})

        return await creating.answer(governance.repeats, make)

    @api.get("/speech-clients/{client_id}", response_model=ClientShape, tags=[_TAG])
    async def get_speech_client(request: Request, client_id: str) -> Response:
        return shown(client_view(await clients.get(caller_of(request), client_id)))

    @api.patch("/speech-clients/{client_id}", response_model=ClientShape, tags=[_TAG])
    async def change_speech_client(
        request: Request, client_id: str, body: ClientChange, if_match: IfMatch = None
    ) -> Response:
        caller = caller_of(request)
        changed = replace(await clients.get(caller, client_id), **body.changes())
        return shown(client_view(await clients.change(caller, changed, if_match)))

    @api.post("/speech-clients/{client_id}/revoke", response_model=ClientShape, tags=[_TAG])
    async def revoke_speech_client(request: Request, client_id: str) -> Response:
        return shown(client_view(await clients.revoke(caller_of(request), client_id)))

    @api.post("/speech-clients/{client_id}/rotate", status_code=201, response_model=NewClientShape, tags=[_TAG])
    async def rotate_speech_client(request: Request, client_id: str, creating: Creating) -> Response:
        async def make() -> Made:
            made = await clients.rotate(caller_of(request), client_id)
            return Made(client_view(made.client), made.secret)

        return await creating.answer(governance.repeats, make)
