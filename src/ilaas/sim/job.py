"""One chat or text completion on its way: tokens become chunks, faults strike, and a client that leaves frees all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ilaas.sim.api_errors import ApiError
from ilaas.sim.engine_events import EngineRequest, Phase
from ilaas.sim.failures import Fault, Faults
from ilaas.sim.generation import Generation
from ilaas.sim.http import Exchange
from ilaas.sim.journal import Journal, Note
from ilaas.sim.serving import Cancel, Serving
from ilaas.sim.shapes import Shapes
from ilaas.sim.stream import ChoiceStream

_PHASES: Mapping[Phase, str] = MappingProxyType(
    {Phase.WAITING: "queue", Phase.PREFILL: "prefill", Phase.DECODE: "decode"}
)
_TRIPS = (Fault.DIE_AFTER, Fault.CLOSE_AFTER, Fault.HANG_AFTER, Fault.ERROR_EVENT)
"""Faults that strike after so many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParts:
    """What a job works with."""

    id: str
    created_s: int
    gap_s: float | None
    serving: Serving
    journal: Journal
    old_errors: bool


class Job:
    """Answers one exchange."""

    def __init__(self, parts: JobParts, exchange: Exchange, generation: Generation, note: Note, faults: Faults) -> None:
        self._parts = parts
        self._exchange = exchange
        self._generation = generation
        self._note = note
        self._faults = faults
        self._shapes = Shapes(parts.id, parts.created_s, generation)
        self._choices = [ChoiceStream(self, self._shapes, index) for index in range(len(generation.answers))]
        self._cancels: list[Cancel] = []
        self._delayed: Callable[[], None] | None = None
        self._open = len(self._choices)
        self._cached_tokens = 0
        self._phase: Phase | None = None
        """Where it stands while neither engine nor pacer has it."""
        self._over = False
        self._trip = next((fault for fault in _TRIPS if fault in faults), None) if faults else None
        self._trip_at = faults[self._trip] if self._trip else math.inf
        self._gap_s = faults.get(Fault.SLOW_TOKENS, parts.gap_s) if faults else parts.gap_s

    def begin(self, later: Callable[[float, Callable[[], None]], Callable[[], None]]) -> None:
        """Send a stream's head and queue the sequences; `later(delay_s, action)` returns what cancels it."""
        self._exchange.on_left = self._client_left
        self._exchange.on_writable = self._writable
        if Fault.HANG_BEFORE_HEAD in self._faults:
            self._phase = Phase.WAITING
            return
        if self._generation.stream:
            self._exchange.begin()
        if Fault.HANG_IN_PREFILL in self._faults:
            self._phase = Phase.PREFILL
            return
        delay_s = self._faults.get(Fault.SLOW_FIRST_TOKEN, 0.0)
        if delay_s:
            self._phase = Phase.PREFILL
            self._delayed = later(delay_s, self._submit)
        else:
            self._submit()

    def _submit(self) -> None:
        self._delayed = self._phase = None
        parts, generation = self._parts, self._generation
        for index, answer in enumerate(generation.answers):
            request = EngineRequest(
                id=f"{parts.id}#{index}",
                prompt_tokens=generation.prompt_tokens,
                output_tokens=answer.tokens,
                prefix=generation.prefix,
                streamed=generation.stream,
            )
            choice = self._choices[index]
            if self._gap_s is None:
                self._cancels.append(parts.serving.submit(request, choice))
            elif generation.stream or Fault.SLOW_TOKENS in self._faults:
                self._cancels.append(parts.serving.pace(request, choice, self._gap_s))
            else:
                parts.serving.count_paced(request)
                choice.finished()

    # -- from the sequences -------------------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Whether tokens are told as they come."""
        return self._generation.stream

    def started(self, cached_tokens: int) -> None:
        """A sequence left the engine's queue."""
        self._cached_tokens = max(self._cached_tokens, cached_tokens)
        self._parts.journal.changed()

    def emit(self, choice: ChoiceStream, count: int) -> int:
        """Send `count` tokens of a choice; returns how many the client could not take yet."""
        if self._over:
            return 0
        exchange, note = self._exchange, self._note
        if exchange.choked:
            return count
        allowed = self._trip_at - note.tokens
        first = not note.tokens
        if first:
            self._first_events()
        events = choice.take(int(min(count, allowed)))
        if exchange.framing:
            exchange.raw(b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in events]))
        else:
            for event in events:
                exchange.send(event)
        note.tokens += min(count, int(min(count, allowed)))
        if count >= allowed:
            self._trip_now()
        if first:
            self._parts.journal.changed()
        return 0

    def finished(self) -> None:
        """A sequence has all its tokens and the client got them."""
        self._open -= 1
        if self._open or self._over:
            return
        if self._generation.stream:
            self._end_stream()
        else:
            self._answer()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _first_events(self) -> None:
        padding = int(self._faults.get(Fault.HUGE_EVENT, 0))
        if padding:
            self._exchange.send(self._shapes.padded(padding))
        if Fault.WRONG_JSON in self._faults:
            self._exchange.send(b'data: {"id":"broken","choices":[{"index":0,"delta":\n\n')

    def _end_stream(self) -> None:
        exchange, shapes = self._exchange, self._shapes
        usage = self._usage() if self._generation.include_usage and Fault.NO_USAGE not in self._faults else None
        no_done = Fault.NO_DONE in self._faults
        for choice in self._choices:
            last = choice is self._choices[-1]
            exchange.send(shapes.finish(choice.index, usage if no_done and last else None))
        if not no_done:
            if usage is not None:
                exchange.send(shapes.usage(usage))
            exchange.send(b"data: [DONE]\n\n")
        exchange.end()
        self._close("finished", status=200)

    def _answer(self) -> None:
        tokens = sum(answer.tokens for answer in self._generation.answers)
        if self._trip is not None and tokens >= self._trip_at:
            self._trip_now()
            return
        usage = None if Fault.NO_USAGE in self._faults else self._usage()
        body = self._shapes.whole(usage, int(self._faults.get(Fault.HUGE_EVENT, 0)))
        if Fault.WRONG_JSON in self._faults:
            body = body[: len(body) // 2]
        self._note.tokens = tokens
        self._exchange.answer(200, body)
        self._close("finished", status=200)

    def _usage(self) -> dict[str, Any]:
        generated = sum(answer.tokens for answer in self._generation.answers)
        prompt = self._generation.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + generated,
            "completion_tokens": generated,
            "prompt_tokens_details": {"cached_tokens": self._cached_tokens} if self._cached_tokens else None,
        }

    def _trip_now(self) -> None:
        """The fault that waited for its token strikes."""
        exchange = self._exchange
        stream = self._generation.stream
        match self._trip:
            case Fault.HANG_AFTER:
                self._free()
                self._phase = Phase.DECODE
                self._over = True
                self._parts.journal.changed()
                return
            case Fault.ERROR_EVENT:
                error = ApiError(500, "EngineCore encountered an issue").body(old=self._parts.old_errors)
                if stream:
                    exchange.send(b"data: %b\n\n" % error)
                    exchange.send(b"data: [DONE]\n\n")
                    exchange.end()
                else:
                    exchange.answer(500, error)
            case _:
                if not stream:
                    body = self._shapes.whole(self._usage(), 0)
                    exchange.raw(exchange.head(200, len(body)) + b"\r\n" + body[: len(body) // 2])
                exchange.cut(reset=self._trip is Fault.DIE_AFTER)
        self._free()
        self._close(str(self._trip), status=exchange.status)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        for choice in self._choices:
            choice.flush()

    def _client_left(self) -> None:
        phases = self._free()
        phase = Phase.DECODE if self._note.tokens or not phases else phases[0]
        self._part()
        self._parts.journal.left(self._note, _PHASES[self._phase or phase])

    def _free(self) -> list[Phase]:
        """Take what is left out of the engine; tells where the sequences stood."""
        if self._delayed is not None:
            self._delayed()
            self._delayed = None
        phases = [phase for phase in [cancel() for cancel in self._cancels] if phase is not None]
        self._cancels = []
        return phases

    def _part(self) -> None:
        """Undo the cycles of references, so that a job that is over goes without the garbage collector."""
        self._over = True
        self._choices = []
        self._cancels = []
        self._exchange.on_left = self._exchange.on_writable = None

    def _close(self, result: str, *, status: int) -> None:
        self._part()
        self._parts.journal.end(self._note, result, status=status)
