"""The environmental impact of a request: energy, and CO2e of its use and of the making of the machine.

The factors of a model on a server at a site are worked out once, by `adapters.impact_ecologits` or from measured power
by `core.impact_measured`. What is left for each request is a few products of whole numbers, so that books that are
summed up in any order give the same total. The method is described in docs/impact.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ilaas.core.errors import ConfigError
from ilaas.core.usage import Usage

UNKNOWN_METHOD = "unknown"
"""Stands in the record when neither an estimate nor a measurement is possible; its numbers are then all 0."""

METHOD_SEPARATOR = ", "
"""Between the methods that make up one total."""

MJ_PER_KWH = 3_600_000_000
"""Millijoules in a kilowatt-hour."""

_NJ_PER_MJ = 10**6
_NS_PER_S = 10**9
_UW_NS_PER_NJ = 10**6
_PG_PER_UG = 10**6
_LONGEST_S = 10**6
_LONGEST_NS = 10**15
"""An answer that takes longer is taken to be without bound: eleven days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFactors:
    """What a data centre adds: its overhead and the electricity it buys. Raises ConfigError for absurd values."""

    name: str
    pue: float
    """Power usage effectiveness: energy of the whole site / energy of its computers, 1 or more."""
    pue_low: float | None = None
    """Bounds, where the PUE is a range; None is the PUE itself."""
    pue_high: float | None = None
    grid_g_per_kwh: float
    """Greenhouse gases of the electricity, in gCO2e per kWh."""
    grid_source: str
    grid_date: str
    """Of the source's data: year, year and month, or ISO date."""
    zone: str = "FRA"
    """ISO 3166-1 alpha-3 code of the electricity's country."""

    def __post_init__(self) -> None:
        low, pue, high = self.pue_range
        if not (1.0 <= low <= pue <= high < math.inf):
            raise ConfigError(
                f"site {self.name!r}: pue must be 1 or more, between pue_low and pue_high, not {low} / {pue} / {high}"
            )
        if not 0.0 <= self.grid_g_per_kwh < 10_000.0:
            raise ConfigError(
                f"site {self.name!r}: grid_g_per_kwh must be 0 to 10000 gCO2e per kWh, not {self.grid_g_per_kwh}"
            )

    @property
    def pue_range(self) -> tuple[float, float, float]:
        """Lower bound, value, upper bound."""
        low = self.pue if self.pue_low is None else self.pue_low
        high = self.pue if self.pue_high is None else self.pue_high
        return low, self.pue, high

    @property
    def grid_ug_per_kwh(self) -> int:
        """The electricity's factor in whole micrograms."""
        return round(self.grid_g_per_kwh * 1e6)


FRANCE = SiteFactors(
    name="France",
    pue=1.56,
    grid_g_per_kwh=41.44,
    grid_source="Our World in Data, as packaged in ecologits 0.11.3 (electricity_mixes.json, FRA)",
    grid_date="2026-05",
)
"""For sites that state nothing. PUE: mean of the Uptime Institute's Global Data Center Survey 2024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of linear factors, PUE included. Whole numbers, in units small enough that rounding doesn't count."""

    output_token_nj: int = 0
    """Nanojoules for each token of the answer."""
    prompt_token_nj: int = 0
    """Nanojoules for each token of the prompt that didn't come from the prefix cache."""
    request_nj: int = 0
    """Nanojoules for each request, whatever its length."""
    output_token_ns: int = 0
    """Time that the server is taken to need for a token of the answer."""
    first_token_ns: int = 0
    host_uw: int = 0
    """Microwatts of the machine without its GPUs, this request's share while it is generated."""
    embodied_pg_per_s: int = 0
    """Picograms of CO2e of the making of the machine, this request's share for each second it is generated."""

    def amounts(self, prompt_tokens: int, output_tokens: int, limit_ns: int) -> tuple[int, int]:
        """Nanojoules and picograms (embodied); generating lasts as the factors say, at most `limit_ns`."""
        busy_ns = self.first_token_ns + output_tokens * self.output_token_ns
        if busy_ns > limit_ns:  # noqa: PLR1730  # min() costs three times as much
            busy_ns = limit_ns
        return (
            self.request_nj
            + output_tokens * self.output_token_nj
            + prompt_tokens * self.prompt_token_nj
            + busy_ns * self.host_uw // _UW_NS_PER_NJ
        ), busy_ns * self.embodied_pg_per_s // _NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactFactors:
    """Of one model on one server at one site. For any request `low` gives no more and `high` no less than `middle`."""

    method: str
    """Method and version; stored with each record."""
    measured: bool
    """Whether the energy comes from measured power."""
    middle: tuple[Case, ...]
    """The value is the mean over these: one case, or both ends of a range (as ecologits' `RangeValue.mean`)."""
    low: Case
    high: Case
    site: SiteFactors
    grid_ug_per_kwh: int
    """Of the site, in whole micrograms, so that a request need not compute it."""


class Impact(NamedTuple):
    """Of one request, or the total of many. A tuple, for speed: one is made per request."""

    energy_mj: int
    """Millijoules of use, PUE included."""
    energy_low_mj: int
    energy_high_mj: int
    co2e_ug: int
    """Micrograms of CO2e of use: `energy_mj` times the grid's factor."""
    co2e_low_ug: int
    co2e_high_ug: int
    embodied_co2e_ug: int
    """Micrograms of CO2e of the making of the machine; 0 is also 'not known'."""
    embodied_low_ug: int
    embodied_high_ug: int
    method: str
    measured: bool


UNKNOWN = Impact(0, 0, 0, 0, 0, 0, 0, 0, 0, UNKNOWN_METHOD, False)
"""No number is better than an invented one."""


def impact_of(factors: ImpactFactors | None, usage: Usage, duration_s: float = math.inf) -> Impact:
    """The impact of one answer.

    Without factors it is `UNKNOWN`. Without tokens it is the fixed part: that of the request and of the time to the
    first token. `duration_s` is the time the request spent at the server, without the queue: it bounds the time that
    the factors take for generating. Negative and absurd counts are taken as 0.
    """
    if factors is None:
        return UNKNOWN
    output = usage.completion_tokens
    prompt = usage.prompt_tokens - usage.cached_tokens
    if output < 0 or prompt < 0 or usage.cached_tokens < 0:
        output, prompt = max(output, 0), max(min(prompt, usage.prompt_tokens), 0)
    limit_ns = _LONGEST_NS
    if duration_s < _LONGEST_S:  # infinite and not a number are not
        limit_ns = int(duration_s * _NS_PER_S) if duration_s > 0.0 else 0
    middle = factors.middle
    energy_nj, embodied_pg = middle[0].amounts(prompt, output, limit_ns)
    if len(middle) > 1:
        other_nj, other_pg = middle[1].amounts(prompt, output, limit_ns)
        energy_nj, embodied_pg = (energy_nj + other_nj) // 2, (embodied_pg + other_pg) // 2
    low_nj, low_pg = factors.low.amounts(prompt, output, limit_ns)
    high_nj, high_pg = factors.high.amounts(prompt, output, limit_ns)
    grid = factors.grid_ug_per_kwh
    # The value is rounded to the nearest, the bounds away from it.
    energy, low, high = (energy_nj + _NJ_PER_MJ // 2) // _NJ_PER_MJ, low_nj // _NJ_PER_MJ, -(-high_nj // _NJ_PER_MJ)
    return Impact(
        energy,
        low,
        high,
        # From the energy that is recorded, so that anyone can check the one by the other.
        (energy * grid + MJ_PER_KWH // 2) // MJ_PER_KWH,
        low * grid // MJ_PER_KWH,
        -(-high * grid // MJ_PER_KWH),
        (embodied_pg + _PG_PER_UG // 2) // _PG_PER_UG,
        low_pg // _PG_PER_UG,
        -(-high_pg // _PG_PER_UG),
        factors.method,
        factors.measured,
    )


def total(impacts: Iterable[Impact]) -> Impact:
    """The exact sum of the lines, in whatever order they come.

    The bounds are added up, too, which is the widest reading: errors are taken to be all on one side. `measured` only
    if every line is; the methods are named each once. Lines of unknown impact add nothing, and are named.
    """
    lines = list(impacts)
    if not lines:
        return UNKNOWN
    return Impact(
        energy_mj=sum(line.energy_mj for line in lines),
        energy_low_mj=sum(line.energy_low_mj for line in lines),
        energy_high_mj=sum(line.energy_high_mj for line in lines),
        co2e_ug=sum(line.co2e_ug for line in lines),
        co2e_low_ug=sum(line.co2e_low_ug for line in lines),
        co2e_high_ug=sum(line.co2e_high_ug for line in lines),
        embodied_co2e_ug=sum(line.embodied_co2e_ug for line in lines),
        embodied_low_ug=sum(line.embodied_low_ug for line in lines),
        embodied_high_ug=sum(line.embodied_high_ug for line in lines),
        method=METHOD_SEPARATOR.join(sorted({line.method for line in lines})),
        measured=all(line.measured for line in lines),
    )
