"""Owner lane, reserved slots and routing modes."""

from __future__ import annotations

import pytest

from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.values import RequestClass, RoutingMode, Strategy
from tests.unit.dispatch.desk import Desk, server

OWN, OTHER = "lyon", "lille"
BUT_ROUND_ROBIN = [Strategy.LEAST_BUSY, Strategy.ROUND_ROBIN_PRIORITY]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_owner_goes_to_its_own_free_server(strategy: Strategy) -> None:
    desk = Desk(server("s1", 5, OTHER), server("s2", 5, OWN), strategy=strategy)
    for number in range(3):
        assert desk.ask(f"t{number}", OWN) == "s2"
        assert desk.granted[f"t{number}"].request_class is RequestClass.OWNER


@pytest.mark.parametrize("strategy", BUT_ROUND_ROBIN)
def test_a_slot_of_its_own_server_goes_to_the_owner_before_those_who_came_earlier(strategy: Strategy) -> None:
    desk = Desk(server("s1", 1, OWN), server("s2", 1, OTHER), strategy=strategy)
    desk.ask("x", "z")
    desk.ask("y", "z")
    for number in range(5):
        desk.ask(f"z{number}", "z", priority=3)
    desk.now += 1
    desk.ask("mine", OWN)
    on_own, on_other = ("x", "y") if desk.server_of("x") == "s1" else ("y", "x")
    assert desk.end(on_other) == ["z0"]
    assert desk.end(on_own) == ["mine"]


def test_an_owner_has_no_precedence_on_the_servers_of_others() -> None:
    desk = Desk(server("s1", 1, OWN), server("s2", 1, OTHER))
    desk.ask("own", OWN)
    desk.ask("x", "z")
    desk.ask("first", "z")
    desk.now += 1
    desk.ask("second", OWN)
    assert desk.end("x") == ["first"]


def test_own_batch_goes_before_others_interactive_on_the_own_server_and_after_own_interactive() -> None:
    desk = Desk(server("s1", 1, OWN))
    desk.ask("x", "z")
    desk.ask("other", "z")
    desk.batch("own batch", OWN)
    desk.ask("own", OWN)
    for name in ["x", "own", "own batch"]:
        desk.end(name)
    assert desk.order == ["x", "own", "own batch", "other"]


def test_reserved_slots_are_the_owners_only() -> None:
    desk = Desk(server("s1", 4, OWN, owner_reserved=2))
    assert [desk.ask(f"z{number}", "z") for number in range(3)] == ["s1", "s1", None]
    assert [desk.ask(f"o{number}", OWN) for number in range(3)] == ["s1", "s1", None]
    assert desk.end("o0") == ["o2"]
    desk.end("o1")
    desk.end("o2")
    assert "z2" not in desk.granted
    assert desk.end("z0") == ["z2"]


def test_an_owner_who_uses_a_shared_slot_leaves_the_reserved_ones_to_count_as_used() -> None:
    desk = Desk(server("s1", 4, OWN, owner_reserved=2))
    assert [desk.ask(f"o{number}", OWN) for number in range(2)] == ["s1", "s1"]
    assert [desk.ask(f"z{number}", "z") for number in range(3)] == ["s1", "s1", None]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (RoutingMode.ANY, "s2"),
        (RoutingMode.PRIVATE_FIRST, "s2"),
        (RoutingMode.PRIVATE_ONLY, None),
    ],
)
def test_when_the_own_server_is_full_only_private_only_waits_for_it(mode: RoutingMode, expected: str | None) -> None:
    desk = Desk(server("s1", 1, OWN), server("s2", 1, OTHER))
    assert desk.ask("first", OWN) == "s1"
    assert desk.ask("second", OWN, routing_mode=mode) == expected


def test_private_only_waits_for_its_own_server_and_nothing_else() -> None:
    desk = Desk(server("s1", 1, OWN), server("s2", 1, OTHER))
    desk.ask("first", OWN)
    desk.ask("x", "z")
    desk.ask("mine", OWN, routing_mode=RoutingMode.PRIVATE_ONLY)
    assert desk.end("x") == []
    assert desk.end("first") == ["mine"]
    assert desk.server_of("mine") == "s1"


def test_private_only_of_an_organisation_without_a_server_is_refused() -> None:
    desk = Desk(server("s1", 1, OWN))
    desk.ask("mine", "z", routing_mode=RoutingMode.PRIVATE_ONLY)
    assert desk.refused["mine"].reason is RefusalReason.NO_SERVER


def test_private_first_prefers_the_own_server_on_equal_terms_and_any_uses_it_too() -> None:
    desk = Desk(server("s1", 4, OTHER), server("s2", 4, OWN))
    assert desk.ask("one", OWN, routing_mode=RoutingMode.PRIVATE_FIRST) == "s2"
    assert desk.ask("two", OWN) == "s2"


def test_own_use_of_an_own_server_does_not_count_against_the_owners_share() -> None:
    desk = Desk(server("s1", 1, OWN), server("s2", 1, OTHER))
    desk.ask("x", "z")
    desk.ask("y", "z")
    for number in range(10):
        desk.ask(f"own{number}", OWN, estimated_tokens=1_000, routing_mode=RoutingMode.PRIVATE_ONLY)
        desk.ask(f"z{number}", "z", estimated_tokens=1_000)
    desk.ask("shared", OWN, estimated_tokens=1_000)
    held = {desk.server_of(name): name for name in ["x", "y"]}
    name = held["s1"]
    for number in range(5):
        assert desk.end(name, tokens=50_000) == [f"own{number}"]
        name = f"own{number}"
    assert desk.end(held["s2"]) == ["z0"]
    assert desk.end("z0", tokens=1_000) == ["shared"]


def test_private_batch_of_an_owner_whose_people_fill_the_server_has_its_ageing_share() -> None:
    desk = Desk(server("s1", 1, OWN), ageing_s=10.0, ageing_share=0.1)
    desk.ask("held", OWN)
    for number in range(10):
        desk.batch(f"batch{number}", OWN, routing_mode=RoutingMode.PRIVATE_ONLY)
        desk.ask(f"i{number}", OWN)
    for number in range(10, 40):
        desk.ask(f"i{number}", OWN)
    desk.now += 11
    name = "held"
    for _ in range(30):
        (name,) = desk.end(name)
    assert sum(name.startswith("batch") for name in desk.order) == 3


def test_a_server_that_is_kept_for_its_owner_alone_is_no_server_for_others() -> None:
    desk = Desk(server("s1", 2, OWN, owner_reserved=2))
    desk.ask("other", "z")
    assert desk.refused["other"].reason is RefusalReason.NO_SERVER
    assert desk.ask("mine", OWN) == "s1"


def test_others_do_not_starve_behind_reserved_slots_when_the_limit_has_fallen_below_them() -> None:
    desk = Desk(server("s1", 8, OWN, owner_reserved=4))
    for number in range(8):
        desk.ask(f"o{number}", OWN)
    for _ in range(8):
        desk.now += 1
        desk.tell("s1", running=2, waiting=6)
    limit = desk.limit("s1")
    assert limit is not None
    assert limit <= 4
    desk.ask("other", "z")
    for number in range(8):
        desk.end(f"o{number}")
    assert desk.server_of("other") == "s1"


def test_the_whole_reserve_is_kept_also_while_the_limit_is_below_the_maximum() -> None:
    desk = Desk(server("s1", None, OWN, owner_reserved=4), default_max_parallel=100)
    limit = desk.limit("s1")
    assert limit is not None
    assert limit < 100
    found = [desk.ask(f"z{number}", "z") for number in range(limit)]
    assert found.count("s1") == limit - 4
