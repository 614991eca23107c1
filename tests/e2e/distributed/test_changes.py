"""What an operator changes reaches every gateway and dispatcher, through the store, without a restart."""

from __future__ import annotations

import secrets
import time

from ilaas.services.administration import Administration
from tests.support.platform import Platform


async def test_a_revoked_key_is_refused_by_every_gateway(platform: Platform, told: list[str]) -> None:
    key = await platform.create_key("revoked")
    gateways = platform.cluster.gateways
    for part in gateways:
        await platform.until(lambda part=part: platform.knows(part.url, key))
    store, secret = platform.open_store()
    await store.open()
    try:
        administration = Administration(store, secret.pepper, time.time, secrets.token_bytes, lambda _url: None)
        (named,) = [each for each in await administration.list_keys() if each.name == "revoked"]
        await administration.revoke_key(named.id, actor="tests")
    finally:
        await store.close()
    took_s = 0.0
    for part in gateways:
        took_s += await platform.until(lambda part=part: not platform.knows(part.url, key))
    told.append(f"refused by all after {took_s:.2f} s")


async def test_a_server_that_is_told_to_drain_gets_nothing_more_from_anyone(platform: Platform) -> None:
    key = await platform.create_key("draining")
    gateways = platform.cluster.gateways
    for part in gateways:
        await platform.until(lambda part=part: platform.knows(part.url, key))
    store, secret = platform.open_store()
    administration = Administration(store, secret.pepper, time.time, secrets.token_bytes, lambda _url: None)

    def states() -> list[str]:
        owner = platform.owner()
        seen = platform.state(owner) if owner is not None else None
        return [server["state"] for view in (seen or {"models": []})["models"] for server in view["servers"]]

    await store.open()
    try:
        await administration.drain_server("s1", actor="tests")
        await platform.until(lambda: states() == ["draining", "up"])
        load = platform.load([part.url for part in gateways], key, clients=3)
        await load.more(6)
        assert await load.end() == {"answered": len(load.answers)}
        await administration.resume_server("s1", actor="tests")
        await platform.until(lambda: states() == ["up", "up"])
    finally:
        await store.close()
