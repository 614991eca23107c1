"""One model at a dispatcher: standing by, about to own it, or owning it. Pure: letters and the time in, effects out.

Who owns a model is decided by the broker: the single active consumer of the model's queue. The first message from that
queue says "it is you now": the desk asks every live gateway for its standing, and only when it knows the requests that
are under way does it grant anything. It tells an epoch higher than any gateway has seen; gateways refuse older owners.

A ticket stays unacknowledged until it is granted, refused or cancelled, so that none dies with its dispatcher. What
letters lose, the gateways' standings put right: what one side has and the other has not, for two of them in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.distributed.messages import Entry, Kind, is_baton, read_ticket
from ilaas.core.dispatch.distributed.owned import Ack, DeskEffect, News, OwnedModel
from ilaas.core.dispatch.events import ModelView, ServerStatistics

CLAIM_S = 2.0
"""How long a new owner waits for the standings of the gateways that it knows to live."""


class Role(Enum):
    """Where a desk stands with its model."""

    STANDBY = "standby"
    CLAIMING = "claiming"
    OWNING = "owning"


@dataclass(slots=True)
class _Claim:
    """What comes while the standings are awaited."""

    until_s: float
    told: set[str] = field(default_factory=set)
    """Gateways whose standing has come."""
    tickets: list[tuple[int, bytes]] = field(default_factory=list)
    letters: list[tuple[str, list[Entry]]] = field(default_factory=list)


class ModelDesk:
    """The dispatcher's side of one model."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, float]) -> None:
        self.faults = 0
        """Messages that made no sense."""
        self._spec = spec
        self._weights = weights
        self._epoch = 0
        self._claim: _Claim | None = None
        self._owned: OwnedModel | None = None
        self._baton: int | None = None
        self._live: frozenset[str] | None = None
        """Gateways; None until the roster knows them."""

    @property
    def role(self) -> Role:
        """Where it stands."""
        if self._owned is not None:
            return Role.OWNING
        return Role.STANDBY if self._claim is None else Role.CLAIMING

    @property
    def epoch(self) -> int:
        """Of its ownership; else of its last one."""
        return self._owned.epoch if self._owned is not None else self._epoch

    @property
    def waiting(self) -> int:
        """Tickets that wait here."""
        return self._owned.scheduler.waiting if self._owned is not None else 0

    @property
    def lent(self) -> int:
        """Slots that gateways may take without asking."""
        return self._owned.lent() if self._owned is not None else 0

    # -- the model's queue ---------------------------------------------------------------------------------------------

    def delivery(self, tag: int, body: bytes, now: float) -> list[DeskEffect]:
        """A message of the model's queue: this dispatcher is its consumer."""
        effects: list[DeskEffect] = []
        if self._owned is None and self._claim is None:
            self._claim = _Claim(now + CLAIM_S)
            effects.append(News())
        if is_baton(body):
            if self._baton is not None:
                effects.append(Ack(self._baton))
            self._baton = tag
        elif self._claim is not None:
            self._claim.tickets.append((tag, body))
        else:
            effects.extend(self._take(tag, body, now))
        effects.extend(self._complete(now))
        return effects

    def reset(self) -> None:
        """The queue is somebody else's, or the connection is gone: its messages go to the next owner."""
        self._epoch = self.epoch
        self._owned = self._claim = self._baton = None

    def superseded(self, epoch: int) -> bool:
        """Somebody else tells that he owns the model at this epoch. Whether this one must let go of its queue."""
        return self._owned is not None and epoch > self._owned.epoch

    def _take(self, tag: int, body: bytes, now: float) -> list[DeskEffect]:
        assert self._owned is not None  # noqa: S101  # called by an owner only
        try:
            letter = read_ticket(self._spec.name, body, now)
        except ValueError:
            self.faults += 1
            return [Ack(tag)]
        return self._owned.take(tag, letter, now)

    # -- letters, gateways, time ---------------------------------------------------------------------------------------

    def letter(self, gateway: str, entries: list[Entry], now: float) -> list[DeskEffect]:
        """What a gateway tells of the model. Entries that make no sense are counted and left out."""
        if self._claim is not None:
            self._claim.letters.append((gateway, entries))
            if any(entry[0] == Kind.STANDING for entry in entries):
                self._claim.told.add(gateway)
            return self._complete(now)
        return self._read(gateway, entries, now)

    def _read(self, gateway: str, entries: list[Entry], now: float) -> list[DeskEffect]:
        owned = self._owned
        if owned is None:
            return []
        effects: list[DeskEffect] = []
        for entry in entries:
            try:
                effects.extend(owned.read(gateway, entry, now))
            except (ValueError, TypeError, IndexError, KeyError):
                self.faults += 1
        effects.extend(owned.settle_credits(now))
        return effects

    def gateways(self, live: frozenset[str], now: float) -> list[DeskEffect]:
        """Which gateways live, as soon as the roster knows, and at each change."""
        self._live = live
        if self._owned is not None:
            return self._owned.gateways(live, now)
        return self._complete(now)

    def tick(self, now: float) -> list[DeskEffect]:
        """Called about four times a second."""
        if self._owned is not None:
            return self._owned.tick(self._live or frozenset(), now)
        return self._complete(now)

    def _complete(self, now: float) -> list[DeskEffect]:
        """Own the model, when every live gateway has told its standing or has had its time."""
        claim, live = self._claim, self._live
        if claim is None or live is None or not (live <= claim.told or now >= claim.until_s):
            return []
        self._claim = None
        standings = [entry for _, entries in claim.letters for entry in entries if entry[0] == Kind.STANDING]
        epoch = max([self._epoch, *(entry[2] for entry in standings if type(entry[2]) is int)]) + 1
        self._owned = OwnedModel(self._spec, self._weights, epoch, now)
        effects: list[DeskEffect] = [News()]
        for gateway, entries in claim.letters:
            effects.extend(self._read(gateway, entries, now))
        for tag, body in claim.tickets:
            effects.extend(self._take(tag, body, now))
        return effects

    # -- servers -------------------------------------------------------------------------------------------------------

    def configure(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> list[DeskEffect]:
        """The model, its servers or the weights changed."""
        self._spec, self._weights = spec, weights
        owned = self._owned
        return owned.configure(spec, weights, now) if owned is not None else []

    def close(self, now: float) -> list[DeskEffect]:
        """The model is gone: everybody who waits is refused."""
        return self._owned.apply(self._owned.scheduler.close(), now) if self._owned is not None else []

    def report(self, server_id: str, statistics: ServerStatistics, now: float) -> list[DeskEffect]:
        """A reading of a server's gauges."""
        owned = self._owned
        return owned.apply(owned.scheduler.report(server_id, statistics, now), now) if owned is not None else []

    def check(self, server_id: str, now: float, *, ok: bool) -> list[DeskEffect]:
        """The result of an active health check."""
        owned = self._owned
        return owned.apply(owned.scheduler.check(server_id, ok, now), now) if owned is not None else []

    def view(self, now: float) -> ModelView | None:
        """As operators see it; None while it is not owned."""
        return self._owned.scheduler.view(now) if self._owned is not None else None
