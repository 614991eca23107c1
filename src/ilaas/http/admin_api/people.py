"""`/people`, `/people/ID/tokens` and `/me`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from ilaas.core.people import Person
from ilaas.http.admin_api.answers import Creating, IfMatch, Made, page_request, paged, shown
from ilaas.http.admin_api.bodies import NewPerson, NewTokenBody, PersonChange, epoch
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import NewTokenShape, PageShape, PersonShape, TokenShape
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, person_view, token_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    people = governance.people

    @api.get("/me", response_model=PersonShape, tags=["people"])
    async def who_am_i(request: Request) -> Response:
        caller = caller_of(request)
        return shown(person_view(*await people.get(caller, caller.person_id or "")))

    @api.get("/people", response_model=PageShape[PersonShape], tags=["people"])
    async def list_people(request: Request, page: Annotated[PageRequest, Depends(page_request)]) -> View:
        return paged(await people.page(caller_of(request), page), lambda known: person_view(*known))

    @api.post("/people", status_code=201, response_model=PersonShape, tags=["people"])
    async def create_person(request: Request, body: NewPerson, creating: Creating) -> Response:
        async def make() -> Made:
            person = Person(id="", name=body.name, email=body.email, subject=body.subject)
            known = await people.create(caller_of(request), person, [role.value() for role in body.roles])
            return Made(person_view(*known))

        return await creating.answer(governance.repeats, make)

    @api.get("/people/{person_id}", response_model=PersonShape, tags=["people"])
    async def get_person(request: Request, person_id: str) -> Response:
        return shown(person_view(*await people.get(caller_of(request), person_id)))

    @api.patch("/people/{person_id}", response_model=PersonShape, tags=["people"])
    async def change_person(request: Request, person_id: str, body: PersonChange, if_match: IfMatch = None) -> Response:
        caller = caller_of(request)
        person, _ = await people.get(caller, person_id)
        return shown(person_view(*await people.change(caller, replace(person, **body.given()), if_match)))

    _add_token_routes(api, governance)


def _add_token_routes(api: APIRouter, governance: Governance) -> None:
    tokens = governance.tokens

    @api.get("/people/{person_id}/tokens", response_model=PageShape[TokenShape], tags=["people"])
    async def list_tokens(request: Request, person_id: str) -> View:
        found = await tokens.list(caller_of(request), person_id)
        return {"data": [token_view(token) for token in found], "next_cursor": None}

    @api.post("/people/{person_id}/tokens", status_code=201, response_model=NewTokenShape, tags=["people"])
    async def create_token(request: Request, person_id: str, body: NewTokenBody, creating: Creating) -> Response:
        async def make() -> Made:
            secret, token = await tokens.create(caller_of(request), person_id, body.name, epoch(body.expires_at))
            return Made(token_view(token), secret)

        return await creating.answer(governance.repeats, make)

    @api.delete("/people/{person_id}/tokens/{token_id}", status_code=204, tags=["people"])
    async def revoke_token(request: Request, person_id: str, token_id: str) -> Response:
        await tokens.revoke(caller_of(request), person_id, token_id)
        return Response(status_code=204)
