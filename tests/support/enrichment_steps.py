"""The steps of an enrichment, as tests take and finish them."""

from __future__ import annotations

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import SpeechLimits, StepLimits
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters
from ilaas.ports.enrichment import Assignment, EnrichmentStore, JobAsk
from tests.support.enrichment import NOW_S, RESULTS, enrichment

BARE = EnrichmentParameters(generate_metadata=False, generate_quiz=False)
LIMITS = SpeechLimits(steps={step: StepLimits(max_attempts=2, max_releases=2) for step in Step})


def ask(*steps: Step, owner: str = "worker", at_s: float = NOW_S, lease_s: float = 30.0, **more: object) -> JobAsk:
    return JobAsk(
        steps=frozenset(steps or Step),
        owner=owner,
        worker_name=f"name of {owner}",
        at_s=at_s,
        lease_s=lease_s,
        limits=LIMITS,
        **more,  # type: ignore[arg-type]
    )


async def take(store: EnrichmentStore, wanted: JobAsk | None = None) -> Assignment:
    taken = await store.take_job(wanted or ask())
    assert taken is not None
    return taken


async def put(store: EnrichmentStore, enrichment_id: str = "e1", **changes: object) -> Enrichment:
    await store.add(orders.created(enrichment(enrichment_id, **changes), NOW_S))
    return await store.enrichment(enrichment_id)


async def do(store: EnrichmentStore, *steps: Step) -> Enrichment:
    """Take and finish each of these steps of the one enrichment there is."""
    done = None
    for step in steps:
        taken = await take(store, ask(step))
        done = await store.finish(taken.lease, RESULTS[step], NOW_S)
    assert done is not None
    return done
