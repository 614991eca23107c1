"""One suite for the speech API's clients and its signing keys, run on every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ilaas.core.enrichment.clients import SigningKey
from ilaas.core.errors import Conflict, NotFound
from ilaas.ports.enrichment import EnrichmentStore
from tests.contract.samples import line
from tests.support.enrichment import NOW_S, client

# -- clients -----------------------------------------------------------------------------------------------------------


async def test_clients_come_back_whole_and_are_listed_by_project(enrichments: EnrichmentStore) -> None:
    one, two = client("b", name="same"), client("a", project="nudgis", webhook_secret=None, name="same")
    await enrichments.add_client(one, line())
    await enrichments.add_client(two, line())
    assert await enrichments.client("b") == one
    assert list(await enrichments.clients()) == [two, one]
    assert list(await enrichments.clients(organisation="Lille", project="pod")) == [one]
    with pytest.raises(NotFound, match="no speech API client 'c'"):
        await enrichments.client("c")


async def test_the_name_of_a_client_is_taken_until_it_is_revoked(enrichments: EnrichmentStore) -> None:
    await enrichments.add_client(client("a", name="pod"), line())
    with pytest.raises(Conflict, match="'pod' already"):
        await enrichments.add_client(client("b", name="pod"), line())
    revoked = await enrichments.change_client(
        "a", lambda each: replace(each, active=False, organisation="Lyon"), line()
    )
    assert (revoked.active, revoked.organisation) == (False, "Lille")
    await enrichments.add_client(client("b", name="pod"), line())
    with pytest.raises(Conflict):
        await enrichments.change_client("a", lambda each: replace(each, active=True), line())
    with pytest.raises(Conflict):
        await enrichments.add_client(client("b", name="other"), line())


async def test_last_uses_of_a_client_are_noted_and_never_go_back(enrichments: EnrichmentStore) -> None:
    await enrichments.add_client(client("a"), line())
    await enrichments.touch_client("a", token_at_s=20.0)
    await enrichments.touch_client("a", token_at_s=10.0, job_at_s=5.0)
    await enrichments.touch_client("nobody", token_at_s=1.0)
    used = await enrichments.client("a")
    assert (used.last_token_at_s, used.last_job_at_s) == (20.0, 5.0)


async def test_gateways_that_start_together_end_up_with_one_signing_key(enrichments: EnrichmentStore) -> None:
    keys = [SigningKey(id=f"k{n}", private_pem=f"pem {n}", created_at_s=NOW_S) for n in range(4)]
    added = await asyncio.gather(*(enrichments.add_signing_key(key, unless_after_s=NOW_S - 60) for key in keys))
    assert sorted(added) == [False, False, False, True]
    [only] = await enrichments.signing_keys()
    assert only in keys


async def test_a_new_signing_key_retires_the_old_one_which_is_dropped_later(enrichments: EnrichmentStore) -> None:
    old = SigningKey(id="old", private_pem="pem", created_at_s=NOW_S)
    new = SigningKey(id="new", private_pem="pem", created_at_s=NOW_S + 100)
    assert await enrichments.add_signing_key(old, unless_after_s=0)
    assert await enrichments.add_signing_key(new, unless_after_s=NOW_S)
    assert list(await enrichments.signing_keys()) == [new, replace(old, retired_at_s=NOW_S + 100)]
    assert await enrichments.drop_signing_keys(NOW_S + 100) == 0
    assert await enrichments.drop_signing_keys(NOW_S + 101) == 1
    assert [each.id for each in await enrichments.signing_keys()] == ["new"]
