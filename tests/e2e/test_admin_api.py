"""What is decided over the administration API holds for the running gateway's requests within a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ilaas.app.governing import build_governance
from ilaas.app.wiring import open_store
from ilaas.core.catalogue import Catalogue
from ilaas.core.people import Person, Role, RoleGrant
from ilaas.core.rights import LOCAL_OPERATOR
from tests.support.federation import Federation, Site, bearer, chat, federation
from tests.support.patience import PATIENCE_S


class Operator:
    """An operator's client of a running gateway."""

    def __init__(self, running: Federation, token: str) -> None:
        self.running = running
        self.token = token

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()} | bearer(self.token)
        answer = await self.running.http.request(method, f"/admin/v1{path}", json=body, headers=named)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def until(self, key: str, status: int, **body: Any) -> dict[str, Any]:
        """Wait until a request with that key is answered so; within a second, and some for slow machines."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self.running.http.post(
                    "/v1/chat/completions", json=chat(max_tokens=2, **body), headers=bearer(key)
                )
                if answer.status_code == status:
                    found: dict[str, Any] = answer.json()
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with federation(tmp_path, Site("one")) as running:
        store = open_store(running.settings)
        try:
            governance = build_governance(running.settings, store, Catalogue)
            person, _ = await governance.people.create(
                LOCAL_OPERATOR, Person(id="", name="Op"), [RoleGrant(Role.OPERATOR)]
            )
            token, _ = await governance.tokens.create(LOCAL_OPERATOR, person.id, "test", None)
            yield Operator(running, token)
        finally:
            await store.close()


async def test_a_key_of_the_api_works_is_limited_and_is_dead_once_revoked(operator: Operator) -> None:
    await operator.call("POST", "/organisations", {"name": "Angers"})
    await operator.call("POST", "/projects", {"organisation": "Angers", "name": "corpus"})
    made = await operator.call("POST", "/keys", {"organisation": "Angers", "project": "corpus", "name": "k"})
    key = made["secret"]
    answer = await operator.running.http.post("/v1/chat/completions", json=chat(max_tokens=2), headers=bearer(key))
    assert answer.status_code == 200, "it is known when its maker is told of it"

    path = "/projects/Angers/corpus"
    await operator.call("PATCH", path, {"limits": {"requests_per_minute": 0}}, if_match="*")
    refused = await operator.until(key, 429)
    assert "project" in refused["error"]["message"]
    await operator.call("PATCH", path, {"limits": {}}, if_match="*")
    await operator.until(key, 200)

    limits = {"model_limits": {"mistral": {"requests_per_minute": 0}}}
    await operator.call("PATCH", "/organisations/Angers", limits, if_match="*")
    refused = await operator.until(key, 429)
    assert "model 'mistral for Angers'" in refused["error"]["message"]
    await operator.call("PATCH", "/organisations/Angers", {"model_limits": {}}, if_match="*")

    await operator.call("PATCH", path, {"models": ["another"]}, if_match="*")
    await operator.until(key, 404)
    await operator.call("PATCH", path, {"models": None, "active": False}, if_match="*")
    await operator.until(key, 403)
    await operator.call("PATCH", path, {"active": True}, if_match="*")
    await operator.until(key, 200)

    await operator.call("POST", f"/keys/{made['id']}/revoke")
    await operator.until(key, 401)


async def test_a_server_is_drained_and_resumed_over_the_api(operator: Operator) -> None:
    found = await operator.call("PATCH", "/servers/one", {"draining": True}, if_match="*")
    assert found["draining"] is True
    await operator.until(operator.running.key, 503)
    await operator.call("PATCH", "/servers/one", {"draining": False}, if_match="*")
    await operator.until(operator.running.key, 200)
