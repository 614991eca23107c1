"""Closing a month: what was used, less what is booked already, becomes the lines of its statements.

Books are kept in double entry: the use of one model of one owner by one consumer is one entry, which stands as a line
on both statements. Exact amounts are micro-euros. Cents are made once, at closing: the total of a consumer is rounded
to the nearest cent (halves up), and its lines get the cents of that total by the method of largest remainders (ties by
month, owner, model). The owner's line has the cents of the consumer's line, so the sum of lines is the total on every
statement, and the sum of all nets is exactly 0. Where a contributor is credited another amount than the consumer is
charged, the credits are rounded in the same manner per owner, and the difference is the federation's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ilaas.core.billing import NOTHING, Quantities, Tariff, credit_of
from ilaas.core.errors import Conflict
from ilaas.core.periods import Month
from ilaas.core.quota.charging import Charging, charging
from ilaas.core.rollups import Dimension, UsageLine
from ilaas.core.statements import CENT_MICRO_EUR, ClosedBooks, LineKind, Statement, StatementLine
from ilaas.core.values import Outcome

LATE_MONTHS = 3
"""How many closed months are looked at again for usage that came in late."""


SERVED = frozenset(outcome for outcome in Outcome if charging(outcome, first_token=False) is Charging.COMPUTED)
"""Outcomes of requests that the server did its part of."""


CELL_DIMENSIONS = (Dimension.ORGANISATION, Dimension.OWNER, Dimension.MODEL, Dimension.OUTCOME)
"""What a usage report must be by, to be booked."""


@dataclass(frozen=True, slots=True, order=True)
class EntryKey:
    """What is booked apart."""

    usage_month: Month
    """When it was used; before the statement's month it is a correction."""
    consumer: str
    owner: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCell:
    """Sums of usage records over some days."""

    consumer: str
    owner: str
    """Of the servers."""
    model: str
    used: Quantities
    """All that went to a server: what usage reports count."""
    served: Quantities
    """The part of it with an outcome in `SERVED`: what a credit tariff pays."""
    price_micro_eur: int
    """The sum of what the requests cost when they were made."""


@dataclass(frozen=True, slots=True)
class Value:
    """Quantities with what is charged to the consumer and credited to the owner, exact."""

    used: Quantities = NOTHING
    charge_micro_eur: int = 0
    credit_micro_eur: int = 0

    def __add__(self, other: Value) -> Value:
        return Value(
            self.used + other.used,
            self.charge_micro_eur + other.charge_micro_eur,
            self.credit_micro_eur + other.credit_micro_eur,
        )

    def __sub__(self, other: Value) -> Value:
        return Value(
            self.used - other.used,
            self.charge_micro_eur - other.charge_micro_eur,
            self.credit_micro_eur - other.credit_micro_eur,
        )


Ledger = Mapping[EntryKey, Value]


def check_follows(month: Month, closed: Sequence[Month]) -> None:
    """Months are closed in order and without a gap. Raises Conflict; `closed` is in order."""
    if not closed:
        return
    if month in closed:
        raise Conflict(f"The books of {month} are closed: 'ilaas statement show {month}' shows them.", param="month")
    following = closed[-1].plus(1)
    if month != following:
        raise Conflict(f"The next month to close is {following}, not {month}: months are closed in order.")


def cells_of(lines: Iterable[UsageLine]) -> list[UsageCell]:
    """The cells of a usage report by `CELL_DIMENSIONS`; what never went to a server is left out."""
    sums: dict[tuple[str, str, str], tuple[Quantities, Quantities, int]] = {}
    for line in lines:
        consumer, owner, model, outcome = map(str, line.values)
        if not owner:
            continue
        all_ = line.totals
        used = Quantities(all_.requests, all_.prompt_tokens, all_.completion_tokens, all_.cached_tokens, all_.audio_ms)
        before = sums.get((consumer, owner, model), (NOTHING, NOTHING, 0))
        served = used if outcome in SERVED else NOTHING
        sums[consumer, owner, model] = (before[0] + used, before[1] + served, before[2] + all_.price_micro_eur)
    return [
        UsageCell(consumer=place[0], owner=place[1], model=place[2], used=used, served=served, price_micro_eur=price)
        for place, (used, served, price) in sorted(sums.items())
    ]


def valued(cells: Iterable[UsageCell], month: Month, tariffs: Mapping[str, Tariff]) -> dict[EntryKey, Value]:
    """Charge and credit of sums over days on which `tariffs` (by model) are in force.

    The charge is what the requests cost when they were made: it is what budgets and reports counted, to the
    micro-euro. The credit is the same, unless the tariff has one of its own.
    """
    found: dict[EntryKey, Value] = {}
    for cell in cells:
        tariff = tariffs.get(cell.model)
        own = cell.consumer == cell.owner
        charge = 0 if own else cell.price_micro_eur
        credit = charge
        if tariff is not None and tariff.credit is not None:
            credit = credit_of(tariff, cell.served, own_server=own)
        key = EntryKey(month, cell.consumer, cell.owner, cell.model)
        found[key] = found.get(key, Value()) + Value(cell.used, charge, credit)
    return found


def close(
    month: Month, usage: Ledger, booked: Ledger, organisations: Iterable[str], closed_at_s: float | None = None
) -> ClosedBooks:
    """The statements of a month.

    `usage` is what is known today of this month and of the closed ones that are looked at again, `booked` all that
    closed statements say of those. What differs becomes correction lines here; closed statements are never touched.
    """
    earlier = {key.usage_month for key in booked} | {key.usage_month for key in usage}
    pruned = tuple(sorted(one for one in earlier if one != month and _requests(usage, one) < _requests(booked, one)))
    entries: dict[EntryKey, Value] = {}
    for key in usage.keys() | booked.keys():
        if key.usage_month in pruned:
            continue
        change = usage.get(key, Value()) - booked.get(key, Value())
        if change != Value():
            entries[key] = change
    charges = _by_consumer(entries)
    credits_ = _by_owner(entries, charges)
    lines: dict[str, list[StatementLine]] = {name: [] for name in organisations}
    for key in sorted(entries):
        value = entries[key]
        if key.consumer == key.owner:
            own = _line(LineKind.OWN, key, value.used, (0, 0))
            lines.setdefault(key.owner, []).append(own)
            continue
        charged = _line(LineKind.CONSUMED, key, value.used, (value.charge_micro_eur, charges[key]))
        credited = _line(LineKind.CONTRIBUTED, key, value.used, (value.credit_micro_eur, credits_[key]))
        lines.setdefault(key.consumer, []).append(charged)
        lines.setdefault(key.owner, []).append(credited)
    statements = tuple(
        Statement(organisation=name, month=month, lines=tuple(sorted(lines[name], key=_order)), closed_at_s=closed_at_s)
        for name in sorted(lines)
    )
    return ClosedBooks(month=month, statements=statements, pruned=pruned)


def ledger_of(statements: Iterable[Statement]) -> dict[EntryKey, Value]:
    """What statements have booked, put together again from both sides' lines."""
    found: dict[EntryKey, Value] = {}
    for statement in statements:
        for line in statement.lines:
            if line.kind is LineKind.CONTRIBUTED:
                key = EntryKey(line.usage_month, line.counterparty, statement.organisation, line.model)
                value = Value(NOTHING, 0, line.micro_eur)  # the quantities are counted on the consumer's side
            else:
                key = EntryKey(line.usage_month, statement.organisation, line.counterparty, line.model)
                value = Value(line.used, line.micro_eur, 0)
            found[key] = found.get(key, Value()) + value
    return found


def apportion(exact_micro_eur: Mapping[EntryKey, int]) -> dict[EntryKey, int]:
    """Cents whose sum is the exact sum rounded to the nearest cent (halves up), by largest remainders.

    No amount moves by a whole cent or more, and an amount of whole cents does not move at all.
    """
    cents = {key: value // CENT_MICRO_EUR for key, value in exact_micro_eur.items()}
    total = (sum(exact_micro_eur.values()) + CENT_MICRO_EUR // 2) // CENT_MICRO_EUR
    left = total - sum(cents.values())
    by_remainder = sorted(exact_micro_eur, key=lambda key: (-(exact_micro_eur[key] % CENT_MICRO_EUR), key))
    for key in by_remainder[:left]:
        cents[key] += 1
    return cents


def _by_consumer(entries: Ledger) -> dict[EntryKey, int]:
    exact: dict[str, dict[EntryKey, int]] = defaultdict(dict)
    for key, value in entries.items():
        exact[key.consumer][key] = value.charge_micro_eur
    return {key: cents for of_one in exact.values() for key, cents in apportion(of_one).items()}


def _by_owner(entries: Ledger, charges: Mapping[EntryKey, int]) -> dict[EntryKey, int]:
    """Cents of credits: those of the charge where the exact amounts are equal, else rounded per owner."""
    exact: dict[str, dict[EntryKey, int]] = defaultdict(dict)
    cents: dict[EntryKey, int] = {}
    for key, value in entries.items():
        if value.credit_micro_eur == value.charge_micro_eur:
            cents[key] = charges[key]
        else:
            exact[key.owner][key] = value.credit_micro_eur
    for of_one in exact.values():
        cents.update(apportion(of_one))
    return cents


def _requests(ledger: Ledger, month: Month) -> int:
    return sum(value.used.requests for key, value in ledger.items() if key.usage_month == month)


def _line(kind: LineKind, key: EntryKey, used: Quantities, money: tuple[int, int]) -> StatementLine:
    return StatementLine(
        kind=kind,
        usage_month=key.usage_month,
        model=key.model,
        counterparty=key.consumer if kind is LineKind.CONTRIBUTED else key.owner,
        used=used,
        micro_eur=money[0],
        cents=money[1],
    )


_KINDS = tuple(LineKind)


def _order(line: StatementLine) -> tuple[int, Month, str, str]:
    return _KINDS.index(line.kind), line.usage_month, line.model, line.counterparty
