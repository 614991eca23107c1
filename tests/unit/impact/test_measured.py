"""Measured power, shared out over tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.impact_ecologits import Parameters, estimated_factors
from ilaas.core.impact import FRANCE, impact_of
from ilaas.core.impact_measured import EnergyShare, PowerReading, SharingRules, measured_factors
from ilaas.core.usage import Usage

GPUS_ONLY = SharingRules(host_w_per_gpu=0.0, least_tokens=1)


def watts(value: float, gpu: str = "a") -> PowerReading:
    return PowerReading({gpu: value}, {})


def counted(mj: float, power_w: float | None = None) -> PowerReading:
    return PowerReading({} if power_w is None else {"a": power_w}, {"a": mj})


def steady(rules: SharingRules, power_w: float, tokens: tuple[int, int], seconds: int = 100) -> EnergyShare:
    """A reading and so many tokens each 10 s."""
    share = EnergyShare(rules)
    share.read(watts(power_w), 0.0)
    for now in range(10, seconds + 1, 10):
        share.computed(*tokens)
        share.read(watts(power_w), float(now))
    return share


def test_energy_is_shared_out_over_the_tokens_of_the_same_time():
    share = steady(GPUS_ONLY, 400.0, (0, 1000))
    assert share.per_token(100.0).gpu_mj == pytest.approx(400.0 * 10 * 1000 / 1000)


def test_ten_tokens_of_prompt_count_as_one_of_answer():
    share = steady(GPUS_ONLY, 400.0, (5000, 500))
    assert share.per_token(100.0).gpu_mj == pytest.approx(400.0 * 10 * 1000 / 1000)


def test_the_machine_around_the_gpus_is_added_by_gpu():
    share = EnergyShare(SharingRules(least_tokens=1))
    both = PowerReading({"a": 300.0, "b": 100.0}, {})
    share.read(both, 0.0)
    share.computed(0, 4000)
    share.read(both, 40.0)
    energy = share.per_token(40.0)
    assert (energy.gpu_mj, energy.host_mj) == pytest.approx((4000.0, 3000.0))


def test_the_energy_counter_is_preferred_over_power():
    share = EnergyShare(GPUS_ONLY)
    share.read(counted(1e9, power_w=999.0), 0.0)
    share.computed(0, 1000)
    share.read(counted(1e9 + 5e6, power_w=999.0), 30.0)
    assert share.per_token(30.0).gpu_mj == pytest.approx(5000.0)


@pytest.mark.parametrize("after_mj", [0.0, 5e14])
def test_a_counter_that_starts_anew_or_leaps_is_bridged_by_power(after_mj):
    share = EnergyShare(GPUS_ONLY)
    share.read(counted(1e9, power_w=200.0), 0.0)
    share.computed(0, 1000)
    share.read(counted(after_mj, power_w=400.0), 30.0)
    assert share.per_token(30.0).gpu_mj == pytest.approx(300.0 * 30)


def test_a_counter_without_power_that_starts_anew_leaves_a_gap_and_its_tokens_out():
    share = EnergyShare(GPUS_ONLY)
    share.read(counted(9e9), 0.0)
    share.computed(0, 1_000_000)
    share.read(counted(0.0), 30.0)
    share.computed(0, 1000)
    share.read(counted(6e6), 60.0)
    assert share.per_token(60.0).gpu_mj == pytest.approx(6000.0)


def test_tokens_before_the_first_reading_bear_nothing():
    share = EnergyShare(GPUS_ONLY)
    share.computed(0, 1_000_000)
    share.read(watts(100.0), 0.0)
    share.computed(0, 1000)
    share.read(watts(100.0), 50.0)
    assert share.per_token(50.0).gpu_mj == pytest.approx(5000.0)


def test_power_is_not_interpolated_over_a_long_gap_but_a_counter_is_trusted():
    by_power, by_counter = EnergyShare(GPUS_ONLY), EnergyShare(GPUS_ONLY)
    for share, before, after in ((by_power, watts(100.0), watts(100.0)), (by_counter, counted(0.0), counted(2e7))):
        share.read(before, 0.0)
        share.computed(0, 1000)
        share.read(after, 200.0)
    assert by_power.per_token(200.0) is None
    assert by_counter.per_token(200.0).gpu_mj == pytest.approx(20_000.0)


def test_idle_energy_is_borne_by_the_tokens_of_the_window():
    share = EnergyShare(GPUS_ONLY)
    share.read(watts(100.0), 0.0)
    share.read(watts(100.0), 50.0)
    share.computed(0, 1000)
    share.read(watts(100.0), 100.0)
    assert share.per_token(100.0).gpu_mj == pytest.approx(10_000.0)


def test_without_tokens_nobody_bears_the_energy_then_or_later():
    share = EnergyShare(GPUS_ONLY)
    for now in range(0, 1001, 10):
        share.read(watts(100.0), float(now))
    assert share.per_token(1000.0) is None
    for now in range(1010, 1311, 10):
        share.computed(0, 100)
        share.read(watts(100.0), float(now))
    assert share.per_token(1310.0).gpu_mj == pytest.approx(10_000.0)


def test_so_few_tokens_that_idling_would_outweigh_them_say_nothing():
    share = EnergyShare()
    share.read(watts(100.0), 0.0)
    share.computed(100, 150)
    share.read(watts(100.0), 40.0)
    assert share.per_token(40.0) is None


def test_stale_readings_say_nothing():
    share = steady(GPUS_ONLY, 400.0, (0, 100))
    assert share.per_token(160.0) is not None
    assert share.per_token(160.1) is None


def test_a_page_without_power_is_as_no_page():
    share = steady(GPUS_ONLY, 400.0, (0, 100))
    share.read(PowerReading(), 150.0)
    assert share.per_token(170.0) is None


def test_the_past_is_forgotten():
    share = steady(GPUS_ONLY, 1000.0, (0, 100), seconds=100)
    for now in range(110, 501, 10):
        share.computed(0, 100)
        share.read(watts(100.0), float(now))
    assert share.per_token(500.0).gpu_mj == pytest.approx(10_000.0)
    assert share.per_token(500.0).measured_s == pytest.approx(300.0)


@given(
    st.lists(
        st.tuples(st.floats(1.0, 50.0), st.floats(0.0, 800.0), st.integers(0, 5000), st.integers(0, 500)),
        min_size=2,
        max_size=30,
    )
)
def test_all_that_was_measured_is_shared_out_over_the_tokens_and_no_more(steps):
    share = EnergyShare(replace(GPUS_ONLY, window_s=1e9))
    share.read(counted(0.0), 0.0)
    now = mj = weighted = 0.0
    for seconds, power_w, prompt, output in steps:
        now, mj, weighted = now + seconds, mj + power_w * seconds * 1000, weighted + output + prompt / 10
        share.computed(prompt, output)
        share.read(counted(mj), now)
    energy = share.per_token(now)
    if weighted < 1 or now < 20:
        assert energy is None
    else:
        assert energy.gpu_mj * weighted == pytest.approx(mj, rel=1e-6, abs=1.0)


ENERGY = steady(SharingRules(), 400.0, (0, 1000)).per_token(100.0)


def test_measured_factors_say_so_and_take_the_sites_overhead():
    factors = measured_factors(ENERGY, replace(FRANCE, pue=1.2), None)
    impact = impact_of(factors, Usage(1000, 100), 5.0)
    assert (impact.method, impact.measured) == ("measured/1", True)
    assert impact.energy_mj == pytest.approx((4000 + 1500) * 1.2 * (100 + 1000 / 10), rel=1e-6)
    assert impact.energy_low_mj == pytest.approx(4000 * 0.95 * 1.2 * 200, rel=1e-6)
    assert impact.energy_high_mj == pytest.approx(5500 * 1.05 * 1.2 * 200, rel=1e-6)


def test_without_an_estimate_the_embodied_part_is_not_known():
    assert impact_of(measured_factors(ENERGY, FRANCE, None), Usage(0, 1000)).embodied_high_ug == 0


def test_the_embodied_part_stays_the_estimates():
    estimate = estimated_factors(Parameters((70.0, 120.0), (70.0, 120.0)), FRANCE)
    measured = measured_factors(ENERGY, FRANCE, estimate)
    one, other = impact_of(estimate, Usage(0, 1000), 30.0), impact_of(measured, Usage(0, 1000), 30.0)
    assert one[6:9] == other[6:9]
    assert other.energy_mj == pytest.approx(5500 * 1.56 * 1000, rel=1e-6)
    assert other.method == f"measured/1 + {one.method}"


def test_cached_tokens_of_the_prompt_cost_nothing():
    factors = measured_factors(ENERGY, FRANCE, None)
    cached, fresh = Usage(1000, 10, cached_tokens=900), Usage(100, 10)
    assert impact_of(factors, cached) == impact_of(factors, fresh)
