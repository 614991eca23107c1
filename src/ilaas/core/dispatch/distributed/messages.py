"""What gateways and dispatchers write to each other: small JSON arrays, the kind of entry first.

Times on the wire are durations (a moment of the sender's clock means nothing elsewhere), so that clocks may differ and
jump. A ticket's name on the wire is its id and the number of the attempt: a retry is a ticket of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from ilaas.core.dispatch.events import Grant, ModelView, Refusal, ServerView, Ticket
from ilaas.core.values import RequestClass, RoutingMode

Entry = list[Any]
"""One entry of a letter: the kind, then what that kind has."""

FOREVER_MS = 1 << 53
"""No deadline."""


class Kind(StrEnum):
    """The first field of an entry. Letters about one model, so that a letter of many stays small."""

    # from a gateway to the dispatcher that owns the model
    BEGAN = "b"
    """[_, wire, organisation, class, server, tokens, ago_ms]: admitted by a credit."""
    ENDED = "e"
    """[_, wire, outcome, tokens, ttft_ms or null]: the slot is free."""
    FIRST_TOKEN = "f"
    """[_, wire, ttft_ms]"""
    CANCELLED = "c"
    """[_, wire]: nobody waits for it any more."""
    ABANDONED = "a"
    """[_, wire]: granted in vain; the slot is free and nothing is learned."""
    HELD = "h"
    """[_, number]: the gateway keeps to the allowance of that number."""
    STANDING = "n"
    """[_, number, epoch, whole, leases, waiting, coming]: all that the gateway has of the model (see `Standing`)."""

    # from the dispatcher to a gateway
    GRANTED = "g"
    """[_, epoch, wire, server, class, waited_ms]"""
    REFUSED = "r"
    """[_, epoch, wire, reason, retry_after_s]"""
    ALLOWED = "k"
    """[_, epoch, number, {server: simultaneous requests by credit}]"""
    SEND_AGAIN = "s"
    """[_, epoch, wire]: the ticket is not here; publish it again."""
    POSITIONS = "p"
    """[_, epoch, {wire: [ahead, predicted_wait_s]}]"""


def wire_id(ticket_id: str, attempt: int) -> str:
    """The name on the wire of one attempt at a ticket."""
    return f"{ticket_id}.{attempt}"


# -- tickets -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TicketLetter:
    """A ticket as it came out of a model's queue."""

    gateway: str
    ticket: Ticket
    """Under its name on the wire; its times are by the receiver's clock."""


def write_ticket(gateway: str, wire: str, ticket: Ticket, now: float) -> bytes:
    """A ticket for its model's queue. `now` is by the clock of the ticket's own times."""
    deadline_s = ticket.deadline_s
    return orjson.dumps(
        [
            gateway,
            wire,
            ticket.organisation,
            ticket.request_class,
            ticket.routing_mode,
            ticket.priority,
            ticket.estimated_tokens,
            ticket.context_tokens,
            str(ticket.prefix_hash),
            round((now - ticket.arrived_s) * 1000),
            FOREVER_MS if deadline_s == float("inf") else round((deadline_s - now) * 1000),
            ticket.excluded,
            ticket.max_wait_s,
            ticket.max_queued,
        ]
    )


def read_ticket(model: str, body: bytes, now: float) -> TicketLetter:
    """Raises ValueError when it is not a ticket."""
    fields = orjson.loads(body)
    if type(fields) is not list or len(fields) != 14:
        raise ValueError("not a ticket")
    try:
        ticket = Ticket(
            id=str(fields[1]),
            model=model,
            organisation=str(fields[2]),
            request_class=RequestClass(fields[3]),
            routing_mode=RoutingMode(fields[4]),
            priority=int(fields[5]),
            estimated_tokens=int(fields[6]),
            context_tokens=int(fields[7]),
            prefix_hash=int(fields[8]),
            arrived_s=now - max(0, fields[9]) / 1000,
            deadline_s=float("inf") if fields[10] >= FOREVER_MS else now + fields[10] / 1000,
            excluded=tuple(map(str, fields[11])),
            max_wait_s=fields[12],
            max_queued=fields[13],
        )
    except TypeError as error:
        raise ValueError("not a ticket") from error
    return TicketLetter(str(fields[0]), ticket)


def write_baton(dispatcher: str) -> bytes:
    """What the owner of a model holds unacknowledged in its queue, so that who takes over is told at once."""
    return orjson.dumps({"baton": dispatcher})


def is_baton(body: bytes) -> bool:
    """Whether a message of a model's queue is no ticket but the baton."""
    return body.startswith(b'{"baton"')


# -- what a gateway has of a model -------------------------------------------------------------------------------------


@dataclass(slots=True)
class LeaseNote:
    """A request under way, as its gateway tells it."""

    wire: str
    organisation: str
    request_class: RequestClass
    server: str
    tokens: int
    """As estimated."""
    ago_s: float
    """Since the grant."""
    credit: bool
    """Admitted by the gateway itself."""


@dataclass(slots=True)
class Standing:
    """Everything a gateway has of one model, told every few seconds and when an owner asks."""

    number: int
    """Grows with each; an older one that comes late says nothing."""
    epoch: int
    """The highest the gateway knows of the model."""
    whole: bool
    """What is missing here is gone for sure (the gateway has just connected): no need to wait for the next."""
    leases: list[LeaseNote] = field(default_factory=list)
    waiting: dict[str, float] = field(default_factory=dict)
    """Seconds waited, by wire id."""
    coming: list[str] = field(default_factory=list)
    """Those of them that the broker has not confirmed yet: nobody need miss them."""


def standing_entry(standing: Standing) -> Entry:
    """See `Kind.STANDING`."""
    leases = [
        [
            each.wire,
            each.organisation,
            each.request_class,
            each.server,
            each.tokens,
            round(each.ago_s * 1000),
            each.credit,
        ]
        for each in standing.leases
    ]
    waiting = {wire: round(waited_s * 1000) for wire, waited_s in standing.waiting.items()}
    return [Kind.STANDING, standing.number, standing.epoch, standing.whole, leases, waiting, standing.coming]


def read_standing(entry: Entry) -> Standing:
    """The reverse of `standing_entry`."""
    _, number, epoch, whole, leases, waiting, coming = entry
    return Standing(
        number,
        epoch,
        whole,
        [
            LeaseNote(wire, organisation, RequestClass(kind), server, tokens, ago_ms / 1000, credit)
            for wire, organisation, kind, server, tokens, ago_ms, credit in leases
        ],
        {wire: ms / 1000 for wire, ms in waiting.items()},
        coming,
    )


# -- letters -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Letter:
    """What one process writes to another: entries by model, in order."""

    sender: str
    models: list[tuple[str, list[Entry]]]


def write_letter(letter: Letter) -> bytes:
    """As JSON."""
    return orjson.dumps([letter.sender, letter.models])


def read_letter(body: bytes) -> Letter:
    """Raises ValueError when it is not one."""
    fields = orjson.loads(body)
    try:
        sender, models = fields
        letter = Letter(str(sender), [(str(model), entries) for model, entries in models])
        sound = all(type(entry) is list and entry for _, entries in letter.models for entry in entries)
    except TypeError as error:
        raise ValueError("not a letter") from error
    if not sound:
        raise ValueError("an entry is not a list")
    return letter


def granted(epoch: int, grant: Grant) -> Entry:
    """See `Kind.GRANTED`."""
    ticket = grant.ticket
    return [Kind.GRANTED, epoch, ticket.id, grant.server.id, grant.request_class, round(grant.waited_s * 1000)]


def refused(epoch: int, refusal: Refusal) -> Entry:
    """See `Kind.REFUSED`."""
    return [Kind.REFUSED, epoch, refusal.ticket.id, refusal.reason, refusal.retry_after_s]


# -- news for everybody ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class DispatcherNews:
    """A dispatcher's heartbeat, to all: which models it owns, at which epoch, which it is about to own, their views."""

    dispatcher: str
    owned: dict[str, int] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)
    """Gateways are asked for their standing; it grants nothing yet."""
    left: bool = False
    """It stops now."""
    views: list[ModelView] = field(default_factory=list)


def write_news(news: DispatcherNews) -> bytes:
    """As JSON."""
    return orjson.dumps([news.dispatcher, news.owned, news.claimed, news.left, news.views])


def read_news(body: bytes) -> DispatcherNews:
    """Raises ValueError when it is none."""
    fields = orjson.loads(body)
    try:
        dispatcher, owned, claimed, left, views = fields
        return DispatcherNews(
            str(dispatcher),
            {str(model): int(epoch) for model, epoch in owned.items()},
            [str(model) for model in claimed],
            bool(left),
            [_view(each) for each in views],
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("not a dispatcher's news") from error


def _view(fields: dict[str, Any]) -> ModelView:
    return ModelView(**{**fields, "servers": tuple(ServerView(**server) for server in fields["servers"])})
