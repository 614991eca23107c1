"""A what-if changes what it says and nothing else."""

from __future__ import annotations

import pytest

from ilaas.core.errors import InvalidRequest
from ilaas.sim.federation.plan import Action, plan_day
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.study import Study
from ilaas.sim.federation.whatif import Addition, Loss, WhatIf, parse_clock, parse_factor, shown_clock
from tests.support.days import small_day


def two_models() -> Day:
    """One model with plenty, and one that has a single slow server for most of the requests."""
    group = {"parameters_b": 30, "servers": {"fast": 2, "slow": 1}}
    return small_day(
        hours=0.4,
        models=[
            {**group, "name": "rich", "uses": {"chat": 0.1, "corpus": 1.0}},
            {**group, "name": "poor", "uses": {"chat": 0.9}, "servers": {"slow": 1}},
        ],
        uses=[
            {"name": "chat", "per_person": 14, "profile": "flat"},
            {"name": "corpus", "class": "batch", "per_person": 1, "profile": "flat"},
        ],
    )


def test_machines_that_are_added_serve_the_model_that_is_waited_for() -> None:
    played: list[str] = []
    study = Study(two_models(), told=lambda result: played.append(result.name))
    before = {result.name: result for result in study.base()}
    what_if = WhatIf(additions=(Addition.parse("fast:2@lille"),))
    plans, results = study.variant(what_if)
    after = {result.name: result for result in results}
    assert [len(plan.boxes) for plan in plans] == [3, 3]
    assert [box.kind for box in plans[1].boxes] == ["slow", "fast", "fast"]
    assert {box.spec.site for box in plans[1].boxes[1:]} == {"lille"}
    assert len(plans[1].spec.servers) == 3
    assert after["rich"] is before["rich"]
    assert played == ["rich", "poor", "poor"]
    waited = [result.waits[:2, :, 1:].sum() / result.waits[:2].sum() for result in (before["poor"], after["poor"])]
    assert waited[1] < 0.5 * waited[0]


def test_machines_may_be_added_to_a_model_by_name() -> None:
    day = two_models()
    plans = WhatIf(additions=(Addition.parse("slow:1@lyon=rich"),)).plans(day, "poor")
    assert [len(plan.boxes) for plan in plans] == [4, 1]


def test_a_lost_site_dies_and_comes_back_at_those_times() -> None:
    day = two_models()
    plans = WhatIf(losses=(Loss("lyon", 600.0, 1200.0),)).plans(day, "poor")
    for box in (box for plan in plans for box in plan.boxes):
        changes = [(change.at_s, change.action) for change in box.changes]
        assert changes == ([(600.0, Action.DIE), (1200.0, Action.REVIVE)] if box.spec.site == "lyon" else [])


def test_twice_the_batch_leaves_people_s_requests_as_they_were() -> None:
    day = two_models()
    base, plans = plan_day(day), WhatIf(batch=2.0).plans(day, "poor")
    assert plans[1] == base[1]
    chat, corpus = plans[0].demands
    assert chat == base[0].demands[0]
    assert corpus.requests == 2 * base[0].demands[1].requests


def test_all_demand_can_be_multiplied() -> None:
    day = two_models()
    base, plans = plan_day(day), WhatIf(demand=3.0).plans(day, "poor")
    assert [[d.requests for d in plan.demands] for plan in plans] == [
        [pytest.approx(3 * d.requests) for d in plan.demands] for plan in base
    ]


def test_nothing_changed_is_nothing_played_again() -> None:
    played: list[str] = []
    study = Study(two_models(), told=lambda result: played.append(result.name))
    base = study.base()
    _, results = study.variant(WhatIf())
    assert [one is other for one, other in zip(base, results, strict=True)] == [True, True]
    assert len(played) == 2


def test_a_what_if_says_itself_in_a_line() -> None:
    what_if = WhatIf(
        additions=(Addition("h200", 2, "lyon"),), losses=(Loss("lille", 36_000.0, 50_400.0),), batch=2.0, demand=1.5
    )
    assert what_if.title() == "2 h200 more at lyon, lille lost from 10:00 to 14:00, batch x2, all demand x1.5"
    assert what_if
    assert not WhatIf()


@pytest.mark.parametrize("text", ["h200", "h200:2", "h200@lyon", "h200:0@lyon", "h200:x@lyon", ":2@lyon"])
def test_an_addition_that_is_not_one_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--add: '.*' is not KIND:NUMBER@SITE .*try 'h200:2@lyon'"):
        Addition.parse(text)


@pytest.mark.parametrize(
    ("what_if", "words"),
    [
        (WhatIf(additions=(Addition("h300", 1, "lyon"),)), "--add: the scenario has no kind 'h300'; use one of fast"),
        (WhatIf(additions=(Addition("fast", 1, "metz"),)), "--add: the scenario has no site 'metz'; use one of lyon"),
        (
            WhatIf(additions=(Addition("fast", 1, "lyon", "x"),)),
            "--add: the scenario has no model 'x'; use one of rich",
        ),
        (WhatIf(losses=(Loss("metz", 0, 1),)), "--lose-site: the scenario has no site 'metz'; use one of lyon, lille"),
    ],
)
def test_names_that_are_not_there_are_told_with_those_that_are(what_if: WhatIf, words: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Study(two_models()).variant(what_if)
    assert words in str(raised.value)


def test_times_and_factors_are_read() -> None:
    assert (parse_clock("10:30", "--from"), parse_clock("24:00", "--to")) == (37_800.0, 86_400.0)
    assert (parse_factor("x2", "--batch"), parse_factor("0.5", "--batch")) == (2.0, 0.5)
    assert shown_clock(37_800.0) == "10:30"


@pytest.mark.parametrize("text", ["10", "25:00", "10:60", "24:01", "noon"])
def test_a_wrong_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--from: '.*' is not a time of the day; write 09:30"):
        parse_clock(text, "--from")


@pytest.mark.parametrize("text", ["two", "x", "-1", "x-2"])
def test_a_wrong_factor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--batch: '.*' is not a factor; write x2"):
        parse_factor(text, "--batch")
