"""What a dispatcher has noted of one gateway at one model, and how it compares with what the gateway says."""

from __future__ import annotations

from dataclasses import dataclass, field

from ilaas.core.dispatch.distributed.messages import LeaseNote, Standing
from ilaas.core.values import RequestClass


@dataclass(slots=True)
class Lease:
    """A slot that the gateway has."""

    server: str
    request_class: RequestClass
    """As granted."""
    credit: bool


@dataclass(slots=True)
class Difference:
    """What must be put right."""

    gone: list[str] = field(default_factory=list)
    """Noted here, waiting or leased, and the gateway has it no more."""
    unknown: list[LeaseNote] = field(default_factory=list)
    """Leases that the gateway has and that are not noted, or on another server."""
    ungranted: list[str] = field(default_factory=list)
    """Leased here, and the gateway still waits: the grant was lost."""
    missing: list[str] = field(default_factory=list)
    """The gateway waits, and there is no ticket here."""


class Book:
    """One gateway's tickets and leases at one model, by wire id."""

    __slots__ = ("_doubts", "_number", "_waited", "leases", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[int, float]] = {}
        """The message's tag, and when it was delivered."""
        self.leases: dict[str, Lease] = {}
        self._doubts: set[str] = set()
        """Not the same on both sides in the last standing: perhaps only a letter on its way."""
        self._number = -1
        self._waited: dict[str, float] = {}

    def waited_s(self, wire: str) -> float:
        """How long the gateway says that it has waited, for a ticket that comes from a dead dispatcher."""
        return self._waited.pop(wire, 0.0)

    def overdue(self, before_s: float, now: float) -> list[str]:
        """Tickets whose message was delivered before; each is told once for a delivery."""
        found: list[str] = []
        for wire, (_, delivered_s) in self.waiting.items():
            if delivered_s > before_s:
                break  # they stand in order of delivery
            found.append(wire)
        for wire in found:
            self.waiting[wire] = (self.waiting.pop(wire)[0], now)
        return found

    def compare(self, standing: Standing, *, all_delivered: bool) -> Difference | None:
        """What differs for sure. None for a standing that is older than the last.

        `all_delivered`: no ticket can still be in the model's queue, so that one that is not here is lost.
        """
        if standing.number <= self._number:
            return None
        self._waited = standing.waiting if self._number < 0 else {}
        self._number = standing.number
        doubts: set[str] = set()
        difference = Difference()

        def sure(wire: str) -> bool:
            if standing.whole or wire in self._doubts:
                return True
            doubts.add(wire)
            return False

        theirs = {note.wire: note for note in standing.leases}
        for note in standing.leases:
            lease = self.leases.get(note.wire)
            if lease is None or lease.server != note.server:
                difference.unknown.append(note)
        for wire in self.leases:
            if wire in standing.waiting:
                if sure(wire):
                    difference.ungranted.append(wire)
            elif wire not in theirs and sure(wire):
                difference.gone.append(wire)
        difference.gone.extend(
            wire for wire in self.waiting if wire not in standing.waiting and wire not in theirs and sure(wire)
        )
        if all_delivered:
            known = {*self.waiting, *self.leases, *standing.coming}
            difference.missing.extend(wire for wire in standing.waiting if wire not in known and sure(wire))
        self._doubts = doubts
        return difference
