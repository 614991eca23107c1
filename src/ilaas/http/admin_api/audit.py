"""`/audit`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request

from ilaas.http.admin_api.answers import page_request, paged
from ilaas.http.admin_api.door import caller_of
from ilaas.http.admin_api.shapes import AuditShape, PageShape
from ilaas.services.governance import Governance
from ilaas.services.governance.pages import PageRequest
from ilaas.services.governance.views import View, audit_view


def add_routes(api: APIRouter, governance: Governance) -> None:
    """Add it."""

    @api.get("/audit", response_model=PageShape[AuditShape], tags=["audit"])
    async def list_audit(
        request: Request,
        page: Annotated[PageRequest, Depends(page_request)],
        subject: Annotated[str | None, Query(max_length=600, description="Such as `key:key_1f…`")] = None,
    ) -> View:
        return paged(await governance.audit.page(caller_of(request), page, subject), audit_view)
