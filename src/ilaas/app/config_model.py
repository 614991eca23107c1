"""The shape of the configuration file, section by section: names, types, ranges. Its defaults are those of the values.

A field left out is None here: `config_convert` fills it from the defaults section, then from the dataclass in `TARGET`.
A field for which the dataclass has `<name>_s` or `<name>_bytes` may be written with that ending too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from ilaas.app.config_impact import ParametersSection, SiteSection, total_alone
from ilaas.app.config_policy import POLICY_OF_TODAY, PRIORITY_OF_TODAY, PolicySection
from ilaas.app.config_section import Section
from ilaas.app.config_speech import SpeechSection
from ilaas.app.config_types import (
    Count,
    Duration,
    EngineWord,
    Euros,
    Interval,
    Memory,
    Name,
    Namespace,
    NumberOrName,
    Port,
    Positive,
    Prose,
    Size,
    Token,
    Weight,
    Word,
)
from ilaas.app.settings import Limits as ClientLimits
from ilaas.app.settings import Settings
from ilaas.core.catalogue import ModelSpec, ServerSpec
from ilaas.core.quota.limits import Limits as Quota
from ilaas.core.tenancy import Organisation
from ilaas.core.values import Category, Engine, Lifecycle

_CHART = "it belongs to the chart that starts servers or the dispatcher of today, and is not used here; remove it"


class MetricsSection(Section):
    """The listener for operators."""

    host: Name | None = Field(None, description="Address it listens on")
    port: Port | None = Field(None, description="Port; 0 takes a free one")


class LimitsSection(Section):
    """What one client may cost the gateway."""

    TARGET = ClientLimits

    max_body: Size | None = Field(None, description="Largest request body; above it 413")
    max_upload: Size | None = Field(None, description="Largest form with a recording; above it 413")
    max_uploads: Positive | None = Field(None, description="Recordings kept at one time; above it 429")
    max_kept: Size | None = Field(None, description="Recordings kept at one time, all together; above it 429")
    upload_timeout: Interval | None = Field(None, description="For the whole of a form with a recording; then 408")
    max_header: Size | None = Field(None, description="Largest request head; above it 431")
    header_timeout: Interval | None = Field(None, description="From the first byte to the whole head")
    linger: Duration | None = Field(
        None, description="After a refusal in mid-request: how long what the client still sends is dropped"
    )
    client_write_buffer: Size | None = Field(
        None, description="Held for a client that reads slowly, before its server is no longer read"
    )
    keep_alive: Interval | None = Field(None, description="An idle connection of a client is closed after this")
    max_connections: Positive | None = Field(None, description="Open connections of all clients together")


class QuotaSection(Section):
    """What an organisation's projects may use together."""

    TARGET = Quota

    requests_per_minute: Count | None = Field(None, description="Requests in a minute")
    tokens_per_minute: Count | None = Field(None, description="Tokens in a minute, prompt and answer together")
    tokens_per_day: Count | None = Field(None, description="Tokens in a calendar day (UTC)")
    tokens_per_month: Count | None = Field(None, description="Tokens in a calendar month (UTC)")
    simultaneous_requests: Count | None = Field(None, description="Requests under way at one time")
    budget_eur_per_month: Euros | None = Field(None, description="Euros in a calendar month (UTC)")


class OrganisationSection(Section):
    """A university or partner."""

    TARGET = Organisation

    name: Name = Field(description="Its name, as keys and servers give it")
    weight: Weight | None = Field(None, description="Its share when a model is saturated, relative to the others")
    contributor: bool | None = Field(None, description="It provides servers")
    consumer: bool | None = Field(None, description="Its keys may be used for requests")
    limits: QuotaSection | None = Field(None, description="See limits of an organisation")


class ServerSection(Section):
    """One inference server of a model."""

    TARGET = ServerSpec
    SECRETS = ("token",)
    SYNONYMS: ClassVar[Mapping[str, str]] = {"owner": "organisation", "served_model_name": "served_name"}

    url: Name = Field(description="Base URL without `/v1`")
    id: Name | None = Field(None, description="Its name in commands and metrics; else `site/host:port`")
    site: Name | None = Field(None, description="The data centre; else the name of the organisation")
    organisation: Name | None = Field(
        None, description="Who provides it and goes first on it; may be left out when there is only one"
    )
    engine: Annotated[Engine, EngineWord] | None = Field(None, description="The program behind the URL")
    token: Token | None = Field(None, description="Its API key: text, `${VAR}`, or `{file: path}`")
    token_file: Name | None = Field(None, description="The file that holds its API key")
    max_parallel_requests: Positive | None = Field(
        None, description="Simultaneous requests; else the policy's `default_max_parallel`"
    )
    owner_reserved: Count | None = Field(None, description="Slots that only its own organisation may take")
    served_name: Name | None = Field(None, description="The model's name on this server; else the model's")
    context_window: Positive | None = Field(None, description="Tokens of prompt and answer; else the model's")
    quantisation: Name | None = Field(None, description="For example `fp8`, `awq`; else the model's")
    gpu_memory_gb: Memory | None = Field(None, description="GB of one of its GPUs, to reckon how many the model needs")
    power_url: Name | None = Field(
        None, description="The page of its machine's GPU power exporter; `/metrics` is added where there is no path"
    )
    power_gpus: list[NumberOrName] | None = Field(
        None, description="Its GPUs by UUID or index, where others of the machine are not its own; else all"
    )
    spot: bool | None = Field(None, description="It may be taken away at any time, for `continuation: spot`")
    draining: bool | None = Field(None, description="It takes no new request")


class ModelSection(Section):
    """One model and its servers."""

    TARGET = ModelSpec
    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "vllm_servers": "servers",
        "served_model_name": "served_name",
        "deadlines": "policy.deadlines",
        "strategy": "policy.strategy",
        "quality_of_service_policy": "policy.quality_of_service_policy",
        **{name: f"policy.{target}" for name, target in POLICY_OF_TODAY.items()},
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "dtype": _CHART,
        "gpu_memory_utilisation": _CHART,
        "huggingface_token": _CHART,
        "rope_scaling": _CHART,
        "replica_count": _CHART,
        "pvc": _CHART,
        "priority_handler": PRIORITY_OF_TODAY,
        "best_priority": PRIORITY_OF_TODAY,
    }

    name: Name | None = Field(None, description="The public name, by which clients call it; else `model`")
    model: Name | None = Field(None, description="The model's name on its servers, also accepted from clients")
    served_name: Name | None = Field(None, description="The name on its servers where it is not `model`")
    aliases: list[Name] | None = Field(None, description="Other names by which clients may call it")
    category: Annotated[Category, Word] | None = Field(None, description="What it is for")
    lifecycle: Annotated[Lifecycle, Word] | None = Field(
        None, description="`staging` is seen only by those in `organisations`; `deprecated` is announced in answers"
    )
    retires_on: Name | None = Field(None, description="Date on which a deprecated model goes, `2026-12-31`")
    context_window: Positive | None = Field(None, description="Tokens of prompt and answer together")
    quantisation: Name | None = Field(None, description="Of all its servers that say nothing of their own")
    tool_calling: bool | None = Field(None, description="It can call tools")
    vision: bool | None = Field(None, description="It takes images")
    description: Prose | None = Field(None, description="For people, in the list of models")
    parameters_b: Annotated[ParametersSection, BeforeValidator(total_alone)] | None = Field(
        None, description="Billions of parameters: a number, or see parameters_b; for its energy"
    )
    impact_reference: Name | None = Field(
        None, description="Its name in the registry of ecologits, or `registry:name`, for its parameters"
    )
    organisations: list[Name] | None = Field(None, description="Who may use it; else everyone")
    policy: PolicySection | None = Field(None, description="See policy; overrides `defaults`")
    servers: list[ServerSection] | None = Field(None, description="A list, or a mapping from URL to the other fields")


class FileSection(Section):
    """The whole file."""

    TARGET = Settings
    SECRETS = ("store", "broker")
    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "ops_host": "metrics.host",
        "ops_port": "metrics.port",
        "store_url": "store",
        "broker_url": "broker",
        "default_policy": "defaults",
        "policy": "defaults",
        "metrics_refresh_rate": "statistics_interval",
        "ping_refresh_rate": "health_interval",
        **{name: f"defaults.{target}" for name, target in POLICY_OF_TODAY.items()},
        "quality_of_service_policy": "defaults.quality_of_service_policy",
    }
    IGNORED: ClassVar[Mapping[str, str]] = {
        "tokens": "clients' tokens are not read from here; create keys with 'ilaas key create', and remove it",
        "sender": _CHART,
        "consumer": _CHART,
        "inferenceserver": _CHART,
        "rabbitmq": _CHART,
        "database": _CHART,
        "mysql": _CHART,
        "postgresql": _CHART,
        "ingress": _CHART,
        "priority_handler": PRIORITY_OF_TODAY,
        "best_priority": PRIORITY_OF_TODAY,
    }

    state_dir: Name | None = Field(None, description="Folder of what must be kept, relative to this file")
    host: Name | None = Field(None, description="Address the gateway listens on")
    port: Port | None = Field(None, description="Its port; 0 takes a free one")
    metrics: MetricsSection | None = Field(None, description="See metrics")
    limits: LimitsSection | None = Field(None, description="See limits of the gateway")
    store: Name | None = Field(None, description="URL of the database: text, `${VAR}`, or `{file: path}`")
    store_file: Name | None = Field(None, description="The file that holds the URL of the database")
    broker: Name | None = Field(
        None,
        description="URL of RabbitMQ (`amqp://` or `amqps://`), for many gateways: text, `${VAR}`, or `{file: path}`",
    )
    broker_file: Name | None = Field(None, description="The file that holds the URL of RabbitMQ")
    broker_namespace: Namespace | None = Field(
        None, description="Before the names of all queues and exchanges, so that federations can share a broker"
    )
    broker_quorum: bool | None = Field(
        None, description="Tickets lie in quorum queues, for a cluster of RabbitMQ; the same for all parts"
    )
    keepalive_comment: Interval | None = Field(
        None, description="Between two SSE comments to a streaming client that waits"
    )
    statistics_interval: Interval | None = Field(None, description="Between two readings of a server's statistics")
    health_interval: Interval | None = Field(None, description="Between two health checks of a server")
    power_interval: Interval | None = Field(None, description="Between two readings of the power of a machine")
    usage_retention_days: Positive | None = Field(
        None, description="Single usage records are deleted after so many days; the sums by hour and day stay"
    )
    shutdown_grace: Duration | None = Field(None, description="What answers under way get to end when it stops")
    shutdown_notice: Duration | None = Field(
        None, description="How long it serves on, not ready, when it is told to stop: a load balancer's time to see it"
    )
    allow_private_addresses: bool | None = Field(
        None, description="Servers added at run time may have addresses of private networks"
    )
    historic_overload_text: bool | None = Field(
        None, description="Answer overload with the 503 text of today's dispatcher"
    )
    organisations: list[OrganisationSection] | None = Field(None, description="See organisations")
    sites: list[SiteSection] | None = Field(None, description="See sites")
    defaults: PolicySection | None = Field(None, description="See policy; for all models")
    models: list[ModelSection] | None = Field(None, description="See models")
    speech: SpeechSection | None = Field(None, description="See speech")
