"""Calendar days and months, in UTC: the same for quotas, roll-ups and statements, so that their sums agree.

UTC and not Europe/Paris: no day of 23 or 25 hours, no time-zone table, and one turn for sites in every time zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def day_of(epoch_s: float) -> int:
    """Days since 1970-01-01, UTC."""
    return int(epoch_s // DAY_S)


def date_of(day: int) -> date:
    """The calendar date of a day since 1970-01-01."""
    return _EPOCH + timedelta(days=day)


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, counted since 1970-01-01, from the first to before the end."""

    first_day: int
    end_day: int

    def __post_init__(self) -> None:
        if self.first_day >= self.end_day:
            raise ValueError("a period has at least one day: its last day must not lie before its first one")

    @classmethod
    def parse(cls, first: str, last: str) -> Period:
        """From the first to the last day (both belong to it), each `2026-10-01`, or a month as `2026-10`.

        Raises ValueError.
        """
        return cls(_bounds(first)[0], _bounds(last)[1])

    @classmethod
    def of(cls, month: Month) -> Period:
        """That month."""
        return cls(month.start_s // DAY_S, month.end_s // DAY_S)

    @classmethod
    def last_days(cls, days: int, now_s: float) -> Period:
        """So many days, of which today is the last."""
        end = day_of(now_s) + 1
        return cls(end - days, end)

    @property
    def days(self) -> range:
        """Each of its days."""
        return range(self.first_day, self.end_day)

    @property
    def start_ms(self) -> int:
        """Epoch milliseconds of its first instant."""
        return self.first_day * DAY_S * 1000

    @property
    def end_ms(self) -> int:
        """Epoch milliseconds of the first instant after it."""
        return self.end_day * DAY_S * 1000

    @property
    def first_date(self) -> date:
        """Its first day."""
        return date_of(self.first_day)

    @property
    def last_date(self) -> date:
        """Its last day, which belongs to it."""
        return date_of(self.end_day - 1)

    def __str__(self) -> str:
        return f"{self.first_date} to {self.last_date}"


def _bounds(text: str) -> tuple[int, int]:
    if _MONTH.fullmatch(text):
        month = Month.parse(text)
        return month.start_s // DAY_S, month.end_s // DAY_S
    try:
        if not _DATE.fullmatch(text):  # date.fromisoformat takes weeks and more besides
            raise ValueError
        day = (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        raise ValueError(f"a day is written YYYY-MM-DD, a month YYYY-MM; got {text[:40]!r}") from None
    return day, day + 1


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month, written `2026-10`."""

    year: int
    month: int

    def __post_init__(self) -> None:
        if not (1 <= self.year <= 9998 and 1 <= self.month <= 12):
            raise ValueError(f"no such month: {self.year}-{self.month}")

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read `2026-10`. Raises ValueError."""
        found = _MONTH.fullmatch(text)
        if found is None:
            raise ValueError(f"a month is written YYYY-MM, as in 2026-10; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def at(cls, epoch_s: float) -> Month:
        """The month in which this instant lies."""
        moment = datetime.fromtimestamp(epoch_s, UTC)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def plus(self, months: int) -> Month:
        """This many months later (earlier when negative)."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)

    @property
    def start_s(self) -> int:
        """Epoch second of its first instant."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp())

    @property
    def end_s(self) -> int:
        """Epoch second of the first instant after it."""
        return self.plus(1).start_s
