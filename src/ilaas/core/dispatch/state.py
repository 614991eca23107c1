"""What the scheduler holds of tickets and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilaas.core.catalogue import DispatchPolicy, ServerSpec
from ilaas.core.dispatch.capacity import Capacity
from ilaas.core.dispatch.events import ServerStatistics, Ticket
from ilaas.core.dispatch.health import Health, HealthState
from ilaas.core.values import RequestClass, RoutingMode

if TYPE_CHECKING:
    from ilaas.core.dispatch.flows import Flow

CACHE_WEIGHT = 0.2
"""Of the free share of a server's KV cache beside the free share of its slots, when one is chosen."""
PRIORITY_WORTH_S = 300.0
"""How much longer a ticket waits at most for each step of priority that another of its organisation is above it."""

Need = tuple[int, tuple[str, ...]]
"""What decides, within one organisation, which servers a ticket may use: the rank of the context window it needs among
the windows of the model's servers (0 is any), and the servers that failed it already."""

NO_NEED: Need = (0, ())


class Slot:
    """One server: what it may be given, and what it has."""

    __slots__ = (
        "_cache",
        "capacity",
        "failed",
        "gone",
        "health",
        "id",
        "in_flight",
        "lent",
        "limit",
        "number",
        "open",
        "owner",
        "owner_in_flight",
        "policy",
        "quickness",
        "served",
        "shared",
        "spec",
        "statistics",
        "told_at_s",
        "usable",
        "vacancy",
    )

    def __init__(self, spec: ServerSpec, policy: DispatchPolicy, number: int, now: float) -> None:
        self.spec = spec
        self.id = spec.id
        self.owner = spec.owner
        self.policy = policy
        self.number = number
        self.capacity = Capacity()
        self.health = Health(policy, now)
        self.in_flight = 0
        self.owner_in_flight = 0
        self.lent = 0
        """Slots that gateways may give away themselves and have not yet."""
        self.served = 0
        self.failed = 0
        self.gone = False
        """Taken out of the catalogue; what it has under way still settles."""
        self.usable = False
        """As of the last `refresh`: it may be given something, now or when a slot is free."""
        self.limit = 0
        """As of the last `refresh`: simultaneous requests it may have."""
        self.open = 0
        """As of the last `refresh`: free slots."""
        self.shared = 0
        """As of the last `refresh`: those of them that are not kept for the owner."""
        self.vacancy = 0.0
        """As of the last `refresh`: free share of its slots, plus what is free of the KV cache at `CACHE_WEIGHT`."""
        self.quickness = 0.0
        """One through the recent mean of the time to first token in seconds; 0 when not known."""
        self._cache = CACHE_WEIGHT
        """As of the last `assess`: what is free of the KV cache at its weight; all when not known."""
        self.statistics: ServerStatistics | None = None
        self.told_at_s = float("-inf")
        self.configure(spec, policy)

    def configure(self, spec: ServerSpec, policy: DispatchPolicy) -> None:
        """Take a changed description; what was learned and is under way stays."""
        self.spec = spec
        self.owner = spec.owner
        self.policy = policy
        self.capacity.configure(spec, policy)
        self.health.configure(policy)

    def refresh(self) -> None:
        """Compute `usable`, `limit`, `open` and `shared` anew after something has changed."""
        state, in_flight, limit = self.health.state, self.in_flight, self.capacity.limit
        if self.gone or self.spec.draining or state is HealthState.DOWN:
            self.usable = False
            self.limit = self.open = self.shared = 0
            return
        self.usable = True
        self.limit = limit
        taken = in_flight + self.lent
        self.open = self.shared = limit - taken if limit > taken else 0
        if state is HealthState.PROBING and self.open:
            self.open = self.shared = 0 if self.health.probes else 1
            self.limit = in_flight + self.open
        self.vacancy = self.open / self.limit + self._cache if self.open else 0.0
        if self.spec.owner_reserved:
            # a limit that has fallen leaves one for others, who could starve behind slots that nobody uses
            reserved = limit if self.dedicated else min(self.spec.owner_reserved, limit - 1)
            others = taken - self.owner_in_flight
            self.shared = min(self.open, max(0, limit - reserved - others))

    @property
    def dedicated(self) -> bool:
        """All its slots are kept for its owner."""
        return self.spec.owner_reserved >= self.capacity.maximum

    def assess(self, now: float) -> None:
        """See how full its KV cache is, by statistics that are not too old. `refresh` must follow."""
        told = self.fresh(now)
        self._cache = CACHE_WEIGHT * (1.0 - ((told.kv_cache_usage or 0.0) if told is not None else 0.0))

    def began(self, ttft_s: float) -> None:
        """It gave a first token."""
        self.capacity.observe_ttft(ttft_s)
        mean_s = self.capacity.ttft_s
        self.quickness = 1.0 / mean_s if mean_s else 0.0

    def fresh(self, now: float) -> ServerStatistics | None:
        """The last reading, when it is not too old."""
        return self.statistics if now - self.told_at_s <= self.policy.stale_s else None

    def state_word(self) -> str:
        """For operators."""
        return "draining" if self.spec.draining else self.health.state.value


class Entry:
    """One ticket in the dispatcher: waiting, or on a server until it is settled.

    A ticket that is tried again gets a new one, so that what is left of the old one in a heap stays dead.
    """

    __slots__ = (
        "attempts",
        "batch",
        "charged",
        "cost",
        "flow",
        "granted_s",
        "index",
        "need",
        "number",
        "own",
        "private_only",
        "probe",
        "rank",
        "slot",
        "ticket",
        "waiting",
    )

    own: bool
    """The server it was granted is its organisation's."""
    granted_s: float
    probe: int
    """The server's period of probing in which it was sent there; 0 is none."""
    index: int
    """Its place in its flow; see `flows`."""

    def __init__(self, ticket: Ticket, number: int, need: Need, attempts: int = 0) -> None:
        # what the grant or the queue sets (see above) is left out: this is made for every request
        self.ticket = ticket
        self.number = number
        """Order of arrival; kept for ever, so that a retry finds its old place."""
        self.need = need
        self.attempts = attempts
        self.rank = ticket.arrived_s - ticket.priority * PRIORITY_WORTH_S
        """The place inside its organisation; the lowest goes first."""
        self.batch = ticket.request_class is RequestClass.BATCH
        self.private_only = ticket.routing_mode is RoutingMode.PRIVATE_ONLY
        self.cost = float(ticket.estimated_tokens or 1)
        self.waiting = False
        self.flow: Flow | None = None
        self.slot: Slot | None = None
        self.charged = False
        """It counted against its organisation's share, so that the real count corrects it."""
