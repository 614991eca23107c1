"""The walk of an enrichment through the internal worker, and what is left of it when things go wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import Change, SpeechLimits, StepLimits
from ilaas.core.enrichment.clients import ClientPolicy, Scope
from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import MediaInfo, MediaKind, ModelChoice, NotificationLevel, Notify
from ilaas.core.errors import (
    BodyTooLarge,
    MediaUnusable,
    NoServer,
    QuotaExhausted,
    RateLimited,
    Unauthenticated,
    UpstreamFailed,
)
from ilaas.ports.completion import CompletionTask
from ilaas.ports.media import Sound, WebhookAnswer
from ilaas.ports.speech import SpeechTask
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.notify import NotifyPolicy
from tests.support.dying_store import DyingStore
from tests.support.speech_house import HOOK, SpeechHouse, TwinWebhooks

ALL = {"generate_notes": True, "translate_to": "en", "ai_evaluation": "ChatGPT", "language": "fr"}


@pytest.fixture
async def house(tmp_path: Path) -> SpeechHouse:
    return await SpeechHouse(tmp_path / "scratch").open()


async def test_a_media_ends_in_success_with_all_that_was_asked_for(house: SpeechHouse) -> None:
    asked = await house.ask(**ALL)
    async with house.working():
        done = await house.ended(asked)
        await house.told()
    version = await house.version(done)
    assert (done.status, done.failure_cause) == (Status.SUCCESS, None)
    assert done.media_duration_s == 90.0
    assert version.metadata is not None
    assert (version.metadata.title, version.metadata.translated_title) == ("Un titre", "EN Un titre")
    assert (version.metadata.discipline, version.metadata.media_type) == ("physique", "cours")
    assert version.transcript is not None
    assert version.transcript.translated_sentences is not None
    assert [each.start for each in version.transcript.translated_sentences] == [
        each.start for each in version.transcript.sentences
    ]
    assert version.questions
    assert all(each.evaluation == dict.fromkeys(each.evaluation or {}, True) for each in version.questions)
    assert version.questions[0].answer_pointer is not None
    assert (version.notes, version.translated_notes is not None) == ("## Notes\n\n- un point", True)
    assert set(done.times) == set(Step)
    assert house.webhooks.calls == [
        (
            HOOK,
            {
                "id": asked,
                "status": "SUCCESS",
                "initialVersionId": version.id,
                "failureCause": None,
                "completedStep": None,
            },
            "hush",
        )
    ]


async def test_after_it_neither_media_nor_scratch_files_are_left(house: SpeechHouse, tmp_path: Path) -> None:
    asked = await house.ask(**ALL)
    async with house.working():
        await house.ended(asked)
        await until(lambda: not house.objects.objects)
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_client_that_wants_to_know_each_step_is_told_in_order(house: SpeechHouse) -> None:
    asked = await house.ask(level=Notify(url=HOOK, level=NotificationLevel.TASK), translate_to="en")
    async with house.working():
        await house.ended(asked)
        await house.told(3)
    steps = [(body["status"], body["completedStep"]) for _, body, _ in house.webhooks.calls]
    assert steps == [
        ("WAITING_AI_ENRICHMENT", "TRANSCRIBING_MEDIA"),
        ("WAITING_TRANSLATION", "AI_ENRICHING"),
        ("SUCCESS", None),
    ]


async def test_long_audio_is_heard_in_parts_and_joined_with_the_times_of_the_whole(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path, policy={"part_target_s": 300.0, "part_longest_s": 400.0}).open()
    house.tools.probed = replace(house.tools.probed, duration_s=1000.0)
    house.tools.sound = Sound(duration_s=1000.0, silences=((290.0, 310.0), (640.0, 650.0)))
    asked = await house.ask(generate_metadata=False, generate_quiz=False)
    async with house.working():
        done = await house.ended(asked)
    transcript = (await house.version(done)).transcript
    assert transcript is not None
    assert min(house.transcriber.spans) == (0.0, 300.0)
    assert house.tools.cuts[0][0] == 0.0
    assert max(house.tools.cuts)[1] == 1000.0
    assert all(f"à {each.start:.0f} secondes" in each.text for each in transcript.sentences)
    assert [each.start for each in transcript.sentences] == sorted(each.start for each in transcript.sentences)


async def test_the_language_heard_in_the_first_part_is_that_of_all(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path, policy={"part_target_s": 30.0, "part_longest_s": 40.0}).open()
    house.transcriber.language = "en"
    asked = await house.ask(generate_metadata=False, generate_quiz=False)
    async with house.working():
        done = await house.ended(asked)
    assert house.transcriber.tasks[0].language is None
    assert {task.language for task in house.transcriber.tasks[1:]} == {"en"}
    transcript = (await house.version(done)).transcript
    assert transcript is not None
    assert transcript.language == "en"


async def test_subtitles_need_no_transcription(house: SpeechHouse) -> None:
    house.source.content = b"WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nBonjour\n\n"
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
    transcript = (await house.version(done)).transcript
    assert transcript is not None
    assert [(each.start, each.end) for each in transcript.sentences] == [(1.0, 2.5)]
    assert (done.status, house.transcriber.tasks) == (Status.SUCCESS, [])
    assert done.media is not None
    assert done.media.mime_type == "text/vtt"


async def test_an_uploaded_file_is_looked_at_and_not_fetched(house: SpeechHouse) -> None:
    asked = await house.ask()
    house.objects.objects["u"] = b"media"
    media = MediaInfo(original_file_name="é.mp4", mime_type="video/quicktime", kind=MediaKind.VIDEO, object_key="u")

    await house.store.change(
        asked, lambda each: orders.created(replace(each, media=media, media_url=None), each.created_at_s)
    )
    async with house.working():
        done = await house.ended(asked)
    assert (done.status, house.source.fetched) == (Status.SUCCESS, [])
    assert done.media is not None
    assert (done.media.original_file_name, done.media.mime_type) == ("é.mp4", "video/quicktime")


# -- what can't be done ------------------------------------------------------------------------------------------------


async def test_media_of_no_use_fail_at_once_with_the_reason(house: SpeechHouse) -> None:
    house.tools.fault = MediaUnusable("The media has no audio track, so there is nothing to transcribe.")
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
        await house.told()
        await until(lambda: not house.objects.objects)
    assert (done.status, done.failure_cause) == (Status.FAILURE, house.tools.fault.args[0])
    assert house.webhooks.calls[0][1]["failureCause"] == done.failure_cause


async def test_media_that_last_too_long_fail_in_the_words_of_todays_service(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path, policy={"limits": SpeechLimits(max_media_duration_s=60.0)}).open()
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
    assert done.failure_cause == "Video duration (90 s) exceeds maximum accepted media duration (60 s)"


async def test_a_client_may_have_a_longer_limit_than_the_service(tmp_path: Path) -> None:
    house = SpeechHouse(tmp_path, policy={"limits": SpeechLimits(max_media_duration_s=60.0)})
    await house.with_client(max_media_duration_s=100.0).open()
    asked = await house.ask()
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS


async def test_a_file_above_the_size_limit_fails_and_says_the_limit(house: SpeechHouse) -> None:
    house.source.fault = BodyTooLarge("too large")
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
    assert "larger than the 2147 MB" in (done.failure_cause or "")


async def test_a_media_in_which_nobody_speaks_fails_and_says_so(house: SpeechHouse) -> None:
    house.transcriber.sentences = ()
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
    assert (done.status, done.failure_cause) == (Status.FAILURE, "No speech was heard in the media.")


async def test_a_passing_fault_is_tried_again_and_ends_in_success(house: SpeechHouse) -> None:
    house.transcriber.faults = [UpstreamFailed("The server broke off."), UpstreamFailed("The server broke off.")]
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
        await house.told()
    assert done.status is Status.SUCCESS
    assert house.webhooks.told == ["SUCCESS"]


async def test_retries_are_bounded_and_end_in_failure_with_the_cause(house: SpeechHouse) -> None:
    house.transcriber.faults = [UpstreamFailed("The server broke off.")] * 99
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
        await house.told()
    assert (done.status, done.failure_cause) == (Status.FAILURE, "Transcription failed: The server broke off.")
    assert len(house.transcriber.faults) == 99 - StepLimits().max_attempts
    assert house.webhooks.told == ["FAILURE"]


@pytest.mark.parametrize("error", [NoServer("No server."), RateLimited("Slow down.", retry_after_s=3.0)])
async def test_while_a_model_is_away_no_attempt_is_lost(error: Exception, house: SpeechHouse) -> None:
    house.transcriber.faults = [error] * 12
    asked = await house.ask()
    async with house.working():
        done = await house.ended(asked)
    assert done.status is Status.SUCCESS


async def test_a_quota_used_up_until_tomorrow_is_waited_for_and_one_used_up_for_good_is_told(
    house: SpeechHouse,
) -> None:
    house.transcriber.faults = [QuotaExhausted("Used up today.", retry_after_s=40_000.0)]
    waits = await house.ask()
    async with house.working():
        assert (await house.ended(waits)).status is Status.SUCCESS
        house.transcriber.faults = [QuotaExhausted("The budget is used up.")]
        done = await house.ended(await house.ask())
    assert done.failure_cause == "Transcription failed: The budget is used up."


async def test_a_revoked_key_is_told_at_once(house: SpeechHouse) -> None:
    house.transcriber.faults = [Unauthenticated("The key is revoked.")]
    asked = await house.ask()
    async with house.working():
        assert (await house.ended(asked)).failure_cause == "Transcription failed: The key is revoked."


async def test_a_fault_of_the_service_itself_is_tried_again(house: SpeechHouse) -> None:
    house.transcriber.faults = [ZeroDivisionError()]
    asked = await house.ask()
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS


# -- deleting, stopping, dying -----------------------------------------------------------------------------------------


async def test_deleting_in_the_middle_stops_the_work_and_leaves_nothing(house: SpeechHouse) -> None:
    begun, never = asyncio.Event(), asyncio.Event()
    stopped = asyncio.Event()

    async def hang(task: SpeechTask) -> None:
        begun.set()
        try:
            await never.wait()
        finally:
            stopped.set()

    house.transcriber.before = hang
    asked = await house.ask()
    async with house.working():
        await begun.wait()
        await house.store.change(asked, lambda each: orders.deleted(each, house.clock()))
        await asyncio.wait_for(stopped.wait(), 10)
        await until(lambda: not house.objects.objects)
    assert house.webhooks.calls == []


async def test_a_worker_that_is_stopped_gives_its_jobs_back_unharmed(house: SpeechHouse) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(task: CompletionTask) -> None:
        begun.set()
        await never.wait()

    house.completion.before = hang
    asked = await house.ask()
    async with house.working():
        await begun.wait()
    left = await house.store.enrichment(asked)
    assert left.status is Status.WAITING_AI_ENRICHMENT
    assert left.job is not None
    assert (left.job.attempts, left.job.owner) == (0, None)
    house.completion.before = None
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS


async def test_a_call_in_flight_is_answered_before_the_worker_stops_and_is_not_made_again(house: SpeechHouse) -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    class SlowClient(TwinWebhooks):
        async def call(self, url: str, body: bytes, *, secret: str | None) -> WebhookAnswer:
            begun.set()
            await answered.wait()
            return await super().call(url, body, secret=secret)

    house.context = replace(house.context, webhooks=SlowClient())
    asked = await house.ask()
    stop = asyncio.Event()
    working = asyncio.create_task(house.worker().run(stop))
    await asyncio.wait_for(begun.wait(), 10)
    stop.set()
    await asyncio.sleep(0)
    answered.set()
    await asyncio.wait_for(working, 10)
    assert (await house.store.enrichment(asked)).notify.status == "200"
    assert await house.store.take_notice(house.clock() + 1e6, 1.0) is None


async def test_a_client_that_never_answers_does_not_keep_the_worker_from_stopping(house: SpeechHouse) -> None:
    begun = asyncio.Event()

    class DeadClient(TwinWebhooks):
        async def call(self, url: str, body: bytes, *, secret: str | None) -> WebhookAnswer:
            begun.set()
            await asyncio.Event().wait()
            return WebhookAnswer(status=200)

    house.context = replace(house.context, webhooks=DeadClient())
    await house.ask()
    async with house.working(farewell_s=0.01):
        await asyncio.wait_for(begun.wait(), 10)
    assert await house.store.take_notice(house.clock() + 1e6, 1.0) is not None


async def test_what_only_a_remote_worker_has_is_left_to_it(house: SpeechHouse) -> None:
    async def own_models() -> frozenset[str]:
        return frozenset({"mistral"})

    remote = replace(
        house.client,
        id="gpu",
        name="gpu",
        scopes=frozenset({Scope.DEFAULT, Scope.PROCESSING_WORKER}),
        policy=ClientPolicy(serves=ModelChoice(model="llama", infrastructure="Lille")),
    )
    line = AuditLine(at_s=0.0, actor="test", action="client.created", subject="client:gpu")
    await house.store.add_client(remote, line)
    house.context = replace(house.context, own_models=own_models)
    left = [await house.ask() for _ in range(2)]
    done = [await house.ask() for _ in range(2)]
    choices = (
        *(ModelChoice(model="llama"), ModelChoice(infrastructure="Lille")),
        *(ModelChoice(model="mistral"), ModelChoice(model="unknown")),
    )
    for asked, choice in zip((*left, *done), choices, strict=True):
        await house.store.change(
            asked, lambda e, choice=choice: Change(enrichment=replace(e, wanted={Step.ENRICHMENT: choice}))
        )
    async with house.working():
        for asked in done:
            await house.ended(asked)
        for asked in left:
            await house.until(asked, Status.WAITING_AI_ENRICHMENT)
        await asyncio.sleep(0.05)
    assert [(await house.store.enrichment(asked)).status for asked in left] == [Status.WAITING_AI_ENRICHMENT] * 2
    await house.store.change_client("gpu", lambda client: replace(client, active=False), line)
    async with house.working():
        for asked in left:
            await house.ended(asked)


async def test_a_resumed_transcription_hears_only_what_was_not_heard(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path, policy={"part_target_s": 30.0, "part_longest_s": 40.0}).open()
    house.transcriber.faults = []
    asked = await house.ask(language="fr", generate_metadata=False, generate_quiz=False)
    heard = 0

    async def fail_third(task: SpeechTask) -> None:
        nonlocal heard
        heard += 1
        if heard == 3:
            raise UpstreamFailed("The server broke off.")

    house.transcriber.before = fail_third
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS
    assert len(house.transcriber.spans) == len(set(house.transcriber.spans))


async def writes_of_a_walk(tmp_path: Path) -> list[str]:
    house = await SpeechHouse(tmp_path / "probe").open()
    store = DyingStore(house.store)
    house.context = replace(house.context, store=store)  # type: ignore[arg-type]
    asked = await house.ask(**ALL)
    async with house.working():
        await house.ended(asked)
        await house.told()
        await until(lambda: store.writes[-1:] == ["notice_done"])
    return store.writes


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_worker_killed_at_any_write_is_followed_by_one_success_and_one_webhook(
    after: bool, tmp_path: Path
) -> None:
    """Killed: it never does anything again, and does not give back what it holds."""
    writes = await writes_of_a_walk(tmp_path)
    assert {"take_job", "put_parts", "finish", "take_notice", "notice_done"} <= set(writes)
    for at, name in enumerate(writes):
        house = await SpeechHouse(tmp_path / f"{at}").open()
        plain = house.context
        dying = DyingStore(house.store, at, after=after)
        house.context = replace(plain, store=dying)  # type: ignore[arg-type]
        asked = await house.ask(**ALL)
        killed = asyncio.create_task(house.worker().run(asyncio.Event()))
        await asyncio.wait_for(dying.dead.wait(), 20)
        house.context = plain
        house.clock.now += 130.0  # leases of jobs and of notices run out
        async with house.working():
            done = await house.ended(asked)
            await house.told()
            noted = await until_noted(house, asked)
        killed.cancel()
        dying.buried.set()
        await asyncio.gather(killed, return_exceptions=True)
        assert done.status is Status.SUCCESS, (at, name)
        # A worker that dies between the client's answer and its note of it can't have known better.
        sent_unnoted = name == "notice_done" and not after
        assert house.webhooks.told == ["SUCCESS"] * (2 if sent_unnoted else 1), (at, name)
        assert noted == "200", (at, name)


async def test_a_database_that_fails_at_any_write_changes_nothing_of_the_outcome(tmp_path: Path) -> None:
    writes = await writes_of_a_walk(tmp_path)
    for at, name in enumerate(writes):
        if name == "put_parts":
            continue  # the step fails and is resumed after a pause: see the next test
        house = await SpeechHouse(tmp_path / f"f{at}").open()
        house.context = replace(house.context, store=DyingStore(house.store, at, fails=True))  # type: ignore[arg-type]
        asked = await house.ask(**ALL)
        async with house.working():
            done = await house.ended(asked)
            await house.told()
        assert (done.status, house.webhooks.told[0]) == (Status.SUCCESS, "SUCCESS"), (at, name)


async def test_a_database_that_fails_while_a_part_is_kept_costs_no_attempt(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path).open()
    writes = await writes_of_a_walk(tmp_path)
    house.context = replace(house.context, store=DyingStore(house.store, writes.index("put_parts"), fails=True))  # type: ignore[arg-type]
    asked = await house.ask(**ALL)
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS


async def test_workers_that_all_fall_silent_end_in_failure_and_the_client_is_told(house: SpeechHouse) -> None:
    asked = await house.ask()
    for _ in range(StepLimits().max_attempts):
        dying = DyingStore(house.store, 0, after=True)
        worker = replace(house.context, store=dying)  # type: ignore[arg-type]
        house.context, plain = worker, house.context
        task = asyncio.create_task(house.worker().run(asyncio.Event()))
        await asyncio.wait_for(dying.dead.wait(), 10)
        dying.buried.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        house.context = plain
        house.clock.now += 60.0
    async with house.working():
        done = await house.ended(asked)
        await house.told()
    assert (done.status, done.failure_cause) == (Status.FAILURE, "Uploading took too long")
    assert house.webhooks.told == ["FAILURE"]


# -- webhooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [WebhookAnswer(status=404), WebhookAnswer(status=503), WebhookAnswer(status=None)])
async def test_a_success_is_told_again_until_the_client_hears_it(first: WebhookAnswer, house: SpeechHouse) -> None:
    house.webhooks.answers = [first, first]
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
        for times in (1, 2, 3):
            await house.told(times)
            house.clock.now += 10.0
    assert house.webhooks.told == ["SUCCESS"] * 3


@pytest.mark.parametrize("answer", [WebhookAnswer(status=500), WebhookAnswer(status=404), WebhookAnswer(status=None)])
async def test_a_failure_is_told_once_because_clients_mail_their_users_at_each_call(
    answer: WebhookAnswer, house: SpeechHouse
) -> None:
    house.webhooks.answers = [answer] * 5
    house.tools.fault = MediaUnusable("No.")
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
        await house.told()
        house.clock.now += 100_000.0
        noted = await until_noted(house, asked)
        await asyncio.sleep(0.05)
    assert house.webhooks.told == ["FAILURE"]
    assert noted == ("0" if answer.status is None else str(answer.status))


async def test_a_failure_that_can_not_have_arrived_is_told_again(house: SpeechHouse) -> None:
    house.webhooks.answers = [WebhookAnswer(status=None, reached=False)]
    house.tools.fault = MediaUnusable("No.")
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
        await house.told()
        house.clock.now += 10.0
        await house.told(2)


async def test_nobody_is_called_before_they_can_know_the_id(house: SpeechHouse) -> None:
    """Clients store the id after the answer to their request; a tiny media may be done before."""
    house.tools.fault = MediaUnusable("No.")
    asked = await house.ask()
    async with house.working(notify=NotifyPolicy(settling_s=1000.0)):
        done = await house.ended(asked)
        await asyncio.sleep(0.05)
        assert house.webhooks.calls == []
        house.clock.now = done.created_at_s + 1001.0
        await house.told()


async def until_noted(house: SpeechHouse, asked: str) -> str:
    """Wait until the outcome of the last call is written down."""
    async with asyncio.timeout(10):
        while (status := (await house.store.enrichment(asked)).notify.status) is None:
            await asyncio.sleep(0.002)
    return status


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)
