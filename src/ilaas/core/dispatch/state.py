"""What the scheduler holds of tickets and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilaas.core.catalogue import DispatchPolicy, ServerSpec
from ilaas.core.dispatch.capacity import Capacity
from ilaas.core.dispatch.events import ServerStatistics, Ticket
from ilaas.core.dispatch.health import Health, HealthState
from ilaas.core.values import RequestClass, RoutingMode

if TYPE_CHECKING:
    from ilaas.core.dispatch.ordering import Flow


class Slot:
    """One server: what it may be given, and what it has."""

    __slots__ = (
        "capacity",
        "failed",
        "gone",
        "health",
        "in_flight",
        "limit",
        "number",
        "open",
        "owner_in_flight",
        "policy",
        "served",
        "spec",
        "statistics",
        "told_at_s",
    )

    def __init__(self, spec: ServerSpec, policy: DispatchPolicy, number: int, now: float) -> None:
        self.spec = spec
        self.policy = policy
        self.number = number
        self.capacity = Capacity()
        self.health = Health(policy, now)
        self.in_flight = 0
        self.owner_in_flight = 0
        self.served = 0
        self.failed = 0
        self.gone = False
        """Taken out of the catalogue; what it has under way still settles."""
        self.limit = 0
        """Simultaneous requests it may have as of the last `refresh`."""
        self.open = 0
        """Slots free for anybody as of the last `refresh`."""
        self.statistics: ServerStatistics | None = None
        self.told_at_s = float("-inf")
        self.configure(spec, policy)

    def configure(self, spec: ServerSpec, policy: DispatchPolicy) -> None:
        """Take a changed description; what was learned and is under way stays."""
        self.spec = spec
        self.policy = policy
        self.capacity.configure(spec, policy)
        self.health.configure(policy)

    def refresh(self) -> None:
        """Compute `limit` and `open` anew after something has changed."""
        state = self.health.state
        if self.gone or self.spec.draining or state is HealthState.DOWN:
            self.limit = 0
        elif state is HealthState.PROBING:
            self.limit = self.in_flight + 1 if not self.health.probes else self.in_flight
        else:
            self.limit = self.capacity.limit
        self.open = max(0, self.limit - self.in_flight)

    @property
    def reserved(self) -> int:
        """Free slots that only the owner may take."""
        return max(0, self.spec.owner_reserved - self.owner_in_flight)

    def usable(self) -> bool:
        """Whether it may be given anything, now or when a slot is free."""
        return not (self.gone or self.spec.draining or self.health.state is HealthState.DOWN)

    def fresh(self, now: float) -> ServerStatistics | None:
        """The last reading, when it is not too old."""
        return self.statistics if now - self.told_at_s <= self.policy.stale_s else None

    def state_word(self) -> str:
        """For operators."""
        return "draining" if self.spec.draining else self.health.state.value


class Entry:
    """One ticket in the dispatcher: waiting, or on a server until it is settled."""

    __slots__ = (
        "attempts",
        "batch",
        "charged",
        "cost",
        "flow",
        "granted_class",
        "granted_s",
        "index",
        "need",
        "number",
        "private_only",
        "probe",
        "rank",
        "slot",
        "stranded_s",
        "ticket",
        "waiting",
    )

    def __init__(self, ticket: Ticket, number: int, rank: float) -> None:
        self.ticket = ticket
        self.number = number
        """Order of arrival; kept for ever, so that a retry finds its old place."""
        self.rank = rank
        self.batch = ticket.request_class is RequestClass.BATCH
        self.private_only = ticket.routing_mode is RoutingMode.PRIVATE_ONLY
        self.cost = float(max(1, ticket.estimated_tokens))
        self.need = (0, False)
        """Rank of the context window it needs, and whether it excludes servers: those wait in heaps of their own."""
        self.waiting = False
        self.flow: Flow | None = None
        self.index = 0
        self.slot: Slot | None = None
        self.granted_class = ticket.request_class
        self.granted_s = 0.0
        self.attempts = 0
        self.probe = False
        self.charged = False
        """It counted against its organisation's share, so that the real count corrects it."""
        self.stranded_s = 0.0
        """Since when no server that it may use is up; 0 when one is."""
