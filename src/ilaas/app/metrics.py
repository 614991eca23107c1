"""What Prometheus sees: a scrape turns the plain counters of accounting and broker into text; nothing is counted here.

Making the text takes 8 ms for 6 models with 2 servers each and 170 ms for 100 with 5, so it is done in two steps: the
numbers are copied on the event loop (under 2 ms for 100 models), and the text is made of the copy in another thread.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ilaas import __version__
from ilaas.app.metric_specs import MAX_ORGANISATIONS, SPECS, Kind
from ilaas.core.dispatch.events import ModelView, ServerView
from ilaas.core.values import RequestClass
from ilaas.services.accounting import SECONDS, Histogram, Tally

SERVER_STATES = ("up", "probing", "down", "draining")
MODEL_STATES = ("available", "busy", "unavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGauges:
    """What the gateway process is busy with, at this moment."""

    active_requests: int = 0
    open_connections: int = 0
    outbox_pending_records: int = 0
    event_loop_lag_s: float = 0.0
    uptime_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerGauges:
    """What a part has of the broker and over it."""

    connected: bool
    strange: int
    """Messages that made no sense."""
    owned: int | None = None
    """Models; None where nothing is decided."""
    credits: Mapping[str, int] = field(default_factory=dict)


def no_broker() -> BrokerGauges | None:
    """Of a process alone."""
    return None


def no_jobs() -> Mapping[tuple[str, bool], int]:
    """Of a part that has no speech service."""
    return {}


Tallies = Sequence[tuple[tuple[str, RequestClass], Tally]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Where the numbers are; each is asked once per scrape, on the event loop."""

    tallies: Callable[[], Mapping[tuple[str, RequestClass], Tally]]
    rejections: Callable[[], Mapping[str, int]]
    views: Callable[[], Sequence[ModelView]]
    gauges: Callable[[], ProcessGauges]
    broker: Callable[[], BrokerGauges | None] = no_broker
    speech_jobs: Callable[[], Mapping[tuple[str, bool], int]] = no_jobs
    """By step of the speech service, and whether a worker has them."""


@dataclass(frozen=True, slots=True, eq=False)  # the registry wants it hashable
class Snapshot(Collector):
    """A copy of all the numbers at one moment, which any thread may read."""

    tallies: Tallies
    rejections: Mapping[str, int]
    views: Sequence[ModelView]
    gauges: ProcessGauges
    broker: BrokerGauges | None
    speech_jobs: Mapping[tuple[str, bool], int]

    @classmethod
    def take(cls, observed: Observed) -> Snapshot:
        """Copy what would go on changing. Call it on the event loop."""
        return cls(
            [(key, _copy(tally)) for key, tally in sorted(observed.tallies().items())],
            dict(observed.rejections()),
            list(observed.views()),
            observed.gauges(),
            observed.broker(),
            dict(observed.speech_jobs()),
        )

    def collect(self) -> Iterator[Metric]:
        """Every metric of the table, for the registry."""
        yield from _requests(self.tallies, self.rejections)
        yield from _models(self.views)
        yield from _servers([(view.model, server) for view in self.views for server in view.servers])
        yield from _broker(self.broker)
        yield _speech(self.speech_jobs)
        yield from _process(self.gauges)

    def text(self) -> bytes:
        """The page in Prometheus' text format 0.0.4, with the process's own metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)


def state(observed: Observed) -> dict[str, object]:
    """The live state as JSON-ready values: what `GET /state` answers and `ilaas.cli.live` shows."""
    gauges = observed.gauges()
    tallies = sorted(observed.tallies().items())
    return {
        "version": __version__,
        "uptime_s": gauges.uptime_s,
        "active": gauges.active_requests,
        "connections": gauges.open_connections,
        "models": list(observed.views()),
        "requests": [
            {"model": model, "class": request_class, "outcome": outcome, "count": count}
            for (model, request_class), tally in tallies
            for outcome, count in tally.outcomes.items()
        ],
        "tokens": [
            {
                "model": model,
                "class": request_class,
                "prompt": tally.prompt_tokens,
                "completion": tally.completion_tokens,
            }
            for (model, request_class), tally in tallies
        ],
        "rejected": dict(observed.rejections()),
    }


def _copy(tally: Tally) -> Tally:
    queue, ttft, duration = (
        Histogram(list(histogram.counts), histogram.sum_ms) for histogram in (tally.queue, tally.ttft, tally.duration)
    )
    return replace(tally, outcomes=dict(tally.outcomes), queue=queue, ttft=ttft, duration=duration)


def _requests(tallies: Tallies, rejections: Mapping[str, int]) -> Iterator[Metric]:
    requests, tokens = _counter("ilaas_requests_total"), _counter("ilaas_tokens_total")
    continued, audio = _counter("ilaas_continued_streams_total"), _counter("ilaas_audio_seconds_total")
    queue, ttft, duration = (
        _histogram(name) for name in ("ilaas_queue_seconds", "ilaas_ttft_seconds", "ilaas_duration_seconds")
    )
    for (model, request_class), tally in tallies:
        labels = [model, str(request_class)]
        for outcome, count in tally.outcomes.items():
            requests.add_metric([*labels, str(outcome)], count)
        continued.add_metric(labels, tally.continued)
        tokens.add_metric([*labels, "prompt"], tally.prompt_tokens)
        tokens.add_metric([*labels, "completion"], tally.completion_tokens)
        audio.add_metric(labels, tally.audio_ms / 1000)
        for family, histogram in ((queue, tally.queue), (ttft, tally.ttft), (duration, tally.duration)):
            family.add_metric(labels, _buckets(histogram), histogram.sum_ms / 1000)
    rejected = _counter("ilaas_rejected_total")
    for code, count in sorted(rejections.items()):
        rejected.add_metric([code], count)
    yield from (requests, continued, rejected, tokens, audio, queue, ttft, duration)


def _models(views: Iterable[ModelView]) -> Iterator[Metric]:
    queued, by_organisation = _gauge("ilaas_queued"), _gauge("ilaas_queued_by_organisation")
    running, wait = _gauge("ilaas_running"), _gauge("ilaas_predicted_wait_seconds")
    states, up = _gauge("ilaas_model_state"), _gauge("ilaas_model_servers_up")
    for view in views:
        for request_class in RequestClass:
            queued.add_metric([view.model, str(request_class)], view.queued.get(request_class, 0))
        for organisation, count in _longest(view.queued_by_organisation):
            by_organisation.add_metric([view.model, organisation], count)
        running.add_metric([view.model], view.running)
        wait.add_metric([view.model], view.predicted_wait_s)
        for state_name in MODEL_STATES:
            states.add_metric([view.model, state_name], float(view.state == state_name))
        up.add_metric([view.model], sum(1 for server in view.servers if server.state == "up"))
    yield from (queued, by_organisation, running, wait, states, up)


def _longest(queued: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    ordered = sorted(((name, count) for name, count in queued.items() if count), key=lambda pair: (-pair[1], pair[0]))
    yield from ordered[:MAX_ORGANISATIONS]
    rest = sum(count for _, count in ordered[MAX_ORGANISATIONS:])
    if rest:
        yield "other", rest


def _servers(servers: Sequence[tuple[str, ServerView]]) -> Iterator[Metric]:
    states = _gauge("ilaas_server_state")
    for model, server in servers:
        for state_name in SERVER_STATES:
            states.add_metric([model, server.id, server.site, state_name], float(server.state == state_name))
    yield states
    told: tuple[tuple[str, Callable[[ServerView], float | None]], ...] = (
        ("ilaas_server_up", lambda server: float(server.state == "up")),
        ("ilaas_server_in_flight", lambda server: server.in_flight),
        ("ilaas_server_limit", lambda server: server.limit),
        ("ilaas_server_waiting", lambda server: server.waiting),
        ("ilaas_server_kv_cache_usage", lambda server: server.kv_cache_usage),
        ("ilaas_server_ttft_seconds", lambda server: server.ttft_s),
        ("ilaas_server_served_total", lambda server: server.served),
        ("ilaas_server_failed_total", lambda server: server.failed),
    )
    for name, value_of in told:
        family = _counter(name) if SPECS[name].kind is Kind.COUNTER else _gauge(name)
        for model, server in servers:
            value = value_of(server)
            if value is not None:
                family.add_metric([model, server.id, server.site], value)
        yield family


def _broker(broker: BrokerGauges | None) -> Iterator[Metric]:
    connected, owned = _gauge("ilaas_broker_connected"), _gauge("ilaas_models_owned")
    faults, lent = _counter("ilaas_broker_faults_total"), _gauge("ilaas_credits")
    if broker is not None:
        connected.add_metric([], float(broker.connected))
        faults.add_metric([], broker.strange)
        if broker.owned is not None:
            owned.add_metric([], broker.owned)
        for model, count in sorted(broker.credits.items()):
            lent.add_metric([model], count)
    yield from (connected, faults, owned, lent)


def _speech(jobs: Mapping[tuple[str, bool], int]) -> Metric:
    family = _gauge("ilaas_speech_jobs")
    for (step, in_hand), count in sorted(jobs.items()):
        family.add_metric([step, "running" if in_hand else "waiting"], count)
    return family


def _process(gauges: ProcessGauges) -> Iterator[Metric]:
    for name, value in (
        ("ilaas_active_requests", gauges.active_requests),
        ("ilaas_open_connections", gauges.open_connections),
        ("ilaas_outbox_pending_records", gauges.outbox_pending_records),
        ("ilaas_event_loop_lag_seconds", gauges.event_loop_lag_s),
        ("ilaas_uptime_seconds", gauges.uptime_s),
    ):
        family = _gauge(name)
        family.add_metric([], value)
        yield family
    build = _gauge("ilaas_build_info")
    build.add_metric([__version__, platform.python_version()], 1)
    yield build


def _counter(name: str) -> CounterMetricFamily:
    spec = SPECS[name]
    return CounterMetricFamily(name, spec.help, labels=spec.labels)


def _gauge(name: str) -> GaugeMetricFamily:
    spec = SPECS[name]
    return GaugeMetricFamily(name, spec.help, labels=spec.labels)


def _histogram(name: str) -> HistogramMetricFamily:
    spec = SPECS[name]
    return HistogramMetricFamily(name, spec.help, labels=spec.labels)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in SECONDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
