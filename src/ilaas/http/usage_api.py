"""`GET /v1/usage`: a key's own usage, asked for with that key. Never another key's, whatever is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request

from ilaas.core.errors import InvalidRequest
from ilaas.core.periods import Period
from ilaas.core.rollups import Dimension
from ilaas.ports.usage import UsageStore
from ilaas.services.admission import Admission
from ilaas.services.reporting import report, totals_value

DEFAULT_DAYS = 30
MOST_DAYS = 400
_PARAMETERS = frozenset({"from", "to", "days"})


def build_usage_router(admission: Admission, store: UsageStore, epoch: Callable[[], float]) -> APIRouter:
    """The route; `epoch` gives epoch seconds. What was used appears a few seconds after a request has ended."""
    router = APIRouter()

    @router.get("/v1/usage")
    async def usage(request: Request) -> dict[str, Any]:
        key = admission.authenticate(dict(request.scope["headers"]))
        # The organisation says nothing new, but finds the key's rows sooner.
        where = {Dimension.ORGANISATION: frozenset({key.organisation}), Dimension.KEY: frozenset({key.id})}
        period = period_of(request.query_params, epoch())
        found = await report(store, period, (Dimension.DAY, Dimension.MODEL), where)
        return {
            "object": "usage",
            "key": {"id": key.id, "name": key.name, "organisation": key.organisation, "project": key.project},
            "from": period.first_date.isoformat(),
            "to": period.last_date.isoformat(),
            "total": totals_value(found.total),
            "data": [
                {"object": "usage.line", "day": line.values[0], "model": line.values[1], **totals_value(line.totals)}
                for line in found.lines
            ],
        }

    return router


def period_of(parameters: Mapping[str, str], now_s: float) -> Period:
    """The period of `from` and `to` (days or months, both included), or of `days`. Raises InvalidRequest."""
    unknown = sorted(set(parameters) - _PARAMETERS)
    if unknown:
        raise InvalidRequest(f"'{unknown[0][:40]}' is no parameter here; use from, to or days.", param=unknown[0][:40])
    try:
        if "days" in parameters:
            if "from" in parameters or "to" in parameters:
                raise ValueError("give either days, or from and to")
            text = parameters["days"]
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MOST_DAYS):
                raise ValueError(f"days is a number from 1 to {MOST_DAYS}")
            return Period.last_days(int(text), now_s)
        today = Period.last_days(1, now_s)
        if "from" not in parameters:
            if "to" in parameters:
                raise ValueError("to needs from")
            return Period.last_days(DEFAULT_DAYS, now_s)
        period = Period.parse(parameters["from"], parameters.get("to", str(today.last_date)))
        if len(period.days) > MOST_DAYS:
            raise ValueError(f"a period has at most {MOST_DAYS} days")
    except ValueError as error:
        raise InvalidRequest(f"The period is not right: {error}.", param="from") from error
    return period
