"""How far one request is, and what that comes to so far: tokens, energy."""

from __future__ import annotations

from ilaas.core.continuation import Kept
from ilaas.core.dispatch.events import Grant, Ticket
from ilaas.core.impact import UNKNOWN, Impact, total
from ilaas.core.impact_views import Json, impact_json
from ilaas.core.usage import Usage
from ilaas.core.values import Outcome
from ilaas.core.wire import EventStream
from ilaas.ports.client import AnswerWriter
from ilaas.ports.upstream import UpstreamCall
from ilaas.services.client_answer import ClientAnswer
from ilaas.services.context import Context
from ilaas.services.continuation import Resumed
from ilaas.services.plain_body import PlainBody
from ilaas.services.records import NOTHING_USED
from ilaas.services.stages import Stage
from ilaas.services.wishes import Wishes


class Progress:
    """The state of an exchange. What moves it on is in `services.exchange`."""

    __slots__ = (
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
        "_kept",
        "_paused_s",
        "_plain",
        "_resumed",
        "_seen_s",
        "_sent_s",
        "_stage",
        "_status",
        "_ttft_s",
        "_wishes",
        "ticket",
    )

    def __init__(self, context: Context, writer: AnswerWriter, ticket: Ticket, wishes: Wishes) -> None:
        self.ticket = ticket
        self._context = context
        self._answer = ClientAnswer(context, writer, wishes)
        self._wishes = wishes
        self._stage = Stage.QUEUED
        self._grant: Grant | None = None
        """Of the present server, or of the last one."""
        self._call: UpstreamCall | None = None
        self._attempts = 0
        self._failure: tuple[Outcome, str] | None = None
        """Of the last attempt."""
        self._status = 0
        """Of the server's answer."""
        self._events: EventStream | None = None
        self._plain: PlainBody | None = None
        self._kept: Kept | None = None
        """What the client was given of a stream that may be continued."""
        self._resumed: Resumed | None = None
        """A server died with the answer when it had begun, and another one is to go on."""
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

    def slept(self, seconds: float) -> None:
        """This process did nothing for so long (paused, moved, without CPU): neither server nor client was silent."""
        self._seen_s += seconds
        self._sent_s += seconds
        if self._paused_s:
            self._paused_s += seconds

    def _begun(self, stage: Stage) -> bool:
        """The client was given a part of a streamed answer."""
        return stage is Stage.STREAMING or self._resumed is not None

    def _late(self, now_s: float) -> Outcome | None:
        """Which deadline has passed; `CLIENT_LEFT_DECODE` for a client that reads no more."""
        stage, deadlines, wishes = self._stage, self._wishes.model.policy.deadlines, self._wishes
        if self._paused_s and now_s - self._paused_s > self._context.policy.client_stall_s:
            return Outcome.CLIENT_LEFT_DECODE
        if now_s - wishes.received_s > deadlines.total_s and (stage is not Stage.QUEUED or self._begun(stage)):
            return Outcome.TOTAL_TIMEOUT
        if stage is Stage.STREAMING:
            return Outcome.IDLE_TIMEOUT if now_s - self._seen_s > deadlines.idle_s else None
        if stage is Stage.PREFILL:
            limit_s = deadlines.first_token_s if wishes.parsed.stream else deadlines.answer_s
            if now_s - self._sent_s > limit_s:
                return Outcome.FIRST_TOKEN_TIMEOUT if wishes.parsed.stream else Outcome.ANSWER_TIMEOUT
        return None

    def _wants_comment(self, now_s: float) -> bool:
        """A stream that waits, and was told nothing for long."""
        waits = self._stage is not Stage.STREAMING and self._wishes.parsed.stream
        return waits and now_s - self._comment_s >= self._context.policy.keepalive_comment_s

    def _abort_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.abort()

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.drop()

    def _estimate(self) -> Usage:
        """Tokens as far as the gateway can tell: the prompt by its bytes, the answer by its events."""
        resumed = self._resumed
        answered = resumed.so_far.tokens if resumed is not None else 0
        if self._events is not None:
            answered = max(0, self._events.events - 1)
        sent = resumed is not None or self._stage in (Stage.PREFILL, Stage.STREAMING)
        return Usage(self._wishes.parsed.prompt_tokens if sent else 0, answered, estimated=True)

    def _own_usage(self, whole: Usage) -> Usage:
        """What the present server did of the whole answer."""
        resumed = self._resumed
        return whole if resumed is None else resumed.own(self._events, self._wishes.parsed.prompt_tokens)

    def _impact_told(self, usage: Usage | None) -> Json:
        """The impact of the answer that is about to end, for the client; the record gets the same."""
        if self._grant is None:
            return impact_json(UNKNOWN)
        self._impact = self._impact_of(usage or self._estimate(), self._stage)
        return impact_json(self._impact)

    def _impact_of(self, usage: Usage, stage: Stage) -> Impact:
        """Of all servers that worked for the request; it was in that stage at the last one."""
        grant, context, resumed = self._grant, self._context, self._resumed
        if grant is None:
            return NOTHING_USED
        if resumed is not None and stage is Stage.QUEUED:
            return total(resumed.spent)
        server_s = context.clock() - self._sent_s
        own = context.impacts.of(self.ticket.model, grant.server.id, self._own_usage(usage), server_s)
        return own if resumed is None else total([*resumed.spent, own])

    def _part_done(self, grant: Grant, tokens: int) -> Impact:
        """Of a server that died when `tokens` of the answer had come, from all servers; its machine bears its share."""
        whole = Usage(self._wishes.parsed.prompt_tokens, tokens, estimated=True)
        own, impacts, model = self._own_usage(whole), self._context.impacts, self.ticket.model
        impacts.computed(model, grant.server.id, own)
        return impacts.of(model, grant.server.id, own, self._context.clock() - self._sent_s)
