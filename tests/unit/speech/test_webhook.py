"""Calls of clients' webhooks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator

import pytest

from ilaas.adapters.guarded_http import GuardedHttp, GuardOptions
from ilaas.adapters.webhook import WebhookCaller
from ilaas.ports.media import WebhookAnswer
from tests.support.web import Web, hangs_up, says, web

BODY = b'{"id":"1","status":"SUCCESS"}'


@pytest.fixture
async def page() -> AsyncIterator[Web]:
    async with web() as running:
        yield running


def caller(**options: bool) -> WebhookCaller:
    return WebhookCaller(GuardedHttp(GuardOptions(**{"allow_private": True, **options})), lambda: 1_700_000_000.9)  # type: ignore[arg-type]


async def test_the_client_gets_the_json_as_it_is(page: Web) -> None:
    url = page.on("/ai-enhancement/webhook/", says(200, b'{"status": "OK"}'))
    assert await caller().call(url, BODY, secret=None) == WebhookAnswer(status=200)
    visit = page.visits[0]
    assert (visit.method, visit.body) == ("POST", BODY)
    assert visit.headers["content-type"] == "application/json"
    assert "x-ilaas-signature" not in visit.headers


async def test_a_client_with_a_secret_can_check_who_calls(page: Web) -> None:
    await caller().call(page.on("/hook", says(200)), BODY, secret="s3cret")
    expected = hmac.new(b"s3cret", b"1700000000." + BODY, hashlib.sha256).hexdigest()
    assert page.visits[0].headers["x-ilaas-signature"] == f"t=1700000000,v1={expected}"


@pytest.mark.parametrize("status", [204, 404, 500])
async def test_whatever_the_client_answers_is_told(status: int, page: Web) -> None:
    assert (await caller().call(page.on("/hook", says(status)), BODY, secret=None)).status == status


async def test_a_redirect_that_keeps_the_method_is_followed_and_others_are_the_answer(page: Web) -> None:
    page.on("/hook/", says(200))
    assert (await caller().call(page.on("/hook", says(308, location="/hook/")), BODY, secret=None)).status == 200
    assert page.visits[-1].body == BODY
    assert (await caller().call(page.on("/old", says(302, location="/hook/")), BODY, secret=None)).status == 302


async def test_a_client_that_can_not_be_reached_has_not_been_told(page: Web) -> None:
    assert await caller().call("http://127.0.0.1:1/hook", BODY, secret=None) == WebhookAnswer(
        status=None, reached=False
    )


async def test_a_client_that_hangs_up_may_have_been_told(page: Web) -> None:
    answer = await caller().call(page.on("/hook", hangs_up), BODY, secret=None)
    assert answer == WebhookAnswer(status=None, reached=True)


async def test_addresses_of_the_own_network_are_never_called(page: Web) -> None:
    answer = await caller(allow_private=False).call(page.on("/hook", says(200)), BODY, secret=None)
    assert answer == WebhookAnswer(status=None, reached=False)
    assert page.visits == []
