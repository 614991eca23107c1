"""Traffic is drawn as described and repeatably; machines are dealt out so that each model is where it can be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ilaas.sim.federation.plan import Action, ModelPlan, plan_day
from ilaas.sim.federation.scenario import load_day
from ilaas.sim.federation.traffic import Traffic, draw_traffic
from tests.support.days import small_day

EXAMPLE = Path(__file__).parents[3] / "examples" / "scenarios" / "federation.yaml"


def drawn(plan: ModelPlan, seed: int = 1) -> Traffic:
    return draw_traffic(plan.name, plan.demands, plan.day.people, seed, plan.day.duration_s)


def test_the_same_seed_gives_the_same_requests_and_another_seed_others() -> None:
    (plan,) = plan_day(small_day())
    assert drawn(plan) == drawn(plan)
    assert drawn(plan) != drawn(plan, seed=2)


def test_requests_come_in_order_and_as_many_as_expected() -> None:
    (plan,) = plan_day(small_day(hours=24))
    traffic = drawn(plan)
    at_s = np.array(traffic.at_s)
    assert (np.diff(at_s) >= 0).all()
    expected = sum(demand.requests for demand in plan.demands)  # 30,000
    assert len(traffic) == pytest.approx(expected, rel=0.05)
    asked = Counter(traffic.institution)
    assert asked[0] / len(traffic) == pytest.approx(0.6, abs=0.06)


def test_the_profile_decides_when() -> None:
    morning = [0.0] * 8 + [1.0] * 4 + [0.0] * 12
    (plan,) = plan_day(small_day(hours=24, profiles={"flat": morning}))
    hours = np.array(drawn(plan).at_s) / 3600
    assert hours.min() > 7.4
    assert np.quantile(hours, 0.9) < 12.6


def test_a_change_of_one_use_leaves_the_draws_of_the_others() -> None:
    chat, corpus = (use.model_dump() for use in small_day().uses)
    (one,) = plan_day(small_day(uses=[chat, corpus]))
    (other,) = plan_day(small_day(uses=[chat, {**corpus, "per_person": 2}]))

    def chats(plan: ModelPlan) -> list[tuple[float, int, int]]:
        traffic = drawn(plan)
        columns = zip(traffic.use, traffic.at_s, traffic.prompt_tokens, traffic.output_tokens, strict=True)
        return [row[1:] for row in columns if row[0] == 0]

    assert chats(one) == chats(other)
    assert len(drawn(other)) > len(drawn(one))


def test_a_conversation_carries_what_was_said_before() -> None:
    (plan,) = plan_day(small_day(hours=24))
    traffic = drawn(plan)
    said: dict[int, int] = {}
    for number, conversation in enumerate(traffic.conversation):
        if conversation:
            assert traffic.prompt_tokens[number] > said.get(conversation, 0)
            said[conversation] = traffic.prompt_tokens[number] + traffic.output_tokens[number] - 1
    assert len(said) > 1_000


def test_every_machine_is_dealt_out_once_and_every_model_has_one_that_stays() -> None:
    day = load_day(EXAMPLE)
    plans = plan_day(day)
    there = Counter((box.spec.site, box.kind) for plan in plans for box in plan.boxes)
    assert there == Counter({(site.name, kind): n for site in day.sites for kind, n in site.servers.items()})
    assert len({box.spec.id for plan in plans for box in plan.boxes}) == 500
    assert all(any(not box.spot for box in plan.boxes) for plan in plans)
    assert all(len({box.spec.site for box in plan.boxes}) == min(len(plan.boxes), 10) for plan in plans[3:6])


def test_a_popular_model_gets_more_machines() -> None:
    plans = [plan for plan in plan_day(load_day(EXAMPLE)) if plan.group == "assistant"]
    sizes = [len(plan.boxes) for plan in plans]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3 * sizes[-1]


def test_spot_machines_come_and_go_in_turn_with_notice() -> None:
    spot = {"preset": "h200", "max_parallel": 16, "spot": {"present_h": 1, "away_h": 0.5, "notice_s": 60}}
    kinds = {**{name: kind.model_dump() for name, kind in small_day().kinds.items()}, "fast": spot}
    (plan,) = plan_day(small_day(hours=24, kinds=kinds))
    boxes = [box for box in plan.boxes if box.spot]
    assert len(boxes) == 2
    for box in boxes:
        actions = [change.action for change in box.changes]
        cycle = [Action.NOTICE, Action.LEAVE, Action.JOIN]
        first = 0 if box.here else 2
        assert actions == [cycle[(first + n) % 3] for n in range(len(actions))]
        assert [change.at_s for change in box.changes] == sorted(change.at_s for change in box.changes)
        assert len(actions) > 20
    assert boxes[0].changes != boxes[1].changes
