"""Reports of usage, tariffs and closed statements, as far as the caller may see them. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Sequence

from ilaas.core.billing import Tariff
from ilaas.core.errors import Forbidden, NotFound
from ilaas.core.periods import Month, Period
from ilaas.core.rights import Action, Caller, Place, Reach, reach, why_not
from ilaas.core.rollups import Dimension
from ilaas.core.statements import Statement
from ilaas.services.governance.office import Office
from ilaas.services.reporting import Report, report


class Finance:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def now_s(self) -> float:
        """Epoch seconds."""
        return self._office.epoch()

    async def usage(self, caller: Caller, period: Period, by: Sequence[Dimension], place: Place) -> Report:
        """Of a project, an organisation, or the whole federation. Raises Forbidden, InvalidRequest."""
        self._office.demand(caller, Action.USAGE_VIEW, place)
        where = {}
        if place.organisation is not None:
            where[Dimension.ORGANISATION] = frozenset({place.organisation})
        if place.project is not None:
            where[Dimension.PROJECT] = frozenset({place.project})
        return await report(self._office.store, period, by, where)

    async def tariffs(self, caller: Caller) -> Sequence[Tariff]:
        """By model and first day. Raises Forbidden."""
        self._office.demand(caller, Action.TARIFF_VIEW, Place())
        return await self._office.store.tariffs()

    async def closed_months(self, caller: Caller) -> Sequence[Month]:
        """In order. Raises Forbidden for who may see no statement at all."""
        if reach(caller, Action.STATEMENT_VIEW) == Reach():
            raise Forbidden(why_not(caller, Action.STATEMENT_VIEW, Place()))
        return await self._office.store.closed_months()

    async def statements(self, caller: Caller, month: Month, organisation: str | None) -> Sequence[Statement]:
        """Of a closed month: of one organisation, or of all. Raises Forbidden, NotFound."""
        self._office.demand(caller, Action.STATEMENT_VIEW, Place(organisation))
        found = await self._office.store.statements(month, organisation=organisation)
        if not found:
            raise NotFound(f"There is no such closed statement of {month}: it is closed when the month is over.")
        return found
