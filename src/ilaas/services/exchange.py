"""One request under way: it waits for a grant, sends, relays the answer, and settles. A state machine of call-backs.

`Stage` says where it is; each call-back is legal in one or two stages only. Whatever happens, `_end` runs exactly once:
there the slot goes back, the record is written and the exchange is forgotten.
"""

from __future__ import annotations

import orjson

from ilaas.core.continuation import before_error, used_up
from ilaas.core.dispatch.events import Grant, Refusal, Settlement, Ticket
from ilaas.core.upstream_errors import lacks_model
from ilaas.core.usage import Usage
from ilaas.core.values import Outcome
from ilaas.core.wire import EventStream, PlainAnswer, with_field
from ilaas.ports.client import AnswerWriter
from ilaas.services.answers import failure_error, fault_of, refused_after
from ilaas.services.context import Context
from ilaas.services.continuation import Resumed, can_serve, error_of, keep_for, length_reached, read_broken, send_back
from ilaas.services.ending import close, give_back
from ilaas.services.plain_body import MAX_ERROR_BYTES, PlainBody, whole
from ilaas.services.progress import Progress
from ilaas.services.records import End
from ilaas.services.sending import request_for, stream_for
from ilaas.services.stages import CLIENT_LEFT, Stage
from ilaas.services.wishes import Wishes

_PASSED_ON = frozenset({400, 404, 405, 409, 411, 413, 415, 422})
"""What a server may say to the client in its own words. Every other refusal (our token, its overload) is its fault."""


class Exchange(Progress):
    """Implements ports.broker.Waiter, ports.upstream.UpstreamSink and ports.client.Exchange."""

    __slots__ = ("_active",)

    def __init__(
        self, context: Context, active: set[Exchange], writer: AnswerWriter, ticket: Ticket, wishes: Wishes
    ) -> None:
        """`active` is the set it takes itself out of at its end."""
        super().__init__(context, writer, ticket, wishes)
        self._active = active

    # -- the dispatcher's call-backs -----------------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """Send the request to the server."""
        wishes, server, before = self._wishes, grant.server, self._grant
        self._grant = self._answer.grant = grant
        self._attempts += 1
        self._stage = Stage.CONNECTING
        self._events, self._status = None, 0
        if self._resumed is not None:
            if before is not None:
                grant.waited_s = before.waited_s  # the queue's part of the record; this wait is the answer's
            if not can_serve(wishes.parsed, self._resumed.so_far, server):
                self._try_again(Outcome.UPSTREAM_REJECTED, "")
                return
        request = request_for(server, self.ticket, wishes, self._resumed)
        self._call = self._context.upstream.send(server, request, self)
        if self._paused_s:  # the client has not read yet what the last server gave
            self._call.pause()

    def refused(self, refusal: Refusal) -> None:
        """Tell the client; after failed attempts, tell why they failed."""
        if self._resumed is not None:
            self._break(*self._resumed.failure)
            return
        self._grant = self._answer.grant = None
        outcome, error = refused_after(self._failure, refusal)
        self._answer.error(error)
        self._end(outcome, error.status)

    # -- the server's call-backs ---------------------------------------------------------------------------------------

    def upstream_sent(self) -> None:
        """The wait for the first byte begins."""
        self._stage = Stage.PREFILL
        self._sent_s = self._context.clock()

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Success, a refusal in the server's words, or the server's fault."""
        self._status, self._plain = status, None
        if status == 200:
            if self._wishes.parsed.stream:
                for name, value in headers:
                    if name == b"content-type" and value.startswith(b"text/event-stream"):
                        self._events = stream_for(self.ticket.model, self._wishes, self._resumed)
        elif status not in _PASSED_ON:
            self._try_again(*fault_of(status))
            return
        if self._resumed is not None and self._events is None:  # the client can't be told a refusal in mid-answer
            self._try_again(Outcome.UPSTREAM_REJECTED, "")

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
            kept = self._kept
            if kept is not None:
                if b'"error"' in out and events.failed():
                    self._fail_in_stream(out, events)
                    return
                if not kept.add(out):
                    self._kept = None
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
        """Another server is tried; when the answer had begun, only if one can go on with it."""
        self._call = None
        if self._stage is Stage.STREAMING:
            self._lose_server(outcome)
        else:
            self._try_again(outcome, detail)

    # -- the client's call-backs, and time -----------------------------------------------------------------------------

    def client_left(self) -> None:
        """Leave the queue, or stop the server."""
        if self._stage is not Stage.DONE:
            self._end(CLIENT_LEFT[Stage.STREAMING if self._begun(self._stage) else self._stage], 499)

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

    def sweep(self, now_s: float) -> None:
        """Deadlines, and comments that keep a waiting stream's connection open."""
        if self._alive or self._paused_s:
            self._alive = False
            self._seen_s = self._comment_s = now_s
        late = self._late(now_s)
        if late is Outcome.CLIENT_LEFT_DECODE:
            self._answer.cut()
            self.client_left()
        elif late is Outcome.TOTAL_TIMEOUT:
            self.give_up(late)
        elif late is Outcome.IDLE_TIMEOUT:
            self._lose_server(late)
        elif late is not None:
            self._try_again(late, "no answer in time")
        elif self._wants_comment(now_s):
            self._comment_s = now_s
            self._answer.comment(self._context.broker.position(self.ticket))

    def give_up(self, outcome: Outcome) -> None:
        """End it now, with an error that the client is told."""
        if self._begun(self._stage):
            self._break(outcome)
            return
        failure = failure_error(outcome, self.ticket.model, "")
        self._answer.error(failure)
        self._end(outcome, failure.status)

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _begin_stream(self, events: EventStream) -> bool:
        """The first token is there. False when it is an error: nothing reached the client, another server may do."""
        if events.failed():
            self._try_again(*error_of(events))
            return False
        context, now = self._context, self._context.clock()
        self._stage = Stage.STREAMING
        self._seen_s = now
        context.broker.first_token(self.ticket, now - self._sent_s)
        if self._resumed is not None:
            context.accounting.continued(self.ticket.model, self.ticket.request_class)
            return True
        self._ttft_s = now - self._sent_s
        self._kept = keep_for(context, self._wishes, self._grant)
        if not self._answer.started:
            self._answer.start()
        return True

    def _gather(self, data: bytes) -> None:
        if self._plain is None:
            self._plain = PlainBody(self._context.policy.max_answer_bytes if self._status == 200 else MAX_ERROR_BYTES)
        if not self._plain.add(data) and self._status == 200:
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is too long")

    def _answer_plain(self) -> None:
        answer = PlainAnswer(whole(self._plain), orjson.dumps(self.ticket.model))
        if not answer.valid:
            self._try_again(Outcome.UPSTREAM_ERROR, "the answer is not JSON")
            return
        body = answer.body
        if self._wishes.wants_impact:
            body = with_field(body, "impact", self._impact_told(answer.usage))
        self._answer.whole(body)
        self._end(Outcome.COMPLETED, 200, answer.usage)

    def _answer_refusal(self) -> None:
        refusal, grant = whole(self._plain), self._grant
        if self._status == 404 and grant is not None and lacks_model(refusal, grant.server.served_name):
            self._try_again(Outcome.UPSTREAM_ERROR, "the server does not have the model")
            return
        self._answer.refusal(self._status, refusal)
        self._end(Outcome.UPSTREAM_REJECTED, self._status)

    def _end_stream(self, events: EventStream) -> None:
        if self._stage is not Stage.STREAMING:
            self._try_again(Outcome.STREAM_BROKEN, "the answer is empty")
        elif events.failed():
            self._answer.end(events.closing())
            self._end(Outcome.UPSTREAM_ERROR, 200, events.usage)
        else:
            self._lose_server(Outcome.STREAM_BROKEN)

    def _complete(self, events: EventStream) -> None:
        told = {"impact": self._impact_told(events.usage)} if self._wishes.wants_impact else None
        self._answer.end(events.ending(self._estimate(), told))
        self._end(Outcome.COMPLETED, 200, events.usage)

    def _break(self, outcome: Outcome, detail: str = "") -> None:
        """An error after the stream has begun: one event, then the end."""
        self._answer.error(failure_error(outcome, self.ticket.model, detail))
        self._end(outcome, 200, self._events.usage if self._events is not None else None)

    # -- a server that dies, and the end -------------------------------------------------------------------------------

    def _try_again(self, outcome: Outcome, detail: str) -> None:
        """The client got nothing of this server yet: give the slot back and return to the old place in the queue."""
        self._abort_call()
        self._failure = (outcome, detail)
        self._stage = Stage.QUEUED
        self._events = None
        self._context.broker.settle(self.ticket, Settlement(ticket_id=self.ticket.id, outcome=outcome, retry=True))

    def _fail_in_stream(self, part: bytes, events: EventStream) -> None:
        """An error event: kept back when another server may go on, else passed on as it is."""
        if read_broken(self._kept, self._wishes, self._grant) is None:
            self._drop_kept()
            self._answer.part(part)
            return
        if before := before_error(part):
            self._answer.part(before)
            if self._kept is not None and not self._kept.add(before):
                self._kept = None
        self._lose_server(*error_of(events))

    def _lose_server(self, outcome: Outcome, detail: str = "") -> None:
        """The answer breaks off: it was whole, or another server goes on with it, or the client is told."""
        events, grant, wishes = self._events, self._grant, self._wishes
        if events is None or grant is None:
            self._break(outcome, detail)
        elif events.finished() and not events.failed():
            self._complete(events)
        elif (so_far := read_broken(self._kept, wishes, grant)) is None:
            self._break(outcome, detail)
        elif used_up(wishes.parsed, so_far):
            self._answer.part(length_reached(so_far, chat=wishes.parsed.endpoint.chat))
            self._complete(events)
        else:
            done = self._part_done(grant, so_far.tokens)
            self._resumed = Resumed.after(self._resumed, so_far, (outcome, detail), done)
            send_back(self.ticket, wishes, so_far, self._context.clock())
            self._try_again(outcome, detail)

    def _end(self, outcome: Outcome, status: int, usage: Usage | None = None) -> None:
        """The one exit. Frees everything, then writes the record."""
        if usage is None:
            usage = self._estimate() if outcome is not Outcome.UPSTREAM_REJECTED else Usage()
        impact, own = self._impact or self._impact_of(usage, self._stage), self._own_usage(usage)
        stage, self._stage = self._stage, Stage.DONE
        self._abort_call()
        self._drop_kept()
        self._active.discard(self)
        context, ticket, grant, wishes = self._context, self.ticket, self._grant, self._wishes
        end = End(outcome, status, usage, self._attempts, self._ttft_s, context.clock() - wishes.received_s, impact)
        give_back(context, ticket, grant, end, stage)
        if grant is not None:
            context.impacts.computed(ticket.model, grant.server.id, own)
        close(context, wishes, ticket, grant, end, begun=self._begun(stage))
