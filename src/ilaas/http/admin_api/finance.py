"""`/usage`, `/tariffs`, `/statements`: read only."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request

from ilaas.core.billing import Tariff
from ilaas.core.errors import InvalidRequest
from ilaas.core.periods import Month
from ilaas.core.rights import Place
from ilaas.core.rollups import Dimension
from ilaas.core.statements import Statement
from ilaas.http.admin_api.door import caller_of
from ilaas.http.usage_api import period_of
from ilaas.services.governance import Governance
from ilaas.services.governance.views import time_text
from ilaas.services.reporting import totals_value

_Organisation = Annotated[str | None, Query(max_length=200, description="Else the whole federation.")]
_Day = Annotated[str | None, Query(max_length=10, description="A day as 2026-10-01 or a month as 2026-10, UTC.")]


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add them."""
    finance = governance.finance

    @api.get("/usage", tags=["finance"])
    async def usage(
        request: Request,
        by: Annotated[list[Dimension] | None, Query(max_length=4)] = None,
        first: Annotated[_Day, Query(alias="from")] = None,
        last: Annotated[_Day, Query(alias="to")] = None,
        organisation: _Organisation = None,
        project: Annotated[str | None, Query(max_length=200)] = None,
    ) -> dict[str, Any]:
        if project is not None and organisation is None:
            raise InvalidRequest("A project is named with its organisation.", param="organisation")
        period = period_of(
            {name: text for name, text in (("from", first), ("to", last)) if text is not None}, finance.now_s()
        )
        found = await finance.usage(
            caller_of(request), period, by or [Dimension.ORGANISATION], Place(organisation, project)
        )
        return {
            "from": period.first_date.isoformat(),
            "to": period.last_date.isoformat(),
            "total": totals_value(found.total),
            "data": [
                {**dict(zip(map(str, found.columns), line.values, strict=True)), **totals_value(line.totals)}
                for line in found.lines
            ],
        }

    @api.get("/tariffs", tags=["finance"])
    async def tariffs(request: Request) -> dict[str, Any]:
        return {"data": [_tariff(each) for each in await finance.tariffs(caller_of(request))]}

    @api.get("/statements", tags=["finance"])
    async def closed_months(request: Request) -> dict[str, Any]:
        return {"data": [str(month) for month in await finance.closed_months(caller_of(request))]}

    @api.get("/statements/{month}", tags=["finance"])
    async def statements(request: Request, month: str, organisation: _Organisation = None) -> dict[str, Any]:
        try:
            parsed = Month.parse(month)
        except ValueError as error:
            raise InvalidRequest(f"The month is not right: {error}.", param="month") from error
        found = await finance.statements(caller_of(request), parsed, organisation)
        return {"data": [_statement(each) for each in found]}


def _tariff(each: Tariff) -> dict[str, Any]:
    """Rates are micro-euros."""
    return {
        "model": each.model,
        "valid_from": _iso(each.valid_from),
        "valid_to": _iso(each.valid_to),
        "rates": asdict(each.rates),
        "credit": None if each.credit is None else asdict(each.credit),
    }


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _statement(each: Statement) -> dict[str, Any]:
    return {
        "organisation": each.organisation,
        "month": str(each.month),
        "closed_at": time_text(each.closed_at_s),
        "consumed_cents": each.consumed_cents,
        "contributed_cents": each.contributed_cents,
        "net_cents": each.net_cents,
        "lines": [
            {
                "kind": str(line.kind),
                "usage_month": str(line.usage_month),
                "model": line.model,
                "counterparty": line.counterparty,
                **asdict(line.used),
                "micro_eur": line.micro_eur,
                "cents": line.cents,
            }
            for line in each.lines
        ],
    }
