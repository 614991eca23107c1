"""Settlement between institutions: tariffs, monthly statements, and the weights that come from contribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ilaas.core.billing import Rates, Tariff, TariffBook
from ilaas.core.closing import (
    CELL_DIMENSIONS,
    LATE_MONTHS,
    EntryKey,
    UsageCell,
    Value,
    cells_of,
    check_follows,
    close,
    ledger_of,
    valued,
)
from ilaas.core.errors import Conflict, InvalidRequest, NotFound
from ilaas.core.fairness import WINDOW_DAYS, FairWeight, WeightRule, derived, in_force
from ilaas.core.periods import Month, Period, date_of, day_of
from ilaas.core.rollups import UsageQuery
from ilaas.core.statements import ClosedBooks, Statement
from ilaas.ports.store import AuditLine, Store
from ilaas.services.audit_values import as_json
from ilaas.services.checks import check_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The books of a month, closed or as they would be, and what an operator should know of them."""

    books: ClosedBooks
    unpriced: tuple[str, ...] = ()
    """Models that others' servers served on days without a tariff: for nothing."""
    over: bool = True
    """The month has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLine:
    """The weight of one organisation and where it comes from."""

    organisation: str
    weight: float
    source: str
    """`by hand`, `configured`, `formula` or `default`."""
    formula: FairWeight
    """What the formula gives today."""


class Settlement:
    """What governance and finance do. `actor` is who asked for it, for the audit trail."""

    def __init__(
        self,
        store: Store,
        epoch: Callable[[], float],
        of_file: Mapping[str, float] | None = None,
        rule: WeightRule | None = None,
    ) -> None:
        """`epoch` gives epoch seconds; `of_file` the organisations of the configuration file with their weights."""
        self._store = store
        self._epoch = epoch
        self._of_file = of_file or {}
        self._rule = rule or WeightRule()

    # -- tariffs ------------------------------------------------------------------------------------------------------

    async def tariffs(self) -> Sequence[Tariff]:
        """By model and first day."""
        return await self._store.tariffs()

    async def set_tariff(self, tariff: Tariff, *, end_previous: bool = False, actor: str = "operator") -> Tariff | None:
        """Add a tariff; returns the one that was ended the day before to make room (`end_previous`).

        Raises Conflict when it overlaps another one, InvalidRequest when it begins before today (UTC): requests keep
        the price they had when they were made.
        """
        check_names(model=tariff.model)
        today = date_of(day_of(self._epoch()))
        if tariff.valid_from < today:
            raise InvalidRequest(
                f"A tariff begins today ({today}) or later: requests keep the price they had when they were made.",
                param="valid_from",
            )
        ended: list[Tariff] = []

        def change(book: TariffBook) -> TariffBook:
            new, previous = book.adding(tariff, end_previous=end_previous)
            ended[:] = [previous] if previous is not None else []
            return new

        line = self._line(actor, "tariff.set", f"tariff:{tariff.model}")
        await self._store.change_tariffs(change, replace(line, after=tariff_json(tariff)))
        return ended[0] if ended else None

    # -- statements ---------------------------------------------------------------------------------------------------

    async def preview(self, month: Month) -> Closing:
        """The statements as they would be if the month were closed now. Raises Conflict when it is closed."""
        closed = await self._store.closed_months()
        if month in closed:
            check_follows(month, closed)
        if closed and month < closed[-1]:
            raise Conflict(f"The books begin with {closed[0]}: what was used in {month} is not settled.", param="month")
        return await self._made(month, closed, None)

    async def close(self, month: Month, *, actor: str = "operator") -> Closing:
        """Close the books of a month for everyone at once, for good: each line stands on two statements.

        Raises InvalidRequest before the month is over, Conflict when it is closed or not the next one.
        """
        now = self._epoch()
        if now < month.end_s:
            raise InvalidRequest(
                f"{month} is not over (months end at midnight UTC): 'ilaas statement preview {month}' shows it so far.",
                param="month",
            )
        closed = await self._store.closed_months()
        check_follows(month, closed)
        closing = await self._made(month, closed, now)
        books = closing.books
        if not books.statements:
            raise NotFound("There is no organisation to make a statement for.")
        summary = {
            "month": str(month),
            "net_cents": {each.organisation: each.net_cents for each in books.statements},
            "federation_cents": books.federation_cents,
        }
        line = replace(self._line(actor, "statement.closed", f"month:{month}"), after=as_json(summary))
        await self._store.close_month(month, books.statements, line)
        return closing

    async def closed_months(self) -> Sequence[Month]:
        """In order."""
        return await self._store.closed_months()

    async def statements(self, month: Month, organisation: str | None = None) -> Sequence[Statement]:
        """Closed statements. Raises NotFound."""
        found = await self._store.statements(month, organisation=organisation)
        if not found:
            if month in await self._store.closed_months():
                raise NotFound(f"The books of {month} have no statement of '{organisation}'.", param="organisation")
            raise NotFound(f"{month} is not closed: 'ilaas statement preview {month}' shows it so far.", param="month")
        return found

    async def _made(self, month: Month, closed: Sequence[Month], closed_at_s: float | None) -> Closing:
        looked_at = [each for each in closed if month.plus(-LATE_MONTHS) <= each < month]
        tariffs = TariffBook(tuple(await self._store.tariffs()))
        usage: dict[EntryKey, Value] = {}
        unpriced: set[str] = set()
        for each in (*looked_at, month):
            values, free = await self._month(each, tariffs)
            usage.update(values)
            unpriced |= free if each == month else set()
        booked: Mapping[EntryKey, Value] = {}
        if looked_at:
            everything = ledger_of(await self._store.booked(looked_at[0]))
            booked = {key: value for key, value in everything.items() if key.usage_month in looked_at}
        books = close(month, usage, booked, await self._configured(), closed_at_s)
        return Closing(books=books, unpriced=tuple(sorted(unpriced)), over=self._epoch() >= month.end_s)

    async def _month(self, month: Month, tariffs: TariffBook) -> tuple[dict[EntryKey, Value], set[str]]:
        """What was used in a month, valued, and the models that others served without a tariff."""
        values: dict[EntryKey, Value] = {}
        unpriced: set[str] = set()
        for span in tariffs.spans(Period.of(month)):
            cells = await self._cells(span)
            in_force_then = tariffs.at(span.first_day)
            unpriced |= {each.model for each in cells if each.consumer != each.owner} - in_force_then.keys()
            for key, value in valued(cells, month, in_force_then).items():
                values[key] = values.get(key, Value()) + value
        return values, unpriced

    async def _cells(self, period: Period) -> list[UsageCell]:
        return cells_of(await self._store.usage_lines(UsageQuery(period=period, by=CELL_DIMENSIONS)))

    # -- weights ------------------------------------------------------------------------------------------------------

    async def weights(self) -> Sequence[WeightLine]:
        """The weight in force of each organisation, with what the formula gives today."""
        configured = await self._configured()
        stored = {each.organisation: each for each in await self._store.fair_weights()}
        weights = in_force(configured, stored.values())
        formula = await self._derived(weights)
        return [
            WeightLine(
                organisation=name,
                weight=weights[name],
                source=_source(stored.get(name), configured.get(name, 1.0)),
                formula=formula[name],
            )
            for name in sorted(weights)
        ]

    async def refresh_weights(self, *, actor: str = "operator") -> Sequence[FairWeight]:
        """Set the weights by the formula, save those set by hand; returns those that changed."""
        stored = {each.organisation: each for each in await self._store.fair_weights()}
        changed = [
            weight
            for name, weight in (await self._derived(await self._configured())).items()
            if name not in stored or (not stored[name].by_hand and stored[name].weight != weight.weight)
        ]
        if changed:
            line = self._line(actor, "weights.derived", "weights")
            after = as_json({each.organisation: each.weight for each in changed})
            await self._store.put_fair_weights(changed, replace(line, after=after))
        return changed

    async def set_weight(self, organisation: str, weight: float, *, actor: str = "operator") -> None:
        """Set a weight by hand: the formula leaves it alone. Raises NotFound, InvalidRequest."""
        if organisation not in await self._configured():
            raise NotFound(f"There is no organisation '{organisation}'.", param="organisation")
        try:
            fair = FairWeight(organisation=organisation, weight=weight, by_hand=True, at_s=self._epoch())
        except ValueError as error:
            raise InvalidRequest(f"{str(error).capitalize()}.", param="weight") from None
        line = self._line(actor, "weight.set", f"organisation:{organisation}", organisation)
        await self._store.put_fair_weights([fair], replace(line, after=as_json({"weight": weight})))

    async def unset_weight(self, organisation: str, *, actor: str = "operator") -> None:
        """Leave the weight to the configuration and the formula again. Raises NotFound."""
        line = self._line(actor, "weight.unset", f"organisation:{organisation}", organisation)
        if not await self._store.drop_fair_weight(organisation, line):
            raise NotFound(f"The weight of '{organisation}' was not set.", param="organisation")

    async def _configured(self) -> dict[str, float]:
        stored = (await self._store.directory()).organisations
        weights = {name: each.weight for name, each in stored.items()}
        # The file decides, unless it has the default: as for the dispatcher, `reconcile.with_file`.
        return {**self._of_file, **weights, **{name: own for name, own in self._of_file.items() if own != 1.0}}

    async def _derived(self, organisations: Mapping[str, float]) -> Mapping[str, FairWeight]:
        now = self._epoch()
        cells = await self._cells(Period.last_days(WINDOW_DAYS, now))
        served = ((each.consumer, each.owner, each.served.tokens) for each in cells)
        return derived(served, organisations, self._rule, now)

    def _line(self, actor: str, action: str, subject: str, organisation: str | None = None) -> AuditLine:
        return AuditLine(at_s=self._epoch(), actor=actor, action=action, subject=subject, organisation=organisation)


def _source(stored: FairWeight | None, configured: float) -> str:
    if stored is not None and stored.by_hand:
        return "by hand"
    if configured != 1.0:
        return "configured"
    return "default" if stored is None else "formula"


def tariff_json(tariff: Tariff) -> str:
    """A tariff, whole."""
    return as_json(
        {
            "model": tariff.model,
            "valid_from": tariff.valid_from.isoformat(),
            "valid_to": None if tariff.valid_to is None else tariff.valid_to.isoformat(),
            "rates": _rates(tariff.rates),
            "credit": None if tariff.credit is None else _rates(tariff.credit),
        }
    )


def _rates(rates: Rates) -> dict[str, int | None]:
    return {
        "prompt_per_million": rates.prompt_per_million,
        "completion_per_million": rates.completion_per_million,
        "cached_per_million": rates.cached_per_million,
        "per_request": rates.per_request,
        "audio_per_hour": rates.audio_per_hour,
    }
