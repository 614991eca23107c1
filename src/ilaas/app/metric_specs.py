"""The table of metrics: names, labels, meaning. docs/metrics.md, the dashboard and the alerts are tested against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

MAX_ORGANISATIONS = 20
"""Organisations with a series of their own per model, the longest queues first; the rest are added up as `other`."""


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: its name as exposed, its labels and what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_MODEL = ("model",)
_CLASS = ("model", "class")
_SERVER = ("model", "server", "site")

METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "ilaas_requests_total",
        Kind.COUNTER,
        ("model", "class", "outcome"),
        "Requests that ended, each with exactly one outcome.",
    ),
    MetricSpec(
        "ilaas_continued_streams_total",
        Kind.COUNTER,
        _CLASS,
        "Streamed answers that went on at another server, since their own died in mid-answer.",
    ),
    MetricSpec(
        "ilaas_rejected_total",
        Kind.COUNTER,
        ("code",),
        "Requests refused before the queue, by the error code answered.",
    ),
    MetricSpec(
        "ilaas_tokens_total", Kind.COUNTER, ("model", "class", "direction"), "Tokens of prompts and completions."
    ),
    MetricSpec("ilaas_audio_seconds_total", Kind.COUNTER, _CLASS, "Recordings heard and speech made."),
    MetricSpec("ilaas_queue_seconds", Kind.HISTOGRAM, _CLASS, "Time a request waited for a server."),
    MetricSpec(
        "ilaas_ttft_seconds",
        Kind.HISTOGRAM,
        _CLASS,
        "Time to first token at the server, where there was one.",
    ),
    MetricSpec("ilaas_duration_seconds", Kind.HISTOGRAM, _CLASS, "Time from the request's arrival to its end."),
    MetricSpec("ilaas_queued", Kind.GAUGE, _CLASS, "Requests that wait for a server now."),
    MetricSpec(
        "ilaas_queued_by_organisation",
        Kind.GAUGE,
        ("model", "organisation"),
        "Requests that wait now, of the 20 organisations with the longest queues; the others as `other`.",
    ),
    MetricSpec("ilaas_running", Kind.GAUGE, _MODEL, "Requests at a server now."),
    MetricSpec(
        "ilaas_predicted_wait_seconds",
        Kind.GAUGE,
        _MODEL,
        "Predicted wait of a new interactive request of an organisation that has none waiting.",
    ),
    MetricSpec("ilaas_model_state", Kind.GAUGE, ("model", "state"), "1 for the state the model is in, else 0."),
    MetricSpec("ilaas_model_servers_up", Kind.GAUGE, _MODEL, "Servers of the model that take requests."),
    MetricSpec("ilaas_server_up", Kind.GAUGE, _SERVER, "1 when the server takes new requests (state `up`), else 0."),
    MetricSpec(
        "ilaas_server_state",
        Kind.GAUGE,
        ("model", "server", "site", "state"),
        "1 for the state the server is in, else 0.",
    ),
    MetricSpec("ilaas_server_in_flight", Kind.GAUGE, _SERVER, "Requests this gateway has at the server now."),
    MetricSpec("ilaas_server_limit", Kind.GAUGE, _SERVER, "Requests the server may have now; absent when unlimited."),
    MetricSpec("ilaas_server_waiting", Kind.GAUGE, _SERVER, "Requests in the server's own queue, when it tells."),
    MetricSpec(
        "ilaas_server_kv_cache_usage",
        Kind.GAUGE,
        _SERVER,
        "Share of the server's KV cache in use, 0 to 1, when it tells.",
    ),
    MetricSpec(
        "ilaas_server_ttft_seconds",
        Kind.GAUGE,
        _SERVER,
        "Recent mean time to first token, as this gateway observed it.",
    ),
    MetricSpec("ilaas_server_served_total", Kind.COUNTER, _SERVER, "Requests the server answered."),
    MetricSpec("ilaas_server_failed_total", Kind.COUNTER, _SERVER, "Requests that failed by the server's fault."),
    MetricSpec("ilaas_broker_connected", Kind.GAUGE, (), "1 while connected to RabbitMQ; absent where none is used."),
    MetricSpec(
        "ilaas_broker_faults_total",
        Kind.COUNTER,
        (),
        "Messages of other parts that made no sense, or came from an owner of the past.",
    ),
    MetricSpec("ilaas_models_owned", Kind.GAUGE, (), "Models that this dispatcher decides for."),
    MetricSpec(
        "ilaas_credits",
        Kind.GAUGE,
        _MODEL,
        "Slots to be had without asking: at a dispatcher lent to all gateways, at a gateway its own.",
    ),
    MetricSpec(
        "ilaas_speech_jobs",
        Kind.GAUGE,
        ("step", "state"),
        "Media of the speech service whose next step is this one, and waits for a worker or is being done.",
    ),
    MetricSpec("ilaas_active_requests", Kind.GAUGE, (), "Requests under way: queued, at a server or being answered."),
    MetricSpec("ilaas_open_connections", Kind.GAUGE, (), "Connections of clients to the public listener."),
    MetricSpec(
        "ilaas_outbox_pending_records", Kind.GAUGE, (), "Usage records that are not known to be in the store yet."
    ),
    MetricSpec(
        "ilaas_event_loop_lag_seconds", Kind.GAUGE, (), "Longest the event loop was held up during the last 15 s."
    ),
    MetricSpec("ilaas_uptime_seconds", Kind.GAUGE, (), "Since this gateway started."),
    MetricSpec("ilaas_build_info", Kind.GAUGE, ("version", "python"), "Always 1."),
)

SPECS: Mapping[str, MetricSpec] = MappingProxyType({spec.name: spec for spec in METRICS})
