"""Clients of the speech API, administered: who may make which, what they may, and what is never shown again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from ilaas.adapters.store_memory_enrichment import MemoryEnrichmentStore
from ilaas.core.enrichment import orders
from ilaas.core.enrichment.clients import ClientPolicy
from ilaas.core.enrichment.steps import Status
from ilaas.http.admin_api import build_admin_router
from ilaas.http.admin_api.speech_clients import PolicyBody, add_speech_client_routes
from ilaas.services.enrichment.clients import ApiClients
from ilaas.services.enrichment.tokens import ApiTokens, TokenWorld
from tests.support.admin import AdminWorld
from tests.support.enrichment import enrichment
from tests.support.listener import listening
from tests.support.stt_api import QuickSigner
from tests.support.twins import PEPPER, House

NEW = {"organisation": "Lille", "project": "corpus", "name": "pod"}


class World(AdminWorld):
    """With clients of the speech API."""

    def __init__(self) -> None:
        super().__init__()
        self.clients = MemoryEnrichmentStore()
        self.api_tokens = ApiTokens(
            TokenWorld(
                store=self.clients,
                signer=QuickSigner(),
                pepper=PEPPER,
                epoch=lambda: self.now_s,
                new_id=lambda: "id",
            )
        )

    async def grant(self, client: Any, secret: str | None = None) -> str:
        return (await self.api_tokens.grant(client["id"], secret or client["secret"], ())).token


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.populate()
    clients = ApiClients(made.governance.office, made.clients)
    router = build_admin_router(
        made.governance,
        "0",
        made.follow,
        [lambda api: add_speech_client_routes(api, made.governance, clients)],
    )
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(House(), routers=[router]))
        made.http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}"))
        yield made


async def test_who_manages_keys_of_a_project_makes_clients_of_it(world: World) -> None:
    for role, status in (
        ("operator", 201),
        ("manager", 201),
        ("project", 201),
        ("member", 403),
        ("auditor", 403),
        ("elsewhere", 404),
        ("nobody", 404),
        ("", 401),
    ):
        answer = await world.call(role, "POST", "/speech-clients", {**NEW, "name": f"by {role}"})
        assert answer.status_code == status, role
    listed = await world.must("project", "GET", "/speech-clients")
    assert {each["name"] for each in listed["data"]} == {"by operator", "by manager", "by project"}
    assert (await world.must("elsewhere", "GET", "/speech-clients"))["data"] == []


async def test_the_secret_is_shown_once_and_good_for_a_token(world: World) -> None:
    made = await world.must("project", "POST", "/speech-clients", {**NEW, "signs_webhooks": True})
    assert await world.grant(made)
    assert made["webhook_secret"]
    shown = await world.must("project", "GET", f"/speech-clients/{made['id']}")
    assert made["secret"] not in str(shown)
    assert made["webhook_secret"] not in str(shown)
    assert shown["scopes"] == ["scope_client", "scope_default"]
    line = await world.clients.client(made["id"])
    assert made["secret"] not in repr(line)
    rotated = await world.must("project", "POST", f"/speech-clients/{made['id']}/rotate")
    assert await world.grant(rotated)
    with pytest.raises(Exception, match="authentication failed"):
        await world.grant(made)
    await world.must("project", "POST", f"/speech-clients/{made['id']}/revoke")
    with pytest.raises(Exception, match="authentication failed"):
        await world.grant(rotated)
    assert (await world.call("project", "POST", f"/speech-clients/{made['id']}/rotate")).status_code == 409


async def test_what_a_revoked_client_has_asked_for_is_cancelled_and_its_results_stay(world: World) -> None:
    made = await world.must("project", "POST", "/speech-clients", NEW)
    other = await world.must("project", "POST", "/speech-clients", {**NEW, "name": "other"})
    for number in range(3):
        await world.clients.add(orders.created(enrichment(f"e{number}", client_id=made["id"]), 1.0))
    await world.clients.add(orders.created(enrichment("other", client_id=other["id"]), 1.0))
    await world.clients.change(
        "e2", lambda e: replace(orders.cancelled(e, "x", 2.0), enrichment=replace(e, job=None, status=Status.SUCCESS))
    )
    await world.must("project", "POST", f"/speech-clients/{made['id']}/revoke")
    for number in range(2):
        cancelled = await world.clients.enrichment(f"e{number}")
        assert (cancelled.status, cancelled.job) == (Status.FAILURE, None)
        assert cancelled.failure_cause == "The API client was revoked"
    assert (await world.clients.enrichment("e2")).status is Status.SUCCESS
    assert (await world.clients.enrichment("other")).job is not None
    assert await world.clients.take_notice(1e10, 1.0) is None, "nobody is called"


async def test_a_creation_that_is_repeated_is_done_once_and_tells_no_secret_again(world: World) -> None:
    first = await world.call("project", "POST", "/speech-clients", NEW, idempotency_key="a")
    again = await world.call("project", "POST", "/speech-clients", NEW, idempotency_key="a")
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["secret"] is None
    assert (await world.call("project", "POST", "/speech-clients", NEW)).status_code == 409


async def test_operators_alone_give_the_scopes_of_workers_and_what_costs_others(world: World) -> None:
    worker = {**NEW, "name": "gpu", "scopes": ["scope_transcription_worker"]}
    assert (await world.call("manager", "POST", "/speech-clients", worker)).status_code == 403
    made = await world.must("operator", "POST", "/speech-clients", worker)
    assert made["scopes"] == ["scope_default", "scope_transcription_worker"]
    for policy, status in (
        ({"keep_media_s": 60.0, "keep_results_s": 3600.0}, 201),
        ({"priority": 2}, 403),
        ({"interactive": True}, 403),
        ({"max_upload_bytes": 2**40}, 403),
        ({"forced": {"ai_enrichment": {"model": "mistral"}}}, 403),
    ):
        body = {**NEW, "name": str(policy)[:60], "policy": policy}
        assert (await world.call("project", "POST", "/speech-clients", body)).status_code == status, policy


async def test_a_change_names_the_state_it_was_made_from_and_is_in_the_audit_trail(world: World) -> None:
    made = await world.must("project", "POST", "/speech-clients", NEW)
    path = f"/speech-clients/{made['id']}"
    assert (await world.call("project", "PATCH", path, {"name": "x"})).status_code == 428
    etag = await world.etag("project", path)
    policy = {"keep_media_s": 86400.0}
    changed = await world.call("project", "PATCH", path, {"name": "pod 2", "policy": policy}, if_match=etag)
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["policy"]["keep_media_s"]) == ("pod 2", 86400.0)
    assert (await world.call("project", "PATCH", path, {"name": "y"}, if_match=etag)).status_code == 412
    wider = {"scopes": ["scope_client", "scope_processing_worker"]}
    assert (await world.call("project", "PATCH", path, wider, if_match="*")).status_code == 403
    assert (await world.call("operator", "PATCH", path, wider, if_match="*")).status_code == 200
    for wrong in ({"id": "x"}, {"scopes": []}, {"scopes": ["all"]}, {"policy": {"keep_media_s": -1.0}}):
        assert (await world.call("operator", "PATCH", path, wrong, if_match="*")).status_code == 422
    kept = await world.clients.client(made["id"])
    assert kept.organisation == "Lille"


async def test_an_unknown_client_and_project_are_not_found(world: World) -> None:
    assert (await world.call("operator", "GET", "/speech-clients/nobody")).status_code == 404
    for place in ({"organisation": "Paris"}, {"project": "nothing"}):
        assert (await world.call("operator", "POST", "/speech-clients", {**NEW, **place})).status_code == 404
    made = await world.must("operator", "POST", "/speech-clients", NEW)
    assert (await world.call("elsewhere", "GET", f"/speech-clients/{made['id']}")).status_code == 404


def test_the_policy_of_the_api_has_the_defaults_of_the_core() -> None:
    assert PolicyBody().value() == ClientPolicy()
