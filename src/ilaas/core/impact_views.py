"""How impacts are shown and compared: ranges with two significant digits, never false precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ilaas.core.impact import METHOD_SEPARATOR, UNKNOWN_METHOD, Impact, ImpactFactors, impact_of
from ilaas.core.usage import Usage

_DIGITS = 2
_MJ_PER_WH = 3_600_000
_UG_PER_G = 1_000_000
_COMPARED_TOKENS = 1000

Json = dict[str, object]


def impact_json(impact: Impact) -> Json:
    """The `impact` object of an answer.

    `energy_wh`, `usage_gco2e` and `embodied_gco2e` are `{"value", "min", "max"}` in watt-hours and grams of CO2e, or
    null where not known. A bound is rounded away from the value, so that the range shown never is too narrow.
    """
    known = impact.method != UNKNOWN_METHOD
    return {
        "energy_wh": _range(impact[0:3], _MJ_PER_WH) if known else None,
        "usage_gco2e": _range(impact[3:6], _UG_PER_G) if known else None,
        "embodied_gco2e": _range(impact[6:9], _UG_PER_G) if known and impact.embodied_high_ug else None,
        "method": impact.method,
        "measured": impact.measured,
    }


def per_1k_json(servers: Iterable[ImpactFactors | None]) -> Json | None:
    """The `impact` object of a model: 1,000 tokens of answer on its servers; null when nothing is known of them.

    The value is the mean over the servers of which it is known, the bounds are the widest of them.
    """
    impacts = [impact_of(factors, Usage(completion_tokens=_COMPARED_TOKENS)) for factors in servers if factors]
    if not impacts:
        return None
    energy = _over([each[0:3] for each in impacts])
    usage = _over([each[3:6] for each in impacts])
    embodied = _over([each[6:9] for each in impacts])
    return {
        "energy_wh_per_1k_tokens": _range(energy, _MJ_PER_WH),
        "gco2e_per_1k_tokens": _range(usage, _UG_PER_G),
        "embodied_gco2e_per_1k_tokens": _range(embodied, _UG_PER_G) if embodied[2] else None,
        "method": METHOD_SEPARATOR.join(sorted({each.method for each in impacts})),
        "measured": all(each.measured for each in impacts),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelImpact:
    """One line of a comparison of models: 1,000 tokens of answer, generated without haste."""

    model: str
    impact: Impact
    ratio: float
    """Energy relative to the first line's; 1 for the first. Infinite if that one uses none."""
    apart: bool
    """Whether its energy is surely more than the first line's: the two ranges don't overlap."""


def compare(factors: Mapping[str, ImpactFactors | None]) -> list[ModelImpact]:
    """Model against model, per 1,000 tokens of answer, least energy first.

    Models without factors are left out: nothing can be said of them.
    """
    usage = Usage(completion_tokens=_COMPARED_TOKENS)
    impacts = {model: impact_of(of_model, usage) for model, of_model in factors.items() if of_model is not None}
    ordered = sorted(impacts.items(), key=lambda item: (item[1].energy_mj, item[0]))
    if not ordered:
        return []
    least = ordered[0][1]
    return [
        ModelImpact(
            model=model,
            impact=impact,
            ratio=_ratio(impact.energy_mj, least.energy_mj),
            apart=impact.energy_low_mj > least.energy_high_mj,
        )
        for model, impact in ordered
    ]


def _over(servers: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The mean of the values, the lowest and the highest bound."""
    values, lowest, highest = zip(*servers, strict=True)
    return sum(values) // len(values), min(lowest), max(highest)


def _ratio(value: int, base: int) -> float:
    if base:
        return value / base
    return math.inf if value else 1.0


def _range(values: tuple[int, ...], per_unit: int) -> Json:
    value, low, high = values
    return {
        "value": _rounded(value, per_unit, 0),
        "min": _rounded(low, per_unit, -1),
        "max": _rounded(high, per_unit, 1),
    }


def _rounded(value: int, per_unit: int, direction: int) -> float:
    """Two significant digits; `direction` is -1 for down, 0 for nearest, 1 for up. Counted in whole numbers."""
    if value <= 0:
        return 0.0
    # The place of the last digit kept is found in the unit shown: 0.0123 has its second digit at 10^-4.
    step = math.floor(math.log10(value / per_unit)) - (_DIGITS - 1)
    over, under = (value * 10**-step, per_unit) if step < 0 else (value, per_unit * 10**step)
    if direction < 0:
        digits = over // under
    elif direction > 0:
        digits = -(-over // under)
    else:
        digits = (2 * over + under) // (2 * under)
    return float(f"{digits}e{step}")
