"""One request under way: it waits for a grant, sends, relays the answer, and settles. A state machine of call-backs.

`Stage` says where it is; each call-back is legal in one or two stages only. Whatever happens, `_end` runs exactly once:
there the slot goes back, the record is written and the exchange is forgotten.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import orjson

from ilaas.core.dispatch.events import Grant, Refusal, RefusalReason, Settlement, Ticket
from ilaas.core.errors import Draining, IlaasError, NoServer, QueueTimeout, TooBusy
from ilaas.core.requests import body_for
from ilaas.core.upstream_errors import normalise
from ilaas.core.usage import Usage, UsageRecord
from ilaas.core.values import Lifecycle, Outcome, RequestClass
from ilaas.core.wire import EventStream, PlainAnswer, error_event
from ilaas.ports.client import AnswerWriter
from ilaas.ports.upstream import UpstreamCall, UpstreamRequest
from ilaas.services.answers import (
    JSON_TYPE,
    STREAM_TYPE,
    error_body,
    error_headers,
    failure_error,
    refusal_error,
    refusal_outcome,
)

if TYPE_CHECKING:
    from ilaas.services.inference import Inference, Wishes

MAX_ERROR_BYTES = 64 * 1024

_PASSED_ON = frozenset({400, 404, 405, 409, 411, 413, 415, 422})
"""What a server may say to the client in its own words. Every other refusal (our token, its overload) is its fault."""

_CLIENT_LEFT = (
    Outcome.CLIENT_LEFT_QUEUE,
    Outcome.CLIENT_LEFT_PREFILL,
    Outcome.CLIENT_LEFT_PREFILL,
    Outcome.CLIENT_LEFT_DECODE,
)


class Stage(IntEnum):
    """Where a request is."""

    QUEUED = 0
    CONNECTING = 1
    PREFILL = 2
    """Sent; nothing of the answer came yet (a plain answer stays here until it is whole)."""
    STREAMING = 3
    DONE = 4


class Exchange:
    """Implements ports.broker.Waiter, ports.upstream.UpstreamSink and ports.client.Exchange."""

    __slots__ = (
        "_alive",
        "_attempts",
        "_call",
        "_comment_s",
        "_events",
        "_failure",
        "_grant",
        "_paused",
        "_plain",
        "_plain_bytes",
        "_seen_s",
        "_sent_s",
        "_service",
        "_stage",
        "_started",
        "_status",
        "_ttft_s",
        "_wishes",
        "_writer",
        "ticket",
    )

    def __init__(self, service: Inference, writer: AnswerWriter, ticket: Ticket, wishes: Wishes) -> None:
        self.ticket = ticket
        self._service = service
        self._writer = writer
        self._wishes = wishes
        self._stage = Stage.QUEUED
        self._grant: Grant | None = None
        self._call: UpstreamCall | None = None
        self._attempts = 0
        self._failure: tuple[Outcome, str] | None = None
        self._status = 0
        """Of the server's answer."""
        self._events: EventStream | None = None
        self._plain: list[bytes] = []
        self._plain_bytes = 0
        self._started = False
        """The client has a head already."""
        self._alive = False
        """Something came since the last sweep."""
        self._paused = False
        self._seen_s = self._comment_s = self._sent_s = wishes.received_s
        self._ttft_s = 0.0

    # -- the dispatcher's call-backs -----------------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """Send the request to the server."""
        self._grant = grant
        self._attempts += 1
        self._stage = Stage.CONNECTING
        self._events = None
        self._status = 0
        service, wishes = self._service, self._wishes
        request = UpstreamRequest(
            wishes.parsed.endpoint.path.encode(),
            wishes.upstream_headers,
            body_for(wishes.parsed, grant.server),
            wishes.model.policy.deadlines.connect_s,
        )
        self._call = service.upstream.send(grant.server, request, self)

    def refused(self, refusal: Refusal) -> None:
        """Tell the client; after failed attempts, tell why they failed."""
        self._grant = None
        if self._failure is not None and refusal.reason is RefusalReason.NO_SERVER:
            outcome, detail = self._failure
            self._answer_error(failure_error(outcome, self.ticket.model, detail), outcome)
        else:
            self._answer_error(refusal_error(refusal), refusal_outcome(refusal))

    # -- the server's call-backs ---------------------------------------------------------------------------------------

    def upstream_sent(self) -> None:
        """The wait for the first byte begins."""
        self._stage = Stage.PREFILL
        self._sent_s = self._service.clock()

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Success, a refusal in the server's words, or the server's fault."""
        self._status = status
        self._plain = []
        self._plain_bytes = 0
        if status == 200:
            if self._wishes.parsed.stream:
                for name, value in headers:
                    if name == b"content-type" and value.startswith(b"text/event-stream"):
                        public = orjson.dumps(self.ticket.model)
                        self._events = EventStream(public, wants_usage=self._wishes.parsed.wants_usage)
        elif status not in _PASSED_ON:
            self._try_again(Outcome.UPSTREAM_ERROR, f"the server answered with status {status}")

    def upstream_body(self, data: bytes) -> None:
        """Relay a part of a stream, or gather a part of a plain answer."""
        events = self._events
        if events is None:
            self._gather(data)
            return
        self._alive = True
        out = events.feed(data)
        if self._stage is not Stage.STREAMING:
            self._first_token()
        if out:
            self._writer.write(out)

    def upstream_end(self) -> None:
        """The answer is whole, or should be."""
        self._call = None
        events = self._events
        if events is not None:
            self._end_stream(events)
        elif self._status == 200:
            self._answer_plain()
        else:
            self._answer_refusal()

    def upstream_failed(self, outcome: Outcome, detail: str) -> None:
        """Before the first token another server is tried; after it the client is told in the stream."""
        self._call = None
        if self._stage is Stage.STREAMING:
            self._break(outcome)
        else:
            self._try_again(outcome, detail)

    # -- the client's call-backs ---------------------------------------------------------------------------------------

    def client_left(self) -> None:
        """Leave the queue, or stop the server."""
        if self._stage is not Stage.DONE:
            self._end(_CLIENT_LEFT[self._stage], 499)

    def pause(self) -> None:
        """The client reads slowly."""
        self._paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._call is not None:
            self._call.resume()

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Deadlines, and comments that keep a waiting stream's connection open."""
        stage = self._stage
        if self._alive or self._paused:
            self._alive = False
            self._seen_s = self._comment_s = now_s
        deadlines = self._wishes.model.policy.deadlines
        if now_s - self._wishes.received_s > deadlines.total_s and stage is not Stage.QUEUED:
            self.give_up(Outcome.TOTAL_TIMEOUT)
        elif stage is Stage.STREAMING:
            if now_s - self._seen_s > deadlines.idle_s:
                self._break(Outcome.IDLE_TIMEOUT)
        else:
            if stage is Stage.PREFILL:
                limit = deadlines.first_token_s if self._wishes.parsed.stream else deadlines.answer_s
                if now_s - self._sent_s > limit:
                    self._try_again(Outcome.FIRST_TOKEN_TIMEOUT, "no answer in time")
                    return
            self._comment(now_s)

    def _comment(self, now_s: float) -> None:
        interval = self._service.policy.keepalive_comment_s
        if not self._wishes.parsed.stream or now_s - self._comment_s < interval:
            return
        self._comment_s = now_s
        position = self._service.broker.position(self.ticket) if self._stage is Stage.QUEUED else None
        if position is None:
            text = b": waiting for the first token\n\n"
        else:
            text = b": queued, position %d, about %d s\n\n" % (position.ahead + 1, round(position.predicted_wait_s))
        if not self._started:
            self._start(STREAM_TYPE)
        self._writer.write(text)

    def give_up(self, outcome: Outcome) -> None:
        """End it now, with an error that the client is told."""
        if self._stage is Stage.STREAMING:
            self._break(outcome)
        elif outcome is Outcome.SHUT_DOWN:
            self._answer_error(Draining("This gateway is restarting. Try again.", retry_after_s=1), outcome)
        else:
            self._answer_error(failure_error(outcome, self.ticket.model, ""), outcome)

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _start(self, kind: bytes) -> None:
        self._started = True
        self._writer.start(200, self._head(kind), None)

    def _head(self, kind: bytes) -> bytes:
        wishes, grant = self._wishes, self._grant
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
                head += b"sunset: %b\r\n" % model.retires_on.encode("latin-1", "replace")
        return head

    def _first_token(self) -> None:
        now = self._service.clock()
        self._stage = Stage.STREAMING
        self._seen_s = now
        self._ttft_s = now - self._sent_s
        self._service.broker.first_token(self.ticket, self._ttft_s)
        if not self._started:
            self._start(STREAM_TYPE)

    def _gather(self, data: bytes) -> None:
        self._plain_bytes += len(data)
        limit = self._service.policy.max_answer_bytes if self._status == 200 else MAX_ERROR_BYTES
        if self._plain_bytes <= limit:
            self._plain.append(data)
        elif self._status == 200:
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is too long")

    def _answer_plain(self) -> None:
        parts = self._plain
        answer = PlainAnswer(parts[0] if len(parts) == 1 else b"".join(parts), orjson.dumps(self.ticket.model))
        if not answer.body.lstrip().startswith((b"{", b"[")):
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is not JSON")
            return
        if self._started:  # a comment was sent: the client expects a stream, the server answered whole
            self._writer.write(b"data: " + answer.body + b"\n\ndata: [DONE]\n\n")
            self._writer.finish()
        else:
            self._writer.answer(200, self._head(JSON_TYPE), answer.body)
        self._end(Outcome.COMPLETED, 200, answer.usage)

    def _answer_refusal(self) -> None:
        grant, status = self._grant, self._status
        served = grant.server.served_name if grant is not None else ""
        body = normalise(status, b"".join(self._plain), served_name=served, public_name=self.ticket.model)
        if self._started:
            self._writer.write(error_event(body))
            self._writer.finish()
        else:
            self._writer.answer(status, self._head(JSON_TYPE), body)
        self._end(Outcome.UPSTREAM_REJECTED, status)

    def _end_stream(self, events: EventStream) -> None:
        if not events.finished():
            if events.events == 0:
                self._try_again(Outcome.STREAM_BROKEN, "the answer is empty")
            elif events.failed():
                self._writer.finish()
                self._end(Outcome.UPSTREAM_ERROR, 200, events.usage)
            else:
                self._break(Outcome.STREAM_BROKEN)
            return
        rest = events.ending(self._estimate())
        if rest:
            self._writer.write(rest)
        self._writer.finish()
        self._end(Outcome.COMPLETED, 200, events.usage)

    def _break(self, outcome: Outcome) -> None:
        """An error after the stream has begun: one event, then the end."""
        self._writer.write(error_event(error_body(failure_error(outcome, self.ticket.model, ""))))
        self._writer.finish()
        self._end(outcome, 200, self._events.usage if self._events is not None else None)

    def _answer_error(self, error: IlaasError, outcome: Outcome) -> None:
        body = error_body(error)
        status = error.status
        if self._started:
            self._writer.write(error_event(body))
            self._writer.finish()
        else:
            if self._service.policy.historic_overload_text and isinstance(error, TooBusy | QueueTimeout | NoServer):
                status = 200 if self._wishes.key.chat_client else 503
                body = b'{"error": "Too many people using the service"}'
            self._writer.answer(status, error_headers(error) + self._head(b""), body)
        self._end(outcome, status)

    # -- the ends ------------------------------------------------------------------------------------------------------

    def _try_again(self, outcome: Outcome, detail: str) -> None:
        """Nothing reached the client yet: give the slot back and return to the old place in the queue."""
        self._abort_call()
        self._failure = (outcome, detail)
        self._stage = Stage.QUEUED
        self._events = None
        self._service.broker.settle(self.ticket, Settlement(ticket_id=self.ticket.id, outcome=outcome, retry=True))

    def _abort_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.abort()

    def _estimate(self) -> Usage:
        """Tokens as far as the gateway can tell: the prompt by its bytes, the answer by its events."""
        events = self._events.events if self._events is not None else 0
        sent = self._stage in (Stage.PREFILL, Stage.STREAMING)
        prompt = self._wishes.parsed.prompt_tokens if sent else 0
        return Usage(prompt, max(0, events - 1), estimated=True)

    def _end(self, outcome: Outcome, status: int, usage: Usage | None = None) -> None:
        """The one exit. Frees everything, then writes the record."""
        service, ticket, grant = self._service, self.ticket, self._grant
        if usage is None:
            usage = self._estimate() if outcome is not Outcome.UPSTREAM_REJECTED else Usage()
        waiting = self._stage is Stage.QUEUED
        self._stage = Stage.DONE
        self._abort_call()
        service.active.discard(self)
        if grant is None or waiting:
            service.broker.cancel(ticket)
        else:
            tokens = usage.prompt_tokens + usage.completion_tokens
            ttft_s = self._ttft_s or None
            service.broker.settle(
                ticket, Settlement(ticket_id=ticket.id, outcome=outcome, tokens=tokens, ttft_s=ttft_s)
            )
        service.accounting.finished(self._record(outcome, status, usage))

    def _record(self, outcome: Outcome, status: int, usage: Usage) -> UsageRecord:
        wishes, ticket, grant = self._wishes, self.ticket, self._grant
        key = wishes.key
        duration_s = self._service.clock() - wishes.received_s
        server = grant.server if grant is not None else None
        return UsageRecord(
            id=ticket.id,
            finished_at_ms=int(self._service.epoch() * 1000),
            organisation=key.organisation,
            project=key.project,
            key_id=key.id,
            endpoint=wishes.parsed.endpoint.name,
            model=ticket.model,
            server=server.id if server is not None else "",
            site=server.site if server is not None else "",
            owner=server.owner if server is not None else "",
            request_class=grant.request_class if grant is not None else RequestClass(ticket.request_class),
            routing_mode=ticket.routing_mode,
            priority=ticket.priority,
            outcome=outcome,
            status=status,
            streamed=wishes.parsed.stream,
            attempts=self._attempts,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            audio_ms=0,
            estimated=usage.estimated,
            queue_ms=int((grant.waited_s if grant is not None else duration_s) * 1000),
            ttft_ms=int(self._ttft_s * 1000),
            duration_ms=int(duration_s * 1000),
        )
