"""What is made anew for every request on its way through the dispatcher: the ticket, what becomes of it, its end.

Plain slotted dataclasses: a frozen one costs three times as much to make. Nobody changes one after it is made, save the
scheduler its own tickets. None is ever written as JSON as it stands, so that they can be compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ilaas.core.catalogue import ServerSpec
from ilaas.core.values import Outcome, RequestClass, RoutingMode


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A request as the dispatcher sees it: small, and without its body. Times are seconds on the monotonic clock."""

    id: str
    model: str
    organisation: str
    request_class: RequestClass = RequestClass.INTERACTIVE
    """`interactive` or `batch`, as asked."""
    routing_mode: RoutingMode = RoutingMode.ANY
    priority: int = 0
    """Higher goes first, inside the organisation only."""
    estimated_tokens: int = 0
    """Prompt and answer; corrected by the real count when the lease is settled."""
    context_tokens: int = 0
    """Estimated context the request needs on the server; 0 is unknown."""
    prefix_hash: int = 0
    """Requests with the same hash share a prompt prefix; 0 is none."""
    arrived_s: float = 0.0
    deadline_s: float = float("inf")
    """When waiting in the queue ends, whatever happens."""
    excluded: tuple[str, ...] = ()
    """Servers that failed this ticket already."""
    max_wait_s: float | None = None
    """The caller's own limit of predicted wait, when tighter than the model's."""
    max_queued: int | None = None
    """The caller's own limit of queue length (today's `threshold`): refused when more than this many wait."""


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


@dataclass(slots=True)
class Grant:
    """The ticket may go to this server now; a slot of it is taken until the lease is settled."""

    ticket: Ticket
    server: ServerSpec
    request_class: RequestClass
    """`owner` when the server is the organisation's own and its lane was used, else as asked."""
    waited_s: float


@dataclass(slots=True)
class Refusal:
    """The ticket leaves the queue without a server."""

    ticket: Ticket
    reason: RefusalReason
    retry_after_s: float
    """Predicted; at least 1."""


Effect = Grant | Refusal


@dataclass(slots=True, kw_only=True)
class Settlement:
    """The end of a lease: the slot comes back, health and fairness learn from it."""

    ticket_id: str
    outcome: Outcome
    tokens: int = 0
    """Prompt and answer, as counted."""
    ttft_s: float | None = None
    retry: bool = False
    """Put the ticket back in its old place, without the server that failed it."""
