"""The three strategies, and where a request goes."""

from __future__ import annotations

import pytest

from ilaas.core.values import Strategy
from tests.unit.dispatch.desk import Desk, server

ROUND_ROBIN = Strategy.ROUND_ROBIN
PRIORITY = Strategy.ROUND_ROBIN_PRIORITY
LEAST_BUSY = Strategy.LEAST_BUSY


def test_round_robin_takes_each_server_in_turn_and_never_holds_anybody_back() -> None:
    desk = Desk(server("s1"), server("s2"), server("s3"), strategy=ROUND_ROBIN)
    found = [desk.ask(f"t{number}") for number in range(30)]
    assert found == ["s1", "s2", "s3"] * 10
    assert desk.scheduler.view(desk.now).servers[0].limit is None


def test_round_robin_goes_on_behind_a_server_that_is_down() -> None:
    desk = Desk(server("s1"), server("s2"), server("s3"), strategy=ROUND_ROBIN)
    desk.down("s2")
    assert [desk.ask(f"t{number}") for number in range(4)] == ["s1", "s3", "s1", "s3"]


def test_round_robin_priority_keeps_to_the_maximum_and_queues_by_priority_over_all_organisations() -> None:
    desk = Desk(server("s1"), server("s2"), strategy=PRIORITY)
    assert [desk.ask("x"), desk.ask("y")] == ["s1", "s2"]
    for name, organisation, priority in [("low", "a", 0), ("high", "b", 2), ("mid", "a", 1), ("high2", "c", 2)]:
        desk.now += 1
        assert desk.ask(name, organisation, priority=priority) is None
    for name in ["x", "y", "high", "high2"]:
        desk.end(name)
    assert desk.order[2:] == ["high", "high2", "mid", "low"]


def test_a_server_that_names_no_maximum_takes_the_policys() -> None:
    desk = Desk(server("s1", None), strategy=PRIORITY, default_max_parallel=3)
    assert [desk.ask(f"t{number}") for number in range(4)] == ["s1", "s1", "s1", None]


def test_least_busy_takes_the_server_with_the_largest_free_share() -> None:
    desk = Desk(server("small", 2), server("large", 4), strategy=LEAST_BUSY)
    found = [desk.ask(f"t{number}") for number in range(6)]
    assert found == ["small", "large", "large", "small", "large", "large"]


def test_least_busy_works_without_statistics_by_the_time_to_first_token_it_sees() -> None:
    desk = Desk(server("slow", 10), server("quick", 10), strategy=LEAST_BUSY)
    assert [desk.ask("one"), desk.ask("two")] == ["slow", "quick"]
    desk.note(desk.scheduler.first_token("one", 4.5, desk.now))
    desk.note(desk.scheduler.first_token("two", 0.1, desk.now))
    assert [desk.ask("three"), desk.ask("four")] == ["quick", "quick"]


def test_a_full_kv_cache_makes_a_server_less_wanted_until_its_statistics_are_stale() -> None:
    desk = Desk(server("full", 10), server("empty", 10), stale_s=10.0)
    desk.tell("full", running=0, waiting=0, kv_cache_usage=0.9)
    assert desk.ask("one") == "empty"
    desk.end("one")
    desk.wait(11)
    assert desk.ask("two") == "full"


def test_slots_are_used_by_others_than_the_owner_too() -> None:
    desk = Desk(server("s1", 3, owner="rich"))
    assert [desk.ask(f"t{number}", "poor") for number in range(3)] == ["s1"] * 3


def test_others_requests_keep_off_the_servers_of_an_owner_who_is_active() -> None:
    desk = Desk(server("s1", 10, owner="busy"), server("s2", 10, owner="quiet"))
    assert desk.ask("own", "busy") == "s1"
    desk.ask("other", "x")
    assert desk.server_of("other") == "s2"
    desk.end("other")
    desk.end("own")
    assert desk.ask("later", "x") == "s1"  # nobody is active any more


# -- affinity ----------------------------------------------------------------------------------------------------------


def test_a_conversation_returns_to_the_server_that_has_its_prefix() -> None:
    desk = Desk(server("s1", 10), server("s2", 10), server("s3", 10))
    desk.ask("filler")
    assert desk.ask("first", prefix_hash=7) == "s2"
    desk.end("first")
    desk.end("filler")
    assert desk.ask("second", prefix_hash=7) == "s2"
    assert desk.ask("other", prefix_hash=8) == "s1"


def test_affinity_ends_where_a_server_is_loaded_above_the_others() -> None:
    desk = Desk(server("s1", 20), server("s2", 20))
    found = [desk.ask(f"t{number}", prefix_hash=7) for number in range(20)]
    assert found.count("s1") <= 0.625 * 20 + 3
    assert found.count("s2") >= 5


def test_without_a_prefix_nothing_is_remembered() -> None:
    desk = Desk(server("s1", 10), server("s2", 10))
    assert [desk.ask(f"t{number}") for number in range(4)] == ["s1", "s2", "s1", "s2"]


@pytest.mark.parametrize("scorers", [("load",), ("unknown", "load"), ()])
def test_the_policy_names_the_scorers(scorers: tuple[str, ...]) -> None:
    desk = Desk(server("s1", 10), server("s2", 10), scorers=scorers)
    desk.ask("one", prefix_hash=7)
    assert desk.ask("two", prefix_hash=7) == ("s2" if scorers else "s1")


# -- the adaptive limit ------------------------------------------------------------------------------------------------


def test_the_limit_falls_to_what_a_server_really_runs_so_that_its_own_queue_stays_empty() -> None:
    """The server says 100 and runs 8: after a few reports as many are sent as it runs."""
    desk = Desk(server("s1", 100))
    for number in range(100):
        desk.ask(f"t{number}")
    for _ in range(40):
        desk.now += 1
        in_flight = desk.scheduler.view(desk.now).running
        desk.tell("s1", running=min(8, in_flight), waiting=max(0, in_flight - 8), kv_cache_usage=0.3)
        for name in list(desk.granted)[:4]:
            desk.end(name)
    assert desk.scheduler.view(desk.now).running <= 9
    assert desk.limit("s1") in range(6, 10)


def test_a_limit_that_was_lowered_grows_back_when_nothing_waits_inside_the_server() -> None:
    desk = Desk(server("s1", 40))
    for number in range(60):
        desk.ask(f"t{number}")
    for _ in range(6):
        desk.now += 1
        desk.tell("s1", running=10, waiting=max(0, desk.scheduler.view(desk.now).running - 10))
        for name in list(desk.granted)[:10]:
            desk.end(name)
    low = desk.limit("s1")
    assert low is not None
    assert low < 30
    for number in range(100):
        desk.ask(f"u{number}")
    for _ in range(60):
        desk.now += 1
        desk.tell("s1", running=desk.scheduler.view(desk.now).running, waiting=0)
    assert desk.limit("s1") == 40


def test_reports_of_an_unknown_server_are_ignored() -> None:
    desk = Desk(server("s1"))
    assert desk.tell("gone", running=5, waiting=5) == []
    assert desk.check("gone", ok=False) == []
    assert desk.ask("one") == "s1"
