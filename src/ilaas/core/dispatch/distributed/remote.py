"""One model at a gateway whose dispatcher is another process. Pure: requests, letters and the time in, effects out.

A request is admitted by credit when there is one, and then costs no way to the dispatcher; else its ticket is
published, and a letter says where it may go. Whatever is lost on the way, the gateway knows what it has: it tells its
standing every few seconds, and whoever owns the model makes that its own.
"""

from __future__ import annotations

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.distributed.credits import Credits
from ilaas.core.dispatch.distributed.messages import Entry, Kind, standing_entry, wire_id, write_ticket
from ilaas.core.dispatch.distributed.request import Held, Publish, RemoteEffect, Request, Write, standing_of
from ilaas.core.dispatch.events import Grant, QueuePosition, Refusal, RefusalReason, Settlement, Ticket
from ilaas.core.values import SERVER_FAULTS, Outcome, RequestClass

STANDING_S = 5.0
TOLD_PER_S = 5_000
"""Requests in standings: with many of them, each is told less often."""
PATIENCE_S = 2.0
"""How long those who wait hope for the link to come back."""
CREDIT_S = 60.0
"""How long credits hold without a link. The dispatcher may have given the same slots to others long before."""
SILENCE_S = 15.0
"""Without a word of any dispatcher of the model, after which those who wait are refused."""
AWAY_RETRY_S = 2.0
CLAIM_S = 3.0
"""For so long after a claim, an owner that is no newer than the last is not believed."""
DEADLINE_GRACE_S = 1.0
"""The dispatcher ends what waits too long; the gateway itself only what the dispatcher should have ended by then."""


class RemoteModel:
    """The gateway's side of one model."""

    def __init__(self, gateway: str, spec: ModelSpec, now: float) -> None:
        self.faults = 0
        """Letters that made no sense, or came from an owner of the past."""
        self.epoch = 0
        self.dispatcher: str | None = None
        self._gateway = gateway
        self._spec = spec
        self._credits = Credits(spec)
        self._servers = {server.id: server for server in spec.servers}
        self._requests: dict[str, Request] = {}
        """By ticket id."""
        self._wires: dict[str, Request] = {}
        self._up = False
        self._down_s = now
        self._heard_s = now
        self._claimed_s = float("-inf")
        self._number = 0
        self._told_s = now
        self._told_any = False

    # -- requests ------------------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, now: float) -> list[RemoteEffect]:
        """A new request."""
        request = self._requests[ticket.id] = Request(ticket)
        return self._enter(request, now)

    def cancel(self, ticket_id: str) -> list[RemoteEffect]:
        """It waits no more."""
        request = self._requests.get(ticket_id)
        if request is None or request.lease is not None:
            return []
        self._leave(request)
        return self._tell([Kind.CANCELLED, request.wire])

    def settle(self, settlement: Settlement, now: float) -> list[RemoteEffect]:
        """The lease has ended; with `retry` the request is tried elsewhere, as another attempt."""
        request = self._requests.get(settlement.ticket_id)
        if request is None or request.lease is None:
            return []
        lease, ttft_s = request.lease, settlement.ttft_s
        self._leave(request)
        if lease.credit:
            self._credits.give_back(lease.server)
        ttft_ms = None if ttft_s is None else round(ttft_s * 1000)
        tokens = 0 if settlement.retry else settlement.tokens
        urgent = not lease.credit or settlement.retry or self._credits.recalled(lease.server)
        effects = self._tell([Kind.ENDED, request.wire, settlement.outcome, tokens, ttft_ms], urgent=urgent)
        if settlement.outcome in SERVER_FAULTS and lease.credit:
            self._credits.drop(lease.server)
        if settlement.retry:
            effects.extend(self._again(request, lease.server, now))
        return effects

    def abandon(self, ticket_id: str, now: float) -> list[RemoteEffect]:
        """A grant whose waiter had left already: the slot comes back, and nothing is learned."""
        return self.settle(Settlement(ticket_id=ticket_id, outcome=Outcome.CLIENT_LEFT_QUEUE), now)

    def first_token(self, ticket_id: str, ttft_s: float) -> list[RemoteEffect]:
        """The server has begun to answer."""
        request = self._requests.get(ticket_id)
        if request is None or request.lease is None:
            return []
        return self._tell([Kind.FIRST_TOKEN, request.wire, round(ttft_s * 1000)], urgent=False)

    def position(self, ticket_id: str) -> QueuePosition | None:
        """As last told."""
        request = self._requests.get(ticket_id)
        return request.place if request is not None and request.lease is None else None

    def holds(self, ticket_id: str) -> bool:
        """Whether the request waits or has a slot."""
        return ticket_id in self._requests

    def counts(self) -> tuple[int, int]:
        """Requests that wait, and that have a slot."""
        leased = sum(request.lease is not None for request in self._requests.values())
        return len(self._requests) - leased, leased

    def credits(self) -> int:
        """Requests that may begin without asking."""
        return self._credits.free()

    def turned_away(self, wire: str, reason: RefusalReason) -> list[RemoteEffect]:
        """The broker did not take the ticket."""
        request = self._waiting(wire)
        return [] if request is None else self._refuse(request, reason, AWAY_RETRY_S)

    def _enter(self, request: Request, now: float) -> list[RemoteEffect]:
        ticket = request.ticket
        self._wires[request.wire] = request
        server = self._credits.take(ticket) if self._up or now - self._down_s < CREDIT_S else None
        if server is not None:
            own = server.owner == ticket.organisation
            granted = RequestClass.OWNER if own else ticket.request_class
            request.lease = Held(server.id, granted, credit=True, since_s=now)
            began: Entry = [
                Kind.BEGAN,
                request.wire,
                ticket.organisation,
                ticket.request_class,
                server.id,
                ticket.estimated_tokens,
                0,
            ]
            return [*self._tell(began, urgent=False), Grant(ticket, server, granted, max(0.0, now - ticket.arrived_s))]
        if not self._up and now - self._down_s >= PATIENCE_S:
            return self._refuse(request, RefusalReason.DISPATCHER_AWAY, AWAY_RETRY_S)
        return [self._publish(request, now)]

    def _again(self, request: Request, failed: str, now: float) -> list[RemoteEffect]:
        """Another attempt, without the server that failed."""
        ticket = request.ticket
        ticket.excluded = (*ticket.excluded, failed)
        self._requests[ticket.id] = request
        if request.attempt >= self._spec.policy.max_attempts:
            return self._refuse(request, RefusalReason.NO_SERVER, 1.0)
        request.lease = None
        request.attempt += 1
        request.wire = wire_id(ticket.id, request.attempt)
        return self._enter(request, now)

    def confirmed(self, wire: str) -> None:
        """The broker has the ticket."""
        request = self._wires.get(wire)
        if request is not None:
            request.published = True

    def _publish(self, request: Request, now: float) -> Publish:
        request.published = False
        return Publish(request.wire, write_ticket(self._gateway, request.wire, request.ticket, now))

    def _refuse(self, request: Request, reason: RefusalReason, retry_after_s: float) -> list[RemoteEffect]:
        self._leave(request)
        return [Refusal(request.ticket, reason, retry_after_s)]

    def _leave(self, request: Request) -> None:
        self._requests.pop(request.ticket.id, None)
        self._wires.pop(request.wire, None)

    # -- letters of the dispatcher -------------------------------------------------------------------------------------

    def read(self, sender: str, entry: Entry, now: float) -> list[RemoteEffect]:
        """One entry. Raises ValueError, TypeError, IndexError or KeyError when it makes no sense."""
        kind = entry[0]
        if sender != self.dispatcher:  # an owner of the past, or one whose claim is still on its way
            self.faults += 1
            return [Write(sender, [Kind.ABANDONED, entry[2]], urgent=True)] if kind == Kind.GRANTED else []
        self._heard_s = now
        if kind == Kind.GRANTED:
            _, _, wire, server, request_class, waited_ms = entry
            return self._granted(wire, server, RequestClass(request_class), waited_ms / 1000, now)
        if kind == Kind.REFUSED:
            request = self._waiting(entry[2])
            return [] if request is None else self._refuse(request, RefusalReason(entry[3]), float(entry[4]))
        if kind == Kind.ALLOWED:
            self._credits.allow({str(server): int(count) for server, count in entry[3].items()})
            return self._tell([Kind.HELD, int(entry[2])])
        if kind == Kind.SEND_AGAIN:
            request = self._waiting(entry[2])
            return [] if request is None else [self._publish(request, now)]
        if kind == Kind.POSITIONS:
            for wire, (ahead, wait_s) in entry[2].items():
                request = self._waiting(wire)
                if request is not None:
                    request.place = QueuePosition(ahead=int(ahead), predicted_wait_s=float(wait_s))
            return []
        raise ValueError(f"unknown kind of entry: {kind!r}")

    def _granted(
        self, wire: str, server_id: str, request_class: RequestClass, waited_s: float, now: float
    ) -> list[RemoteEffect]:
        request, server = self._wires.get(wire), self._servers.get(server_id)
        if request is not None and request.lease is not None and request.lease.server == server_id:
            return []  # told twice
        if request is None or request.lease is not None:
            return self._tell([Kind.ABANDONED, wire])
        if server is None:  # it has left this gateway's catalogue already
            self._wires.pop(wire, None)
            return [*self._tell([Kind.ABANDONED, wire]), *self._again(request, server_id, now)]
        request.lease = Held(server_id, request_class, credit=False, since_s=now)
        return [Grant(request.ticket, server, request_class, waited_s)]

    def _waiting(self, wire: str) -> Request | None:
        request = self._wires.get(wire)
        return request if request is not None and request.lease is None else None

    # -- who owns the model --------------------------------------------------------------------------------------------

    def claimed(self, dispatcher: str, now: float) -> list[RemoteEffect]:
        """A dispatcher is about to own the model: it wants to know the standing. Older owners grant nothing more."""
        self._heard_s = self._claimed_s = now
        if dispatcher == self.dispatcher:
            return []
        return self._turn_to(dispatcher, now)

    def owned(self, dispatcher: str, epoch: int, now: float) -> list[RemoteEffect]:
        """A dispatcher says that it owns the model."""
        doubtful = epoch < self.epoch or (epoch == self.epoch and now - self._claimed_s < CLAIM_S)
        if dispatcher != self.dispatcher and doubtful:
            return []
        self._heard_s = now
        self.epoch = max(self.epoch, epoch)
        return self._turn_to(dispatcher, now) if dispatcher != self.dispatcher else []

    def _turn_to(self, dispatcher: str, now: float) -> list[RemoteEffect]:
        self.dispatcher = dispatcher
        self._credits.drop()
        return self._tell(self._standing(now, whole=False))

    def link(self, now: float, *, up: bool) -> list[RemoteEffect]:
        """The connection to the broker is there again, or gone."""
        if up is self._up:
            return []
        self._up = up
        if not up:
            self._down_s = now
            return []
        self._credits.drop()  # the dispatcher may have given them to others since
        self._heard_s = now
        waiting = [request for request in self._requests.values() if request.lease is None]
        effects: list[RemoteEffect] = [self._publish(request, now) for request in waiting]
        effects.extend(self._tell(self._standing(now, whole=True)))
        return effects

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[RemoteEffect]:
        """Called about four times a second."""
        effects: list[RemoteEffect] = []
        away = now - self._down_s >= PATIENCE_S if not self._up else now - self._heard_s >= SILENCE_S
        for request in list(self._requests.values()):
            if request.lease is not None:
                continue
            if away:
                effects.extend(self._tell([Kind.CANCELLED, request.wire]))
                effects.extend(self._refuse(request, RefusalReason.DISPATCHER_AWAY, AWAY_RETRY_S))
            elif now > request.ticket.deadline_s + DEADLINE_GRACE_S:
                effects.extend(self._tell([Kind.CANCELLED, request.wire]))
                effects.extend(self._refuse(request, RefusalReason.QUEUE_TIMEOUT, AWAY_RETRY_S))
        if now - self._told_s >= STANDING_S + len(self._requests) / TOLD_PER_S and (self._requests or self._told_any):
            effects.extend(self._tell(self._standing(now, whole=False)))
        return effects

    def configure(self, spec: ModelSpec) -> None:
        """The model changed; requests under way go on."""
        self._spec = spec
        self._servers = {server.id: server for server in spec.servers}
        self._credits.configure(spec)

    def close(self) -> list[RemoteEffect]:
        """The model is gone: everybody who waits is refused."""
        waiting = [request for request in self._requests.values() if request.lease is None]
        return [effect for request in waiting for effect in self._refuse(request, RefusalReason.NO_SERVER, 30.0)]

    def _standing(self, now: float, *, whole: bool) -> Entry:
        self._number += 1
        self._told_s = now
        self._told_any = bool(self._requests)
        return standing_entry(standing_of(self._requests.values(), self._number, self.epoch, now, whole=whole))

    def _tell(self, entry: Entry, *, urgent: bool = True) -> list[RemoteEffect]:
        return [] if self.dispatcher is None else [Write(self.dispatcher, entry, urgent)]
