"""Answers to requests that only read: embeddings, rerank, score, tokenize."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

import orjson

from ilaas.sim import vectors
from ilaas.sim.answers import count_tokens
from ilaas.sim.api_errors import ApiError
from ilaas.sim.engine_events import EngineRequest, Phase
from ilaas.sim.failures import Fault, Faults
from ilaas.sim.http import Exchange
from ilaas.sim.journal import Journal, Note
from ilaas.sim.options import SimServerOptions
from ilaas.sim.serving import Cancel, Serving


class _Read:
    """One such request: the listener of its sequence."""

    __slots__ = ("_answer", "_cancel", "_exchange", "_journal", "_note", "timer")

    def __init__(self, exchange: Exchange, note: Note, journal: Journal, answer: Callable[[], None]) -> None:
        self._exchange = exchange
        self._note = note
        self._journal = journal
        self._answer = answer
        self._cancel: Cancel | None = None
        self.timer: asyncio.TimerHandle | None = None
        exchange.on_left = self._client_left

    def submit(self, serving: Serving, request: EngineRequest) -> None:
        """Let the engine read it."""
        self.timer = None
        self._cancel = serving.submit(request, self)

    def started(self, cached_tokens: int) -> None:  # noqa: ARG002 -- a listener's signature
        """It is being read."""
        self._journal.changed()

    def tokens(self, count: int) -> None:
        """Nothing is generated."""

    def finished(self) -> None:
        """It is read."""
        self._answer()

    def _client_left(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        phase = self._cancel() if self._cancel else None
        self._journal.left(self._note, "queue" if phase is Phase.WAITING else "prefill")


class Reading:
    """Reads for one server."""

    PATHS: ClassVar = frozenset(
        {"/v1/embeddings", "/v1/rerank", "/rerank", "/v2/rerank", "/v1/score", "/score", "/tokenize"}
    )

    def __init__(self, options: SimServerOptions, serving: Serving, journal: Journal) -> None:
        self._options = options
        self._serving = serving
        self._journal = journal

    def begin(self, exchange: Exchange, note: Note, faults: Faults, body: dict[str, Any]) -> None:
        """Decide the answer, let the engine take its time, answer. Raises ApiError."""
        tree, tokens = self._decide(exchange.request.path, body, note.id)
        content = orjson.dumps(tree)

        def answer() -> None:
            if Fault.WRONG_JSON in faults:
                exchange.answer(200, content[: len(content) // 2])
            elif Fault.DIE_AFTER in faults or Fault.CLOSE_AFTER in faults:
                exchange.raw(exchange.head(200, len(content)) + b"\r\n" + content[: len(content) // 2])
                exchange.cut(reset=Fault.DIE_AFTER in faults)
            else:
                exchange.answer(200, content)
            self._journal.end(note, "finished", status=200)

        if self._options.gap_s is not None or exchange.request.path == "/tokenize":
            answer()
            return
        read = _Read(exchange, note, self._journal, answer)
        if faults.keys() & {Fault.HANG_BEFORE_HEAD, Fault.HANG_IN_PREFILL, Fault.HANG_AFTER}:
            return
        request = EngineRequest(id=note.id, prompt_tokens=tokens, output_tokens=0)
        delay_s = faults.get(Fault.SLOW_FIRST_TOKEN, 0.0)
        if delay_s:
            read.timer = asyncio.get_running_loop().call_later(delay_s, read.submit, self._serving, request)
        else:
            read.submit(self._serving, request)

    def _decide(self, path: str, body: dict[str, Any], request_id: str) -> tuple[dict[str, Any], int]:
        context = self._options.params.context_tokens
        if path == "/tokenize":
            tokens = vectors.tokenize(body)
            answer: dict[str, Any] = {
                "count": len(tokens),
                "max_model_len": context,
                "tokens": tokens,
                "token_strs": None,
            }
            return answer, max(len(tokens), 1)
        if path == "/v1/embeddings":
            inputs = vectors.read_inputs(body)
            counts = [max(count_tokens(raw), 1) for raw in inputs]
            if max(counts) >= context:
                raise ApiError(
                    400,
                    f"This model's maximum context length is {context} tokens. However, you requested {max(counts)} "
                    "tokens in the input for embedding generation. Please reduce the length of the input.",
                    "input",
                )
            answer = {
                "object": "list",
                "data": vectors.embeddings(body, inputs, self._options.embedding_dimensions),
            }
        elif path.endswith("/rerank"):
            query, documents = vectors.read_texts(body, "query")[0], vectors.read_texts(body, "documents")
            counts = [vectors.tokens_of(query, document) for document in documents]
            top_n = body.get("top_n") or 0
            if type(top_n) is not int or top_n < 0:
                raise ApiError(400, "top_n must be 0 or more", "top_n")
            answer = {"results": vectors.rerank(query, documents, top_n)}
        else:
            first = vectors.read_texts(body, "text_1", "queries")
            second = vectors.read_texts(body, "text_2", "documents", "items")
            counts = [vectors.tokens_of(*first, *second)]
            answer = {"object": "list", "data": vectors.score(first, second)}
        total = sum(counts)
        usage = {"prompt_tokens": total, "total_tokens": total}
        answer = {"id": request_id, "created": int(time.time()), "model": body["model"], **answer, "usage": usage}
        return answer, min(max(total, 1), context - 1)
