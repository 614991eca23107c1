"""How impacts are shown and compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.impact import FRANCE, UNKNOWN, Case, Impact, ImpactFactors
from ilaas.core.impact_views import compare, impact_json

MODEST = Impact(1_234_567, 987_654, 2_345_678, 14_211, 11_369, 27_001, 0, 0, 0, "ecologits/0.11.3", False)


def per_token(mj: float, spread: float = 0.0) -> ImpactFactors:
    nj = round(mj * 1e6)
    case = Case(output_token_nj=nj)
    return ImpactFactors(
        method="test/1",
        measured=False,
        middle=(case,),
        low=replace(case, output_token_nj=round(nj * (1 - spread))),
        high=replace(case, output_token_nj=round(nj * (1 + spread))),
        site=FRANCE,
        grid_ug_per_kwh=FRANCE.grid_ug_per_kwh,
    )


def test_an_answer_shows_two_significant_digits_with_the_range_rounded_outwards():
    assert impact_json(MODEST) == {
        "energy_wh": {"value": 0.34, "min": 0.27, "max": 0.66},
        "usage_gco2e": {"value": 0.014, "min": 0.011, "max": 0.028},
        "embodied_gco2e": None,
        "method": "ecologits/0.11.3",
        "measured": False,
    }


def test_the_embodied_part_stands_apart():
    shown = impact_json(MODEST._replace(embodied_co2e_ug=1628, embodied_low_ug=407, embodied_high_ug=6512))
    assert shown["embodied_gco2e"] == {"value": 0.0016, "min": 0.0004, "max": 0.0066}


def test_an_unknown_impact_shows_no_number():
    shown = impact_json(UNKNOWN)
    assert shown == {
        "energy_wh": None,
        "usage_gco2e": None,
        "embodied_gco2e": None,
        "method": "unknown",
        "measured": False,
    }


@given(st.lists(st.integers(0, 10**18), min_size=3, max_size=3).map(sorted))
def test_a_shown_range_holds_the_true_one_and_is_near_it(values):
    low, middle, high = values
    impact = Impact(middle, low, high, 0, 0, 0, 0, 0, 0, "test/1", True)
    shown = json.loads(json.dumps(impact_json(impact)))["energy_wh"]
    wh = 3_600_000
    assert shown["min"] <= low / wh * (1 + 1e-12)
    assert shown["max"] >= high / wh * (1 - 1e-12)
    assert shown["min"] <= shown["value"] <= shown["max"]
    for name, true in (("min", low), ("value", middle), ("max", high)):
        assert math.isclose(shown[name], true / wh, rel_tol=0.1)
        assert shown[name] == float(f"{shown[name]:.1e}")


def test_models_are_compared_by_a_thousand_tokens_the_most_frugal_first():
    lines = compare({"large": per_token(900.0), "small": per_token(300.0), "unheard of": None})
    assert [(line.model, line.impact.energy_mj, line.ratio) for line in lines] == [
        ("small", 300_000, 1.0),
        ("large", 900_000, 3.0),
    ]


@pytest.mark.parametrize(("spread", "apart"), [(0.1, True), (0.6, False)])
def test_models_whose_ranges_overlap_are_not_said_to_differ(spread, apart):
    lines = compare({"a": per_token(300.0, spread), "b": per_token(900.0, spread)})
    assert [line.apart for line in lines] == [False, apart]


def test_nothing_known_compares_to_nothing():
    assert compare({"a": None}) == []
