"""The way between a waiting request and the dispatcher. Only tickets travel, never bodies, keys or tokens.

Calls are synchronous and answers come by call-back, so that an uncontended request costs no task and no future: the
embedded broker answers inside `submit`.
"""

from __future__ import annotations

from typing import Protocol

from ilaas.core.dispatch.events import Grant, ModelView, QueuePosition, Refusal, ServerStatistics, Settlement, Ticket


class Waiter(Protocol):
    """The one who waits for a ticket. Each `submit` (or retry) calls exactly one of the two, unless cancelled."""

    def granted(self, grant: Grant) -> None:
        """A slot of `grant.server` is taken for the ticket until it is settled."""

    def refused(self, refusal: Refusal) -> None:
        """The ticket left the queue."""


class Broker(Protocol):
    """Tickets in, grants out. `submit` and `settle(retry=True)` may call the waiter before they return."""

    def submit(self, ticket: Ticket, waiter: Waiter) -> None:
        """Queue the ticket; an unknown model is refused with `no_server`."""

    def cancel(self, ticket: Ticket) -> None:
        """The waiter is gone: take the ticket out of the queue. Harmless when it is not there any more."""

    def settle(self, ticket: Ticket, settlement: Settlement) -> None:
        """Give the slot back; with `retry` the ticket returns to its old place and the waiter is called again."""

    def first_token(self, ticket: Ticket, ttft_s: float) -> None:
        """The server gave its first byte: health and load scores learn at once."""

    def position(self, ticket: Ticket) -> QueuePosition | None:
        """Where the ticket waits; None when it does not wait here."""

    def report(self, model: str, server_id: str, statistics: ServerStatistics) -> None:
        """A reading of the server's own gauges."""

    def check(self, model: str, server_id: str, *, ok: bool) -> None:
        """The result of one active health check."""

    def view(self, model: str) -> ModelView | None:
        """The state of one model, from memory."""
