"""What the gateway itself says to a client: heads and error bodies, each in one place."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from functools import lru_cache

import orjson

from ilaas.core.dispatch.events import Grant, Refusal, RefusalReason
from ilaas.core.errors import (
    AnswerTimeout,
    ConnectTimeout,
    ContextTooLong,
    Draining,
    FirstTokenTimeout,
    IdleTimeout,
    IlaasError,
    NoServer,
    QueueTimeout,
    StreamBroken,
    TooBusy,
    TotalTimeout,
    UpstreamFailed,
)
from ilaas.core.values import Lifecycle, Outcome
from ilaas.services.wishes import Wishes

JSON_TYPE = b"content-type: application/json\r\n"
STREAM_TYPE = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"

BUSY_RETRY_S = 5


def answer_head(kind: bytes, wishes: Wishes, grant: Grant | None) -> bytes:
    """Header lines of an answer: where it came from, how long it waited, whether the model is about to leave."""
    head = b"%bx-request-id: %b\r\n" % (kind, wishes.request_id)
    if grant is not None:
        queue_ms = int(grant.waited_s * 1000)
        head += b"x-ilaas-server-site: %b\r\nx-ilaas-queue-ms: %d\r\nserver-timing: queue;dur=%d\r\n" % (
            grant.server.site.encode("latin-1", "replace"),
            queue_ms,
            queue_ms,
        )
    model = wishes.model
    if model.lifecycle is Lifecycle.DEPRECATED:
        head += b"deprecation: true\r\n"
        if model.retires_on:
            head += b"sunset: %b\r\n" % _http_date(model.retires_on)
    return head


@lru_cache(maxsize=1024)  # one for each deprecated model; else it would be made for each of its answers
def _http_date(day: str) -> bytes:
    """The beginning of a day (ISO 8601) as RFC 8594 wants it."""
    begins = datetime.combine(date.fromisoformat(day), time.min, UTC)
    return format_datetime(begins, usegmt=True).encode()


def error_body(error: IlaasError) -> bytes:
    """OpenAI's error shape."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_headers(error: IlaasError) -> bytes:
    """Content type, and how long to wait where that helps."""
    headers = JSON_TYPE + error.headers
    if error.retry_after_s is not None:
        headers += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
    if error.status == 401:
        headers += b'www-authenticate: Bearer realm="ilaas"\r\n'
    return headers


_REFUSED: dict[RefusalReason, Outcome] = {
    RefusalReason.BUSY: Outcome.REFUSED_BUSY,
    RefusalReason.QUEUE_FULL: Outcome.REFUSED_QUEUE_FULL,
    RefusalReason.NO_SERVER: Outcome.REFUSED_NO_SERVER,
    RefusalReason.DISPATCHER_AWAY: Outcome.REFUSED_NO_SERVER,
    RefusalReason.QUEUE_TIMEOUT: Outcome.QUEUE_TIMEOUT,
    RefusalReason.CONTEXT_TOO_LONG: Outcome.REJECTED_INVALID,
}


def refusal_outcome(refusal: Refusal) -> Outcome:
    """The outcome that a refusal of the dispatcher is."""
    return _REFUSED[refusal.reason]


def refusal_error(refusal: Refusal) -> IlaasError:
    """What the client is told when the dispatcher refuses."""
    model, wait_s = refusal.ticket.model, refusal.retry_after_s
    seconds = max(1, math.ceil(wait_s))
    match refusal.reason:
        case RefusalReason.BUSY:
            return TooBusy(
                f"The model '{model}' is busy: a server would be free in about {seconds} s. Try again then, "
                "or send batch work with the header X-Ilaas-Class: batch.",
                retry_after_s=wait_s,
            )
        case RefusalReason.QUEUE_FULL:
            return TooBusy(f"The queue of the model '{model}' is full. Try again in {seconds} s.", retry_after_s=wait_s)
        case RefusalReason.QUEUE_TIMEOUT:
            return QueueTimeout(
                f"No server of the model '{model}' was free in time. Try again in {seconds} s.", retry_after_s=wait_s
            )
        case RefusalReason.CONTEXT_TOO_LONG:
            return ContextTooLong(
                f"The prompt and the answer asked for ({refusal.ticket.context_tokens} tokens, estimated) exceed the "
                f"context window of every server of '{model}'. Shorten the messages or lower max_tokens.",
                param="messages",
            )
        case RefusalReason.DISPATCHER_AWAY:
            return NoServer(
                f"Requests for the model '{model}' can't be dispatched at present. Try again in {seconds} s.",
                retry_after_s=wait_s,
            )
        case RefusalReason.NO_SERVER:
            return NoServer(
                f"No server of the model '{model}' is available for this request. Try again in {seconds} s.",
                retry_after_s=wait_s,
            )


def refused_after(failure: tuple[Outcome, str] | None, refusal: Refusal) -> tuple[Outcome, IlaasError]:
    """The outcome and error of a refusal; when servers were tried and none is left, those of the last one's failure."""
    if failure is not None and refusal.reason is RefusalReason.NO_SERVER:
        outcome, detail = failure
        return outcome, failure_error(outcome, refusal.ticket.model, detail)
    return refusal_outcome(refusal), refusal_error(refusal)


def fault_of(status: int) -> tuple[Outcome, str]:
    """The outcome and the words of a server's answer that is not passed on."""
    outcome = Outcome.UPSTREAM_BUSY if status == 429 else Outcome.UPSTREAM_ERROR
    return outcome, f"the server answered with status {status}"


def failure_error(outcome: Outcome, model: str, detail: str) -> IlaasError:
    """What the client is told when servers failed, or this gateway ends. `detail` holds no content and no address."""
    match outcome:
        case Outcome.CONNECT_TIMEOUT:
            return ConnectTimeout(f"The server of '{model}' did not accept the connection in time.", retry_after_s=2)
        case Outcome.FIRST_TOKEN_TIMEOUT:
            return FirstTokenTimeout(f"The server of '{model}' gave no answer in time.", retry_after_s=5)
        case Outcome.ANSWER_TIMEOUT:
            return AnswerTimeout(
                f"The server of '{model}' did not answer in time. Ask for a stream, or for a shorter answer.",
                retry_after_s=5,
            )
        case Outcome.UPSTREAM_BUSY:
            return TooBusy(
                f"The servers of '{model}' take no more requests at present. Try again in {BUSY_RETRY_S} s.",
                retry_after_s=BUSY_RETRY_S,
            )
        case Outcome.IDLE_TIMEOUT:
            return IdleTimeout(f"The server of '{model}' fell silent in the middle of its answer.")
        case Outcome.TOTAL_TIMEOUT:
            return TotalTimeout(f"The answer of '{model}' took longer than a request may take.")
        case Outcome.SHUT_DOWN:
            return Draining("This gateway is restarting. Try again.", retry_after_s=1)
        case Outcome.STREAM_BROKEN:
            return StreamBroken(f"The server of '{model}' broke off in the middle of its answer.")
        case _:
            return UpstreamFailed(f"Every server tried for '{model}' failed: {detail}.", retry_after_s=2)
