"""What a server is sent for a request and how its stream is read: anew, or as the rest of an answer begun elsewhere."""

from __future__ import annotations

import orjson

from ilaas.core.audio import TranscriptStream
from ilaas.core.catalogue import ServerSpec
from ilaas.core.continuation import ContinuedStream, rest_of
from ilaas.core.dispatch.events import Ticket
from ilaas.core.request_body import body_for, uuid_only
from ilaas.core.values import Engine
from ilaas.core.wire import EventStream
from ilaas.ports.upstream import UpstreamRequest
from ilaas.services.continuation import Resumed
from ilaas.services.uploading import upload_for
from ilaas.services.wishes import Wishes


def request_for(server: ServerSpec, ticket: Ticket, wishes: Wishes, resumed: Resumed | None) -> UpstreamRequest:
    """The request to this server."""
    parsed, headers = wishes.parsed, wishes.upstream_headers
    if resumed is not None:
        parsed = rest_of(parsed, resumed.so_far, server.engine)
    if server.engine is Engine.LLAMACPP:
        headers = uuid_only(headers, ticket.id)
    deadlines = wishes.model.policy.deadlines
    if wishes.form is not None:
        upload = upload_for(wishes.form, server.served_name, deadlines.idle_s)
        return UpstreamRequest(parsed.endpoint.path_bytes, headers, b"", deadlines.connect_s, upload)
    return UpstreamRequest(parsed.endpoint.path_bytes, headers, body_for(parsed, server), deadlines.connect_s)


def stream_for(model: str, wishes: Wishes, resumed: Resumed | None) -> EventStream:
    """The reader of this server's stream; `model` is the public name."""
    public, usage, holds_end = orjson.dumps(model), wishes.parsed.wants_usage, wishes.wants_impact
    if wishes.parsed.endpoint.audio:
        return TranscriptStream(public, wants_usage=False)
    if resumed is None:
        return EventStream(public, wants_usage=usage, holds_end=holds_end)
    chat = wishes.parsed.endpoint.chat
    return ContinuedStream(public, resumed.so_far, chat=chat, wants_usage=usage, holds_end=holds_end)
