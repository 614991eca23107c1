"""One request of a gateway at a dispatcher: its attempts, the slot it has, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ilaas.core.dispatch.distributed.messages import Entry, LeaseNote, Standing, wire_id
from ilaas.core.dispatch.events import Grant, QueuePosition, Refusal, Ticket
from ilaas.core.values import RequestClass


@dataclass(slots=True)
class Publish:
    """A ticket for the model's queue."""

    wire: str
    body: bytes


@dataclass(slots=True)
class Write:
    """An entry for the dispatcher of the model."""

    to: str
    entry: Entry
    urgent: bool
    """Somebody may wait for it; else it may go with the next."""


RemoteEffect = Grant | Refusal | Publish | Write


class Held(NamedTuple):
    """The slot that a request has."""

    server: str
    request_class: RequestClass
    credit: bool
    since_s: float


class Request:
    """Waits for a slot or has one, by the name on the wire of its present attempt."""

    __slots__ = ("attempt", "lease", "place", "published", "ticket", "wire")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.attempt = 1
        self.wire = wire_id(ticket.id, 1)
        self.lease: Held | None = None
        self.place: QueuePosition | None = None
        self.published = False
        """The broker has confirmed its ticket."""


def standing_of(requests: Iterable[Request], number: int, epoch: int, now: float, *, whole: bool) -> Standing:
    """All that a gateway has of one model."""
    standing = Standing(number, epoch, whole)
    for request in requests:
        lease, ticket = request.lease, request.ticket
        if lease is None:
            standing.waiting[request.wire] = now - ticket.arrived_s
            if not request.published:
                standing.coming.append(request.wire)
        else:
            standing.leases.append(
                LeaseNote(
                    request.wire,
                    ticket.organisation,
                    ticket.request_class,
                    lease.server,
                    ticket.estimated_tokens,
                    now - lease.since_s,
                    lease.credit,
                )
            )
    return standing
