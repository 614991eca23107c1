"""The requests of one model in a day, drawn beforehand: columns of numbers, in order of time.

Conversations begin as the profile says; their requests follow each other after pauses, whether or not the answer before
has come. Each use of a model has draws of its own, so that a change of one leaves all others as they were.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilaas.sim.federation.scenario import HOURS, Use
from ilaas.sim.workload import Lengths

_PROFILE_STEPS = 24 * 60

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one model is asked for in one use."""

    use: Use
    index: int
    """The use's place in the scenario."""
    requests: float
    """Expected on the whole day."""
    profile: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Columns of equal length. `conversation` is 0 for a request that stands alone."""

    at_s: array[float]
    institution: array[int]
    use: array[int]
    prompt_tokens: array[int]
    output_tokens: array[int]
    conversation: array[int]

    def __len__(self) -> int:
        return len(self.at_s)


def draw_traffic(model: str, demands: Sequence[Demand], people: Sequence[int], seed: int, duration_s: float) -> Traffic:
    """All requests of a model. `people` by institution decides who asks. The same arguments give the same requests."""
    shares = np.cumsum(people) / sum(people)
    parts = [_drawn(demand, shares, _generator(seed, model, demand.use.name), duration_s) for demand in demands]
    columns = [np.concatenate([part[number] for part in parts]) for number in range(len(parts[0]))] if parts else []
    if not columns:
        columns = [np.zeros(0)] * 6
    order = np.argsort(columns[0], kind="stable")
    at_s, institution, use, prompt, output, conversation = (column[order] for column in columns)
    return Traffic(
        at_s=_array("d", at_s),
        institution=_array("h", institution),
        use=_array("h", use),
        prompt_tokens=_array("i", prompt),
        output_tokens=_array("i", output),
        conversation=_array("q", conversation),
    )


def _generator(seed: int, model: str, use: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(model.encode()), zlib.crc32(use.encode())])


def _array(code: str, column: NDArray[Any]) -> array[Any]:
    values: array[Any] = array(code)
    values.frombytes(column.astype(np.dtype(code)).tobytes())
    return values


def _drawn(demand: Demand, shares: Floats, rng: np.random.Generator, duration_s: float) -> list[NDArray[Any]]:
    use = demand.use
    conversations = int(rng.poisson(demand.requests / use.turns))
    begin_s = _begins(demand.profile, rng.random(conversations))
    turns = rng.geometric(1.0 / use.turns, conversations)
    asks = np.searchsorted(shares, rng.random(conversations), side="right")
    first = np.cumsum(turns) - turns
    of = np.repeat(np.arange(conversations), turns)
    total = int(turns.sum())
    pauses = rng.exponential(use.pause_s, total) if use.pause_s else np.zeros(total)
    pauses[first] = 0.0
    at_s = begin_s[of] + _since_begin(pauses, first, of)
    prompt, output = _lengths(use.prompt_tokens, rng, total), _lengths(use.output_tokens, rng, total)
    carried = np.zeros(total, dtype=np.int64)
    if use.history:
        carried = _since_begin(prompt + output, first, of) - (prompt + output)
    prompt = np.minimum(prompt + carried + use.system_prompt_tokens, use.max_prompt_tokens)
    alone = turns == 1 if use.history else np.ones(conversations, dtype=bool)
    key = np.where(alone, 0, np.arange(1, conversations + 1) + ((demand.index + 1) << 40))[of]
    here = at_s < duration_s
    uses = np.full(total, demand.index)
    return [column[here] for column in (at_s, asks[of], uses, prompt, output, key)]


def _since_begin(values: NDArray[Any], first: Ints, of: Ints) -> NDArray[Any]:
    """Running sums that begin anew at the first of each conversation."""
    sums = np.cumsum(values)
    before = (sums[first] - values[first])[of] if len(first) else sums
    since: NDArray[Any] = sums - before
    return since


def _lengths(lengths: Lengths, rng: np.random.Generator, number: int) -> Ints:
    drawn = lengths.median * np.exp(lengths.spread * rng.standard_normal(number))
    lengths_drawn: Ints = np.clip(np.rint(drawn), lengths.minimum, lengths.maximum).astype(np.int64)
    return lengths_drawn


def _begins(profile: Sequence[float], uniform: Floats) -> Floats:
    """Times of the day whose density is the profile's: its hours' weights hold in their middles."""
    middles = np.arange(_PROFILE_STEPS) + 0.5
    hours = np.arange(-1, HOURS + 1) + 0.5
    weights = [profile[-1], *profile, profile[0]]
    density = np.interp(middles * HOURS / _PROFILE_STEPS, hours, weights)
    edges = np.concatenate([[0.0], np.cumsum(density)])
    times_s = np.arange(_PROFILE_STEPS + 1) * (HOURS * 3600.0 / _PROFILE_STEPS)
    begins: Floats = np.interp(uniform * edges[-1], edges, times_s)
    return begins
