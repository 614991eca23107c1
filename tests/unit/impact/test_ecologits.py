"""The factors give what the library itself gives."""

from __future__ import annotations

import pytest
from ecologits.electricity_mix_repository import electricity_mixes
from ecologits.impacts.llm import compute_llm_impacts
from ecologits.utils.range_value import RangeValue
from hypothesis import given
from hypothesis import strategies as st

from ilaas.adapters.electricity import Electricity, electricity_of
from ilaas.adapters.impact_ecologits import (
    Deployment,
    Parameters,
    estimated_factors,
    find_parameters,
    quantisation_bits,
)
from ilaas.core.errors import ConfigError
from ilaas.core.impact import FRANCE, SiteFactors, impact_of
from ilaas.core.impact_measured import SharingRules
from ilaas.core.usage import Usage
from ilaas.core.values import Category

MIXTRAL = Parameters.of(46.7, 12.9)
MEDIUM = Parameters((70.0, 120.0), (70.0, 120.0))
SITE = SiteFactors(
    name="Grenoble",
    pue=1.25,
    pue_low=1.2,
    pue_high=1.3,
    grid_g_per_kwh=41.44,
    grid_source="test",
    grid_date="2026-05",
)


def by_the_library(parameters: Parameters, tokens: int, latency_s: float | None, **options: float) -> tuple[float, ...]:
    """Mean millijoules, micrograms of use and of making."""

    def bounds(pair: tuple[float, float]) -> float | RangeValue:
        return pair[0] if pair[0] == pair[1] else RangeValue(min=pair[0], max=pair[1])

    impacts = compute_llm_impacts(
        model_active_parameter_count=bounds(parameters.active),
        model_total_parameter_count=bounds(parameters.total),
        output_token_count=tokens,
        request_latency=latency_s,
        if_electricity_mix_adpe=0.0,
        if_electricity_mix_pe=0.0,
        if_electricity_mix_gwp=0.04144,
        if_electricity_mix_wue=0.0,
        datacenter_pue=1.25,
        datacenter_wue=0.0,
        **options,
    )
    values = (impacts.energy.value, impacts.usage.gwp.value, impacts.embodied.gwp.value)
    means = [value.mean if isinstance(value, RangeValue) else value for value in values]
    return means[0] * 3.6e9, means[1] * 1e9, means[2] * 1e9


@pytest.mark.parametrize("latency_s", [None, 4.0])
@pytest.mark.parametrize("tokens", [50, 400, 5_000, 100_000])
@pytest.mark.parametrize(
    ("parameters", "quantisation", "options"),
    [
        (Parameters.of(24.0), None, {}),
        (Parameters.of(24.0), "fp8", {"model_quantization_bits": 8}),
        (Parameters.of(117.0, 5.1), "mxfp4", {"model_quantization_bits": 4}),
        (MIXTRAL, None, {}),
        (MEDIUM, None, {}),
        (Parameters.of(405.0), "bf16", {"model_quantization_bits": 16}),
    ],
)
def test_factors_reproduce_the_library_within_one_percent(parameters, quantisation, options, tokens, latency_s):
    factors = estimated_factors(parameters, SITE, Deployment(quantisation=quantisation))
    impact = impact_of(factors, Usage(0, tokens), latency_s if latency_s is not None else float("inf"))
    expected = by_the_library(parameters, tokens, latency_s, **options)
    assert (impact.energy_mj, impact.co2e_ug, impact.embodied_co2e_ug) == pytest.approx(expected, rel=0.01)


def test_a_known_speed_first_token_and_gpu_are_the_librarys_too():
    deployment = Deployment(gpu_memory_gb=141.0, first_token_s=0.4, output_tokens_per_s=80.0)
    impact = impact_of(estimated_factors(Parameters.of(70.0), SITE, deployment), Usage(0, 500))
    expected = by_the_library(Parameters.of(70.0), 500, None, gpu_memory=141.0, ttft=0.4, tps=80.0)
    assert (impact.energy_mj, impact.co2e_ug, impact.embodied_co2e_ug) == pytest.approx(expected, rel=0.01)


sizes = st.tuples(st.floats(0.1, 1000.0), st.floats(0.1, 1000.0)).map(sorted)


@given(sizes, sizes, st.integers(1, 200_000), st.floats(0.0, 1000.0), st.sampled_from([None, "int4", "fp8"]))
def test_the_value_lies_within_its_bounds_and_never_is_a_point(one, other, tokens, duration_s, quantisation):
    low, high = sorted((one, other), key=sum)
    parameters = Parameters((min(low[0], high[0]), max(low[0], high[0])), (min(low[1], high[1]), max(low[1], high[1])))
    factors = estimated_factors(parameters, SITE, Deployment(quantisation=quantisation))
    impact = impact_of(factors, Usage(0, tokens), duration_s)
    assert impact.energy_low_mj < impact.energy_mj < impact.energy_high_mj or impact.energy_mj < 100
    assert impact.co2e_low_ug <= impact.co2e_ug <= impact.co2e_high_ug
    assert impact.embodied_low_ug <= impact.embodied_co2e_ug <= impact.embodied_high_ug


def test_a_range_of_parameters_stays_a_range():
    factors = estimated_factors(MEDIUM, SITE)
    impact = impact_of(factors, Usage(0, 1000))
    smallest = by_the_library(Parameters.of(70.0), 1000, None)[0]
    largest = by_the_library(Parameters.of(120.0), 1000, None)[0]
    assert impact.energy_low_mj < smallest < impact.energy_mj < largest < impact.energy_high_mj


def test_the_method_carries_the_librarys_version():
    assert estimated_factors(MIXTRAL, SITE).method.startswith("ecologits/0.")
    assert not estimated_factors(MIXTRAL, SITE).measured


def test_a_heavier_quantisation_never_costs_less():
    impacts = [
        impact_of(estimated_factors(Parameters.of(70.0), SITE, Deployment(quantisation=q)), Usage(0, 1000)).energy_mj
        for q in ("int4", "fp8", "bf16")
    ]
    assert impacts == sorted(impacts)
    assert impacts[0] < impacts[-1]


def test_unknown_parameters_give_no_factors():
    assert find_parameters(["a-model-nobody-knows-70B"]) is None
    assert estimated_factors(None, SITE) is None


@pytest.mark.parametrize("category", [Category.EMBEDDING, Category.RERANKING, Category.SPEECH])
def test_what_the_method_does_not_cover_gives_no_factors(category):
    assert estimated_factors(MIXTRAL, SITE, category=category) is None


def test_the_registry_knows_models_by_any_of_their_names_in_any_case():
    names = ["mixtral", "Mistralai/mixtral-8X7B-Instruct-v0.1"]
    assert find_parameters(names) == MIXTRAL
    assert find_parameters(["openai/gpt-oss-120b"]) == Parameters.of(117.0, 5.1)


def test_a_registry_can_be_named_and_its_ranges_are_kept():
    assert find_parameters(["mistralai:magistral-medium-latest"]) == MEDIUM


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("fp8", 8),
        ("FP8_E4M3", 8),
        ("int4", 4),
        ("w4a16", 4),
        ("Q4_K_M", 4),
        ("iq3_xxs", 3),
        ("gptq-int8", 8),
        ("AWQ", 4),
        ("awq-4bit", 4),
        ("mxfp4", 4),
        ("nvfp4", 4),
        ("bf16", 16),
        ("float16", 16),
        ("none", 16),
        (None, None),
        ("", None),
        ("gguf", None),
        ("1.58bit", None),
    ],
)
def test_quantisation_is_read_as_operators_write_it(text, bits):
    assert quantisation_bits(text) == bits


@pytest.mark.parametrize(
    "make",
    [
        lambda: Parameters.of(0.0),
        lambda: Parameters.of(7.0, 8.0),
        lambda: Parameters((1.0, 1.0), (9.0, 8.0)),
        lambda: Parameters.of(7e9),
        lambda: Parameters.of(float("nan")),
    ],
)
def test_absurd_parameters_are_refused(make):
    with pytest.raises(ConfigError, match="parameters"):
        make()


def test_the_french_default_is_what_the_library_ships():
    assert electricity_of("FRA") == Electricity(
        grid_g_per_kwh=FRANCE.grid_g_per_kwh, source=FRANCE.grid_source, date=FRANCE.grid_date
    )


def test_the_library_says_the_same_of_a_countrys_electricity():
    for zone in ("FRA", "BEL"):
        mix = electricity_mixes.find_electricity_mix(zone=zone)
        assert electricity_of(zone).grid_g_per_kwh == pytest.approx(mix.gwp * 1000)


def test_another_countrys_electricity_is_found_by_its_code():
    assert electricity_of("BEL").grid_g_per_kwh > FRANCE.grid_g_per_kwh
    with pytest.raises(ConfigError, match=r"zone 'XXX'.*ISO 3166"):
        electricity_of("XXX")


def test_the_machine_around_the_gpus_draws_what_the_library_says():
    from ecologits.impacts.llm import SERVER_GPUS, SERVER_POWER

    assert SharingRules().host_w_per_gpu == pytest.approx(SERVER_POWER * 1000 / SERVER_GPUS)
