"""Statements of account: what each institution consumed and contributed in a month, to the cent, closed for good.

How the lines come about is in `core.closing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ilaas.core.billing import Quantities
from ilaas.core.periods import Month

CENT_MICRO_EUR = 10_000


class LineKind(StrEnum):
    """The side on which a line stands."""

    CONSUMED = "consumed"
    CONTRIBUTED = "contributed"
    OWN = "own"
    """Use of own servers: shown, and free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One line: so much of one model, with one other institution."""

    kind: LineKind
    usage_month: Month
    model: str
    counterparty: str
    """The owner of what was consumed, the consumer of what was contributed; on an own line the institution itself."""
    used: Quantities
    micro_eur: int
    """Exact; what the cents were made of."""
    cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The account of one institution for one month. Totals are sums of lines, so they can't differ from them."""

    organisation: str
    month: Month
    lines: tuple[StatementLine, ...] = ()
    closed_at_s: float | None = None
    """Epoch seconds; None is a preview."""
    consumed_cents: int = field(init=False)
    contributed_cents: int = field(init=False)

    def __post_init__(self) -> None:
        for name, kind in (("consumed_cents", LineKind.CONSUMED), ("contributed_cents", LineKind.CONTRIBUTED)):
            object.__setattr__(self, name, sum(line.cents for line in self.lines if line.kind is kind))

    @property
    def net_cents(self) -> int:
        """Contributed less consumed: positive is to be received, negative to be paid."""
        return self.contributed_cents - self.consumed_cents

    @property
    def corrections(self) -> tuple[StatementLine, ...]:
        """The lines of earlier months."""
        return tuple(line for line in self.lines if line.usage_month != self.month)

    def by_model(self, kind: LineKind) -> Sequence[tuple[str, Quantities, int]]:
        """Quantities and cents of each model."""
        return _grouped((line.model, line) for line in self.lines if line.kind is kind)

    def by_counterparty(self, kind: LineKind) -> Sequence[tuple[str, Quantities, int]]:
        """Quantities and cents with each other institution."""
        return _grouped((line.counterparty, line) for line in self.lines if line.kind is kind)


def _grouped(named: Iterable[tuple[str, StatementLine]]) -> Sequence[tuple[str, Quantities, int]]:
    sums: dict[str, tuple[Quantities, int]] = {}
    for name, line in named:
        used, cents = sums.get(name, (Quantities(), 0))
        sums[name] = (used + line.used, cents + line.cents)
    return [(name, used, cents) for name, (used, cents) in sorted(sums.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedBooks:
    """The statements of one month, and what remains with the federation."""

    month: Month
    statements: tuple[Statement, ...]
    pruned: tuple[Month, ...] = ()
    """Closed months whose records are no longer all there: nothing of them was corrected."""

    @property
    def federation_cents(self) -> int:
        """What consumers pay beyond what contributors are credited: with all nets together it is 0."""
        return -sum(statement.net_cents for statement in self.statements)
