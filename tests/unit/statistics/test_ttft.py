"""The 95th percentile over the last readings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.statistics.ttft import TtftWindow, quantile

BOUNDS = (0.1, 0.5, 1.0, math.inf)


def reading(*counts: float):
    return tuple(zip(BOUNDS, counts, strict=True))


def test_the_first_reading_has_nothing_to_compare_with():
    assert TtftWindow().add(reading(10, 40, 50, 50)) is None


def test_only_what_came_since_the_window_began_counts():
    window = TtftWindow()
    window.add(reading(1000, 1000, 1000, 1000))
    # 100 new ones, all between 0.5 and 1 s: the 95th lies at 95 % of that bucket.
    assert window.add(reading(1000, 1000, 1100, 1100)) == pytest.approx(0.975)


def test_the_percentile_is_straight_lined_inside_its_bucket():
    assert quantile(reading(10, 90, 100, 100), 0.95) == pytest.approx(0.75)
    assert quantile(reading(10, 90, 100, 100), 0.05) == pytest.approx(0.05)


def test_beyond_the_last_bound_the_last_bound_is_told():
    assert quantile(reading(0, 0, 1, 100), 0.95) == 1.0


def test_nothing_new_is_not_told():
    window = TtftWindow()
    window.add(reading(5, 5, 5, 5))
    assert window.add(reading(5, 5, 5, 5)) is None


def test_a_page_without_the_histogram_keeps_the_window():
    window = TtftWindow()
    window.add(reading(0, 0, 0, 0))
    assert window.add(()) is None
    assert window.add(reading(0, 10, 10, 10)) == pytest.approx(0.48)


def test_old_readings_leave_the_window():
    window = TtftWindow(readings=2)
    window.add(reading(0, 0, 0, 0))
    window.add(reading(0, 0, 100, 100))
    assert window.add(reading(100, 100, 200, 200)) == pytest.approx(0.095)


def test_a_restarted_server_is_judged_by_what_it_did_since():
    window = TtftWindow()
    window.add(reading(0, 0, 0, 0))
    window.add(reading(0, 0, 1000, 1000))
    assert window.add(reading(20, 20, 20, 20)) == pytest.approx(0.095)


def test_another_set_of_buckets_begins_a_new_window():
    window = TtftWindow()
    window.add(reading(0, 0, 0, 0))
    assert window.add(((2.0, 10.0), (math.inf, 10.0))) is None
    assert window.add(((2.0, 20.0), (math.inf, 20.0))) == pytest.approx(1.9)


@given(st.lists(st.tuples(*[st.floats(0, 1e15)] * 4), min_size=1, max_size=30))
def test_any_counts_give_a_value_inside_the_bounds_or_none(rows):
    window = TtftWindow()
    for row in rows:
        value = window.add(reading(*row))
        assert value is None or 0 < value <= 1.0


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=50))
def test_the_percentile_lies_in_the_bucket_of_the_true_one(times):
    counts = [sum(1 for time in times if time <= bound) for bound in BOUNDS]
    true = sorted(times)[math.ceil(0.95 * len(times)) - 1]
    upper = next(bound for bound in BOUNDS if true <= bound)
    lower = max((bound for bound in (0.0, *BOUNDS) if bound < true), default=0.0)
    assert lower <= quantile(reading(*counts), 0.95) <= upper
