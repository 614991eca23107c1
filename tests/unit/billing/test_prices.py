from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.core.billing import PriceBook, Quantities, Rates, Tariff, TariffBook, amount, credit_of, price_of
from ilaas.core.errors import Conflict
from ilaas.core.periods import Month, Period
from ilaas.core.usage import Usage

rate = st.integers(0, 10**9)
rates = st.builds(
    Rates,
    prompt_per_million=rate,
    completion_per_million=rate,
    cached_per_million=st.none() | rate,
    per_request=st.integers(0, 10**6),
    audio_per_hour=rate,
)
count = st.integers(0, 10**7)


@st.composite
def quantities(draw: st.DrawFn) -> Quantities:
    prompt = draw(count)
    return Quantities(draw(st.integers(0, 1000)), prompt, draw(count), draw(st.integers(0, prompt)), draw(count))


def epoch_s(*day: int) -> float:
    return datetime(*day, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(rates, quantities())
def test_a_price_is_the_exact_one_rounded_once_halves_up(rates: Rates, used: Quantities) -> None:
    cached_rate = rates.prompt_per_million if rates.cached_per_million is None else rates.cached_per_million
    exact = (
        Fraction((used.prompt_tokens - used.cached_tokens) * rates.prompt_per_million, 10**6)
        + Fraction(used.cached_tokens * cached_rate, 10**6)
        + Fraction(used.completion_tokens * rates.completion_per_million, 10**6)
        + Fraction(used.audio_ms * rates.audio_per_hour, 3_600_000)
        + used.requests * rates.per_request
    )
    assert amount(rates, used) == (exact + Fraction(1, 2)).__floor__()


@settings(max_examples=60, deadline=None)
@given(rates, quantities())
def test_the_price_at_request_time_is_the_tariffs(rates: Rates, used: Quantities) -> None:
    tariff = Tariff(model="m", valid_from=date(2026, 1, 1), rates=rates)
    one = Quantities(1, used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.audio_ms)
    usage = Usage(one.prompt_tokens, one.completion_tokens, one.cached_tokens)
    price = PriceBook([tariff]).price("m", usage, False, epoch_s(2026, 5, 1), audio_ms=one.audio_ms)
    assert price == price_of(tariff, one, own_server=False)
    assert price_of(tariff, Quantities.of(usage, one.audio_ms), own_server=False) == price


def test_examples_that_can_be_checked_by_hand() -> None:
    rates = Rates(prompt_per_million=200_000, completion_per_million=600_000, cached_per_million=50_000)
    # 1,000 new prompt tokens: 200; 1,000 cached ones: 50; 500 of the answer: 300
    assert amount(rates, Quantities(1, 2_000, 500, 1_000)) == 550
    assert amount(Rates(audio_per_hour=360_000), Quantities(audio_ms=90_000)) == 9_000
    assert amount(Rates(per_request=7), Quantities(requests=3)) == 21
    assert amount(Rates(prompt_per_million=500_000), Quantities(prompt_tokens=1)) == 1  # half a micro-euro
    assert amount(Rates(prompt_per_million=499_999), Quantities(prompt_tokens=1)) == 0


def test_a_server_that_tells_of_more_cached_than_prompt_tokens_makes_no_negative_price() -> None:
    assert amount(Rates(prompt_per_million=1_000_000, cached_per_million=0), Quantities(1, 10, 0, 99)) == 0


def test_own_servers_are_free_for_both_sides() -> None:
    tariff = Tariff(model="m", valid_from=date(2026, 1, 1), rates=Rates(per_request=5), credit=Rates(per_request=4))
    assert price_of(tariff, Quantities(1), own_server=True) == credit_of(tariff, Quantities(1), own_server=True) == 0
    assert PriceBook([tariff]).price("m", Usage(), True, epoch_s(2026, 2, 1)) == 0


def test_a_contributor_is_credited_what_is_charged_unless_the_tariff_says_otherwise() -> None:
    plain = Tariff(model="m", valid_from=date(2026, 1, 1), rates=Rates(per_request=5))
    other = Tariff(model="m", valid_from=date(2026, 1, 1), rates=Rates(per_request=5), credit=Rates(per_request=4))
    assert credit_of(plain, Quantities(2), own_server=False) == 10
    assert credit_of(other, Quantities(2), own_server=False) == 8


def test_a_tariff_holds_from_the_first_to_the_last_of_its_days_in_utc() -> None:
    book = PriceBook(
        [
            Tariff(model="m", valid_from=date(2026, 3, 1), valid_to=date(2026, 3, 31), rates=Rates(per_request=1)),
            Tariff(model="m", valid_from=date(2026, 4, 1), rates=Rates(per_request=2)),
        ]
    )
    prices = [
        book.price("m", Usage(), False, at)
        for at in (epoch_s(2026, 3, 1) - 0.001, epoch_s(2026, 3, 1), epoch_s(2026, 4, 1) - 0.001, epoch_s(2026, 4, 1))
    ]
    assert prices == [0, 1, 1, 2]
    assert book.price("m", Usage(), False, epoch_s(9999, 12, 31)) == 2
    assert book.price("another", Usage(), False, epoch_s(2026, 4, 1)) == 0


spans = st.tuples(st.integers(0, 60), st.none() | st.integers(0, 30))


@settings(max_examples=60, deadline=None)
@given(st.lists(spans, max_size=8), st.lists(spans, min_size=1, max_size=1))
def test_no_two_tariffs_of_a_model_ever_share_a_day(known: list[tuple[int, int | None]], more: list[object]) -> None:
    def tariff(first: int, length: int | None) -> Tariff:
        start = date(2026, 1, 1).toordinal() + first
        end = None if length is None else date.fromordinal(start + length)
        return Tariff(model="m", valid_from=date.fromordinal(start), valid_to=end)

    book = TariffBook()
    for span in [*known, *more]:
        new = tariff(*span)  # type: ignore[misc]
        clash = any(new.overlaps(each) for each in book.tariffs)
        try:
            book = book.adding(new)[0]
        except Conflict:
            assert clash
        else:
            assert not clash
    for day in range(100):
        one = date.fromordinal(date(2026, 1, 1).toordinal() + day)
        assert sum(each.valid_on(one) for each in book.tariffs) <= 1


def test_a_new_tariff_may_end_the_one_in_force_but_not_rewrite_one_with_an_end() -> None:
    old = Tariff(model="m", valid_from=date(2026, 1, 1))
    new = Tariff(model="m", valid_from=date(2026, 7, 1))
    with pytest.raises(Conflict, match="until further notice"):
        TariffBook((old,)).adding(new)
    book, ended = TariffBook((old,)).adding(new, end_previous=True)
    assert ended is not None
    assert [each.valid_to for each in book.tariffs] == [date(2026, 6, 30), None]
    with pytest.raises(Conflict, match="2026-06-30"):
        book.adding(Tariff(model="m", valid_from=date(2026, 3, 1), valid_to=date(2026, 4, 1)), end_previous=True)
    assert TariffBook((old,)).adding(Tariff(model="another", valid_from=date(2026, 3, 1)))[1] is None


def test_a_month_is_split_where_a_tariff_begins_or_has_ended() -> None:
    book = TariffBook(
        (
            Tariff(model="a", valid_from=date(2026, 1, 1), valid_to=date(2026, 3, 9)),
            Tariff(model="a", valid_from=date(2026, 3, 10)),
            Tariff(model="b", valid_from=date(2026, 3, 20), valid_to=date(2026, 4, 1)),
        )
    )
    spans = book.spans(Period.of(Month(2026, 3)))
    assert [str(span) for span in spans] == [
        "2026-03-01 to 2026-03-09",
        "2026-03-10 to 2026-03-19",
        "2026-03-20 to 2026-03-31",
    ]
    assert book.at(spans[1].first_day)["a"].valid_from == date(2026, 3, 10)


@pytest.mark.parametrize("wrong", [{"per_request": -1}, {"cached_per_million": 10**13}])
def test_a_rate_that_makes_no_sense_is_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rates(**wrong)


def test_a_tariff_does_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="ends before"):
        Tariff(model="m", valid_from=date(2026, 2, 1), valid_to=date(2026, 1, 1))
