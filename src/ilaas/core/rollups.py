"""Roll-ups of usage: sums per hour or day and per line, in whole numbers, so that lines always add up to their total.

Four of them are kept. Each report reads the smallest one that has all the dimensions it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from enum import StrEnum
from operator import itemgetter
from typing import Any

from ilaas.core.periods import Period
from ilaas.core.summing import sums_of
from ilaas.core.usage import UsageRecord

HOURS_A_DAY = 24


class Dimension(StrEnum):
    """What usage is told apart by."""

    HOUR = "hour"
    DAY = "day"
    ORGANISATION = "organisation"
    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    SERVER = "server"
    SITE = "site"
    OWNER = "owner"
    """The organisation whose server answered."""
    CLASS = "class"
    OUTCOME = "outcome"

    @property
    def column(self) -> str:
        """The field of a usage record, and the column of a roll-up."""
        return {Dimension.KEY: "key_id", Dimension.CLASS: "request_class"}.get(self, self.value)


@dataclass(slots=True)
class Totals:
    """Sums over requests. Only whole numbers: adding them in any order gives the same."""

    requests: int = 0
    completed: int = 0
    estimated: int = 0
    """Requests whose token counts are estimates, since the server gave none."""
    impact_known: int = 0
    """Requests with energy and CO2e; those of the others are not 0 but unknown."""
    energy_measured: int = 0
    """Requests whose energy was measured."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_ms: int = 0
    queue_ms: int = 0
    ttft_ms: int = 0
    duration_ms: int = 0
    price_micro_eur: int = 0
    energy_mj: int = 0
    energy_low_mj: int = 0
    energy_high_mj: int = 0
    co2e_ug: int = 0
    embodied_co2e_ug: int = 0

    def add(self, other: Totals) -> None:
        """Add another one to it."""
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.prompt_tokens + self.completion_tokens


MEASURES = tuple(each.name for each in fields(Totals))


@dataclass(frozen=True, slots=True, kw_only=True)
class RollUp:
    """One of the roll-ups that are kept."""

    table: str
    dimensions: tuple[Dimension, ...]
    """The first is the hour or the day."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of its dimensions."""
        return tuple(dimension.column for dimension in self.dimensions)


_D = Dimension
FINEST = (
    _D.HOUR,
    _D.ORGANISATION,
    _D.PROJECT,
    _D.KEY,
    _D.MODEL,
    _D.SERVER,
    _D.SITE,
    _D.OWNER,
    _D.CLASS,
    _D.OUTCOME,
)
DAILY_KEYS = RollUp(table="usage_daily_keys", dimensions=(_D.DAY, _D.ORGANISATION, _D.PROJECT, _D.KEY))
DAILY_MODELS = RollUp(
    table="usage_daily_models", dimensions=(_D.DAY, _D.ORGANISATION, _D.MODEL, _D.SITE, _D.OWNER, _D.CLASS)
)
DAILY = RollUp(table="usage_daily", dimensions=(_D.DAY, *FINEST[1:]))
HOURLY = RollUp(
    table="usage_hourly",
    dimensions=(_D.HOUR, _D.ORGANISATION, _D.MODEL, _D.SITE, _D.OWNER, _D.CLASS, _D.OUTCOME),
)
"""Without project, key and server: with them it would have nearly as many rows as there are records."""
ROLL_UPS = (DAILY_MODELS, DAILY_KEYS, DAILY, HOURLY)
"""The smallest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Sums over a period, a line per combination of `by` that occurs."""

    period: Period
    by: tuple[Dimension, ...] = ()
    where: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    """Only these organisations, projects, keys and so on."""

    def roll_up(self) -> RollUp:
        """The smallest that answers it. Raises ValueError when none does: hours by project, key or server."""
        needed = {*self.by, *self.where}
        for one in ROLL_UPS:
            if needed <= {*one.dimensions}:
                return one
        raise ValueError("usage by the hour is not kept by project, key or server: ask for days")


@dataclass(frozen=True, slots=True)
class UsageLine:
    """A line of an answer: the values of `UsageQuery.by`, in its order, and the sums."""

    values: tuple[str | int, ...]
    """Hours and days are numbers since 1970-01-01, UTC; all else is text."""
    totals: Totals


Sums = tuple[int, ...]
"""The measures, in the order of `MEASURES`."""
Grouped = Mapping[tuple[Any, ...], Sums]


def rolled_up(records: Iterable[UsageRecord]) -> dict[tuple[Any, ...], Sums]:
    """The sums per combination of `FINEST`."""
    return {key: tuple(sums) for key, sums in sums_of(records).items()}


def folded(finest: Grouped, dimensions: Sequence[Dimension]) -> dict[tuple[Any, ...], Sums]:
    """Sums of `FINEST` brought together by fewer dimensions; the day is made of the hour."""
    at = [FINEST.index(_D.HOUR if each is _D.DAY else each) for each in dimensions]
    pick = itemgetter(*at) if len(at) > 1 else lambda key: tuple(key[index] for index in at)
    day_at = dimensions.index(_D.DAY) if _D.DAY in dimensions else None
    groups: dict[tuple[Any, ...], list[Sums]] = {}
    for key, sums in finest.items():
        line = pick(key)
        if day_at is not None:
            line = (*line[:day_at], line[day_at] // HOURS_A_DAY, *line[day_at + 1 :])
        groups.setdefault(line, []).append(sums)
    return {
        line: several[0] if len(several) == 1 else tuple(map(sum, zip(*several, strict=True)))
        for line, several in groups.items()
    }


def total_of(lines: Iterable[UsageLine]) -> Totals:
    """The sum of all lines."""
    columns = zip(*(astuple(line.totals) for line in lines), strict=True)
    return Totals(*map(sum, columns))
