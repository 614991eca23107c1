"""Measured power, shared out over the tokens that were computed meanwhile.

One `EnergyShare` per machine takes what its exporter says and the tokens computed on it, and gives the energy of a
token. Pure: readings and times come in as arguments. The rules are described in docs/impact.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from ilaas.core.impact import Case, ImpactFactors, SiteFactors

METHOD = "measured/1"
"""Goes up when the rules of sharing change, so that records stay comparable."""

PROMPT_WEIGHT = 10
"""So many tokens of prompt count as one of answer: prompts are computed in parallel, answers token by token."""

_HOST_W_PER_GPU = 150.0
_SENSOR_ERROR = 0.05
_MAX_GPU_W = 3000.0
_NJ_PER_MJ = 10**6


@dataclass(frozen=True, slots=True)
class PowerReading:
    """What an exporter's page says, by GPU."""

    watts: Mapping[str, float] = field(default_factory=dict)
    energy_mj: Mapping[str, float] = field(default_factory=dict)
    """Counters of millijoules since some start, that of the driver for instance."""

    @property
    def total_watts(self) -> float | None:
        """Of all GPUs; None when the page gives no power."""
        return sum(self.watts.values()) if self.watts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingRules:
    """How energy is shared out. Times are in seconds."""

    window_s: float = 300.0
    """Over how much of the past the energy of a token is averaged."""
    stale_s: float = 60.0
    """Without a reading for so long, nothing is said."""
    longest_gap_s: float = 60.0
    """Between two readings further apart, power is not interpolated; energy counters may bridge a whole window."""
    least_tokens: int = 200
    """Weighted tokens in the window, below which idle energy would outweigh everything: nothing is said."""
    least_measured_s: float = 20.0
    host_w_per_gpu: float = _HOST_W_PER_GPU
    """Power of the machine without its GPUs, which no GPU exporter sees. Default: ecologits' 1.2 kW for 8 GPUs."""


@dataclass(frozen=True, slots=True)
class TokenEnergy:
    """Millijoules of one token of answer, without PUE; one of prompt is a tenth (`PROMPT_WEIGHT`)."""

    gpu_mj: float
    host_mj: float
    measured_s: float
    """How much of the window was measured."""


@dataclass(slots=True)
class _Interval:
    """Between two readings. Only what was measured counts, and only tokens computed while it was measured."""

    end_s: float
    seconds: float
    gpu_mj: float
    host_mj: float
    prompt_tokens: int
    output_tokens: int


class EnergyShare:
    """Shares out one machine's energy. All its energy counts, idle or not, over the tokens of the window.

    With no tokens in the window there is nobody to give the energy to: it is not shared out, then or later.
    """

    def __init__(self, rules: SharingRules | None = None) -> None:
        self._rules = rules or SharingRules()
        self._intervals: deque[_Interval] = deque()
        self._last: tuple[PowerReading, float] | None = None
        self._prompt_tokens = 0
        self._output_tokens = 0

    def computed(self, prompt_tokens: int, output_tokens: int) -> None:
        """Tokens computed on the machine: of a request that ended, or the growth of the server's own counters.

        Tokens of the prompt that came from a prefix cache are not computed and don't belong here.
        """
        self._prompt_tokens += max(prompt_tokens, 0)
        self._output_tokens += max(output_tokens, 0)

    def read(self, reading: PowerReading, now: float) -> None:
        """A page of the exporter, at `now` (monotonic seconds). Closes the interval since the one before."""
        if not (reading.watts or reading.energy_mj):
            return
        last, self._last = self._last, (reading, now)
        prompt, output = self._prompt_tokens, self._output_tokens
        self._prompt_tokens = self._output_tokens = 0
        if last is None or now <= last[1]:
            return  # what was computed before the first reading was not measured
        seconds = now - last[1]
        gpu_mj = self._energy(last[0], reading, seconds)
        if gpu_mj is not None:
            gpus = len(reading.watts.keys() | reading.energy_mj.keys())
            host_mj = self._rules.host_w_per_gpu * gpus * seconds * 1000.0
            self._intervals.append(_Interval(now, seconds, gpu_mj, host_mj, prompt, output))
        self._forget(now)

    def per_token(self, now: float) -> TokenEnergy | None:
        """The energy of a token; None when readings are stale, too few, or there are too few tokens to bear it."""
        rules = self._rules
        if self._last is None or now - self._last[1] > rules.stale_s:
            return None
        self._forget(now)
        seconds = sum(interval.seconds for interval in self._intervals)
        weighted = sum(i.output_tokens + i.prompt_tokens / PROMPT_WEIGHT for i in self._intervals)
        if seconds < rules.least_measured_s or weighted < max(rules.least_tokens, 1):
            return None
        gpu_mj = sum(interval.gpu_mj for interval in self._intervals)
        host_mj = sum(interval.host_mj for interval in self._intervals)
        return TokenEnergy(gpu_mj / weighted, host_mj / weighted, seconds)

    def _energy(self, before: PowerReading, after: PowerReading, seconds: float) -> float | None:
        """Millijoules of all GPUs between two readings; None when one of them can't be told."""
        total = 0.0
        for gpu in after.watts.keys() | after.energy_mj.keys():
            counted = _counted(before.energy_mj.get(gpu), after.energy_mj.get(gpu), seconds)
            if counted is not None and seconds <= self._rules.window_s:
                total += counted
                continue
            watts = _mean(before.watts.get(gpu), after.watts.get(gpu))
            if watts is None or seconds > self._rules.longest_gap_s:
                return None
            total += watts * seconds * 1000.0
        return total

    def _forget(self, now: float) -> None:
        oldest_s = now - self._rules.window_s
        while self._intervals and self._intervals[0].end_s <= oldest_s:
            self._intervals.popleft()


def measured_factors(energy: TokenEnergy, site: SiteFactors, estimate: ImpactFactors | None) -> ImpactFactors:
    """Factors flagged as measured, to be preferred over the estimate; the making of the machine stays estimated.

    The value is GPUs and host. The lower bound is the GPUs alone, less the sensors' error; the upper bound is all of
    it, plus that error. Without an estimate the embodied part is not known, and 0.
    """
    pue_low, pue, pue_high = site.pue_range
    gpu, whole = energy.gpu_mj, energy.gpu_mj + energy.host_mj
    cases = estimate.middle if estimate is not None else (Case(),)
    low = estimate.low if estimate is not None else Case()
    high = estimate.high if estimate is not None else Case()
    return ImpactFactors(
        method=METHOD if estimate is None else f"{METHOD} + {estimate.method}",
        measured=True,
        middle=tuple(_case(whole * pue, case) for case in cases),
        low=_case(gpu * (1 - _SENSOR_ERROR) * pue_low, low),
        high=_case(whole * (1 + _SENSOR_ERROR) * pue_high, high),
        site=site,
        grid_ug_per_kwh=site.grid_ug_per_kwh,
    )


def _case(output_token_mj: float, estimate: Case) -> Case:
    """Energy by the measurement, embodied by the estimate."""
    output_token_nj = round(output_token_mj * _NJ_PER_MJ)
    return Case(
        output_token_nj=output_token_nj,
        prompt_token_nj=round(output_token_nj / PROMPT_WEIGHT),
        output_token_ns=estimate.output_token_ns,
        first_token_ns=estimate.first_token_ns,
        embodied_pg_per_s=estimate.embodied_pg_per_s,
    )


def _counted(before: float | None, after: float | None, seconds: float) -> float | None:
    """A counter's growth; None when it is missing, was reset, or grew faster than any GPU can draw."""
    if before is None or after is None:
        return None
    grown = after - before
    return grown if 0.0 <= grown <= _MAX_GPU_W * seconds * 1000.0 else None


def _mean(before: float | None, after: float | None) -> float | None:
    """Power over an interval: the mean of both ends, or the one that is known."""
    known = [watts for watts in (before, after) if watts is not None and watts <= _MAX_GPU_W]
    return sum(known) / len(known) if known else None
