"""The state machine: the contract's table, and what no order of events can bring about."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ilaas.core.enrichment import orders, states
from ilaas.core.enrichment.changes import Change, Failure, Notice, SpeechLimits, StepLimits
from ilaas.core.enrichment.results import Enriched
from ilaas.core.enrichment.steps import STEP_OF, Lease, Status, Step
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, NotificationLevel, Notify, Retention, Version
from ilaas.core.errors import Conflict, Forbidden, InvalidRequest, LeaseLost
from tests.support.enrichment import METADATA, NOW_S, RESULTS, TRANSCRIPT, enrichment

LIMITS = SpeechLimits(steps={step: StepLimits(max_attempts=2, max_releases=2) for step in Step})
S = Status

CONTRACT = {
    S.WAITING_MEDIA_UPLOAD: {S.UPLOADING_MEDIA},
    S.UPLOADING_MEDIA: {
        S.WAITING_MEDIA_UPLOAD,
        S.WAITING_MEDIA_TRANSCRIPTION,
        S.WAITING_AI_ENRICHMENT,
        S.WAITING_TRANSLATION,
        S.WAITING_AI_EVALUATION,
        S.SUCCESS,
    },
    S.WAITING_MEDIA_TRANSCRIPTION: {S.TRANSCRIBING_MEDIA},
    S.TRANSCRIBING_MEDIA: {
        S.WAITING_MEDIA_TRANSCRIPTION,
        S.WAITING_AI_ENRICHMENT,
        S.WAITING_TRANSLATION,
        S.WAITING_AI_EVALUATION,
        S.SUCCESS,
    },
    S.WAITING_AI_ENRICHMENT: {S.AI_ENRICHING},
    S.AI_ENRICHING: {S.WAITING_AI_ENRICHMENT, S.WAITING_TRANSLATION, S.WAITING_AI_EVALUATION, S.SUCCESS},
    S.WAITING_TRANSLATION: {S.TRANSLATING},
    S.TRANSLATING: {S.WAITING_TRANSLATION, S.WAITING_AI_EVALUATION, S.SUCCESS},
    S.WAITING_AI_EVALUATION: {S.AI_EVALUATING},
    S.AI_EVALUATING: {S.WAITING_AI_EVALUATION, S.SUCCESS},
    S.SUCCESS: {S.WAITING_AI_ENRICHMENT, S.WAITING_TRANSLATION, S.WAITING_AI_EVALUATION, S.SUCCESS},
    S.FAILURE: {S.WAITING_AI_ENRICHMENT, S.WAITING_TRANSLATION, S.WAITING_AI_EVALUATION, S.SUCCESS},
}
"""Where each status may lead, FAILURE apart: that is from everywhere, except from the end."""

parameters = st.builds(
    EnrichmentParameters,
    translate_to=st.sampled_from([None, "en"]),
    ai_evaluation=st.sampled_from([None, "ChatGPT"]),
    generate_metadata=st.booleans(),
    generate_quiz=st.booleans(),
    generate_notes=st.booleans(),
)


def test_the_strings_are_those_that_clients_compare_with() -> None:
    assert [each.value for each in Status] == [
        "WAITING_MEIDA_UPLOAD",
        "UPLOADING_MEDIA",
        "WAITING_MEDIA_TRANSCRIPTION",
        "TRANSCRIBING_MEDIA",
        "WAITING_AI_ENRICHMENT",
        "AI_ENRICHING",
        "WAITING_TRANSLATION",
        "TRANSLATING",
        "WAITING_AI_EVALUATION",
        "AI_EVALUATING",
        "SUCCESS",
        "FAILURE",
    ]


class Course:
    """One enrichment, its versions and the notices that were ordered."""

    def __init__(self, asked: EnrichmentParameters, level: NotificationLevel = NotificationLevel.DEFAULT) -> None:
        notify = Notify(url="https://pod.example.org/", level=level)
        self.versions: dict[str, Version] = {}
        self.notices: list[Notice] = []
        self.now: Enrichment = orders.created(enrichment(parameters=asked, notify=notify), NOW_S).enrichment

    def apply(self, change: Change) -> None:
        self.now = change.enrichment
        self.versions.update({each.id: each for each in change.versions})
        self.notices.extend(change.notices)

    @property
    def version(self) -> Version | None:
        return (
            None if self.now.job is None or self.now.job.version_id is None else self.versions[self.now.job.version_id]
        )

    def take(self) -> Step:
        taken = states.taken(self.now, owner="w", worker_name="W", at_s=NOW_S, lease_s=30)
        self.apply(Change(enrichment=taken))
        return STEP_OF[taken.status]

    def finish(self) -> None:
        assert self.now.job is not None
        self.apply(states.finished(self.now, self.version, RESULTS[self.now.job.step], NOW_S))

    def run(self) -> list[Status]:
        passed = [self.now.status]
        while not self.now.status.is_final:
            self.take()
            passed.append(self.now.status)
            self.finish()
            passed.append(self.now.status)
        return passed


@pytest.mark.parametrize(
    ("enriches", "translate_to", "evaluation"), list(product([True, False], [None, "en"], [None, "ChatGPT"]))
)
def test_the_way_is_that_of_the_contract(enriches: bool, translate_to: str | None, evaluation: str | None) -> None:
    asked = EnrichmentParameters(
        generate_metadata=False,
        generate_quiz=False,
        generate_notes=enriches,
        translate_to=translate_to,
        ai_evaluation=evaluation,
    )
    expected = [
        S.WAITING_MEDIA_UPLOAD,
        S.UPLOADING_MEDIA,
        S.WAITING_MEDIA_TRANSCRIPTION,
        S.TRANSCRIBING_MEDIA,
        *([S.WAITING_AI_ENRICHMENT, S.AI_ENRICHING] if enriches else []),
        *([S.WAITING_TRANSLATION, S.TRANSLATING] if translate_to else []),
        *([S.WAITING_AI_EVALUATION, S.AI_EVALUATING] if evaluation else []),
        S.SUCCESS,
    ]
    course = Course(asked)
    assert course.run() == expected
    assert [notice.status for notice in course.notices] == [S.SUCCESS]


@given(parameters)
def test_subtitles_skip_the_transcription(asked: EnrichmentParameters) -> None:
    course = Course(asked)
    course.take()
    fetched = replace(RESULTS[Step.FETCH], transcript=TRANSCRIPT, version_id="v1", duration_s=None)
    course.apply(states.finished(course.now, None, fetched, NOW_S))
    assert course.now.initial_version_id == "v1"
    assert S.TRANSCRIBING_MEDIA not in course.run()
    assert course.now.status is S.SUCCESS


@pytest.mark.parametrize("step", list(Step))
def test_every_step_may_fail_and_says_why(step: Step) -> None:
    course = Course(EnrichmentParameters(translate_to="en", ai_evaluation="ChatGPT"))
    while course.take() is not step:
        course.finish()
    course.apply(states.failed(course.now, course.version, Failure(cause="It broke."), NOW_S, LIMITS))
    assert (course.now.status, course.now.failure_cause, course.now.job) == (S.FAILURE, "It broke.", None)
    [notice] = course.notices
    assert (notice.status, notice.failure_cause) == (S.FAILURE, "It broke.")
    assert course.now.media is None or course.now.media.object_key is None


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (Step.FETCH, "Uploading took too long"),
        (Step.TRANSCRIPTION, "Max transcription retries reached (1)"),
        (Step.ENRICHMENT, "Max enrichment retries reached (1)"),
        (Step.TRANSLATION, "Max translation retries reached (1)"),
        (Step.EVALUATION, "Max evaluation retries reached (1)"),
    ],
)
def test_workers_that_fall_silent_fail_in_the_words_of_the_contract(step: Step, cause: str) -> None:
    course = Course(EnrichmentParameters(translate_to="en", ai_evaluation="ChatGPT"))
    while course.take() is not step:
        course.finish()
    course.apply(states.expired(course.now, course.version, NOW_S + 99))
    assert course.now.failure_cause == cause


def test_metadata_that_were_asked_for_must_be_there() -> None:
    course = Course(EnrichmentParameters())
    while course.take() is not Step.ENRICHMENT:
        course.finish()
    with pytest.raises(InvalidRequest, match="were asked for"):
        states.finished(course.now, course.version, Enriched(), NOW_S)
    course.apply(states.finished(course.now, course.version, Enriched(metadata=METADATA), NOW_S))
    assert course.now.status is S.SUCCESS


def test_an_enrichment_without_a_webhook_orders_no_call() -> None:
    course = Course(EnrichmentParameters())
    course.now = replace(course.now, notify=Notify(url=None))
    course.run()
    assert course.notices == []


def test_results_go_at_a_date_counted_from_the_end() -> None:
    course = Course(EnrichmentParameters())
    course.now = replace(course.now, retention=Retention(keep_media_s=5, keep_results_s=10))
    course.run()
    assert course.now.retention.results_until_s == NOW_S + 10
    assert course.now.media is not None
    assert course.now.media.object_key is not None
    course.apply(orders.removed_by_date(course.now, NOW_S + 4))
    assert course.now.media.object_key is not None
    course.apply(orders.removed_by_date(course.now, NOW_S + 5))
    assert course.now.media.object_key is None
    course.apply(orders.removed_by_date(course.now, NOW_S + 10))
    assert course.now.deleted_at_s == NOW_S + 10


def test_a_version_by_hand_waits_for_the_initial_one() -> None:
    course = Course(EnrichmentParameters())
    version = Version(id="v9", enrichment_id="e1", created_at_s=0, updated_at_s=0, parameters=EnrichmentParameters())
    with pytest.raises(Forbidden, match="No initial version found for the enrichment"):
        orders.version_added(course.now, version, NOW_S)


class Events(RuleBasedStateMachine):
    """Whatever happens, in whatever order, with workers that come too late."""

    def __init__(self) -> None:
        super().__init__()
        self.course = Course(EnrichmentParameters(translate_to="en"), NotificationLevel.TASK)
        self.leases: list[Lease] = []
        self.before = self.course.now
        self.asked = 1
        self.made = 0
        self.now_s = NOW_S

    def held(self, which: int) -> bool:
        """Whether one of the leases given so far is good; all functions are guarded by this in the stores."""
        if not self.leases:
            return False
        lease = self.leases[which % len(self.leases)]
        try:
            states.check_lease(self.course.now, lease)
        except LeaseLost:
            return False
        assert lease == self.leases[-1], "only the last lease given may be good"
        return True

    @rule(wait_s=st.sampled_from([0, 10, 31]))
    def take(self, wait_s: int) -> None:
        self.now_s += wait_s
        job = self.course.now.job
        if job is None or not job.free_at(self.now_s):
            with pytest.raises(Conflict):
                states.taken(self.course.now, owner="w", worker_name="W", at_s=self.now_s, lease_s=30)
        elif states.is_exhausted(self.course.now, self.now_s, LIMITS):
            self.course.apply(states.expired(self.course.now, self.course.version, self.now_s))
        else:
            owner = f"w{len(self.leases)}"
            taken = states.taken(self.course.now, owner=owner, worker_name="W", at_s=self.now_s, lease_s=30)
            self.course.apply(Change(enrichment=taken))
            self.leases.append(states.lease_of(taken))

    @rule(which=st.integers(0, 50))
    def finish(self, which: int) -> None:
        if self.held(which):
            self.course.finish()

    @rule(which=st.integers(0, 50), helps=st.booleans())
    def fail(self, which: int, helps: bool) -> None:
        if self.held(which):
            failure = Failure(cause="broken", retry_after_s=5 if helps else None)
            self.course.apply(states.failed(self.course.now, self.course.version, failure, self.now_s, LIMITS))

    @rule(which=st.integers(0, 50), unavailable=st.booleans())
    def release(self, which: int, unavailable: bool) -> None:
        if self.held(which):
            course = self.course
            course.apply(states.released(course.now, course.version, self.now_s, LIMITS, unavailable=unavailable))

    @precondition(lambda self: bool(self.course.versions))
    @rule(asked=parameters)
    def ask_again(self, asked: EnrichmentParameters) -> None:
        self.made += 1
        latest = self.course.versions[self.course.now.last_version_id or ""]
        try:
            change = orders.asked_again(self.course.now, latest, f"again{self.made}", asked, self.now_s)
        except Conflict:
            assert not self.course.now.status.is_final
        else:
            self.asked += 1
            self.course.apply(change)

    @rule(again=st.booleans())
    def delete(self, again: bool) -> None:
        if again and self.made > 2:
            self.course.apply(orders.deleted(self.course.now, self.now_s))
            assert not self.held(-1)
            self.course = Course(EnrichmentParameters(ai_evaluation="ChatGPT"))
            self.leases, self.asked, self.made = [], 1, 0
            self.before = self.course.now

    @invariant()
    def moves_are_those_of_the_table(self) -> None:
        before, now = self.before, self.course.now
        self.before = now
        if now.fence != before.fence:
            assert now.fence > before.fence
            repeated = now.status is before.status and now.status in STEP_OF
            failed = now.status is S.FAILURE and not before.status.is_final
            assert repeated or failed or now.status in CONTRACT[before.status]
        else:
            assert now.status is before.status

    @invariant()
    def a_job_is_there_exactly_while_there_is_work(self) -> None:
        now = self.course.now
        assert (now.job is None) is now.status.is_final
        if now.job is not None:
            assert STEP_OF[now.status] is now.job.step
            assert now.job.attempts <= 2

    @invariant()
    def every_end_is_told_once(self) -> None:
        ends = [notice for notice in self.course.notices if notice.status.is_final]
        assert len(ends) <= self.asked
        numbers = [notice.number for notice in self.course.notices]
        assert numbers == list(range(1, len(numbers) + 1))


TestEvents = Events.TestCase
