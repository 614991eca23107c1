from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.billing import Quantities, Rates, Tariff
from ilaas.core.closing import (
    CELL_DIMENSIONS,
    EntryKey,
    UsageCell,
    Value,
    apportion,
    cells_of,
    check_follows,
    close,
    ledger_of,
    valued,
)
from ilaas.core.errors import Conflict
from ilaas.core.periods import Month
from ilaas.core.rollups import Totals, UsageLine
from ilaas.core.statements import CENT_MICRO_EUR, ClosedBooks, LineKind

few = settings(max_examples=40, deadline=None)
OCTOBER, NOVEMBER = Month(2026, 10), Month(2026, 11)
ORGANISATIONS = ("Lille", "Lyon", "Nantes")
names = st.sampled_from(ORGANISATIONS)
models = st.sampled_from(("mistral", "llama"))
money = st.integers(0, 3_000_000)
used = st.builds(Quantities, st.integers(1, 50), st.integers(0, 9000), st.integers(0, 900))
keys = st.builds(EntryKey, st.just(OCTOBER), names, names, models)
equal = st.builds(lambda used, charge: Value(used, charge, charge), used, money)
unequal = st.builds(Value, used, money, money)


def free_own(ledger: dict[EntryKey, Value]) -> dict[EntryKey, Value]:
    return {key: Value(value.used) if key.consumer == key.owner else value for key, value in ledger.items()}


def ledgers(values: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[EntryKey, Value]]:
    return st.dictionaries(keys, values, max_size=18).map(free_own)


def by_name(books: ClosedBooks, name: str) -> object:
    return next(each for each in books.statements if each.organisation == name)


@few
@given(st.dictionaries(keys, st.integers(-(10**7), 10**7), max_size=20))
def test_cents_add_up_to_the_rounded_total_and_none_moves_by_a_cent(exact: dict[EntryKey, int]) -> None:
    cents = apportion(exact)
    assert sum(cents.values()) == (sum(exact.values()) + CENT_MICRO_EUR // 2) // CENT_MICRO_EUR
    for key, value in exact.items():
        assert abs(cents[key] * CENT_MICRO_EUR - value) < CENT_MICRO_EUR
        if value % CENT_MICRO_EUR == 0:
            assert cents[key] * CENT_MICRO_EUR == value


@few
@given(ledgers(equal))
def test_lines_equal_totals_and_all_nets_together_are_nothing(usage: dict[EntryKey, Value]) -> None:
    books = close(OCTOBER, usage, {}, ORGANISATIONS)
    assert sum(each.net_cents for each in books.statements) == 0 == books.federation_cents
    assert [each.organisation for each in books.statements] == sorted(ORGANISATIONS)
    for each in books.statements:
        consumed = sum(line.cents for line in each.lines if line.kind is LineKind.CONSUMED)
        contributed = sum(line.cents for line in each.lines if line.kind is LineKind.CONTRIBUTED)
        assert (each.consumed_cents, each.contributed_cents) == (consumed, contributed)
        assert each.net_cents == contributed - consumed
        for kind in LineKind:
            total = sum(line.cents for line in each.lines if line.kind is kind)
            assert sum(cents for _, _, cents in each.by_model(kind)) == total
            assert sum(cents for _, _, cents in each.by_counterparty(kind)) == total
        exact = sum(v.charge_micro_eur for k, v in usage.items() if k.consumer == each.organisation)
        assert abs(each.consumed_cents * CENT_MICRO_EUR - exact) <= CENT_MICRO_EUR // 2


@few
@given(ledgers(equal))
def test_each_line_stands_on_both_statements_with_the_same_cents(usage: dict[EntryKey, Value]) -> None:
    books = close(OCTOBER, usage, {}, ORGANISATIONS)
    consumed, contributed = (
        sorted(
            (min(one.organisation, line.counterparty), max(one.organisation, line.counterparty), line.model, line.cents)
            for one in books.statements
            for line in one.lines
            if line.kind is kind
        )
        for kind in (LineKind.CONSUMED, LineKind.CONTRIBUTED)
    )
    assert consumed == contributed


@few
@given(ledgers(unequal))
def test_what_contributors_are_not_credited_remains_with_the_federation(usage: dict[EntryKey, Value]) -> None:
    books = close(OCTOBER, usage, {}, ORGANISATIONS)
    assert sum(each.net_cents for each in books.statements) + books.federation_cents == 0
    exact = sum(value.charge_micro_eur - value.credit_micro_eur for value in usage.values())
    assert abs(books.federation_cents * CENT_MICRO_EUR - exact) <= CENT_MICRO_EUR * len(ORGANISATIONS)


@few
@given(ledgers(unequal), ledgers(unequal))
def test_late_usage_is_corrected_once_in_the_next_month_and_the_sum_of_both_is_exact(
    at_first: dict[EntryKey, Value], late: dict[EntryKey, Value]
) -> None:
    first = close(OCTOBER, at_first, {}, ORGANISATIONS)
    whole = {key: at_first.get(key, Value()) + late.get(key, Value()) for key in at_first.keys() | late.keys()}
    second = close(NOVEMBER, whole, ledger_of(first.statements), ORGANISATIONS)
    assert ledger_of([*first.statements, *second.statements]) == {k: v for k, v in whole.items() if v != Value()}
    assert all(line.usage_month == OCTOBER for each in second.statements for line in each.corrections)
    booked = ledger_of([*first.statements, *second.statements])
    third = close(NOVEMBER.plus(1), whole, booked, ORGANISATIONS)
    assert all(not each.lines for each in third.statements)


def test_a_correction_may_take_back_and_is_rounded_the_same_way() -> None:
    key = EntryKey(OCTOBER, "Lille", "Lyon", "mistral")
    booked = {key: Value(Quantities(2), 26_000, 26_000)}
    cheaper = {key: Value(Quantities(2), 9_000, 9_000)}
    lille, lyon = close(NOVEMBER, cheaper, booked, ("Lille", "Lyon")).statements
    assert [(line.usage_month, line.micro_eur, line.cents) for line in lille.corrections] == [(OCTOBER, -17_000, -2)]
    assert (lille.net_cents, lyon.net_cents) == (2, -2)


def test_a_month_whose_records_are_gone_is_not_taken_for_a_correction() -> None:
    key = EntryKey(OCTOBER, "Lille", "Lyon", "mistral")
    booked = {key: Value(Quantities(200, 10, 10), 5_000_000, 5_000_000)}
    left = {key: Value(Quantities(20, 1, 1), 500_000, 500_000)}
    books = close(NOVEMBER, left, booked, ("Lille", "Lyon"))
    assert books.pruned == (OCTOBER,)
    assert all(not each.lines for each in books.statements)


def test_own_use_is_shown_and_free() -> None:
    cell = UsageCell(
        consumer="Lille", owner="Lille", model="m", used=Quantities(3), served=Quantities(3), price_micro_eur=0
    )
    usage = valued([cell], OCTOBER, {})
    (lille,) = close(OCTOBER, usage, {}, ["Lille"]).statements
    assert [(line.kind, line.used.requests, line.cents) for line in lille.lines] == [(LineKind.OWN, 3, 0)]
    assert lille.net_cents == 0


def test_the_charge_is_what_requests_cost_and_the_credit_pays_only_what_was_served() -> None:
    cell = UsageCell(
        consumer="Lille", owner="Lyon", model="m", used=Quantities(3), served=Quantities(2), price_micro_eur=123
    )
    tariff = Tariff(model="m", valid_from=date(2026, 1, 1), rates=Rates(per_request=99))
    key = EntryKey(OCTOBER, "Lille", "Lyon", "m")
    assert valued([cell], OCTOBER, {"m": tariff})[key] == Value(Quantities(3), 123, 123)
    credited = Tariff(model="m", valid_from=date(2026, 1, 1), rates=Rates(per_request=99), credit=Rates(per_request=7))
    assert valued([cell], OCTOBER, {"m": credited})[key] == Value(Quantities(3), 123, 14)


def test_what_never_went_to_a_server_is_left_out_of_the_books() -> None:
    def line(owner: str, outcome: str) -> UsageLine:
        totals = Totals(requests=1, prompt_tokens=5, price_micro_eur=2)
        return UsageLine(("Lille", owner, "m", outcome), totals)

    assert [str(each) for each in CELL_DIMENSIONS] == ["organisation", "owner", "model", "outcome"]
    cells = cells_of([line("", "refused_busy"), line("Lyon", "completed"), line("Lyon", "connect_failed")])
    assert cells == [
        UsageCell(
            consumer="Lille",
            owner="Lyon",
            model="m",
            used=Quantities(2, 10),
            served=Quantities(1, 5),
            price_micro_eur=4,
        )
    ]


def test_months_are_closed_in_order_once_and_without_a_gap() -> None:
    check_follows(OCTOBER, [])
    check_follows(NOVEMBER, [OCTOBER])
    with pytest.raises(Conflict, match="are closed"):
        check_follows(OCTOBER, [OCTOBER])
    with pytest.raises(Conflict, match="next month to close is 2026-11"):
        check_follows(NOVEMBER.plus(1), [OCTOBER])
