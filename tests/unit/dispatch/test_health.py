"""Servers that fail, come back, drain, come and go."""

from __future__ import annotations

import pytest

from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.values import SERVER_FAULTS, Outcome, RoutingMode, Strategy
from tests.unit.dispatch.desk import Desk, server


def failing(desk: Desk, count: int, outcome: Outcome = Outcome.CONNECT_FAILED, prefix: str = "f") -> None:
    """So many requests are sent to the first server and fail there."""
    for number in range(count):
        desk.ask(f"{prefix}{number}")
        desk.end(f"{prefix}{number}", outcome)


@pytest.mark.parametrize("outcome", sorted(SERVER_FAULTS))
def test_failures_in_a_row_take_a_server_down(outcome: Outcome) -> None:
    desk = Desk(server("s1"), failures_before_down=3)
    failing(desk, 2, outcome)
    assert desk.state("s1") == "up"
    failing(desk, 1, outcome, "g")
    assert desk.state("s1") == "down"
    assert desk.scheduler.view(desk.now).servers[0].failed == 3


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - SERVER_FAULTS))
def test_what_the_client_or_the_gateway_did_is_not_the_servers_fault(outcome: Outcome) -> None:
    desk = Desk(server("s1"), failures_before_down=3)
    failing(desk, 10, outcome)
    assert desk.state("s1") == "up"


def test_a_success_in_between_begins_the_count_anew() -> None:
    desk = Desk(server("s1"), failures_before_down=3)
    for number in range(10):
        failing(desk, 2, prefix=f"f{number}")
        desk.ask(f"ok{number}")
        desk.end(f"ok{number}")
    assert desk.state("s1") == "up"


def test_failed_checks_take_a_server_down_and_good_requests_do_not_hide_them() -> None:
    desk = Desk(server("s1"), failures_before_down=3)
    for _ in range(2):
        desk.check("s1", ok=False)
    desk.check("s1", ok=True)
    for _ in range(2):
        desk.check("s1", ok=False)
    assert desk.state("s1") == "up"
    desk.check("s1", ok=False)
    assert desk.state("s1") == "down"


def test_a_server_whose_checks_pass_while_its_requests_fail_goes_down() -> None:
    desk = Desk(server("s1"), failures_before_down=3)
    for number in range(3):
        failing(desk, 1, prefix=f"f{number}")
        desk.check("s1", ok=True)
    assert desk.state("s1") == "down"


def test_after_a_pause_a_server_is_probed_by_one_request_at_a_time_and_comes_up_after_two() -> None:
    desk = Desk(server("s1", 5), down_s=5.0, successes_before_up=2)
    desk.down("s1")
    desk.wait(4.75)
    assert desk.state("s1") == "down"
    desk.wait(0.25)
    assert desk.state("s1") == "probing"
    assert [desk.ask(f"p{number}") for number in range(3)] == ["s1", None, None]
    assert desk.end("p0") == ["p1"]
    assert desk.state("s1") == "probing"
    assert desk.end("p1") == ["p2"]
    assert desk.state("s1") == "up"
    assert [desk.ask(f"q{number}") for number in range(4)] == ["s1"] * 4


def test_good_checks_bring_a_probed_server_up_without_a_request() -> None:
    desk = Desk(server("s1", 5), down_s=5.0, successes_before_up=2)
    desk.down("s1")
    desk.check("s1", ok=True)
    assert desk.state("s1") == "down", "while the pause lasts a good check proves nothing"
    desk.wait(5)
    desk.check("s1", ok=True)
    desk.check("s1", ok=True)
    assert desk.state("s1") == "up"


def test_a_good_check_halves_what_is_left_of_a_pause() -> None:
    desk = Desk(server("s1"), down_s=8.0)
    desk.down("s1")
    desk.wait(2)
    desk.check("s1", ok=True)
    desk.wait(2.75)
    assert desk.state("s1") == "down"
    desk.wait(0.25)
    assert desk.state("s1") == "probing"


def test_each_relapse_doubles_the_pause_up_to_a_minute() -> None:
    desk = Desk(server("s1"), down_s=5.0)
    desk.down("s1")
    pauses = []
    for _ in range(6):
        began = desk.now
        while desk.state("s1") == "down":
            desk.wait(0.25)
        pauses.append(desk.now - began)
        desk.check("s1", ok=False)
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_a_server_that_stayed_up_for_long_begins_with_the_short_pause_again() -> None:
    desk = Desk(server("s1"), down_s=5.0, successes_before_up=1)
    for _ in range(2):
        desk.down("s1")
        while desk.state("s1") == "down":
            desk.wait(1)
        desk.check("s1", ok=True)
    desk.wait(61)
    desk.down("s1")
    desk.wait(5)
    assert desk.state("s1") == "probing"


def test_what_was_sent_before_the_failure_says_nothing_about_the_probe() -> None:
    desk = Desk(server("s1", 5), down_s=5.0, successes_before_up=2)
    for name in ["old1", "old2", "old3"]:
        desk.ask(name)
    desk.down("s1")
    desk.wait(5)
    desk.end("old1")
    desk.end("old2")
    assert desk.state("s1") == "probing"
    assert desk.end("old3", Outcome.CONNECT_FAILED) == []
    assert desk.state("s1") == "probing"


def test_a_probe_of_an_earlier_period_neither_counts_in_a_later_one_nor_makes_room_in_it() -> None:
    desk = Desk(server("s1", 5), down_s=1.0, successes_before_up=1)
    desk.down("s1")
    desk.wait(1)
    assert desk.ask("early") == "s1"
    desk.check("s1", ok=False)
    desk.wait(2)
    assert desk.state("s1") == "probing"
    assert desk.ask("late") == "s1"
    assert desk.ask("next") is None
    assert desk.end("early") == [], "its slot is no probe's slot"
    assert desk.state("s1") == "probing"
    assert desk.end("late") == ["next"]


def test_the_next_event_is_the_end_of_the_pause() -> None:
    desk = Desk(server("s1"), server("s2"), down_s=7.0)
    desk.down("s1")
    assert desk.scheduler.next_event_s() == desk.now + 7


# -- draining ----------------------------------------------------------------------------------------------------------


def test_a_draining_server_ends_what_it_has_and_gets_nothing_new() -> None:
    desk = Desk(server("s1", 2), server("s2", 2))
    desk.ask("one")
    assert desk.server_of("one") == "s1"
    desk.configure(server("s1", 2, draining=True), server("s2", 2))
    assert desk.state("s1") == "draining"
    assert [desk.ask(f"t{number}") for number in range(3)] == ["s2", "s2", None]
    assert desk.end("one") == []
    assert desk.end("t0") == ["t2"]


def test_a_server_that_resumes_takes_who_waits_at_once() -> None:
    desk = Desk(server("s1", draining=True), server("s2"))
    desk.ask("one")
    desk.ask("two")
    assert desk.configure(server("s1"), server("s2")) == ["two"]


def test_when_all_drain_a_request_is_refused() -> None:
    desk = Desk(server("s1", draining=True))
    desk.ask("one")
    assert desk.refused["one"].reason is RefusalReason.NO_SERVER


# -- changes of the catalogue ------------------------------------------------------------------------------------------


def test_a_change_keeps_what_is_under_way_and_everybodys_place() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    for number in range(5):
        desk.ask(f"t{number}")
    assert desk.configure(server("s1"), max_queued=50, ageing_s=1.0) == []
    assert desk.scheduler.view(desk.now).running == 1
    found = []
    name = "held"
    for _ in range(5):
        (name,) = desk.end(name)
        found.append(name)
    assert found == [f"t{number}" for number in range(5)]


def test_a_new_server_is_used_in_the_same_call() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("waits")
    assert desk.configure(server("s1"), server("s2")) == ["waits"]


def test_a_larger_maximum_is_used_in_the_same_call_and_a_smaller_one_holds_from_now_on() -> None:
    desk = Desk(server("s1", 1))
    for number in range(6):
        desk.ask(f"t{number}")
    assert desk.configure(server("s1", 3)) == ["t1", "t2"]
    desk.configure(server("s1", 2))
    assert desk.end("t0") == []
    assert desk.end("t1") == ["t3"]


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.CONNECT_FAILED])
def test_leases_of_a_server_that_was_removed_still_settle(outcome: Outcome) -> None:
    desk = Desk(server("s1", 2), server("s2"))
    desk.ask("one")
    desk.ask("two")
    desk.configure(server("s2"))
    view = desk.scheduler.view(desk.now)
    assert [one.id for one in view.servers] == ["s2"]
    for name in ["one", "two"]:
        desk.end(name, outcome)
    assert desk.ask("three") == "s2"


def test_a_request_whose_server_was_removed_is_retried_elsewhere() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("one")
    desk.configure(server("s2"))
    assert desk.fail("one") == ["one"]
    assert desk.server_of("one") == "s2"


def test_a_server_that_comes_back_still_counts_what_it_had_under_way() -> None:
    desk = Desk(server("s1", 2), server("s2", 1))
    desk.ask("one")
    desk.ask("two")
    assert {desk.server_of("one"), desk.server_of("two")} == {"s1", "s2"}
    on_first = "one" if desk.server_of("one") == "s1" else "two"
    desk.configure(server("s2", 1))
    desk.configure(server("s1", 2), server("s2", 1))
    assert [desk.ask("three"), desk.ask("four")] == ["s1", None]
    assert desk.end(on_first) == ["four"]
    assert desk.ask("five") is None


def test_a_lease_of_a_removed_server_does_not_hide_its_successor_of_the_same_name() -> None:
    desk = Desk(server("s1", 2))
    desk.ask("old")
    desk.configure(draining_all := server("s9", 1, draining=True))
    assert draining_all.draining
    desk.configure(server("s1", 2))
    desk.end("old")
    assert [desk.ask("a"), desk.ask("b"), desk.ask("c")] == ["s1", "s1", None]


def test_who_waits_when_the_last_server_goes_waits_for_the_next_one_for_a_while() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("waits")
    desk.spec = desk.spec.__class__(name="m", servers=(), policy=desk.spec.policy)
    desk.configure()
    desk.wait(5)
    assert desk.configure(server("s2")) == ["waits"]


def test_an_organisation_that_gives_a_server_gets_its_lane_for_those_who_wait_already() -> None:
    desk = Desk(server("s1", 1, "lille"))
    desk.ask("held", "z")
    desk.ask("z1", "z")
    desk.ask("l1", "lyon")
    assert desk.configure(server("s1", 1, "lille"), server("s2", 1, "lyon")) == ["l1"]


def test_private_only_that_waits_when_its_servers_leave_is_refused_after_a_while() -> None:
    desk = Desk(server("s1", 1, "lyon"), server("s2", 5, "lille"))
    desk.ask("held", "lyon")
    desk.ask("waits", "lyon", routing_mode=RoutingMode.PRIVATE_ONLY)
    desk.configure(server("s2", 5, "lille"))
    desk.wait(11)
    assert desk.refused["waits"].reason is RefusalReason.NO_SERVER


def test_a_long_prompt_that_waits_when_the_wide_window_leaves_is_refused_after_a_while() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("long", context_tokens=20_000)
    desk.configure(server("s1", context_window=4_000))
    assert desk.end("held") == []
    desk.wait(11)
    assert desk.refused["long"].reason is RefusalReason.NO_SERVER


@pytest.mark.parametrize("before", list(Strategy))
@pytest.mark.parametrize("after", list(Strategy))
def test_any_strategy_follows_any_other_and_nobody_is_lost(before: Strategy, after: Strategy) -> None:
    desk = Desk(server("s1", 2), server("s2", 2, "lyon"), strategy=before)
    names = [f"t{number}" for number in range(12)]
    for number, name in enumerate(names):
        desk.ask(name, "lyon" if number % 3 == 0 else "a")
    desk.fail(next(iter(desk.granted)))
    desk.configure(strategy=after)
    ended: list[str] = []
    while desk.granted:
        ended.append(next(iter(desk.granted)))
        desk.end(ended[-1])
    assert sorted(ended) == sorted(names)
    assert desk.waiting() == 0


def test_changed_weights_hold_for_who_waits() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(40):
        desk.ask(f"a{number}", "a", estimated_tokens=10)
        desk.ask(f"b{number}", "b", estimated_tokens=10)
    desk.weights = {"a": 3.0}
    desk.configure()
    found, name = [], "held"
    for _ in range(40):
        (name,) = desk.end(name, tokens=10)
        found.append(name[0])
    assert found.count("a") in range(29, 32)


def test_what_an_organisation_owes_outlives_a_change() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(3):
        desk.ask(f"a{number}", "a", estimated_tokens=10_000)
        desk.ask(f"b{number}", "b", estimated_tokens=10)
    assert desk.end("held") == ["a0"]
    desk.configure(max_queued=99)
    found, name = [], "a0"
    for _ in range(3):
        (name,) = desk.end(name)
        found.append(name)
    assert found == ["b0", "b1", "b2"]


def test_a_model_that_goes_refuses_all_who_wait_and_lets_the_rest_end() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("waits")
    desk.batch("batch")
    desk.note(desk.scheduler.close())
    assert {name: refusal.reason for name, refusal in desk.refused.items()} == {
        "waits": RefusalReason.NO_SERVER,
        "batch": RefusalReason.NO_SERVER,
    }
    assert desk.end("held") == []


def test_a_probe_never_passes_the_servers_maximum() -> None:
    desk = Desk(server("s1", 1), down_s=1.0)
    desk.ask("hangs")
    desk.down("s1")
    desk.wait(1)
    assert desk.state("s1") == "probing"
    assert desk.ask("one") is None
    assert desk.end("hangs") == ["one"]
