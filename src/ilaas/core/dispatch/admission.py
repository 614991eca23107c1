"""Who is refused: on arrival, when the wait would be too long, and when no server is left."""

from __future__ import annotations

from ilaas.core.dispatch.events import Refusal, RefusalReason
from ilaas.core.dispatch.fleet import Fleet
from ilaas.core.dispatch.outlook import Outlook
from ilaas.core.dispatch.predict import retry_after_s
from ilaas.core.dispatch.state import Entry
from ilaas.core.dispatch.waiting import FleetNeed, Waiting

STRANDED_S = 10.0
"""How long waiting tickets hope for a server to come back when none that they may use is up."""


class Admission:
    """Decides; takes nothing out of the queue."""

    __slots__ = ("_fleet", "_outlook", "_stranded_s", "_waiting")

    def __init__(self, waiting: Waiting, fleet: Fleet, outlook: Outlook) -> None:
        self._waiting = waiting
        self._fleet = fleet
        self._outlook = outlook
        self._stranded_s: dict[FleetNeed, float] = {}
        """Since when no server is up for those with a need."""

    def unserviceable(self, entry: Entry, now: float) -> Refusal | None:
        """No server that is up may ever serve it."""
        ticket = entry.ticket
        if self._fleet.any_for(entry.need, ticket.organisation, private_only=entry.private_only):
            return None
        if self._fleet.too_narrow(entry.need, ticket.organisation, private_only=entry.private_only):
            return Refusal(ticket, RefusalReason.CONTEXT_TOO_LONG, 1.0)
        return Refusal(ticket, RefusalReason.NO_SERVER, retry_after_s(self._fleet.back_in_s(now)))

    def too_long(self, entry: Entry, now: float) -> Refusal | None:
        """The queue, in which the ticket stands already, is full, or the wait would be too long."""
        ticket, policy, waiting = entry.ticket, self._fleet.policy, self._waiting
        wait_s = self._outlook.wait_s(entry, now)
        if (
            waiting.live > policy.max_queued
            or waiting.of_organisation(ticket.organisation) > policy.max_queued_per_organisation
            or (ticket.max_queued is not None and waiting.live - 1 > ticket.max_queued)
        ):
            return Refusal(ticket, RefusalReason.QUEUE_FULL, retry_after_s(wait_s))
        longest_s = policy.batch_max_wait_s if entry.batch else policy.max_wait_s
        if ticket.max_wait_s is not None:
            longest_s = min(longest_s, ticket.max_wait_s)
        if wait_s > longest_s:
            return Refusal(ticket, RefusalReason.BUSY, retry_after_s(wait_s - longest_s))
        return None

    def overdue(self, now: float) -> list[Refusal]:
        """Those whose deadline has passed."""
        return [
            Refusal(entry.ticket, RefusalReason.QUEUE_TIMEOUT, retry_after_s(self._outlook.wait_s(entry, now)))
            for entry in self._waiting.overdue(now)
        ]

    def stranded(self, now: float) -> list[Refusal]:
        """Those whose every server has been down for a while."""
        since: dict[FleetNeed, float] = {}
        refusals: list[Refusal] = []
        for fleet_need in self._waiting.needs():
            need, organisation, private_only = fleet_need
            if self._fleet.any_for(need, organisation, private_only=private_only):
                continue
            began_s = self._stranded_s.get(fleet_need, now)
            if now - began_s < STRANDED_S:
                since[fleet_need] = began_s
                continue
            back_s = retry_after_s(self._fleet.back_in_s(now))
            refusals.extend(
                Refusal(entry.ticket, RefusalReason.NO_SERVER, back_s) for entry in self._waiting.with_need(fleet_need)
            )
        self._stranded_s = since
        return refusals

    def gives_up_at_s(self) -> float:
        """When the first of the stranded are refused; infinity when nobody is."""
        return min(self._stranded_s.values(), default=float("inf")) + STRANDED_S
