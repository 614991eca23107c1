"""What all of governance works with: the store, the clock, and the question whether a caller may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ilaas.core.catalogue import Catalogue
from ilaas.core.errors import Forbidden, NotFound
from ilaas.core.rights import Action, Caller, PersonRef, Place, may, why_not
from ilaas.ports.store import Store
from ilaas.ports.tenancy import AuditLine
from ilaas.services.administration import Administration


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The ports of governance, put together once by the wiring."""

    store: Store
    administration: Administration
    """Makes keys and adds servers; it asks nobody."""
    pepper: bytes
    epoch: Callable[[], float]
    entropy: Callable[[int], bytes]
    catalogue: Callable[[], Catalogue]
    """The models and servers in force."""

    def demand(self, caller: Caller, action: Action, subject: Place | PersonRef) -> None:
        """Raises Forbidden, with the reason."""
        if not may(caller, action, subject):
            raise Forbidden(why_not(caller, action, subject))

    def demand_sight(self, caller: Caller, action: Action, subject: Place | PersonRef, missing: NotFound) -> None:
        """Raises `missing` when the caller may not even see it, so that nobody learns what there is elsewhere."""
        if not may(caller, action, subject):
            raise missing

    def line(self, caller: Caller, action: str, subject: str, organisation: str | None = None) -> AuditLine:
        """The beginning of an audit line, of now."""
        return AuditLine(
            at_s=self.epoch(), actor=caller.name, action=action, subject=subject, organisation=organisation
        )

    def new_id(self, kind: str) -> str:
        """An id that nobody has."""
        return f"{kind}_{self.entropy(8).hex()}"
