"""The audit trail, as far as the caller may see it."""

from __future__ import annotations

from ilaas.core.errors import Forbidden
from ilaas.core.rights import Action, Caller, Place, Reach, reach, why_not
from ilaas.ports.tenancy import NumberedLine
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest


class AuditTrail:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest, subject: str | None = None) -> Page[NumberedLine]:
        """The newest lines first, of one subject (`key:key_…`) where given. Raises Forbidden for who may see none."""
        within = reach(caller, Action.AUDIT_VIEW)
        if within == Reach():
            raise Forbidden(why_not(caller, Action.AUDIT_VIEW, Place()))
        found = await self._office.store.page_of_audit(within, subject, request.before_number(), request.limit + 1)
        return request.page(found, lambda entry: (entry.number,))
