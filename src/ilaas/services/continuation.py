"""An answer whose server died in the middle of it: whether another server goes on with it, and what is known of it.

The pure part is `core.continuation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from ilaas.core.catalogue import ServerSpec
from ilaas.core.continuation import ContinuedStream, Kept, SoFar, goes_on, may_continue, read
from ilaas.core.dispatch.events import Grant, Ticket
from ilaas.core.impact import Impact
from ilaas.core.requests import ParsedRequest
from ilaas.core.usage import Usage
from ilaas.core.values import Continuation, Outcome, RequestClass
from ilaas.core.wire import EventStream
from ilaas.services.context import Context
from ilaas.services.wishes import Wishes


def error_of(events: EventStream) -> tuple[Outcome, str]:
    """Of an error event; a server that can't go on with another's answer is well all the same."""
    not_able = isinstance(events, ContinuedStream) and events.wrong
    return Outcome.UPSTREAM_REJECTED if not_able else Outcome.UPSTREAM_ERROR, "the server answered with an error event"


def keep_for(context: Context, wishes: Wishes, grant: Grant | None) -> Kept | None:
    """Where the stream that begins now is kept; None when it would not be continued."""
    if not _allowed(wishes, grant):
        return None
    if len(wishes.model.servers) < 2 or not may_continue(wishes.parsed):  # one to die, one to go on
        return None
    return Kept(context.room)


def _allowed(wishes: Wishes, grant: Grant | None) -> bool:
    mode = wishes.model.policy.continuation
    return grant is not None and (mode is Continuation.ON or (mode is Continuation.SPOT and grant.server.spot))


def read_broken(kept: Kept | None, wishes: Wishes, grant: Grant | None) -> SoFar | None:
    """The answer as far as it came; None when no other server may go on with it."""
    if kept is None or not _allowed(wishes, grant):
        return None
    so_far = read(kept.whole(), chat=wishes.parsed.endpoint.chat)
    return None if so_far.foreign else so_far


def can_serve(parsed: ParsedRequest, so_far: SoFar, server: ServerSpec) -> bool:
    """Whether this server is able to go on with the answer."""
    return so_far.anew or goes_on(server.engine, chat=parsed.endpoint.chat)


def send_back(ticket: Ticket, wishes: Wishes, so_far: SoFar, now_s: float) -> None:
    """Make the ticket ready to wait once more: for servers that can go on, with time to wait of its own."""
    unable = tuple(server.id for server in wishes.model.servers if not can_serve(wishes.parsed, so_far, server))
    ticket.excluded = (*ticket.excluded, *(name for name in unable if name not in ticket.excluded))
    deadlines = wishes.model.policy.deadlines
    batch = ticket.request_class is RequestClass.BATCH
    ticket.deadline_s = now_s + (deadlines.batch_queue_s if batch else deadlines.queue_s)


def length_reached(so_far: SoFar, *, chat: bool) -> bytes:
    """The chunk that ends an answer of which all tokens had come when its server died."""
    chunk = {"id": so_far.id, "object": so_far.kind, "created": so_far.created, "model": so_far.model}
    inner: dict[str, object] = {"delta": {}} if chat else {"text": ""}
    chunk = {name: value for name, value in chunk.items() if value is not None}
    choice = {"index": 0, **inner, "finish_reason": "length"}
    return b"data: " + orjson.dumps({**chunk, "choices": [choice]}) + b"\n\n"


@dataclass(slots=True)
class Resumed:
    """What is known of an answer since a server died with it."""

    so_far: SoFar
    failure: tuple[Outcome, str]
    """Of the server that died last, which the client is told when none goes on."""
    spent: list[Impact] = field(default_factory=list)
    """Of the servers that died, one after the other."""

    @classmethod
    def after(cls, before: Resumed | None, so_far: SoFar, failure: tuple[Outcome, str], done: Impact) -> Resumed:
        """A server died, after `done`. One that could not go on is no failure to tell the client: the first one is."""
        if before is None:
            return cls(so_far, failure, [done])
        not_able = failure[0] is Outcome.UPSTREAM_REJECTED
        return cls(so_far, before.failure if not_able else failure, [*before.spent, done])

    def own(self, events: EventStream | None, prompt_tokens: int) -> Usage:
        """What the present server did of the answer, as it told or as estimated."""
        if isinstance(events, ContinuedStream):
            answered = max(0, events.events - 1 - self.so_far.tokens)
            return events.own_usage or Usage(prompt_tokens, answered, estimated=True)
        return Usage(prompt_tokens, estimated=True)
