"""What a request costs: tariffs with dates, and the one rule by which a price is rounded. Whole numbers only.

Rates are micro-euros. The exact price of a request is a fraction; it is rounded once, to the nearest micro-euro, halves
up. Prompt tokens that came from a server's cache are part of the prompt tokens and are paid at the cached rate instead.
The use of an organisation's own servers is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from operator import attrgetter

from ilaas.core.errors import Conflict
from ilaas.core.periods import DAY_S, Period, date_of
from ilaas.core.usage import Usage

_TOKENS = 18
_AUDIO_MS = 5
_UNIT = 18_000_000
"""The least common denominator of a price per million tokens (10^6) and one per hour of milliseconds (3,600,000)."""
_EPOCH_DAY = date(1970, 1, 1).toordinal()
MAX_RATE_MICRO_EUR = 10**12
"""A million euros per unit: far above any real rate, and low enough that a month's sum fits in 63 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices in micro-euros (1,000,000 is one euro)."""

    prompt_per_million: int = 0
    """Per million prompt tokens."""
    completion_per_million: int = 0
    """Per million completion tokens, reasoning included."""
    cached_per_million: int | None = None
    """Per million prompt tokens that the server had in its cache; None is as other prompt tokens."""
    per_request: int = 0
    audio_per_hour: int = 0

    def __post_init__(self) -> None:
        for name in ("prompt_per_million", "completion_per_million", "per_request", "audio_per_hour"):
            _check_rate(name, getattr(self, name))
        if self.cached_per_million is not None:
            _check_rate("cached_per_million", self.cached_per_million)


def _check_rate(name: str, value: int) -> None:
    if not 0 <= value <= MAX_RATE_MICRO_EUR:
        raise ValueError(f"{name} is 0 to {MAX_RATE_MICRO_EUR} micro-euros; got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What the use of one model costs, from one day to another (both included, UTC)."""

    model: str
    valid_from: date
    valid_to: date | None = None
    """The last day; None is until further notice."""
    rates: Rates = Rates()
    credit: Rates | None = None
    """What a contributor is credited for serving others; None is what they are charged."""

    def __post_init__(self) -> None:
        if self.valid_to is not None and self.valid_to < self.valid_from:
            raise ValueError("the tariff ends before it starts")

    def valid_on(self, day: date) -> bool:
        """Whether the day is one of its days."""
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)

    def overlaps(self, other: Tariff) -> bool:
        """Whether both are of one model and share a day."""
        return (
            self.model == other.model
            and (other.valid_to is None or self.valid_from <= other.valid_to)
            and (self.valid_to is None or other.valid_from <= self.valid_to)
        )


@dataclass(frozen=True, slots=True)
class Quantities:
    """What is paid for: of one request, or of many together."""

    requests: int = 0
    prompt_tokens: int = 0
    """Cached ones included."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    audio_ms: int = 0

    @classmethod
    def of(cls, usage: Usage, audio_ms: int = 0) -> Quantities:
        """One request's."""
        return cls(1, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, audio_ms)

    def __add__(self, other: Quantities) -> Quantities:
        return Quantities(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.audio_ms + other.audio_ms,
        )

    def __neg__(self) -> Quantities:
        return Quantities(
            -self.requests, -self.prompt_tokens, -self.completion_tokens, -self.cached_tokens, -self.audio_ms
        )

    def __sub__(self, other: Quantities) -> Quantities:
        return self + -other

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


NOTHING = Quantities()


def amount(rates: Rates, used: Quantities) -> int:
    """Micro-euros, rounded once to the nearest, halves up."""
    exact = used.prompt_tokens * rates.prompt_per_million + used.completion_tokens * rates.completion_per_million
    if rates.cached_per_million is not None:
        cached = min(used.cached_tokens, used.prompt_tokens)
        exact += cached * (rates.cached_per_million - rates.prompt_per_million)
    exact *= _TOKENS
    exact += used.audio_ms * rates.audio_per_hour * _AUDIO_MS + used.requests * rates.per_request * _UNIT
    return (exact + _UNIT // 2) // _UNIT


def price_of(tariff: Tariff, used: Quantities, *, own_server: bool) -> int:
    """What the consumer pays, in micro-euros: nothing on servers of its own organisation."""
    return 0 if own_server else amount(tariff.rates, used)


def credit_of(tariff: Tariff, used: Quantities, *, own_server: bool) -> int:
    """What the server's owner is credited for serving another organisation, in micro-euros."""
    return 0 if own_server else amount(tariff.rates if tariff.credit is None else tariff.credit, used)


@dataclass(frozen=True, slots=True)
class TariffBook:
    """All tariffs; never two of one model on the same day."""

    tariffs: tuple[Tariff, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.tariffs, key=attrgetter("model", "valid_from")))
        for earlier, later in pairwise(ordered):
            if earlier.overlaps(later):
                raise _overlap(earlier, later)
        object.__setattr__(self, "tariffs", ordered)

    def adding(self, new: Tariff, *, end_previous: bool = False) -> tuple[TariffBook, Tariff | None]:
        """The book with one more, and the tariff that was ended the day before to make room (`end_previous`).

        Raises Conflict when it would overlap another one; only one without an end that began earlier makes room.
        """
        kept, ended = list(self.tariffs), None
        for each in self.tariffs:
            if not each.overlaps(new):
                continue
            if not (end_previous and each.valid_to is None and each.valid_from < new.valid_from):
                raise _overlap(each, new)
            ended = replace(each, valid_to=new.valid_from - timedelta(days=1))
            kept[kept.index(each)] = ended
        return TariffBook((*kept, new)), ended

    def spans(self, period: Period) -> tuple[Period, ...]:
        """The period in parts during which no tariff begins or ends."""
        starts = {period.first_day}
        for each in self.tariffs:
            starts.add(_day_number(each.valid_from))
            if each.valid_to is not None:
                starts.add(_day_number(each.valid_to) + 1)
        days = sorted(day for day in starts if period.first_day <= day < period.end_day)
        return tuple(Period(first, end) for first, end in zip(days, [*days[1:], period.end_day], strict=True))

    def at(self, day: int) -> dict[str, Tariff]:
        """The tariffs in force on a day since 1970-01-01, by model."""
        return {each.model: each for each in self.tariffs if each.valid_on(date_of(day))}


def _overlap(one: Tariff, other: Tariff) -> Conflict:
    until = "until further notice" if one.valid_to is None else f"to {one.valid_to}"
    return Conflict(
        f"The tariff of '{other.model}' from {other.valid_from} overlaps the one from {one.valid_from} {until}. "
        "End that one the day before, or choose other dates.",
        param="valid_from",
    )


class PriceBook:
    """Prices of requests as they end: an immutable snapshot of the tariffs, made again when they change."""

    def __init__(self, tariffs: Iterable[Tariff] = ()) -> None:
        spans: dict[str, list[tuple[int, ...]]] = {}
        for each in reversed(TariffBook(tuple(tariffs)).tariffs):  # the newest first: it is the one that is asked for
            spans.setdefault(each.model, []).append(_span(each))
        self._spans: Mapping[str, tuple[tuple[int, ...], ...]] = {
            model: tuple(of_model) for model, of_model in spans.items()
        }

    def price(self, model: str, usage: Usage, own: bool, epoch_s: float, audio_ms: int = 0) -> int:
        """Micro-euros of one request that ends at `epoch_s`; 0 on own servers and where there is no tariff.

        The same as `price_of`, without making values in between: it is asked once or twice for each request.
        """
        if own:
            return 0
        for start_s, end_s, prompt_rate, completion_rate, cached_less, fixed, audio_rate in self._spans.get(model, ()):
            if start_s <= epoch_s < end_s:
                exact = usage.prompt_tokens * prompt_rate + usage.completion_tokens * completion_rate
                if cached_less:
                    exact += min(usage.cached_tokens, usage.prompt_tokens) * cached_less
                return (exact * _TOKENS + audio_ms * audio_rate + fixed) // _UNIT
        return 0


def _span(tariff: Tariff) -> tuple[int, ...]:
    """First second, end, rates of tokens, the cached rate less the other, request and rounding, rate of audio."""
    rates = tariff.rates
    cached = rates.prompt_per_million if rates.cached_per_million is None else rates.cached_per_million
    return (
        _day_number(tariff.valid_from) * DAY_S,
        _end_s(tariff),
        rates.prompt_per_million,
        rates.completion_per_million,
        cached - rates.prompt_per_million,
        rates.per_request * _UNIT + _UNIT // 2,
        rates.audio_per_hour * _AUDIO_MS,
    )


def _day_number(day: date) -> int:
    return day.toordinal() - _EPOCH_DAY


def _end_s(tariff: Tariff) -> int:
    last = date.max if tariff.valid_to is None else tariff.valid_to
    return (_day_number(last) + 1) * DAY_S
