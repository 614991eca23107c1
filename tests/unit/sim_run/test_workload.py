"""Workloads send what they say, when they say it, and the same each time."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.values import RequestClass
from ilaas.sim.sources import source
from ilaas.sim.workload import Backlog, Lengths, Planned, Poisson, Trace, TraceLine, Users, always

WHO = {"organisations": ("nantes", "rennes"), "models": ("m",)}
RAMP = ((0.0, 0), (60.0, 50), (240.0, 50), (300.0, 0))


def answered_after(workload: Users, answer_s: float, duration_s: float = 1_000.0) -> list[Planned]:
    """Everything that is sent when each answer takes so long."""
    player = source(workload, 1, duration_s)
    todo, sent = player.start(), []
    while todo:
        todo.sort(key=lambda planned: planned.at_s)
        planned = todo.pop(0)
        sent.append(planned)
        following = player.ended(planned, planned.at_s + answer_s, None)
        if following is not None:
            todo.append(following)
    return sent


def test_a_ramp_has_as_many_users_as_it_says_at_each_time() -> None:
    sent = answered_after(Users(name="u", ramp=RAMP, **WHO), 10.0)
    for at_s, users in ((30.0, 25), (60.0, 50), (150.0, 50), (239.0, 50), (270.0, 25)):
        under_way = [planned for planned in sent if planned.at_s <= at_s < planned.at_s + 10.0]
        assert abs(len(under_way) - users) <= 9, at_s  # users who leave finish their last answer
    assert max(planned.at_s for planned in sent) < 300


def test_a_user_sends_the_next_request_when_the_answer_is_there() -> None:
    sent = answered_after(Users(name="u", ramp=((0.0, 1), (100.0, 1), (100.0, 0)), **WHO), 7.5)
    assert [planned.at_s for planned in sent] == [index * 7.5 for index in range(14)]


def test_users_come_back_when_the_ramp_rises_again() -> None:
    ramp = ((0.0, 1), (10.0, 1), (10.0, 0), (50.0, 0), (50.0, 1), (60.0, 1), (60.0, 0))
    sent = answered_after(Users(name="u", ramp=ramp, **WHO), 8.0)
    assert [planned.at_s for planned in sent] == [0.0, 8.0, 50.0, 58.0]


def test_a_refused_user_waits_as_long_as_told() -> None:
    player = source(Users(name="u", ramp=((0.0, 1),), **WHO), 1, 100.0)
    (first,) = player.start()
    second = player.ended(first, 1.0, 12.0)
    assert second is not None
    assert second.at_s == 13.0


def test_the_requests_of_a_user_do_not_depend_on_how_long_the_answers_took() -> None:
    workload = Users(name="u", ramp=((0.0, 3), (100.0, 3), (100.0, 0)), think_s=1.0, **WHO)
    slow = {p.id: (p.prompt_tokens, p.output_tokens) for p in answered_after(workload, 9.0)}
    fast = {p.id: (p.prompt_tokens, p.output_tokens) for p in answered_after(workload, 2.0)}
    assert len(slow) > 20
    assert all(fast[request_id] == size for request_id, size in slow.items())


def test_the_turns_of_a_conversation_carry_the_earlier_ones_and_share_their_prefix() -> None:
    workload = Users(
        name="u",
        ramp=((0.0, 1), (30.0, 1), (30.0, 0)),
        turns=3,
        prompt_tokens=always(300),
        output_tokens=always(100),
        system_prompt_tokens=256,
        **WHO,
    )
    sent = answered_after(workload, 5.0)
    assert [planned.prompt_tokens for planned in sent] == [556, 956, 1356, 556, 956, 1356]
    first, second, _, other, *_ = sent
    assert first.prefix is not None
    assert second.prefix is not None
    assert other.prefix is not None
    assert second.prefix.hashes[: len(first.prefix.hashes)] == first.prefix.hashes
    assert other.prefix.hashes[:2] == first.prefix.hashes[:2]  # the system prompt
    assert other.prefix.hashes[2:] != first.prefix.hashes[2:]
    assert first.conversation == second.conversation != other.conversation


def test_poisson_arrivals_follow_the_steps_of_their_rate() -> None:
    player = source(Poisson(name="p", rate=((10.0, 20.0), (60.0, 0.0), (100.0, 2.0)), **WHO), 3, 300.0)
    sent = player.start()
    while (following := player.sent(sent[-1])) is not None:
        sent.append(following)
    times = [planned.at_s for planned in sent]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[0] >= 10
    assert not [at_s for at_s in times if 60 <= at_s < 100]
    assert 850 < len([at_s for at_s in times if at_s < 60]) < 1150
    assert 330 < len([at_s for at_s in times if at_s >= 100]) < 470
    assert times[-1] < 300


def test_a_backlog_comes_at_once_and_what_is_refused_comes_again() -> None:
    player = source(Backlog(name="b", requests=5, at_s=2.0, request_class=RequestClass.BATCH, **WHO), 1, 100.0)
    sent = player.start()
    assert [planned.at_s for planned in sent] == [2.0] * 5
    assert [planned.organisation for planned in sent] == ["nantes", "rennes", "nantes", "rennes", "nantes"]
    again = player.ended(sent[0], 2.0, 30.0)
    assert again is not None
    assert (again.at_s, again.prompt_tokens) == (32.0, sent[0].prompt_tokens)
    assert again.id != sent[0].id
    assert player.ended(sent[1], 50.0, None) is None


def test_a_trace_is_played_as_recorded_at_the_speed_asked_for() -> None:
    line = TraceLine(at_s=30.0, organisation="lyon", model="m", prompt_tokens=12, output_tokens=3)
    (planned,) = source(Trace(name="t", lines=(line,), speed=2.0), 1, 100.0).start()
    assert (planned.at_s, planned.organisation, planned.prompt_tokens, planned.output_tokens) == (15.0, "lyon", 12, 3)


def test_about_the_share_asked_for_presses_stop() -> None:
    workload = Backlog(name="b", requests=1_000, stop_share=0.2, **WHO)
    stops = [planned.stop_after_s for planned in source(workload, 1, 1.0).start()]
    assert 150 < sum(stop is not None for stop in stops) < 250


def test_owner_is_not_a_class_that_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="given by the dispatcher"):
        Poisson(name="p", rate=((0.0, 1.0),), request_class=RequestClass.OWNER, **WHO)


@given(st.integers(1, 5_000), st.floats(0, 3), st.integers(1, 50), st.integers(50, 9_000), st.integers())
def test_lengths_stay_within_their_ends(median: int, spread: float, low: int, high: int, seed: int) -> None:
    drawn = Lengths(median=median, spread=spread, minimum=low, maximum=high).draw(Random(seed))
    assert low <= drawn <= high
