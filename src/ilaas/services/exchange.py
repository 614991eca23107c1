"""One request under way: it waits for a grant, sends, relays the answer, and settles. A state machine of call-backs.

`Stage` says where it is; each call-back is legal in one or two stages only. Whatever happens, `_end` runs exactly once:
there the slot goes back, the record is written and the exchange is forgotten.
"""

from __future__ import annotations

from enum import IntEnum

import orjson

from ilaas.core.dispatch.events import Grant, Refusal, RefusalReason, Settlement, Ticket
from ilaas.core.impact import UNKNOWN, Impact
from ilaas.core.impact_views import Json, impact_json
from ilaas.core.quota import Charging, charging
from ilaas.core.requests import body_for, uuid_only
from ilaas.core.upstream_errors import normalise
from ilaas.core.usage import Usage
from ilaas.core.values import Engine, Outcome
from ilaas.core.wire import EventStream, PlainAnswer, with_field
from ilaas.ports.client import AnswerWriter
from ilaas.ports.upstream import UpstreamCall, UpstreamRequest
from ilaas.services.answers import failure_error, refusal_error, refusal_outcome
from ilaas.services.client_answer import ClientAnswer
from ilaas.services.context import Context
from ilaas.services.records import NOTHING_USED, End, make_record
from ilaas.services.wishes import Wishes

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
    """Sent; nothing of the answer reached the client yet (a plain answer stays here until it is whole)."""
    STREAMING = 3
    DONE = 4


class Exchange:
    """Implements ports.broker.Waiter, ports.upstream.UpstreamSink and ports.client.Exchange."""

    __slots__ = (
        "_active",
        "_alive",
        "_answer",
        "_attempts",
        "_call",
        "_comment_s",
        "_context",
        "_events",
        "_failure",
        "_grant",
        "_impact",
        "_paused_s",
        "_plain",
        "_plain_bytes",
        "_seen_s",
        "_sent_s",
        "_stage",
        "_status",
        "_ttft_s",
        "_wishes",
        "ticket",
    )

    def __init__(
        self, context: Context, active: set[Exchange], writer: AnswerWriter, ticket: Ticket, wishes: Wishes
    ) -> None:
        """`active` is the set it takes itself out of at its end."""
        self.ticket = ticket
        self._active = active
        self._context = context
        self._answer = ClientAnswer(context, writer, wishes)
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
        self._alive = False
        """Something came since the last sweep."""
        self._paused_s = 0.0
        """Since when the client does not read; 0 when it does."""
        self._seen_s = self._comment_s = self._sent_s = wishes.received_s
        self._ttft_s = 0.0
        self._impact: Impact | None = None
        """As the client was told it."""

    @property
    def done(self) -> bool:
        """It has ended; nothing more will be written."""
        return self._stage is Stage.DONE

    # -- the dispatcher's call-backs -----------------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """Send the request to the server."""
        self._grant = self._answer.grant = grant
        self._attempts += 1
        self._stage = Stage.CONNECTING
        self._events = None
        self._status = 0
        wishes = self._wishes
        headers = wishes.upstream_headers
        if grant.server.engine is Engine.LLAMACPP:
            headers = uuid_only(headers, self.ticket.id)
        request = UpstreamRequest(
            wishes.parsed.endpoint.path_bytes,
            headers,
            body_for(wishes.parsed, grant.server),
            wishes.model.policy.deadlines.connect_s,
        )
        self._call = self._context.upstream.send(grant.server, request, self)

    def refused(self, refusal: Refusal) -> None:
        """Tell the client; after failed attempts, tell why they failed."""
        self._grant = self._answer.grant = None
        if self._failure is not None and refusal.reason is RefusalReason.NO_SERVER:
            outcome, detail = self._failure
            error = failure_error(outcome, self.ticket.model, detail)
        else:
            outcome, error = refusal_outcome(refusal), refusal_error(refusal)
        self._answer.error(error)
        self._end(outcome, error.status)

    # -- the server's call-backs ---------------------------------------------------------------------------------------

    def upstream_sent(self) -> None:
        """The wait for the first byte begins."""
        self._stage = Stage.PREFILL
        self._sent_s = self._context.clock()

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
                        wishes = self._wishes
                        self._events = EventStream(
                            public, wants_usage=wishes.parsed.wants_usage, holds_end=wishes.wants_impact
                        )
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
        if out:
            if self._stage is not Stage.STREAMING and not self._begin_stream(events):
                return
            self._answer.part(out)

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
        self._paused_s = self._context.clock()
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused_s = 0.0
        if self._call is not None:
            self._call.resume()

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Deadlines, and comments that keep a waiting stream's connection open."""
        stage = self._stage
        if self._alive or self._paused_s:
            self._alive = False
            self._seen_s = self._comment_s = now_s
        deadlines = self._wishes.model.policy.deadlines
        if self._paused_s and now_s - self._paused_s > self._context.policy.client_stall_s:
            self._answer.cut()
            self.client_left()
        elif now_s - self._wishes.received_s > deadlines.total_s and stage is not Stage.QUEUED:
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
            if self._wishes.parsed.stream and now_s - self._comment_s >= self._context.policy.keepalive_comment_s:
                self._comment_s = now_s
                self._answer.comment(self._context.broker.position(self.ticket) if stage is Stage.QUEUED else None)

    def give_up(self, outcome: Outcome) -> None:
        """End it now, with an error that the client is told."""
        if self._stage is Stage.STREAMING:
            self._break(outcome)
            return
        failure = failure_error(outcome, self.ticket.model, "")
        self._answer.error(failure)
        self._end(outcome, failure.status)

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _begin_stream(self, events: EventStream) -> bool:
        """The first token is there. False when it is an error: nothing reached the client, another server may do."""
        if events.failed():
            self._try_again(Outcome.UPSTREAM_ERROR, "the server answered with an error event")
            return False
        now = self._context.clock()
        self._stage = Stage.STREAMING
        self._seen_s = now
        self._ttft_s = now - self._sent_s
        self._context.broker.first_token(self.ticket, self._ttft_s)
        if not self._answer.started:
            self._answer.start()
        return True

    def _gather(self, data: bytes) -> None:
        self._plain_bytes += len(data)
        limit = self._context.policy.max_answer_bytes if self._status == 200 else MAX_ERROR_BYTES
        if self._plain_bytes <= limit:
            self._plain.append(data)
        elif self._status == 200:
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is too long")

    def _answer_plain(self) -> None:
        parts = self._plain
        answer = PlainAnswer(parts[0] if len(parts) == 1 else b"".join(parts), orjson.dumps(self.ticket.model))
        if not answer.valid:
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is not JSON")
            return
        body = answer.body
        if self._wishes.wants_impact:
            body = with_field(body, "impact", self._impact_told(answer.usage))
        self._answer.whole(body)
        self._end(Outcome.COMPLETED, 200, answer.usage)

    def _answer_refusal(self) -> None:
        grant, status = self._grant, self._status
        served = grant.server.served_name if grant is not None else ""
        body = normalise(status, b"".join(self._plain), served_name=served, public_name=self.ticket.model)
        self._answer.refusal(status, body)
        self._end(Outcome.UPSTREAM_REJECTED, status)

    def _end_stream(self, events: EventStream) -> None:
        if self._stage is not Stage.STREAMING:
            self._try_again(Outcome.STREAM_BROKEN, "the answer is empty")
        elif events.failed():
            self._answer.end(events.closing())
            self._end(Outcome.UPSTREAM_ERROR, 200, events.usage)
        elif events.finished():
            told = {"impact": self._impact_told(events.usage)} if self._wishes.wants_impact else None
            self._answer.end(events.ending(self._estimate(), told))
            self._end(Outcome.COMPLETED, 200, events.usage)
        else:
            self._break(Outcome.STREAM_BROKEN)

    def _break(self, outcome: Outcome) -> None:
        """An error after the stream has begun: one event, then the end."""
        self._answer.error(failure_error(outcome, self.ticket.model, ""))
        self._end(outcome, 200, self._events.usage if self._events is not None else None)

    # -- the ends ------------------------------------------------------------------------------------------------------

    def _try_again(self, outcome: Outcome, detail: str) -> None:
        """Nothing reached the client yet: give the slot back and return to the old place in the queue."""
        self._abort_call()
        self._failure = (outcome, detail)
        self._stage = Stage.QUEUED
        self._events = None
        self._context.broker.settle(self.ticket, Settlement(ticket_id=self.ticket.id, outcome=outcome, retry=True))

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

    def _impact_told(self, usage: Usage | None) -> Json:
        """The impact of the answer that is about to end, for the client; the record gets the same."""
        if self._grant is None:
            return impact_json(UNKNOWN)
        server_s = self._context.clock() - self._sent_s
        self._impact = self._context.impacts.of(
            self.ticket.model, self._grant.server.id, usage or self._estimate(), server_s
        )
        return impact_json(self._impact)

    def _end(self, outcome: Outcome, status: int, usage: Usage | None = None) -> None:
        """The one exit. Frees everything, then writes the record."""
        context, ticket, grant, wishes = self._context, self.ticket, self._grant, self._wishes
        if usage is None:
            usage = self._estimate() if outcome is not Outcome.UPSTREAM_REJECTED else Usage()
        stage, self._stage = self._stage, Stage.DONE
        self._abort_call()
        self._active.discard(self)
        if grant is None or stage is Stage.QUEUED:
            context.broker.cancel(ticket)
        else:
            tokens = usage.prompt_tokens + usage.completion_tokens
            ttft_s = self._ttft_s or None
            context.broker.settle(
                ticket, Settlement(ticket_id=ticket.id, outcome=outcome, tokens=tokens, ttft_s=ttft_s)
            )
        now, epoch_s, price, impact = context.clock(), context.epoch(), 0, NOTHING_USED
        rule = charging(outcome, first_token=stage is Stage.STREAMING)
        if grant is not None:
            server = grant.server
            impact = self._impact or context.impacts.of(ticket.model, server.id, usage, now - self._sent_s)
            context.impacts.computed(ticket.model, server.id, usage)
            if rule is Charging.COMPUTED:
                own = server.owner == wishes.key.organisation
                price = context.prices.book.price(ticket.model, usage, own, epoch_s)
        context.quotas.release(wishes.reservation, rule, usage, price)
        end = End(outcome, status, usage, self._attempts, self._ttft_s, now - wishes.received_s, impact, price)
        context.accounting.finished(make_record(end, wishes, ticket, grant, int(epoch_s * 1000)))
