"""Calendar days and months, in UTC: the same for quotas, roll-ups and statements, so that their sums agree.

UTC and not Europe/Paris: no day of 23 or 25 hours, no time-zone table, and one turn for sites in every time zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

DAY_S = 86_400
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def day_of(epoch_s: float) -> int:
    """Days since 1970-01-01, UTC."""
    return int(epoch_s // DAY_S)


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
