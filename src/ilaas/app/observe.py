"""Logs, and the way from a running gateway to its ops listener."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import orjson
import structlog

from ilaas.app.metrics import BrokerGauges, Observed, ProcessGauges, Snapshot, no_broker, state
from ilaas.core.dispatch.events import ModelView
from ilaas.http.ops import OpsSources

if TYPE_CHECKING:
    from ilaas.app.wiring import Gateway

HIDDEN = "[hidden]"
_SECRET_FIELDS = frozenset(
    {
        "authorization",
        "token",
        "secret",
        "key",
        "api_key",
        "password",
        "pepper",
        "prompt",
        "messages",
        "body",
        "content",
    }
)
_SECRET_TEXT = re.compile(r"ilaas-[0-9A-Za-z]{8,}|(?i:bearer)\s+\S+|(?<=://)[^/@\s]+:[^/@\s]+(?=@)")

_SPEAKING = (OSError,)
"""Errors whose messages are the operating system's. Those of others may quote what a client sent, and are left out."""

_CHATTY = ("httpx", "httpcore", "uvicorn", "alembic", "asyncio", "aiosqlite")
"""Libraries that log each request or step. Start, end and upgrades of the database are events of ours."""
_ECHOES = ("aiormq",)
"""Libraries that log, at each try, what they raise as well: the first is an event of ours."""


def configure_logging(json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Log events as JSON lines, or coloured for a person, to `stream` (standard error when None).

    Libraries that use the standard `logging` come out the same way. Secrets are hidden whoever logs them.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        trace_without_messages,
        hide_secrets,
    ]
    target = stream if stream is not None else sys.stderr
    last: Any = _json_line if json else structlog.dev.ConsoleRenderer(colors=target.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide_secrets, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in _ECHOES:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def trace_without_messages(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the trace of an exception into the line: where it came by, and the kinds of the errors."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_trace(error))
    return event


def _trace(error: BaseException) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _trace(before)
        yield "then:"
    yield from (line.rstrip() for line in traceback.format_tb(error.__traceback__))
    said = f": {error}" if isinstance(error, _SPEAKING) else ""
    yield f"{type(error).__module__}.{type(error).__qualname__}{said}"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _trace(each)


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last line of defence: fields that hold secrets or content, and texts that look like a key, are masked."""
    for name, value in event.items():
        if name in _SECRET_FIELDS and value is not None:
            event[name] = HIDDEN
        elif isinstance(value, str):
            event[name] = _SECRET_TEXT.sub(HIDDEN, value)
    return event


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(dict(event), default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class LoopLag:
    """How long the event loop was held up: a timer that notes by how much it came late."""

    EVERY_S = 0.25
    KEPT_S = 15.0
    """A common scrape interval, so that no hold-up is lost between two scrapes."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._worst: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin to measure on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + self.EVERY_S, self._ring, loop, loop.time() + self.EVERY_S)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def note(self, now: float, late_s: float) -> None:
        """Take one measurement; those that can never be the worst again are dropped."""
        self._worst = [(at, late) for at, late in self._worst if now - at < self.KEPT_S and late > late_s]
        self._worst.append((now, late_s))

    def worst_s(self, now: float) -> float:
        """The longest hold-up of the last 15 s."""
        return max((late for at, late in self._worst if now - at < self.KEPT_S), default=0.0)

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.note(now, max(0.0, now - due))
        self._timer = loop.call_at(now + self.EVERY_S, self._ring, loop, now + self.EVERY_S)


class DispatcherFacts(Protocol):
    """What is shown of a dispatcher."""

    @property
    def connected(self) -> bool:
        """To the broker."""

    def views(self) -> list[ModelView]:
        """The models that it owns."""


def ops_sources(gateway: Gateway) -> OpsSources:
    """What the ops listener shows of a gateway. Call it on the running loop, whose lag it measures from then on."""
    lag = LoopLag()
    lag.start()
    loop = asyncio.get_running_loop()

    def gauges() -> ProcessGauges:
        return ProcessGauges(
            active_requests=len(gateway.inference.active),
            open_connections=len(gateway.front.connections),
            outbox_pending_records=gateway.outbox.pending(),
            event_loop_lag_s=lag.worst_s(loop.time()),
            uptime_s=time.time() - gateway.started_at_s,
        )

    observed = Observed(
        tallies=gateway.accounting.tallies,
        rejections=gateway.accounting.rejections,
        views=gateway.dispatch.views,
        gauges=gauges,
        broker=gateway.dispatch.gauges,
        speech_jobs=lambda: {} if gateway.speech is None else gateway.speech.jobs,
    )
    return _sources(observed, lambda: gateway.ready and gateway.dispatch.ready(), gateway.reconcile.follow)


async def nothing_to_follow() -> None:
    """For processes that keep nothing of the store in memory."""


def dispatcher_sources(
    dispatching: DispatcherFacts,
    started_at_s: float,
    broker: Callable[[], BrokerGauges | None] = no_broker,
    follow: Callable[[], Awaitable[None]] = nothing_to_follow,
) -> OpsSources:
    """What the ops listener shows of a dispatcher: the models that it owns. Ready is connected to the broker."""
    lag = LoopLag()
    lag.start()
    loop = asyncio.get_running_loop()

    def gauges() -> ProcessGauges:
        return ProcessGauges(event_loop_lag_s=lag.worst_s(loop.time()), uptime_s=time.time() - started_at_s)

    observed = Observed(tallies=dict, rejections=dict, views=dispatching.views, gauges=gauges, broker=broker)
    return _sources(observed, lambda: dispatching.connected, follow)


def _sources(observed: Observed, ready: Callable[[], bool], follow: Callable[[], Awaitable[None]]) -> OpsSources:
    return OpsSources(
        metrics=lambda: Snapshot.take(observed).text, state=lambda: state(observed), ready=ready, follow=follow
    )
