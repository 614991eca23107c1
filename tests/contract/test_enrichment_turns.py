"""One suite for who is served next, run on every store."""

from __future__ import annotations

import asyncio

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.steps import Lease, Step
from ilaas.ports.enrichment import EnrichmentStore
from tests.support.enrichment import NOW_S, RESULTS, enrichment
from tests.support.enrichment_steps import ask, put, take


async def test_a_thousand_jobs_of_twenty_clients_are_served_in_turn(enrichments: EnrichmentStore) -> None:
    # One client comes first with half of everything; the others must not wait for it.
    owners = ["big"] * 500 + [f"client-{n % 19:02}" for n in range(500)]
    changes = [
        orders.created(enrichment(f"e{n:04}", client_id=owner, contributors=None), NOW_S + n)
        for n, owner in enumerate(owners)
    ]
    for change in changes:
        await enrichments.add(change)
    # 40 workers hold what they take: two jobs of each of the 20 clients are in hand, however many each has waiting.
    held = [await take(enrichments, ask(owner=f"w{n}", at_s=NOW_S + 2_000)) for n in range(40)]
    assert {owner: [each.enrichment.client_id for each in held].count(owner) for owner in set(owners)} == dict.fromkeys(
        owners, 2
    )
    # Two more workers, who each finish at once: served in turn, by who waited longest.
    served = []
    for _ in range(40):
        taken = await take(enrichments, ask(owner="quick", at_s=NOW_S + 2_000))
        served.append(taken.enrichment.client_id)
        await enrichments.finish(taken.lease, RESULTS[Step.FETCH], NOW_S + 2_000)
    assert all(served.count(owner) == 2 for owner in set(owners))
    assert served[:20] == served[20:]


async def test_the_first_come_of_one_client_is_served_first_and_a_short_one_overtakes(
    enrichments: EnrichmentStore,
) -> None:
    for name, asked_s, duration_s in (("long", 0.0, 3_600.0), ("old", 10.0, 60.0), ("new", 20.0, 60.0)):
        await enrichments.add(orders.created(enrichment(name, media_duration_s=duration_s), NOW_S + asked_s))
    await enrichments.add(orders.created(enrichment("later", media_duration_s=60.0), NOW_S + 3_600.0))
    taken = [(await take(enrichments, ask(at_s=NOW_S + 4_000))).enrichment.id for _ in range(4)]
    assert taken == ["old", "new", "long", "later"]


async def test_a_higher_priority_goes_before_turns(enrichments: EnrichmentStore) -> None:
    await put(enrichments, "usual")
    await put(enrichments, "urgent-1", client_id="client-2", priority=5)
    await put(enrichments, "urgent-2", client_id="client-2", priority=5)
    assert [(await take(enrichments)).enrichment.id for _ in range(3)] == ["urgent-1", "urgent-2", "usual"]


async def test_workers_that_take_at_once_never_hold_the_same_job(enrichments: EnrichmentStore) -> None:
    for n in range(30):
        await put(enrichments, f"e{n:02}", client_id=f"client-{n % 3}")

    async def work(owner: str) -> list[Lease]:
        leases = []
        while (taken := await enrichments.take_job(ask(owner=owner))) is not None:
            leases.append(taken.lease)
        return leases

    leases = [lease for each in await asyncio.gather(*(work(f"w{n}") for n in range(8))) for lease in each]
    assert sorted(lease.enrichment_id for lease in leases) == [f"e{n:02}" for n in range(30)]
