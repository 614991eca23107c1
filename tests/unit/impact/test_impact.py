"""What a request's impact is, by given factors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ilaas.core.errors import ConfigError
from ilaas.core.impact import FRANCE, MJ_PER_KWH, UNKNOWN, Case, Impact, ImpactFactors, SiteFactors, impact_of, total
from ilaas.core.usage import Usage

counts = st.integers(0, 2_000_000)
durations = st.one_of(st.just(math.inf), st.floats(0.0, 7200.0))
amounts = st.integers(0, 10**10)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return Case(
        output_token_nj=draw(amounts),
        prompt_token_nj=draw(amounts),
        request_nj=draw(amounts),
        output_token_ns=draw(st.integers(0, 10**9)),
        first_token_ns=draw(st.integers(0, 10**10)),
        host_uw=draw(st.integers(0, 10**9)),
        embodied_pg_per_s=draw(amounts),
    )


def scaled(case: Case, percent: int) -> Case:
    """The same times, other amounts."""
    return replace(
        case,
        output_token_nj=case.output_token_nj * percent // 100,
        prompt_token_nj=case.prompt_token_nj * percent // 100,
        request_nj=case.request_nj * percent // 100,
        host_uw=case.host_uw * percent // 100,
        embodied_pg_per_s=case.embodied_pg_per_s * percent // 100,
    )


def factors_of(case: Case, low: int = 100, high: int = 100, site: SiteFactors = FRANCE) -> ImpactFactors:
    return ImpactFactors(
        method="test/1",
        measured=False,
        middle=(case,),
        low=scaled(case, low),
        high=scaled(case, high),
        site=site,
        grid_ug_per_kwh=site.grid_ug_per_kwh,
    )


@st.composite
def factors(draw: st.DrawFn) -> ImpactFactors:
    return factors_of(draw(cases()), draw(st.integers(0, 100)), draw(st.integers(100, 900)))


def numbers(impact: Impact) -> tuple[int, ...]:
    return tuple(impact[:9])


def test_energy_is_the_products_of_the_factors():
    case = Case(output_token_nj=200_000_000, prompt_token_nj=20_000_000, request_nj=5_000_000)
    impact = impact_of(factors_of(case), Usage(prompt_tokens=1000, completion_tokens=400, cached_tokens=300))
    assert impact.energy_mj == 400 * 200 + 700 * 20 + 5
    assert impact.co2e_ug == round(94_005 * 41_440_000 / MJ_PER_KWH)


def test_a_kilowatt_hour_in_france_is_what_the_grid_says():
    case = Case(output_token_nj=3_600_000_000_000)
    impact = impact_of(factors_of(case), Usage(completion_tokens=1000))
    assert (impact.energy_mj, impact.co2e_ug) == (MJ_PER_KWH, 41_440_000)


def test_the_machine_counts_while_it_generates_and_no_longer_than_the_request_lasted():
    case = Case(
        output_token_ns=50_000_000, first_token_ns=500_000_000, host_uw=2_000_000, embodied_pg_per_s=160_000_000
    )
    usage = Usage(completion_tokens=90)
    free, quick = impact_of(factors_of(case), usage), impact_of(factors_of(case), usage, 2.5)
    assert (free.energy_mj, free.embodied_co2e_ug) == (5 * 2000, 5 * 160)
    assert (quick.energy_mj, quick.embodied_co2e_ug) == (5000, 400)


def test_a_range_of_parameters_counts_as_the_mean_of_its_ends():
    small, large = Case(output_token_nj=100_000_000), Case(output_token_nj=300_000_000)
    both = replace(factors_of(small), middle=(small, large), high=large)
    assert numbers(impact_of(both, Usage(completion_tokens=10)))[:3] == (2000, 1000, 3000)


def test_without_factors_nothing_is_invented():
    impact = impact_of(None, Usage(1000, 1000), 10.0)
    assert impact is UNKNOWN
    assert (numbers(impact), impact.method, impact.measured) == ((0,) * 9, "unknown", False)


@given(factors())
def test_without_tokens_there_is_the_fixed_part_only(of_model: ImpactFactors):
    case = of_model.middle[0]
    impact = impact_of(of_model, Usage())
    fixed_nj = case.request_nj + case.first_token_ns * case.host_uw // 10**6
    assert impact.energy_mj == (fixed_nj + 500_000) // 10**6


@given(factors(), counts, counts, counts, durations)
def test_bounds_are_ordered_and_everything_is_a_whole_number(of_model, prompt, output, cached, duration_s):
    impact = impact_of(of_model, Usage(prompt, output, cached), duration_s)
    assert all(type(value) is int and value >= 0 for value in numbers(impact))
    assert impact.energy_low_mj <= impact.energy_mj <= impact.energy_high_mj
    assert impact.co2e_low_ug <= impact.co2e_ug <= impact.co2e_high_ug
    assert impact.embodied_low_ug <= impact.embodied_co2e_ug <= impact.embodied_high_ug


@given(factors(), counts, counts, counts, counts, durations)
def test_more_tokens_never_cost_less(of_model, prompt, output, more_prompt, more_output, duration_s):
    less = impact_of(of_model, Usage(prompt, output), duration_s)
    more = impact_of(of_model, Usage(prompt + more_prompt, output + more_output), duration_s)
    assert all(a <= b for a, b in zip(numbers(less), numbers(more), strict=True))


@given(factors(), counts, durations, durations)
def test_a_longer_request_never_costs_less(of_model, output, one_s, other_s):
    shorter = impact_of(of_model, Usage(0, output), min(one_s, other_s))
    longer = impact_of(of_model, Usage(0, output), max(one_s, other_s))
    assert all(a <= b for a, b in zip(numbers(shorter), numbers(longer), strict=True))


@given(factors(), st.integers(), st.integers(), st.integers(), st.floats())
@example(factors_of(Case(output_token_nj=1)), -1, -1, -1, math.nan)
@example(factors_of(Case(host_uw=1, first_token_ns=1)), 0, 0, 0, -math.inf)
def test_absurd_counts_and_times_give_no_negative_impact(of_model, prompt, output, cached, duration_s):
    assert min(numbers(impact_of(of_model, Usage(prompt, output, cached), duration_s))) >= 0


def test_a_negative_count_of_cached_tokens_adds_nothing():
    of_model = factors_of(Case(prompt_token_nj=1_000_000))
    assert impact_of(of_model, Usage(prompt_tokens=10, cached_tokens=-50)).energy_mj == 10


@given(st.lists(st.tuples(factors(), counts, counts), min_size=1, max_size=8), st.randoms())
def test_totals_equal_the_sum_of_the_lines_in_any_order_and_grouping(lines, random):
    impacts = [impact_of(of_model, Usage(prompt, output)) for of_model, prompt, output in lines]
    whole = total(impacts)
    assert numbers(whole) == tuple(sum(column) for column in zip(*(numbers(i) for i in impacts), strict=True))
    random.shuffle(impacts)
    cut = random.randint(1, len(impacts))
    assert numbers(total([total(impacts[:cut]), *impacts[cut:]])) == numbers(whole)


def test_a_total_names_every_method_once_and_is_measured_only_when_all_lines_are():
    line = impact_of(factors_of(Case(output_token_nj=10**6)), Usage(completion_tokens=1))
    measured = line._replace(method="measured/1", measured=True)
    mixed = total([line, measured, line, UNKNOWN])
    assert (mixed.energy_mj, mixed.method, mixed.measured) == (3, "measured/1, test/1, unknown", False)
    assert total([measured, measured]).measured
    assert total([]) is UNKNOWN


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pue": 0.9}, "pue"),
        ({"pue": 1.2, "pue_low": 1.3}, "pue_low"),
        ({"pue": 1.2, "pue_high": 1.1}, "pue_high"),
        ({"pue": math.nan}, "pue"),
        ({"pue": math.inf}, "pue"),
        ({"grid_g_per_kwh": -1.0}, "grid_g_per_kwh"),
        ({"grid_g_per_kwh": math.nan}, "grid_g_per_kwh"),
    ],
)
def test_absurd_site_factors_are_refused_by_name(change, field):
    with pytest.raises(ConfigError, match=rf"site 'Lyon'.*{field}"):
        replace(FRANCE, name="Lyon", **change)
