"""Sums of lines equal totals exactly, however the records are cut into batches and whatever they are told apart by."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.store_memory import MemoryStore
from ilaas.core.periods import Month, Period
from ilaas.core.rollups import MEASURES, ROLL_UPS, Dimension, UsageQuery, folded, rolled_up, total_of
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass
from tests.contract.samples import record

D = Dimension
amounts = st.integers(0, 2**60)
records = st.lists(
    st.builds(
        record,
        st.integers(0, 15),
        finished_at_ms=st.integers(0, 4 * 86_400_000),
        organisation=st.sampled_from(["a", "b"]),
        key_id=st.sampled_from(["k", "l"]),
        model=st.sampled_from(["m", "n"]),
        request_class=st.sampled_from(RequestClass),
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.IDLE_TIMEOUT]),
        prompt_tokens=amounts,
        price_micro_eur=amounts,
        energy_mj=amounts,
        impact_method=st.sampled_from(["", "x"]),
    ),
    max_size=25,
)


@given(records)
def test_every_roll_up_adds_up_to_the_same_total(found: list[UsageRecord]) -> None:
    finest = rolled_up(found)
    total = tuple(map(sum, zip(*finest.values(), strict=True)))
    for one in ROLL_UPS:
        lines = folded(finest, one.dimensions)
        assert tuple(map(sum, zip(*lines.values(), strict=True))) == total
    if found:
        assert total[MEASURES.index("requests")] == len(found)
        assert total[MEASURES.index("price_micro_eur")] == sum(one.price_micro_eur for one in found)


@given(records, st.randoms(use_true_random=False), st.lists(st.sampled_from(list(D)), unique=True, max_size=4))
async def test_order_of_arrival_and_duplicates_change_nothing(
    found: list[UsageRecord], rng: object, by: list[Dimension]
) -> None:
    unique = list({one.id: one for one in reversed(found)}.values())
    once, often = MemoryStore(), MemoryStore()
    await once.add_usage(unique)
    shuffled = unique * 2
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    for first in range(0, len(shuffled), 3):
        await often.add_usage(shuffled[first : first + 3])
    query = UsageQuery(period=Period(0, 10), by=tuple(by))
    try:
        lines = await once.usage_lines(query)
    except ValueError:
        assert D.HOUR in by
        return
    assert await often.usage_lines(query) == lines
    total = total_of(lines)
    assert (total.requests, total.energy_mj) == (len(unique), sum(one.energy_mj for one in unique))
    assert all(isinstance(value, int) for value in astuple(total))


def test_reports_read_the_smallest_roll_up() -> None:
    def table(*by: Dimension, **where: str) -> str:
        only = {Dimension(name): frozenset({value}) for name, value in where.items()}
        return UsageQuery(period=Period(0, 1), by=by, where=only).roll_up().table

    assert table(D.DAY) == table(D.MODEL, organisation="a") == table() == "usage_daily_models"
    assert table(D.SITE, D.OWNER) == "usage_daily_models"
    assert table(D.PROJECT, D.KEY, organisation="a") == table(D.DAY, key="k") == "usage_daily_keys"
    assert table(D.SERVER) == table(D.MODEL, key="k") == "usage_daily"
    assert table(D.HOUR, D.SITE) == "usage_hourly"


def test_a_period_is_read_from_days_and_months() -> None:
    assert str(Period.parse("2026-10", "2026-10")) == "2026-10-01 to 2026-10-31"
    assert str(Period.parse("2026-10-05", "2026-11")) == "2026-10-05 to 2026-11-30"
    assert Period.of(Month(2028, 2)) == Period.parse("2028-02-01", "2028-02-29")
    assert str(Period.last_days(2, 86_400.0 * 365)) == "1970-12-31 to 1971-01-01"


@pytest.mark.parametrize(
    ("first", "last"), [("2026-10-02", "2026-10-01"), ("2026-13", "2026-13"), ("20261001", "2026-10-02"), ("", "x")]
)
def test_a_period_that_is_none_is_refused(first: str, last: str) -> None:
    with pytest.raises(ValueError):
        Period.parse(first, last)
