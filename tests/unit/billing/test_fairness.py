from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.fairness import FairWeight, WeightRule, derived, in_force

RULE = WeightRule()
tokens = st.integers(0, 10**13)


@settings(max_examples=60, deadline=None)
@given(tokens, tokens, tokens)
def test_a_weight_is_bounded_and_grows_with_what_is_given(given_: int, taken: int, more: int) -> None:
    weight = RULE.weight(given_, taken)
    assert 0.5 <= weight <= 4.0
    assert RULE.weight(given_ + more, taken) >= weight >= RULE.weight(given_, taken + more)


@settings(max_examples=60, deadline=None)
@given(tokens)
def test_who_gives_as_much_as_it_takes_has_the_weight_of_a_newcomer(amount: int) -> None:
    assert RULE.weight(amount, amount) == RULE.weight(0, 0) == 1.0


def test_the_formula_by_hand() -> None:
    assert RULE.weight(190_000_000, 90_000_000) == 2.0  # (190 + 10) / (90 + 10) = 2
    assert RULE.weight(0, 10**12) == 0.5
    assert RULE.weight(10**12, 0) == 4.0


def test_own_use_counts_on_neither_side() -> None:
    rows = [("Lille", "Lille", 10**12), ("Lyon", "Lille", 70_000_000), ("Lille", "Lyon", 30_000_000)]
    weights = derived(rows, ["Lille", "Lyon", "Nantes"], RULE, 5.0)
    assert weights["Lille"].weight == 2.0  # (70 + 10) / (30 + 10)
    assert weights["Lille"].contributed_tokens == 70_000_000
    assert weights["Lyon"].weight == 0.5
    assert weights["Nantes"] == FairWeight(organisation="Nantes", weight=1.0, at_s=5.0)


def test_what_was_set_by_hand_wins_over_the_formula() -> None:
    stored = [
        FairWeight(organisation="Lille", weight=2.0),
        FairWeight(organisation="Lyon", weight=2.0),
        FairWeight(organisation="Nantes", weight=1.0, by_hand=True),
    ]
    assert in_force({"Lille": 1.0, "Lyon": 3.0, "Nantes": 3.0, "Brest": 1.0}, stored) == {
        "Lille": 2.0,
        "Lyon": 3.0,
        "Nantes": 1.0,
        "Brest": 1.0,
    }


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_would_starve_or_break_the_dispatcher_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        FairWeight(organisation="Lille", weight=weight)
