"""What is made anew for every request on its way through the dispatcher: the ticket, what becomes of it, its end.

Slotted dataclasses that aren't frozen, with their `__init__` written out: compiled, such a one costs a tenth of what
`dataclass` makes itself. Nobody changes one after it is made, save the scheduler its own tickets. None is ever written
as JSON as it stands (orjson can't read compiled ones).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome, RequestClass, RoutingMode


@dataclass(slots=True, init=False)
class Ticket:
    """A request as the dispatcher sees it: small, and without its body. Times are seconds on the monotonic clock."""

    id: str
    model: str
    organisation: str
    request_class: RequestClass
    """`interactive` or `batch`, as asked."""
    routing_mode: RoutingMode
    priority: int
    """Higher goes first, inside the organisation only."""
    estimated_tokens: int
    """Prompt and answer; corrected by the real count when the lease is settled."""
    context_tokens: int
    """Estimated context the request needs on the server; 0 is unknown."""
    prefix_hash: int
    """Requests with the same hash share a prompt prefix; 0 is none."""
    arrived_s: float
    deadline_s: float
    """When waiting in the queue ends, whatever happens."""
    excluded: tuple[str, ...]
    """Servers that failed this ticket already."""
    max_wait_s: float | None
    """The caller's own limit of predicted wait, when tighter than the model's."""
    max_queued: int | None
    """The caller's own limit of queue length (today's `threshold`): refused when more than this many wait."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        id: str,  # noqa: A002
        model: str,
        organisation: str,
        request_class: RequestClass = RequestClass.INTERACTIVE,
        routing_mode: RoutingMode = RoutingMode.ANY,
        priority: int = 0,
        estimated_tokens: int = 0,
        context_tokens: int = 0,
        prefix_hash: int = 0,
        arrived_s: float = 0.0,
        deadline_s: float = float("inf"),
        excluded: tuple[str, ...] = (),
        max_wait_s: float | None = None,
        max_queued: int | None = None,
    ) -> None:
        self.id = id
        self.model = model
        self.organisation = organisation
        self.request_class = request_class
        self.routing_mode = routing_mode
        self.priority = priority
        self.estimated_tokens = estimated_tokens
        self.context_tokens = context_tokens
        self.prefix_hash = prefix_hash
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.excluded = excluded
        self.max_wait_s = max_wait_s
        self.max_queued = max_queued


class RefusalReason(StrEnum):
    """Why a ticket gets no server."""

    BUSY = "busy"
    """The predicted wait passes the threshold."""
    QUEUE_FULL = "queue_full"
    NO_SERVER = "no_server"
    """No server of the model is up (for this ticket's routing mode, or after all were tried)."""
    QUEUE_TIMEOUT = "queue_timeout"
    CONTEXT_TOO_LONG = "context_too_long"
    """No server of the model has a window that large."""
    DISPATCHER_AWAY = "dispatcher_away"
    """Nobody decides for the model at present: no broker, or no dispatcher."""


@dataclass(slots=True, init=False)
class Grant:
    """The ticket may go to this server now; a slot of it is taken until the lease is settled."""

    ticket: Ticket
    server: ServerSpec
    request_class: RequestClass
    """`owner` when the server is the organisation's own and its lane was used, else as asked."""
    waited_s: float

    def __init__(
        self,
        ticket: Ticket,
        server: ServerSpec,
        request_class: RequestClass,
        waited_s: float,
    ) -> None:
        self.ticket = ticket
        self.server = server
        self.request_class = request_class
        self.waited_s = waited_s


@dataclass(slots=True, init=False)
class Refusal:
    """The ticket leaves the queue without a server."""

    ticket: Ticket
    reason: RefusalReason
    retry_after_s: float
    """Predicted; at least 1."""

    def __init__(
        self,
        ticket: Ticket,
        reason: RefusalReason,
        retry_after_s: float,
    ) -> None:
        self.ticket = ticket
        self.reason = reason
        self.retry_after_s = retry_after_s


Effect = Grant | Refusal


@dataclass(slots=True, init=False)
class Settlement:
    """The end of a lease: the slot comes back, health and fairness learn from it."""

    ticket_id: str
    outcome: Outcome
    tokens: int
    """Prompt and answer, as counted."""
    ttft_s: float | None
    retry: bool
    """Put the ticket back in its old place, without the server that failed it."""

    def __init__(
        self,
        *,
        ticket_id: str,
        outcome: Outcome,
        tokens: int = 0,
        ttft_s: float | None = None,
        retry: bool = False,
    ) -> None:
        self.ticket_id = ticket_id
        self.outcome = outcome
        self.tokens = tokens
        self.ttft_s = ttft_s
        self.retry = retry
