"""A key is told about its own usage, and about no other's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.periods import DAY_S
from ilaas.http.app import AppSources, build_app
from ilaas.http.usage_api import build_usage_router
from ilaas.services.models import ModelPages
from tests.contract.samples import record
from tests.support.twins import SECRET, House

TODAY = 20_000
NOW_S = TODAY * DAY_S + 3600.0
OWN = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    house = House()
    admission = house.inference.admission
    key = admission.authenticate({b"authorization": f"Bearer {SECRET}".encode()})
    store = MemoryStore()
    now_ms = TODAY * DAY_S * 1000
    await store.add_usage(
        [
            record(
                1,
                finished_at_ms=now_ms,
                key_id=key.id,
                organisation=key.organisation,
                model="llama",
                prompt_tokens=3,
                completion_tokens=4,
            ),
            record(
                2, finished_at_ms=now_ms, key_id=key.id, organisation=key.organisation, model="mistral", prompt_tokens=1
            ),
            record(
                3,
                finished_at_ms=now_ms - 2 * DAY_S * 1000,
                key_id=key.id,
                organisation=key.organisation,
                model="mistral",
                prompt_tokens=1,
            ),
            record(4, finished_at_ms=now_ms, key_id="key_other", model="secret-model"),
        ]
    )
    app = build_app(
        AppSources(admission=admission, pages=ModelPages(admission, house.broker, 1), ready=lambda: True, version="0")
    )
    app.include_router(build_usage_router(admission, store, lambda: NOW_S))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        yield client


async def test_a_key_sees_its_days_and_models_and_their_total(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/v1/usage", headers=OWN)).json()
    assert [(line["day"], line["model"], line["requests"]) for line in answer["data"]] == [
        ("2024-10-02", "mistral", 1),
        ("2024-10-04", "llama", 1),
        ("2024-10-04", "mistral", 1),
    ]
    assert answer["total"]["requests"] == 3
    assert answer["total"]["prompt_tokens"] == sum(line["prompt_tokens"] for line in answer["data"]) == 5
    assert (answer["from"], answer["to"]) == ("2024-09-05", "2024-10-04")


async def test_another_keys_usage_can_not_be_had(client: httpx.AsyncClient) -> None:
    assert "secret-model" not in (await client.get("/v1/usage", headers=OWN)).text
    for name in ("key", "key_id", "organisation"):
        refused = await client.get("/v1/usage", params={name: "key_other"}, headers=OWN)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


async def test_without_a_valid_key_nothing_is_told(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/usage")).status_code == 401
    assert (await client.get("/v1/usage", headers={"authorization": "Bearer nonsense"})).status_code == 401


@pytest.mark.parametrize(
    ("query", "requests"),
    [("days=1", 2), ("days=3", 3), ("from=2024-10-03", 2), ("from=2024-10-02&to=2024-10-03", 1), ("from=2024-10", 3)],
)
async def test_the_period_is_chosen_by_the_caller(client: httpx.AsyncClient, query: str, requests: int) -> None:
    answer = (await client.get(f"/v1/usage?{query}", headers=OWN)).json()
    assert answer["total"]["requests"] == requests


@pytest.mark.parametrize(
    "query",
    ["days=0", "days=401", "days=x", "days=1&from=2024-10-01", "from=yesterday", "to=2024-10-01", "from=1990-01-01",
     "from=2024-10-05&to=2024-10-01", "from=2024-10-01&to=9999-99-99"],
)  # fmt: skip
async def test_a_period_that_is_none_is_refused_in_words(client: httpx.AsyncClient, query: str) -> None:
    refused = await client.get(f"/v1/usage?{query}", headers=OWN)
    assert refused.status_code == 400
    assert "period" in refused.json()["error"]["message"]
