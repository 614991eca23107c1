"""An answer that is given piece by piece as a sequence is computed, or whole when it is: speech and transcripts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from ilaas.sim.engine_events import EngineRequest, Phase
from ilaas.sim.failures import Fault, Faults
from ilaas.sim.http import JSON, Exchange
from ilaas.sim.journal import Journal, Note
from ilaas.sim.serving import Cancel, Serving

_TRIPS = (Fault.DIE_AFTER, Fault.CLOSE_AFTER, Fault.HANG_AFTER, Fault.ERROR_EVENT)
_ERROR = b'{"error":{"message":"EngineCore encountered an issue","type":"InternalServerError","code":500}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to be told."""

    pieces: tuple[bytes, ...]
    """One for each token; joined, the whole."""
    content_type: bytes = JSON
    streamed: bool = False
    """Each piece at its time, else all at the end."""
    prompt_tokens: int = 1


class Recital:
    """Answers one exchange: the listener of its sequence."""

    __slots__ = ("_answer", "_at", "_cancel", "_exchange", "_faults", "_journal", "_note", "_over", "_timer", "_trip")

    def __init__(self, exchange: Exchange, note: Note, faults: Faults, journal: Journal, answer: Answer) -> None:
        self._exchange = exchange
        self._note = note
        self._faults = faults
        self._journal = journal
        self._answer = answer
        self._at = 0
        self._over = False
        self._cancel: Cancel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trip = next((fault for fault in _TRIPS if fault in faults), None)
        exchange.on_left = self._client_left

    def begin(self, serving: Serving, gap_s: float | None) -> None:
        """Queue the sequence; `gap_s` gives its tokens a fixed pace."""
        if Fault.HANG_BEFORE_HEAD in self._faults:
            return
        if self._answer.streamed:
            self._exchange.begin(self._answer.content_type)
        if Fault.HANG_IN_PREFILL in self._faults:
            return
        delay_s = self._faults.get(Fault.SLOW_FIRST_TOKEN, 0.0)
        gap_s = self._faults.get(Fault.SLOW_TOKENS, gap_s)
        if delay_s:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._submit, serving, gap_s)
        else:
            self._submit(serving, gap_s)

    def _submit(self, serving: Serving, gap_s: float | None) -> None:
        self._timer = None
        answer = self._answer
        request = EngineRequest(
            id=self._note.id,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=len(answer.pieces),
            streamed=answer.streamed,
        )
        if gap_s is None:
            self._cancel = serving.submit(request, self)
        else:
            self._cancel = serving.pace(request, self, gap_s)

    # -- from the sequence ---------------------------------------------------------------------------------------------

    def started(self, cached_tokens: int) -> None:  # noqa: ARG002 -- a listener's signature
        """It is being computed."""
        self._journal.changed()

    def tokens(self, count: int) -> None:
        """So many pieces more."""
        if not self._answer.streamed or self._over:
            return
        first = not self._note.tokens
        for piece in self._answer.pieces[self._at : self._at + count]:
            if self._strikes(self._at):
                return
            self._exchange.send(piece)
            self._at += 1
            self._note.tokens += 1
        if first:
            self._journal.changed()

    def finished(self) -> None:
        """All is computed."""
        if self._over:
            return
        body = b"".join(self._answer.pieces)
        if self._answer.streamed:
            if not self._strikes(math.inf):
                self._exchange.end()
                self._close("finished", 200)
        elif self._trip is not None:
            self._exchange.raw(self._exchange.head(200, len(body), self._answer.content_type) + b"\r\n")
            self._exchange.raw(body[: len(body) // 2])
            self._strikes(math.inf)
        else:
            if Fault.WRONG_JSON in self._faults:
                body = body[: len(body) // 2]
            self._exchange.answer(200, body, self._answer.content_type)
            self._close("finished", 200)

    def _strikes(self, at: float) -> bool:
        """Whether the fault that waited for its token does."""
        if self._trip is None or at < self._faults[self._trip]:
            return False
        self._over = True
        if self._trip is Fault.HANG_AFTER:
            self._journal.changed()
            return True
        if self._trip is Fault.ERROR_EVENT and self._answer.streamed:
            self._exchange.send(b"data: %b\n\n" % _ERROR)
            self._exchange.end()
        else:
            self._exchange.cut(reset=self._trip is Fault.DIE_AFTER)
        self._free()
        self._close(str(self._trip), self._exchange.status)
        return True

    # -- the end -------------------------------------------------------------------------------------------------------

    def _free(self) -> Phase | None:
        cancel, self._cancel = self._cancel, None
        return cancel() if cancel is not None else None

    def _client_left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._over = True
        phase = self._free()
        if self._note.tokens:
            self._journal.left(self._note, "decode")
        else:
            self._journal.left(self._note, "queue" if phase is Phase.WAITING else "prefill")

    def _close(self, result: str, status: int) -> None:
        self._over = True
        self._exchange.on_left = None
        self._journal.end(self._note, result, status=status)
