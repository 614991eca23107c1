"""One key, one limit, whichever gateway is asked."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.platform import Platform, beside

LIMIT = 10
"""Requests a minute: one comes back every 6 s."""
USED = 9


def ask(url: str, key: str, max_tokens: int = 1) -> httpx.Response:
    return httpx.post(
        f"{url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Bonjour"}]},
        timeout=30.0,
    )


def left(url: str, key: str) -> tuple[int, int] | None:
    """Requests and tokens that the gateway has for the key, told by a refusal that costs nothing."""
    try:
        answer = ask(url, key, max_tokens=1_000_000)
    except httpx.HTTPError:
        return None
    if answer.status_code != 429:
        return None
    headers = answer.headers
    return int(headers["x-ratelimit-remaining-requests"]), int(headers["x-ratelimit-remaining-tokens"])


async def test_a_limit_holds_over_all_gateways_and_over_the_restart_of_one(platform: Platform, told: list[str]) -> None:
    key = await platform.create_key("limited", requests_per_minute=LIMIT, tokens_per_day=100_000)
    one, other = (part.url for part in platform.cluster.gateways)
    for url in (one, other):
        await platform.until(lambda url=url: platform.knows(url, key))
    for _ in range(USED):
        answer = await asyncio.to_thread(ask, one, key)
        assert answer.status_code == 200, answer.text
    took_s = await platform.until(lambda: left(other, key) is not None and left(other, key) == left(one, key))
    told.append(f"the other gateway knew of all after {took_s:.2f} s")
    before = left(other, key)
    assert before is not None
    assert before[0] < LIMIT - USED + 3
    platform.part("g1").kill()
    await beside(lambda: platform.start_again("g1"))
    started = platform.part("g1").url
    took_s = await platform.until(lambda: (now := left(started, key)) is not None and now[0] < LIMIT)
    told.append(f"the new gateway began with a level told by the other, {took_s:.2f} s after its start")
    await platform.until(lambda: left(started, key) == left(one, key))
