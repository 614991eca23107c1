"""What no order of events can bring about: the contract's table holds, and each end is told once."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ilaas.core.enrichment import orders, states
from ilaas.core.enrichment.changes import Change, Failure, SpeechLimits, StepLimits
from ilaas.core.enrichment.steps import Lease, Status, Step
from ilaas.core.enrichment.values import EnrichmentParameters, NotificationLevel
from ilaas.core.errors import Conflict, LeaseLost
from tests.support.enrichment import NOW_S
from tests.support.enrichment_course import STEP_OF, Course

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
