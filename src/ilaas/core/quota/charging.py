"""The one rule for what a request costs in quota when it did not end well."""

from __future__ import annotations

from enum import StrEnum

from ilaas.core.values import Outcome


class Charging(StrEnum):
    """What is done with a reservation at the end of its request."""

    REFUND = "refund"
    """Everything comes back, the request count too: `QuotaBook.refund`."""
    REQUEST_ONLY = "request_only"
    """The request counts, its tokens and its money come back: `QuotaBook.settle` with 0 and 0."""
    COMPUTED = "computed"
    """The request counts, and the tokens that were really computed: `QuotaBook.settle`."""


_BY_OUTCOME = {
    Outcome.COMPLETED: Charging.COMPUTED,
    # The client's doing: what it made the federation do is charged, and asking and leaving is not free of its rate.
    Outcome.CLIENT_LEFT_QUEUE: Charging.REQUEST_ONLY,
    Outcome.CLIENT_LEFT_PREFILL: Charging.COMPUTED,
    Outcome.CLIENT_LEFT_DECODE: Charging.COMPUTED,
    Outcome.REJECTED_INVALID: Charging.REQUEST_ONLY,
    Outcome.UPSTREAM_REJECTED: Charging.REQUEST_ONLY,
    # Refused before any work: nothing was had.
    Outcome.REJECTED_AUTH: Charging.REFUND,
    Outcome.REJECTED_QUOTA: Charging.REFUND,
    Outcome.REFUSED_BUSY: Charging.REFUND,
    Outcome.REFUSED_QUEUE_FULL: Charging.REFUND,
    Outcome.REFUSED_NO_SERVER: Charging.REFUND,
    Outcome.QUEUE_TIMEOUT: Charging.REFUND,
    # The federation's fault.
    Outcome.CONNECT_FAILED: Charging.REFUND,
    Outcome.CONNECT_TIMEOUT: Charging.REFUND,
    Outcome.FIRST_TOKEN_TIMEOUT: Charging.REFUND,
    Outcome.ANSWER_TIMEOUT: Charging.REFUND,
    Outcome.IDLE_TIMEOUT: Charging.REFUND,
    Outcome.TOTAL_TIMEOUT: Charging.REFUND,
    Outcome.UPSTREAM_BUSY: Charging.REFUND,
    Outcome.UPSTREAM_ERROR: Charging.REFUND,
    Outcome.STREAM_BROKEN: Charging.REFUND,
    Outcome.SHUT_DOWN: Charging.REFUND,
}


def charging(outcome: Outcome, *, first_token: bool) -> Charging:
    """What to do with the reservation; `first_token` is whether the client was given any part of the answer.

    A failure before the first token costs nothing. After it, what the client received was computed for it and counts.
    """
    rule = _BY_OUTCOME[outcome]
    return Charging.COMPUTED if first_token and rule is Charging.REFUND else rule
