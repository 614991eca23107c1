"""A model's day: every request ends once, the same seed gives the same day, and others take over when servers go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.catalogue import Deadlines
from ilaas.core.values import Continuation, Outcome
from ilaas.sim.federation.plan import Action, Change, ModelPlan, plan_day, with_boxes
from ilaas.sim.federation.requests import OUTCOMES, UNFINISHED
from ilaas.sim.federation.run import ModelRun
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.traffic import draw_traffic
from tests.support.days import small_day

SPOT = {"preset": "h200", "max_parallel": 16, "spot": {"present_h": 0.4, "away_h": 0.2, "notice_s": 5}}


def played(plan: ModelPlan) -> ModelRun:
    day = plan.day
    run = ModelRun(plan, draw_traffic(plan.name, plan.demands, day.people, plan.seed, day.duration_s))
    run.play()
    return run


def outcomes(run: ModelRun) -> Counter[str]:
    return Counter("unfinished" if code == UNFINISHED else OUTCOMES[code].value for code in run.columns.outcome)


def with_spot(**changes: Any) -> Day:
    kinds = {name: kind.model_dump() for name, kind in small_day().kinds.items()}
    return small_day(kinds={**kinds, "fast": SPOT}, **changes)


def busy(times: float, **changes: Any) -> Day:
    """The small day with so many times its demand."""
    uses = [use.model_dump() for use in small_day().uses]
    return small_day(uses=[{**use, "per_person": use["per_person"] * times} for use in uses], **changes)


def struck(plan: ModelPlan, site: str, *changes: Change) -> ModelPlan:
    return with_boxes(
        plan, tuple(replace(box, changes=changes) if box.spec.site == site else box for box in plan.boxes)
    )


def without_continuation(plan: ModelPlan) -> ModelPlan:
    policy = replace(plan.spec.policy, continuation=Continuation.OFF)
    return replace(plan, spec=replace(plan.spec, policy=policy))


def check_books(run: ModelRun) -> None:
    """Each request ended once, in order, and nothing is left in any server or in the queue."""
    columns, number = run.columns, len(run.traffic)
    assert number > 50
    assert outcomes(run)["unfinished"] == 0
    ended, at = np.array(columns.ended_s), np.array(run.traffic.at_s)
    assert (ended >= at).all()
    granted, first = np.array(columns.granted_s), np.array(columns.first_s)
    done = np.array(columns.outcome) == OUTCOMES.index(Outcome.COMPLETED)
    assert (at[done] <= granted[done]).all()
    assert (granted[done] <= first[done]).all()
    assert (first[done] <= ended[done]).all()
    assert all(
        not machine.held and not machine.engine.running and not machine.engine.waiting for machine in run.machines
    )
    assert run._scheduler.view(run.now).running == 0
    assert not any(run._scheduler.view(run.now).queued.values())


def test_all_is_answered_when_there_is_room() -> None:
    (plan,) = plan_day(small_day())
    run = played(plan)
    check_books(run)
    assert outcomes(run) == {"completed": len(run.traffic)}


def test_the_same_plan_gives_the_same_day() -> None:
    (plan,) = plan_day(with_spot())
    assert played(plan).columns == played(plan).columns


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    demand=st.sampled_from([1.0, 15.0]),
    continued=st.booleans(),
    losses=st.lists(
        st.tuples(st.sampled_from(["lyon", "lille"]), st.integers(0, 2_400), st.integers(1, 1_500)), max_size=2
    ),
)
def test_every_request_ends_once_whatever_comes_and_goes(
    seed: int, demand: float, continued: bool, losses: list[tuple[str, int, int]]
) -> None:
    uses = [{**use.model_dump(), "per_person": use.per_person * demand / 2} for use in small_day().uses]
    (plan,) = plan_day(with_spot(seed=seed, hours=0.75, uses=uses))
    plan = plan if continued else without_continuation(plan)
    for site, at_s, lasts_s in losses[:1]:
        plan = struck(plan, site, Change(at_s, Action.DIE), Change(at_s + lasts_s, Action.REVIVE))
    check_books(played(plan))


def test_when_a_site_is_lost_others_take_over() -> None:
    (plan,) = plan_day(small_day())
    run = played(struck(plan, "lyon", Change(1800.0, Action.DIE), Change(5400.0, Action.REVIVE)))
    check_books(run)
    ended = outcomes(run)
    assert ended["completed"] == len(run.traffic)
    granted, server = np.array(run.columns.granted_s), np.array(run.columns.server)
    lyon = [machine.index for machine in run.machines if machine.box.spec.site == "lyon"]
    gone = (granted > 1800.0) & (granted < 5400.0)
    assert not np.isin(server[gone & (np.array(run.columns.ended_s) < 5400.0)], lyon).any()
    assert np.isin(server[granted < 1800.0], lyon).any()
    assert np.isin(server[granted > 5500.0], lyon).any()


def test_answers_that_are_cut_off_are_continued_or_lost_as_the_model_says() -> None:
    (plan,) = plan_day(busy(4, hours=1.1))
    lost = struck(plan, "lyon", Change(3600.0, Action.DIE))
    kept, broken = played(lost), played(without_continuation(lost))
    check_books(kept)
    check_books(broken)
    interrupted = sum(machine.interrupted for machine in broken.machines)
    assert interrupted > 0
    assert outcomes(broken)["stream_broken"] == interrupted
    assert kept.continued == sum(machine.interrupted for machine in kept.machines) > 0
    assert outcomes(kept)["stream_broken"] == 0


def test_a_notice_lets_short_answers_end() -> None:
    (plan,) = plan_day(busy(4, hours=1.1))
    sudden = played(struck(plan, "lyon", Change(3600.0, Action.LEAVE)))
    told = played(struck(plan, "lyon", Change(3540.0, Action.NOTICE), Change(3600.0, Action.LEAVE)))
    cut = [sum(machine.interrupted for machine in run.machines) for run in (sudden, told)]
    assert cut[1] < cut[0]
    granted, server = np.array(told.columns.granted_s), np.array(told.columns.server)
    lyon = [machine.index for machine in told.machines if machine.box.spec.site == "lyon"]
    assert not np.isin(server[granted > 3540.0], lyon).any()


def test_without_any_server_requests_are_refused_with_a_name() -> None:
    (plan,) = plan_day(small_day())
    dead = Change(600.0, Action.DIE)
    run = played(struck(struck(plan, "lyon", dead), "lille", dead))
    check_books(run)
    late = np.array(run.traffic.at_s) > 700.0
    assert {OUTCOMES[code] for code in np.array(run.columns.outcome)[late]} <= {
        Outcome.REFUSED_NO_SERVER,
        Outcome.CONNECT_FAILED,
    }


def test_too_much_is_refused_and_batch_waits_for_people() -> None:
    (plan,) = plan_day(busy(80, hours=0.1))
    run = played(plan)
    ended = outcomes(run)
    assert sum(ended.values()) == len(run.traffic)
    assert ended["refused_busy"] > 0
    waited = np.array(run.columns.granted_s) - np.array(run.traffic.at_s)
    batch = np.array(run.traffic.use) == 1
    assert np.nanmedian(waited[batch]) > 3 * np.nanmedian(waited[~batch])


def test_a_first_token_that_takes_too_long_is_tried_elsewhere() -> None:
    limit_s = 0.2
    (plan,) = plan_day(small_day())
    policy = replace(plan.spec.policy, deadlines=Deadlines(first_token_s=limit_s))
    run = played(replace(plan, spec=replace(plan.spec, policy=policy)))
    check_books(run)
    ended = outcomes(run)
    first, granted = np.array(run.columns.first_s), np.array(run.columns.granted_s)
    tried = run.plan.spec.policy.max_attempts
    assert np.nanmax(first - granted) <= tried * limit_s + 1.0
    assert np.nanmax(first - granted) > limit_s or ended["first_token_timeout"]
