"""One suite for the queue: leases, tries, and who may take what, run on every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import Failure
from ilaas.core.enrichment.steps import Part, Status, Step
from ilaas.core.enrichment.values import (
    ModelChoice,
    NotificationLevel,
    Notify,
)
from ilaas.core.errors import Conflict, LeaseLost
from ilaas.ports.enrichment import EnrichmentStore, ListQuery
from tests.support.enrichment import NOW_S, RESULTS
from tests.support.enrichment_steps import BARE, LIMITS, ask, do, put, take

# -- leases ------------------------------------------------------------------------------------------------------------


async def test_a_job_is_given_once_until_its_lease_runs_out(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    first = await take(enrichments)
    assert first.enrichment.status is Status.UPLOADING_MEDIA
    assert await enrichments.take_job(ask(owner="other", at_s=NOW_S + 29)) is None
    kept = await enrichments.extend(first.lease, NOW_S + 60)
    assert await enrichments.take_job(ask(owner="other", at_s=NOW_S + 59)) is None
    second = await take(enrichments, ask(owner="other", at_s=NOW_S + 60))
    assert second.enrichment.status is Status.UPLOADING_MEDIA
    assert second.enrichment.job is not None
    assert second.enrichment.job.attempts == 2
    for late in (first.lease, kept):
        with pytest.raises(LeaseLost, match="taken over"):
            await enrichments.finish(late, RESULTS[Step.FETCH], NOW_S + 61)
        with pytest.raises(LeaseLost):
            await enrichments.extend(late, NOW_S + 99)
        with pytest.raises(LeaseLost):
            await enrichments.fail(late, Failure(cause="late"), NOW_S + 61, LIMITS)
        with pytest.raises(LeaseLost):
            await enrichments.release(late, NOW_S + 61, limits=LIMITS)
        with pytest.raises(LeaseLost):
            await enrichments.put_parts(late, [])
    assert await enrichments.enrichment("e1") == second.enrichment
    await enrichments.finish(second.lease, RESULTS[Step.FETCH], NOW_S + 62)


async def test_a_worker_that_took_its_own_job_again_cannot_write_what_its_first_try_made(
    enrichments: EnrichmentStore,
) -> None:
    await put(enrichments)
    first = await take(enrichments)
    second = await take(enrichments, ask(at_s=NOW_S + 31))
    assert first.lease.owner == second.lease.owner
    with pytest.raises(LeaseLost):
        await enrichments.finish(first.lease, RESULTS[Step.FETCH], NOW_S + 32)
    await enrichments.finish(second.lease, RESULTS[Step.FETCH], NOW_S + 33)


async def test_a_worker_whose_lease_ran_out_may_still_finish_when_nobody_took_over(
    enrichments: EnrichmentStore,
) -> None:
    await put(enrichments)
    taken = await take(enrichments)
    done = await enrichments.finish(taken.lease, RESULTS[Step.FETCH], NOW_S + 9_999)
    assert done.status is Status.WAITING_MEDIA_TRANSCRIPTION


async def test_a_result_is_written_once(enrichments: EnrichmentStore) -> None:
    await put(enrichments, parameters=BARE)
    await do(enrichments, Step.FETCH)
    taken = await take(enrichments)
    await enrichments.finish(taken.lease, RESULTS[Step.TRANSCRIPTION], NOW_S)
    with pytest.raises(LeaseLost):
        await enrichments.finish(taken.lease, RESULTS[Step.TRANSCRIPTION], NOW_S)
    assert (await enrichments.versions("e1", ListQuery())).total == 1


async def test_a_result_that_is_refused_leaves_the_job_as_it_was(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    taken = await take(enrichments)
    with pytest.raises(Conflict, match="another one"):
        await enrichments.finish(taken.lease, RESULTS[Step.TRANSCRIPTION], NOW_S)
    assert await enrichments.enrichment("e1") == taken.enrichment


async def test_an_enrichment_deleted_in_mid_job_stops_the_work_and_leaves_nothing(enrichments: EnrichmentStore) -> None:
    await put(enrichments, notify=Notify(url="https://pod.example.org/", level=NotificationLevel.TASK))
    await do(enrichments, Step.FETCH, Step.TRANSCRIPTION)
    taken = await take(enrichments)
    await enrichments.put_parts(
        taken.lease, [Part(step=Step.ENRICHMENT, number=0, start_s=0, end_s=1, object_key="parts/0", result="{}")]
    )
    deleted = await enrichments.change("e1", lambda current: orders.deleted(current, NOW_S + 5))
    assert deleted.deleted_at_s == NOW_S + 5
    with pytest.raises(LeaseLost):
        await enrichments.extend(taken.lease, NOW_S + 60)
    with pytest.raises(LeaseLost):
        await enrichments.finish(taken.lease, RESULTS[Step.ENRICHMENT], NOW_S + 6)
    assert await enrichments.take_job(ask(at_s=NOW_S + 999)) is None
    assert await enrichments.take_notice(NOW_S + 999, 30) is None
    assert await enrichments.latest_version("e1") is None
    assert (await enrichments.page("client-1", ListQuery())).total == 0
    assert sorted(await enrichments.trash()) == ["medias/client-1/e1/1.mp3", "parts/0"]
    left = await enrichments.enrichment("e1")
    assert (left.media_url, left.end_user_identifier, left.notify.url, left.job) == (None, None, None, None)
    assert left.parameters.disciplines is None


async def test_the_pieces_of_a_step_outlive_its_worker(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    await do(enrichments, Step.FETCH)
    first = await take(enrichments)
    plan = [Part(step=Step.TRANSCRIPTION, number=n, start_s=n * 60, end_s=n * 60 + 60) for n in range(3)]
    await enrichments.put_parts(first.lease, plan)
    await enrichments.put_parts(first.lease, [replace(plan[1], result='{"é": 1}', object_key="parts/1")])
    second = await take(enrichments, ask(owner="other", at_s=NOW_S + 31))
    assert list(await enrichments.parts(second.lease)) == [
        plan[0],
        replace(plan[1], result='{"é": 1}', object_key="parts/1"),
        plan[2],
    ]
    with pytest.raises(LeaseLost):
        await enrichments.parts(first.lease)
    await enrichments.finish(second.lease, RESULTS[Step.TRANSCRIPTION], NOW_S + 32)
    third = await take(enrichments, ask(at_s=NOW_S + 33))
    assert list(await enrichments.parts(third.lease)) == []
    assert sorted(await enrichments.trash()) == ["medias/client-1/e1/1.mp3", "parts/1"]


# -- trying again ------------------------------------------------------------------------------------------------------


async def test_a_failed_try_is_made_again_after_its_pause_and_the_last_one_ends_in_failure(
    enrichments: EnrichmentStore,
) -> None:
    await put(enrichments)
    first = await take(enrichments)
    again = await enrichments.fail(first.lease, Failure(cause="no answer", retry_after_s=10), NOW_S + 1, LIMITS)
    assert again.status is Status.WAITING_MEDIA_UPLOAD
    assert await enrichments.take_job(ask(at_s=NOW_S + 10)) is None
    second = await take(enrichments, ask(at_s=NOW_S + 11))
    ended = await enrichments.fail(
        second.lease, Failure(cause="Couldn't get file from URL", retry_after_s=10), NOW_S + 12, LIMITS
    )
    assert (ended.status, ended.failure_cause) == (Status.FAILURE, "Couldn't get file from URL")
    notice = await enrichments.take_notice(NOW_S + 12, 30)
    assert notice is not None
    assert (notice.status, notice.failure_cause) == (Status.FAILURE, "Couldn't get file from URL")
    assert await enrichments.take_job(ask(at_s=NOW_S + 9_999)) is None


async def test_what_can_not_be_helped_fails_at_once_and_the_version_says_so(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    await do(enrichments, Step.FETCH, Step.TRANSCRIPTION)
    taken = await take(enrichments)
    await enrichments.fail(taken.lease, Failure(cause="The model refused."), NOW_S, LIMITS)
    assert (await enrichments.version("e1", "v1")).failure_cause == "The model refused."


async def test_a_step_given_back_unharmed_is_no_attempt(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    for _ in range(5):
        taken = await take(enrichments)
        given = await enrichments.release(taken.lease, NOW_S, limits=LIMITS)
        assert given.status is Status.WAITING_MEDIA_UPLOAD
    assert (await take(enrichments)).enrichment.job.attempts == 1  # type: ignore[union-attr]


async def test_a_model_that_is_never_to_be_had_ends_in_failure(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    await do(enrichments, Step.FETCH)
    for n in range(3):
        taken = await take(enrichments, ask(at_s=NOW_S + 10 * n))
        given = await enrichments.release(
            taken.lease, NOW_S + 10 * n, limits=LIMITS, retry_after_s=10, unavailable=True
        )
        assert given.status is (Status.WAITING_MEDIA_TRANSCRIPTION if n < 2 else Status.FAILURE)
    assert given.failure_cause == "Max transcription retries reached (2)"


async def test_workers_that_all_fall_silent_end_in_failure(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    await do(enrichments, Step.FETCH)
    await take(enrichments, ask(at_s=NOW_S))
    assert list(await enrichments.expire_jobs(NOW_S + 31, LIMITS)) == []
    await take(enrichments, ask(at_s=NOW_S + 31))
    assert list(await enrichments.expire_jobs(NOW_S + 60, LIMITS)) == []
    assert await enrichments.take_job(ask(at_s=NOW_S + 61)) is None
    [ended] = await enrichments.expire_jobs(NOW_S + 61, LIMITS)
    assert (ended.status, ended.failure_cause) == (Status.FAILURE, "Max transcription retries reached (2)")
    assert list(await enrichments.expire_jobs(NOW_S + 61, LIMITS)) == []
    assert (await enrichments.take_notice(NOW_S + 61, 30)) is not None


async def test_the_queue_is_counted_by_step(enrichments: EnrichmentStore) -> None:
    for n in range(3):
        await put(enrichments, f"e{n}")
    await take(enrichments)
    assert await enrichments.queued() == {(Step.FETCH, True): 1, (Step.FETCH, False): 2}


# -- who may take what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serves", "unspecified", "taken"),
    [
        (None, True, True),
        (ModelChoice(model="mistral", infrastructure="Lille"), True, True),
        (ModelChoice(model="mistral"), True, True),
        (ModelChoice(model="llama", infrastructure="Lille"), True, False),
        (ModelChoice(model="mistral", infrastructure="Lyon"), True, False),
    ],
)
async def test_a_worker_gets_the_jobs_of_its_model(
    enrichments: EnrichmentStore, serves: ModelChoice | None, unspecified: bool, taken: bool
) -> None:
    await put(enrichments, wanted={Step.FETCH: ModelChoice(model="mistral", infrastructure="Lille")})
    assert (await enrichments.take_job(ask(serves=serves, unspecified=unspecified)) is not None) is taken


@pytest.mark.parametrize(
    ("step", "left", "taken"),
    [
        (Step.FETCH, ModelChoice(model="mistral"), False),
        (Step.FETCH, ModelChoice(infrastructure="Lille"), False),
        (Step.FETCH, ModelChoice(model="llama"), True),
        (Step.TRANSCRIPTION, ModelChoice(model="mistral"), True),
    ],
)
async def test_a_worker_leaves_jobs_that_name_what_only_another_has(
    enrichments: EnrichmentStore, step: Step, left: ModelChoice, taken: bool
) -> None:
    await put(enrichments, wanted={Step.FETCH: ModelChoice(model="mistral", infrastructure="Lille")})
    assert (await enrichments.take_job(ask(leaves=frozenset({(step, left)}))) is not None) is taken


async def test_a_job_that_names_nothing_is_left_to_nobody(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    leaves = frozenset({(Step.FETCH, ModelChoice(model="m")), (Step.FETCH, ModelChoice(infrastructure="i"))})
    assert await enrichments.take_job(ask(leaves=leaves)) is not None


@pytest.mark.parametrize("unspecified", [True, False])
async def test_a_worker_gets_jobs_without_a_model_when_it_may(enrichments: EnrichmentStore, unspecified: bool) -> None:
    await put(enrichments, wanted={Step.TRANSCRIPTION: ModelChoice(model="whisper")})
    serves = ModelChoice(model="mistral", infrastructure="Lille")
    assert (await enrichments.take_job(ask(serves=serves, unspecified=unspecified)) is not None) is unspecified


async def test_a_worker_gets_its_own_steps_alone(enrichments: EnrichmentStore) -> None:
    await put(enrichments)
    assert await enrichments.take_job(ask(Step.TRANSCRIPTION, Step.ENRICHMENT)) is None
    await take(enrichments, ask(Step.FETCH))


async def test_the_place_for_short_media_takes_no_long_ones(enrichments: EnrichmentStore) -> None:
    for name, duration_s in (("long", 30_000.0), ("short", 60.0)):
        await put(enrichments, name, media_duration_s=duration_s)
    assert (await take(enrichments, ask(longest_s=300.0))).enrichment.id == "short"
    assert await enrichments.take_job(ask(longest_s=300.0)) is None
    assert (await take(enrichments)).enrichment.id == "long"
