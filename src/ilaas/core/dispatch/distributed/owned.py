"""A model that this dispatcher owns: the scheduler, the books of its gateways, and the credits they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.distributed.books import Book, Lease
from ilaas.core.dispatch.distributed.lending import Lending
from ilaas.core.dispatch.distributed.messages import (
    Entry,
    Kind,
    LeaseNote,
    Standing,
    TicketLetter,
    granted,
    read_standing,
    refused,
)
from ilaas.core.dispatch.events import Effect, Grant, Settlement, Ticket
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Outcome, RequestClass

MOST_HELD = 60_000
"""Tickets of one model that a dispatcher holds unacknowledged; AMQP counts them with 16 bits. More wait behind."""
SPARE_HELD = 1_000
"""Beyond the longest queue that the policy allows: those are seen, and refused at once."""
RENEW_S = 600.0
"""A ticket that waits is published anew after this, since brokers close channels that leave messages too long."""
POSITIONS_S = 5.0
MAX_POSITIONS = 500
"""Of one gateway, in one letter."""


@dataclass(slots=True)
class Ack:
    """The message of the model's queue is done with."""

    tag: int


@dataclass(slots=True)
class Mail:
    """An entry for one process."""

    to: str
    entry: Entry


@dataclass(slots=True)
class News:
    """Tell everybody now what is owned and claimed."""


DeskEffect = Ack | Mail | News


def most_held(spec: ModelSpec) -> int:
    """How many tickets of a model its dispatcher holds at most."""
    return min(MOST_HELD, spec.policy.max_queued + SPARE_HELD)


class OwnedModel:
    """Decides for one model. What comes is taken as true in the order it comes; `books` puts lost letters right."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, float], epoch: int, now: float) -> None:
        self.epoch = epoch
        self.scheduler = ModelScheduler(spec, weights, now)
        self._model = spec.name
        self._books: dict[str, Book] = {}
        self._homes: dict[str, str] = {}
        """The gateway of each waiting ticket."""
        self._most_held = most_held(spec)
        self._lending = Lending()
        self._told_positions_s = now

    # -- the model's queue ---------------------------------------------------------------------------------------------

    def take(self, tag: int, letter: TicketLetter, now: float) -> list[DeskEffect]:
        """A ticket out of the queue."""
        ticket, gateway = letter.ticket, letter.gateway
        book, wire = self._book(gateway), letter.ticket.id
        lease = book.leases.get(wire)
        if lease is not None:  # sent again, because the grant was lost
            return [Ack(tag), Mail(gateway, self._grant_again(wire, lease))]
        old = book.waiting.pop(wire, None)
        book.waiting[wire] = (tag, now)
        if old is not None:
            return [Ack(old[0])]
        self._homes[wire] = gateway
        self._lending.came(gateway)
        ticket.arrived_s = min(ticket.arrived_s, now - book.waited_s(wire))
        return self.apply(self.scheduler.arrive(ticket, now), now)

    # -- letters of gateways -------------------------------------------------------------------------------------------

    def read(self, gateway: str, entry: Entry, now: float) -> list[DeskEffect]:
        """One entry. Raises ValueError, TypeError, IndexError or KeyError when it makes no sense."""
        kind = entry[0]
        if kind == Kind.BEGAN:
            _, wire, organisation, asked, server, tokens, ago_ms = entry
            self._lending.came(gateway)
            note = LeaseNote(wire, organisation, RequestClass(asked), server, tokens, ago_ms / 1000, credit=True)
            return self._adopt(gateway, note, now)
        if kind == Kind.ENDED:
            _, wire, outcome, tokens, ttft_ms = entry
            ttft_s = None if ttft_ms is None else ttft_ms / 1000
            end = Settlement(ticket_id=wire, outcome=Outcome(outcome), tokens=tokens, ttft_s=ttft_s)
            return self.apply(self.scheduler.settle(end, now), now) if self._drop_lease(gateway, wire) else []
        if kind == Kind.FIRST_TOKEN:
            return self.apply(self.scheduler.first_token(entry[1], entry[2] / 1000, now), now)
        if kind in (Kind.CANCELLED, Kind.ABANDONED):
            return self._forget(gateway, entry[1], now)
        if kind == Kind.HELD:
            self._lending.held(gateway, int(entry[1]))
            return []
        if kind == Kind.STANDING:
            return self._reconcile(gateway, read_standing(entry), now)
        raise ValueError(f"unknown kind of entry: {kind!r}")

    def lent(self) -> int:
        """Slots that gateways may take at any moment."""
        return sum(self._lending.unused().values())

    def settle_credits(self, now: float) -> list[DeskEffect]:
        """After letters were read: what is no longer lent is free."""
        return self.apply(self.scheduler.lend(self._lending.unused(), now), now)

    def _reconcile(self, gateway: str, standing: Standing, now: float) -> list[DeskEffect]:
        """Make the book and what the gateway says the same."""
        effects: list[DeskEffect] = []
        if standing.epoch > self.epoch:  # it has seen an owner that this one knew nothing of
            self.epoch = standing.epoch + 1
            effects.append(News())
        book = self._book(gateway)
        difference = book.compare(standing, all_delivered=len(self._homes) < self._most_held)
        if difference is None:
            return effects
        if standing.whole:
            self._lending.forget_allowance(gateway)
        for wire in difference.gone:
            effects.extend(self._forget(gateway, wire, now))
        for note in difference.unknown:
            effects.extend(self._forget(gateway, note.wire, now))
            effects.extend(self._adopt(gateway, note, now))
        effects.extend(Mail(gateway, self._grant_again(wire, book.leases[wire])) for wire in difference.ungranted)
        effects.extend(Mail(gateway, [Kind.SEND_AGAIN, self.epoch, wire]) for wire in difference.missing)
        return effects

    def _adopt(self, gateway: str, note: LeaseNote, now: float) -> list[DeskEffect]:
        """A lease that was given elsewhere."""
        book = self._book(gateway)
        if note.wire in book.leases:
            return []
        asked = note.request_class if note.request_class is not RequestClass.OWNER else RequestClass.INTERACTIVE
        ticket = Ticket(
            id=note.wire,
            model=self._model,
            organisation=note.organisation,
            request_class=asked,
            estimated_tokens=note.tokens,
            arrived_s=now - note.ago_s,
        )
        book.leases[note.wire] = Lease(note.server, note.request_class, note.credit)
        if note.credit:
            self._lending.began(gateway, note.server)
        self.scheduler.adopt(ticket, note.server, now - note.ago_s, now)
        return []

    def _drop_lease(self, gateway: str, wire: str) -> bool:
        lease = self._book(gateway).leases.pop(wire, None)
        if lease is None:
            return False
        if lease.credit:
            self._lending.ended(gateway, lease.server)
        return True

    def _forget(self, gateway: str, wire: str, now: float) -> list[DeskEffect]:
        """Nobody waits for it or uses it any more."""
        waiting = self._book(gateway).waiting.pop(wire, None)
        if waiting is not None:
            self._homes.pop(wire, None)
            return [Ack(waiting[0]), *self.apply(self.scheduler.cancel(wire, now), now)]
        if self._drop_lease(gateway, wire):
            return self.apply(self.scheduler.abandon(wire, now), now)
        return []

    # -- gateways, time ------------------------------------------------------------------------------------------------

    def configure(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> list[DeskEffect]:
        """The model, its servers or the weights changed."""
        self._most_held = most_held(spec)
        return self.apply(self.scheduler.configure(spec, weights, now), now)

    def gateways(self, live: frozenset[str], now: float) -> list[DeskEffect]:
        """Which gateways live. What dead ones held is free, and what they waited for is forgotten."""
        effects: list[DeskEffect] = []
        for gateway in [each for each in self._books if each not in live]:
            book = self._books[gateway]
            for wire in [*book.waiting, *book.leases]:
                effects.extend(self._forget(gateway, wire, now))
            del self._books[gateway]
            self._lending.gone(gateway)
        effects.extend(self.settle_credits(now))
        return effects

    def tick(self, live: frozenset[str], now: float) -> list[DeskEffect]:
        """Called about four times a second."""
        scheduler = self.scheduler
        effects = self.apply(scheduler.tick(now), now)
        if not scheduler.waiting:
            letters = self._lending.share_out(scheduler.spare(), live, now)
            effects.extend(Mail(gateway, entry) for gateway, entry in letters)
        effects.extend(Mail(gateway, entry) for gateway, entry in self._lending.reminders(now))
        effects.extend(self.settle_credits(now))
        for gateway, book in self._books.items():
            for wire in book.overdue(now - RENEW_S, now):
                effects.append(Mail(gateway, [Kind.SEND_AGAIN, self.epoch, wire]))
        if scheduler.waiting and now - self._told_positions_s >= POSITIONS_S:
            self._told_positions_s = now
            effects.extend(self._positions(now))
        return effects

    def _positions(self, now: float) -> Iterable[DeskEffect]:
        for gateway, book in self._books.items():
            places = {}
            for wire, _ in zip(book.waiting, range(MAX_POSITIONS), strict=False):
                place = self.scheduler.position(wire, now)
                if place is not None:
                    places[wire] = [place.ahead, round(place.predicted_wait_s, 1)]
            if places:
                yield Mail(gateway, [Kind.POSITIONS, self.epoch, places])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def apply(self, effects: Iterable[Effect], now: float) -> list[DeskEffect]:
        """Grants and refusals, as letters. When somebody is left waiting the credits are called back."""
        out: list[DeskEffect] = []
        for effect in effects:
            wire = effect.ticket.id
            gateway = self._homes.pop(wire, None)
            if gateway is None:
                continue
            book = self._books[gateway]
            out.append(Ack(book.waiting.pop(wire)[0]))
            if isinstance(effect, Grant):
                book.leases[wire] = Lease(effect.server.id, effect.request_class, credit=False)
                out.append(Mail(gateway, granted(self.epoch, effect)))
            else:
                out.append(Mail(gateway, refused(self.epoch, effect)))
        if self.scheduler.waiting:
            out.extend(Mail(gateway, entry) for gateway, entry in self._lending.recall(now))
        return out

    def _grant_again(self, wire: str, lease: Lease) -> Entry:
        return [Kind.GRANTED, self.epoch, wire, lease.server, lease.request_class, 0]

    def _book(self, gateway: str) -> Book:
        book = self._books.get(gateway)
        if book is None:
            book = self._books[gateway] = Book()
        return book
