"""Takes a request to an inference path: its faults, its body, and who answers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import orjson

from ilaas.sim.api_errors import ApiError
from ilaas.sim.failures import FailureDraw, Fault, Faults, SimFailures
from ilaas.sim.generation import Author
from ilaas.sim.hearing import Hearing
from ilaas.sim.http import Exchange, HttpRequest
from ilaas.sim.job import Job, JobParts
from ilaas.sim.journal import Journal, Note
from ilaas.sim.options import SimServerOptions
from ilaas.sim.reading import Reading
from ilaas.sim.recital import Answer, Recital
from ilaas.sim.serving import Serving
from ilaas.sim.speaking import PATH as SPEECH
from ilaas.sim.speaking import speech

_GENERATIONS: Mapping[str, bool] = MappingProxyType({"/v1/chat/completions": True, "/v1/completions": False})
"""Paths that generate, and whether they chat."""
_STATUS_FAULTS = (
    (Fault.STATUS_500, 500, "Internal server error"),
    (Fault.STATUS_503, 503, "The server is overloaded"),
    (Fault.STATUS_429, 429, "Too many requests"),
)


class Inference:
    """The inference of one server."""

    PATHS: ClassVar = Reading.PATHS | _GENERATIONS.keys() | Hearing.PATHS | {SPEECH}

    def __init__(self, options: SimServerOptions, serving: Serving, journal: Journal) -> None:
        self._options = options
        self._serving = serving
        self._journal = journal
        self._author = Author(options)
        self._reading = Reading(options, serving, journal)
        self._hearing = Hearing(options)
        self._number = 0
        self._started_s = int(time.time())

    def begin(self, exchange: Exchange, draw: FailureDraw) -> None:
        """Answer a request, now or in time. Raises ApiError."""
        request = exchange.request
        self._number += 1
        note = self._journal.begin(self._id(request), request.path, "")
        try:
            faults = self._faults(request, draw)
            if self._fails_at_once(exchange, note, faults):
                return
            if request.path in Hearing.PATHS:
                note.model, form = self._hearing.read(request)
                self._recite(exchange, note, faults, self._hearing.answer(request.path, form, faults))
                return
            body = self._body(request)
            note.model = body["model"]
            if request.path in _GENERATIONS:
                self._generate(exchange, note, faults, body)
            elif request.path == SPEECH:
                self._recite(exchange, note, faults, speech(body))
            else:
                self._reading.begin(exchange, note, faults, body)
        except ApiError as error:
            self._journal.end(note, "refused", status=error.status)
            raise

    def _recite(self, exchange: Exchange, note: Note, faults: Faults, answer: Answer) -> None:
        Recital(exchange, note, faults, self._journal, answer).begin(self._serving, self._options.gap_s)

    def _id(self, request: HttpRequest) -> str:
        kind = "chatcmpl" if request.path == "/v1/chat/completions" else "cmpl"
        return f"{kind}-{self._started_s:x}{self._number:08x}"

    def _faults(self, request: HttpRequest, draw: FailureDraw) -> Faults:
        marker = request.headers.get("x-sim-failures") if self._options.markers else None
        if marker is None:
            return draw.for_request()
        try:
            return FailureDraw(SimFailures.parse(marker), self._number).for_request()
        except ValueError as error:
            raise ApiError(400, f"x-sim-failures: {error}") from None

    def _fails_at_once(self, exchange: Exchange, note: Note, faults: Faults) -> bool:
        if not faults:
            return False
        if Fault.SPLIT in faults:
            exchange.split()
        if Fault.GZIP in faults:
            exchange.compress()
        for fault, status, message in _STATUS_FAULTS:
            if fault in faults:
                body = ApiError(status, message).body(old=self._options.old_errors)
                exchange.answer(status, body, extra=b"retry-after: 1\r\n" if status != 500 else b"")
                self._journal.end(note, fault, status=status)
                return True
        if Fault.HTML in faults:
            exchange.answer(200, b"<!doctype html><title>Portal</title><h1>Welcome</h1>", b"text/html")
            self._journal.end(note, Fault.HTML, status=200)
            return True
        return False

    def _body(self, request: HttpRequest) -> dict[str, Any]:
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, f"Invalid JSON: {error}") from None
        if not isinstance(body, dict):
            raise ApiError(400, "Input should be a valid dictionary")
        if "routing-mode" in body:
            raise ApiError(400, "Unrecognized request argument supplied: routing-mode", "routing-mode")
        body.setdefault("model", self._options.models[0])
        model = body["model"]
        if model not in self._options.models:
            raise ApiError(404, f"The model `{model}` does not exist.", "model")
        return body

    def _generate(self, exchange: Exchange, note: Note, faults: Faults, body: dict[str, Any]) -> None:
        generation = self._author.plan(exchange.request.body, body, chat=_GENERATIONS[exchange.request.path])
        parts = JobParts(
            id=note.id,
            created_s=int(time.time()),
            gap_s=self._options.gap_s,
            serving=self._serving,
            journal=self._journal,
            old_errors=self._options.old_errors,
        )
        Job(parts, exchange, generation, note, faults).begin(call_later)


def call_later(delay_s: float, action: Callable[[], None]) -> Callable[[], None]:
    """Do it later; returns what cancels it."""
    return asyncio.get_running_loop().call_later(delay_s, action).cancel
