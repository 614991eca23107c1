"""Retries, cancels, deadlines: the ways out of the queue and back into it."""

from __future__ import annotations

import pytest

from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.values import Outcome, RoutingMode, Strategy
from tests.unit.dispatch.desk import Desk, server

# -- retries -----------------------------------------------------------------------------------------------------------


def test_a_retry_goes_to_another_server_at_once() -> None:
    desk = Desk(server("s1", 2), server("s2", 2))
    assert desk.ask("one") == "s1"
    assert desk.fail("one") == ["one"]
    assert desk.server_of("one") == "s2"
    assert desk.granted["one"].ticket.excluded == ("s1",)


def test_a_retry_keeps_its_old_place() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("first")
    desk.ask("other")
    for number in range(3):
        desk.now += 1
        desk.ask(f"later{number}")
    desk.now += 1
    assert desk.fail("first") == ["later0"]  # s1 is free, and has failed `first`
    assert desk.end("other") == ["first"]
    assert desk.server_of("first") == "s2"


def test_a_retry_that_waits_for_another_server_keeps_nobody_from_the_one_that_failed_it() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("first")
    desk.ask("other")
    desk.fail("first")
    assert desk.ask("next") == "s1"
    assert desk.end("next") == []
    assert desk.end("other") == ["first"]


def test_many_retries_at_the_head_keep_nobody_behind_them_from_a_free_server() -> None:
    desk = Desk(server("s1", 40), server("s2", 1), failures_before_down=1_000)
    desk.ask("x")
    desk.ask("y")
    assert {desk.server_of("x"), desk.server_of("y")} == {"s1", "s2"}
    names = [f"t{number}" for number in range(39)]
    for name in names:
        assert desk.ask(name) == "s1"
    for name in names:
        desk.fail(name)
    assert desk.ask("healthy") == "s1"


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_ticket_is_tried_on_so_many_servers_and_then_refused(attempts: int) -> None:
    desk = Desk(*(server(f"s{number}") for number in range(5)), max_attempts=attempts)
    tried = [desk.ask("one")]
    for _ in range(attempts - 1):
        assert desk.fail("one") == ["one"]
        tried.append(desk.server_of("one"))
    assert desk.fail("one") == []
    assert len(set(tried)) == attempts
    assert desk.refused["one"].reason is RefusalReason.NO_SERVER
    assert not desk.scheduler.holds("one")


def test_a_ticket_that_every_server_failed_is_refused_and_the_slot_goes_to_the_next() -> None:
    desk = Desk(server("s1"))
    desk.ask("one")
    desk.ask("two")
    assert desk.fail("one") == ["two"]
    assert desk.refused["one"].reason is RefusalReason.NO_SERVER
    assert desk.refused["one"].retry_after_s == 1, "the server is up"


def test_a_failed_try_is_not_counted_against_the_share() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("x", "z")
    desk.ask("y", "z")
    for number in range(3):
        desk.ask(f"a{number}", "a", estimated_tokens=2_000)
        desk.ask(f"b{number}", "b", estimated_tokens=1_000)
    assert desk.end("x", tokens=1) == ["a0"]
    assert desk.fail("a0") == ["b0"]  # a0 waits for s2
    assert desk.end("b0", tokens=1_000) == ["a1"]


def test_failing_at_once_does_not_make_the_wait_look_short() -> None:
    desk = Desk(server("s1"), server("s2"), server("s3"), failures_before_down=1_000)
    desk.ask("x")
    desk.now += 100
    desk.end("x", tokens=10)
    for number in range(50):
        desk.ask(f"t{number}")
        desk.fail(f"t{number}")
        desk.end(f"t{number}", Outcome.CONNECT_FAILED)
    for number in range(3):
        desk.ask(f"u{number}")
    desk.ask("waits")
    position = desk.scheduler.position("waits", desk.now)
    assert position is not None
    assert position.predicted_wait_s > 1.0


def test_private_only_is_retried_on_own_servers_only() -> None:
    desk = Desk(server("s1", owner="lyon"), server("s2"), server("s3", owner="lyon"))
    assert desk.ask("one", "lyon", routing_mode=RoutingMode.PRIVATE_ONLY) == "s1"
    desk.fail("one")
    assert desk.server_of("one") == "s3"
    desk.fail("one")
    assert desk.refused["one"].reason is RefusalReason.NO_SERVER


# -- cancels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Strategy.LEAST_BUSY, Strategy.ROUND_ROBIN_PRIORITY])
def test_who_leaves_the_queue_is_never_granted_and_counts_no_more(strategy: Strategy) -> None:
    desk = Desk(server("s1"), strategy=strategy)
    desk.ask("held")
    desk.ask("gone")
    desk.ask("stays")
    desk.cancel("gone")
    assert desk.waiting() == 1
    assert desk.scheduler.view(desk.now).queued_by_organisation == {"a": 1}
    assert desk.end("held") == ["stays"]
    assert desk.end("stays") == []


def test_a_cancel_of_a_ticket_that_is_served_or_unknown_changes_nothing() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("next")
    assert desk.cancel("held") == []
    assert desk.cancel("never came") == []
    assert desk.end("held") == ["next"]


def test_who_leaves_after_a_failed_try_is_gone_too() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("one")
    desk.ask("two")
    desk.fail("one")
    desk.cancel("one")
    assert desk.end("two") == []
    assert desk.waiting() == 0


def test_a_grant_that_nobody_took_gives_its_slot_back_and_says_nothing_about_the_server() -> None:
    desk = Desk(server("s1"))
    desk.ask("gone")
    desk.ask("next")
    assert desk.note(desk.scheduler.abandon("gone", desk.now)) == ["next"]
    assert desk.scheduler.view(desk.now).servers[0].served == 0


def test_a_lease_that_is_settled_twice_frees_one_slot() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("next")
    desk.ask("last")
    assert desk.end("held") == ["next"]
    assert desk.end("held") == []
    assert desk.scheduler.view(desk.now).running == 1


# -- deadlines ---------------------------------------------------------------------------------------------------------


def test_who_waits_past_its_deadline_is_refused() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("patient", deadline_s=desk.now + 100)
    desk.ask("hasty", deadline_s=desk.now + 10)
    assert desk.scheduler.next_event_s() == desk.now + 10
    desk.wait(9.75)
    assert desk.refused == {}
    desk.wait(0.25)
    assert list(desk.refused) == ["hasty"]
    assert desk.refused["hasty"].reason is RefusalReason.QUEUE_TIMEOUT
    assert desk.refused["hasty"].retry_after_s >= 1
    assert desk.end("held") == ["patient"]
    desk.wait(200)
    assert list(desk.refused) == ["hasty"], "a request that is served has no deadline here"


def test_a_retry_that_waits_past_its_deadline_is_refused_once() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("one", deadline_s=desk.now + 10)
    desk.ask("two", deadline_s=desk.now + 10)
    desk.fail("one")
    desk.wait(20)
    assert list(desk.refused) == ["one"]
    assert desk.waiting() == 0


def test_nothing_is_due_while_nobody_waits() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", deadline_s=desk.now + 10)
    assert desk.scheduler.next_event_s() is None


# -- positions ---------------------------------------------------------------------------------------------------------


def ahead(desk: Desk, name: str) -> int | None:
    position = desk.scheduler.position(name, desk.now)
    return position.ahead if position is not None else None


def test_a_position_counts_those_who_are_served_before() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    for number in range(4):
        desk.ask(f"t{number}")
    desk.batch("batch")
    assert [ahead(desk, f"t{number}") for number in range(4)] == [0, 1, 2, 3]
    assert ahead(desk, "batch") == 4
    desk.end("held")
    assert [ahead(desk, f"t{number}") for number in range(4)] == [None, 0, 1, 2]
    assert ahead(desk, "held") is None


def test_those_who_leave_move_up_only_those_behind_them() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    for number in range(6):
        desk.ask(f"t{number}")
    desk.cancel("t5")
    desk.cancel("t3")
    assert [ahead(desk, f"t{number}") for number in [0, 1, 2, 4]] == [0, 1, 2, 3]
    desk.end("held")
    desk.ask("last")
    assert [ahead(desk, name) for name in ["t1", "t2", "t4", "last"]] == [0, 1, 2, 3]


def test_a_higher_priority_is_ahead_of_the_lower_ones_of_its_organisation() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    for number in range(3):
        desk.ask(f"low{number}")
    desk.ask("high", priority=1)
    assert ahead(desk, "high") == 0
    assert [ahead(desk, f"low{number}") for number in range(3)] == [1, 2, 3]


def test_a_retry_is_ahead_of_those_who_came_later() -> None:
    desk = Desk(server("s1"), server("s2"))
    desk.ask("one")
    desk.ask("two")
    for number in range(3):
        desk.ask(f"t{number}")
    desk.fail("one")  # t0 goes to s1
    assert [ahead(desk, name) for name in ["one", "t1", "t2"]] == [0, 1, 2]


def test_a_position_sees_the_share_of_the_others() -> None:
    desk = Desk(server("s1"), weights={"big": 3.0})
    desk.ask("held", "z")
    for number in range(10):
        desk.ask(f"big{number}", "big")
    desk.ask("small", "small")
    assert ahead(desk, "small") == 3
    assert ahead(desk, "big3") == 4
