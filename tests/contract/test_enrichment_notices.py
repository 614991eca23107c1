"""One suite for the webhooks that are due, run on every store."""

from __future__ import annotations

from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import (
    NotificationLevel,
    Notify,
)
from ilaas.ports.enrichment import EnrichmentStore
from tests.support.enrichment import NOW_S
from tests.support.enrichment_steps import BARE, do, put


async def test_the_webhook_of_a_success_is_written_with_it_and_given_once(enrichments: EnrichmentStore) -> None:
    await put(enrichments, parameters=BARE)
    await do(enrichments, Step.FETCH)
    assert await enrichments.take_notice(NOW_S + 9, 30) is None
    await do(enrichments, Step.TRANSCRIPTION)
    notice = await enrichments.take_notice(NOW_S, 30)
    assert notice is not None
    assert (notice.enrichment_id, notice.status, notice.initial_version_id) == ("e1", Status.SUCCESS, "v1")
    assert (notice.failure_cause, notice.completed_step, notice.attempts) == (None, None, 1)
    assert await enrichments.take_notice(NOW_S + 29, 30) is None
    await enrichments.notice_done(notice, NOW_S + 1, status="200", delivered=True)
    assert await enrichments.take_notice(NOW_S + 99, 30) is None
    told = (await enrichments.enrichment("e1")).notify
    assert (told.status, told.notified_at_s) == ("200", NOW_S + 1)


async def test_a_webhook_is_tried_again_at_its_time_and_a_late_sender_changes_nothing(
    enrichments: EnrichmentStore,
) -> None:
    await put(enrichments, parameters=BARE)
    await do(enrichments, Step.FETCH, Step.TRANSCRIPTION)
    first = await enrichments.take_notice(NOW_S, 30)
    assert first is not None
    await enrichments.notice_later(first, NOW_S + 60, status="404")
    assert (await enrichments.enrichment("e1")).notify.status == "404"
    assert await enrichments.take_notice(NOW_S + 59, 30) is None
    second = await enrichments.take_notice(NOW_S + 60, 30)
    assert second is not None
    assert second.attempts == 2
    third = await enrichments.take_notice(NOW_S + 90, 30)
    assert third is not None
    await enrichments.notice_done(second, NOW_S + 91, status="200", delivered=True)
    assert (await enrichments.enrichment("e1")).notify.notified_at_s is None
    await enrichments.notice_done(third, NOW_S + 92, status=None, delivered=False)
    assert await enrichments.take_notice(NOW_S + 999, 30) is None


async def test_a_client_that_wants_to_know_each_step_is_told_in_order(enrichments: EnrichmentStore) -> None:
    await put(enrichments, notify=Notify(url="https://pod.example.org/", level=NotificationLevel.TASK))
    await do(enrichments, *Step)
    told = []
    while (notice := await enrichments.take_notice(NOW_S, 30)) is not None:
        assert await enrichments.take_notice(NOW_S, 30) is None  # the one after it waits for it
        told.append((notice.status, notice.completed_step))
        await enrichments.notice_done(notice, NOW_S, status="200", delivered=True)
    assert told == [
        (Status.WAITING_AI_ENRICHMENT, Status.TRANSCRIBING_MEDIA),
        (Status.WAITING_TRANSLATION, Status.AI_ENRICHING),
        (Status.WAITING_AI_EVALUATION, Status.TRANSLATING),
        (Status.SUCCESS, None),
    ]
