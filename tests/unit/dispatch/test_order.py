"""Who goes first: classes, shares between organisations, priorities inside one, ageing of batch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.values import Outcome
from tests.unit.dispatch.desk import Desk, server

TOKENS = 1_000


def drained(desk: Desk, first: str, count: int) -> list[str]:
    """End one lease after another; the tickets granted by that, in order."""
    found: list[str] = []
    name = first
    for _ in range(count):
        granted = desk.end(name, tokens=TOKENS)
        assert len(granted) == 1, "a slot that is given back is used in the same call"
        name = granted[0]
        found.append(name)
    return found


def test_interactive_goes_before_batch_that_came_earlier() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.batch("batch")
    desk.now += 1
    desk.ask("person")
    assert drained(desk, "held", 2) == ["person", "batch"]


def test_inside_an_organisation_first_come_is_first_served() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    for number in range(20):
        desk.ask(f"t{number}")
    assert drained(desk, "held", 20) == [f"t{number}" for number in range(20)]


def test_a_free_slot_is_anyones_and_nothing_is_kept_for_shares_that_nobody_asks_for() -> None:
    desk = Desk(server("s1", 8), weights={"a": 0.01, "b": 100.0})
    assert all(desk.ask(f"t{number}", "a") for number in range(8))


def shares(desk: Desk, organisations: dict[str, int], served: int) -> Counter[str]:
    """Everybody has far more waiting than is served; grants by organisation."""
    desk.ask("held", "z")
    for number in range(served):
        for organisation, tokens in organisations.items():
            desk.ask(f"{organisation}:{number}", organisation, estimated_tokens=tokens)
    counted: Counter[str] = Counter()
    (name,) = desk.end("held")
    for _ in range(served):
        organisation = name.split(":")[0]
        counted[organisation] += 1
        (name,) = desk.end(name, tokens=organisations[organisation])
    return counted


def test_equal_organisations_take_turns_however_much_one_of_them_asks_for() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(50):
        desk.ask(f"many:{number}", "many", estimated_tokens=TOKENS)
    desk.now += 1
    for number in range(10):
        desk.ask(f"few:{number}", "few", estimated_tokens=TOKENS)
    found = [name.split(":")[0] for name in drained(desk, "held", 20)]
    assert Counter(found) == {"many": 10, "few": 10}
    assert "many,many,many" not in ",".join(found)


def test_shares_follow_the_weights() -> None:
    desk = Desk(server("s1"), weights={"a": 1.0, "b": 2.0, "c": 4.0})
    counted = shares(desk, {"a": TOKENS, "b": TOKENS, "c": TOKENS}, 140)
    assert counted["a"] == pytest.approx(20, abs=1)
    assert counted["b"] == pytest.approx(40, abs=1)
    assert counted["c"] == pytest.approx(80, abs=1)


def test_shares_are_counted_in_tokens_and_not_in_requests() -> None:
    counted = shares(Desk(server("s1")), {"long": 4_000, "short": 1_000}, 100)
    assert counted["short"] == pytest.approx(4 * counted["long"], abs=4)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_that_makes_no_sense_starves_nobody_and_breaks_nothing(weight: float) -> None:
    counted = shares(Desk(server("s1"), weights={"a": weight}), {"a": 10, "b": 10}, 250)
    assert counted["a"] >= 1


def test_who_asks_for_little_and_uses_much_pays_for_what_was_used() -> None:
    """Both say 100 tokens; one uses 1,000 each time."""
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(110):
        desk.ask(f"liar:{number}", "liar", estimated_tokens=100)
        desk.ask(f"honest:{number}", "honest", estimated_tokens=100)
    counted: Counter[str] = Counter()
    (name,) = desk.end("held")
    for _ in range(110):
        organisation = name.split(":")[0]
        counted[organisation] += 1
        (name,) = desk.end(name, tokens=1_000 if organisation == "liar" else 100)
    assert counted["honest"] == pytest.approx(10 * counted["liar"], abs=10)


@pytest.mark.parametrize("outcome", [Outcome.UPSTREAM_REJECTED, Outcome.CONNECT_FAILED, Outcome.CLIENT_LEFT_PREFILL])
def test_what_used_nothing_costs_nothing(outcome: Outcome) -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(3):
        desk.ask(f"a{number}", "a", estimated_tokens=2 * TOKENS)
        desk.ask(f"b{number}", "b", estimated_tokens=TOKENS)
    assert desk.end("held") == ["a0"]
    assert desk.end("a0", outcome) == ["b0"]
    assert desk.end("b0", tokens=TOKENS) == ["a1"]  # as if a had not been served


def test_a_server_that_tells_no_count_is_taken_at_the_estimate() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(3):
        desk.ask(f"a{number}", "a", estimated_tokens=2 * TOKENS)
        desk.ask(f"b{number}", "b", estimated_tokens=TOKENS)
    assert desk.end("held") == ["a0"]
    assert desk.end("a0", Outcome.COMPLETED) == ["b0"]
    assert desk.end("b0", tokens=TOKENS) == ["b1"]


def test_nobody_saves_up_a_share_while_idle() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    for number in range(60):
        desk.ask(f"busy:{number}", "busy", estimated_tokens=TOKENS)
    name = drained(desk, "held", 20)[-1]
    for number in range(20):
        desk.ask(f"new:{number}", "new", estimated_tokens=TOKENS)
    found = [one.split(":")[0] for one in drained(desk, name, 20)]
    assert Counter(found) == {"busy": 10, "new": 10}


def test_a_correction_for_long_ago_gives_no_credit_to_who_was_idle_since() -> None:
    """Its lease ran long and used less than was estimated; meanwhile the others were served, and it was idle."""
    desk = Desk(server("s1"), server("s2"))
    desk.ask("held", "z")
    desk.ask("held2", "z")
    desk.ask("late", "late", estimated_tokens=10 * TOKENS)
    for number in range(60):
        desk.ask(f"busy:{number}", "busy", estimated_tokens=TOKENS)
    assert desk.end("held2") == ["late"]
    name = drained(desk, "held", 30)[-1]
    for number in range(40):
        desk.ask(f"late:{number}", "late", estimated_tokens=TOKENS)
    (other,) = desk.end("late", tokens=1)
    found = [one.split(":")[0] for one in [other, *drained(desk, name, 19)]]
    assert Counter(found)["busy"] >= 9


def test_priority_orders_inside_one_organisation_only() -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    desk.ask("a low", "a", estimated_tokens=TOKENS)
    desk.ask("b", "b", estimated_tokens=TOKENS)
    desk.ask("a high", "a", estimated_tokens=TOKENS, priority=5)
    assert drained(desk, "held", 3) == ["a high", "b", "a low"]


def test_a_low_priority_waits_at_most_five_minutes_longer_for_each_step() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("low", priority=0)
    for number in range(100):
        desk.now += 10
        desk.ask(f"high{number}", priority=1)
    found = drained(desk, "held", 101)
    assert found.index("low") == 29  # those of the first 300 s


def test_an_aged_batch_ticket_gets_its_share_of_the_slots_beside_interactive_ones() -> None:
    desk = Desk(server("s1"), ageing_s=300.0, ageing_share=0.1)
    desk.ask("held")
    for number in range(30):
        desk.batch(f"b{number}", "b")
    for number in range(200):
        desk.ask(f"i{number}", f"o{number % 4}")
    young = drained(desk, "held", 20)
    assert all(name.startswith("i") for name in young)
    desk.now += 301
    old = drained(desk, young[-1], 100)
    assert sum(name.startswith("b") for name in old) == 10
    assert old[9].startswith("b"), "one of each ten, evenly"


def test_without_a_share_for_ageing_batch_waits_for_idle_slots() -> None:
    desk = Desk(server("s1"), ageing_share=0.0)
    desk.ask("held")
    desk.batch("b")
    for number in range(50):
        desk.ask(f"i{number}")
    desk.now += 10_000
    assert "b" not in drained(desk, "held", 50)


def test_batch_fills_the_slots_that_nobody_else_needs() -> None:
    desk = Desk(server("s1", 20))
    for number in range(30):
        desk.batch(f"b{number}")
    assert len(desk.granted) == 20


def test_a_slot_is_kept_for_people_while_people_come() -> None:
    desk = Desk(server("s1", 20))
    desk.ask("person")
    for number in range(30):
        desk.batch(f"b{number}")
    assert desk.scheduler.view(desk.now).running == 19
    assert desk.ask("next") == "s1"
    desk.end("person")
    desk.end("next")
    desk.wait(31)
    assert desk.scheduler.view(desk.now).running == 20


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 3), st.integers(0, 400)), max_size=30))
def test_inside_an_organisation_the_order_is_arrival_less_priority(arrivals: list[tuple[str, int, int]]) -> None:
    desk = Desk(server("s1"))
    desk.ask("held", "z")
    ranks: dict[str, tuple[float, int]] = {}
    for number, (organisation, priority, gap_s) in enumerate(arrivals):
        desk.now += gap_s
        name = f"{organisation}:{number}"
        ranks[name] = (desk.now - 300 * priority, number)
        desk.ask(name, organisation, priority=priority)
    found = drained(desk, "held", len(arrivals))
    for organisation in "ab":
        mine = [name for name in found if name.startswith(organisation)]
        assert mine == sorted(mine, key=ranks.__getitem__)


def test_only_the_age_of_batch_itself_gives_batch_a_share() -> None:
    desk = Desk(server("s1"), ageing_s=300.0, ageing_share=0.5)
    desk.ask("held")
    for number in range(20):
        desk.ask(f"i{number}")
    desk.now += 301
    desk.batch("young")
    assert "young" not in drained(desk, "held", 20)
