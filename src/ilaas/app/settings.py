"""Everything the gateway is started with, as one immutable value. `app.config` makes it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ilaas.app.speech_settings import SpeechSettings
from ilaas.core.catalogue import DispatchPolicy, ModelSpec
from ilaas.core.impact import SiteFactors
from ilaas.core.tenancy import Organisation
from ilaas.http.limits import Limits

__all__ = ["RUN_FILE", "Limits", "Settings"]

RUN_FILE = "run.json"
"""In the state folder while a gateway runs: its process id and ports."""


class Role(StrEnum):
    """What a process of the platform does."""

    ALL = "all"
    """Everything in one process."""
    GATEWAY = "gateway"
    """Serves clients; asks dispatchers over the broker."""
    DISPATCHER = "dispatcher"
    """Decides for the models that the broker gives it."""
    WORKER = "worker"
    """Does the jobs of the speech service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The gateway's settings. What is said in three places counts in this order: command line, environment, file."""

    state_dir: Path = Path(".ilaas")
    host: str = "127.0.0.1"
    port: int = 8000
    ops_host: str = "127.0.0.1"
    """Prometheus metrics and the live state: never on the public listener."""
    ops_port: int = 9464
    limits: Limits = field(default_factory=Limits)
    keepalive_comment_s: float = 15.0
    """Between two SSE comments to a streaming client that waits."""
    statistics_interval_s: float = 1.0
    health_interval_s: float = 5.0
    power_interval_s: float = 5.0
    """Between two readings of the power of a server's machine."""
    usage_retention_days: int = 400
    """Single usage records are deleted after so many days; the sums by hour and day stay."""
    shutdown_grace_s: float = 30.0
    """What answers under way get to come to their end when the gateway is told to stop."""
    shutdown_notice_s: float = 0.0
    """How long it goes on serving after it was told to stop, and says that it is not ready: a load balancer's time."""
    allow_private_addresses: bool = False
    """Whether servers added at run time may have addresses of private networks or of this machine."""
    historic_overload_text: bool = False
    """Answer overload with today's dispatcher's 503 text instead of the OpenAI error object."""
    store_url: str | None = field(default=None, repr=False)
    """SQLAlchemy address of the database; None is a SQLite file in the state folder."""
    role: Role = Role.ALL
    """Which parts of the platform this process runs."""
    broker_url: str | None = field(default=None, repr=False)
    """RabbitMQ; None is a dispatcher in the gateway's own process."""
    broker_namespace: str = "ilaas"
    """Before the names of queues and exchanges."""
    broker_quorum: bool = False
    """Queues of tickets are quorum queues."""
    organisations: tuple[Organisation, ...] = ()
    sites: tuple[SiteFactors, ...] = ()
    """What data centres add to the energy of a request; one that is not here has the factors of France."""
    models: tuple[ModelSpec, ...] = ()
    default_policy: DispatchPolicy = field(default_factory=DispatchPolicy)
    """Of models that say nothing of their own (each model's `policy` contains it already)."""
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    config_path: Path | None = None
    """The file these settings came from, which is watched for changes."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What the reader of the file put right by itself, `FILE:LINE: …` each."""

    @property
    def database_url(self) -> str:
        """The store's address, with the default filled in."""
        return self.store_url or f"sqlite+aiosqlite:///{self.state_dir / 'ilaas.db'}"

    @property
    def run_file(self) -> Path:
        """Where a running gateway says how to reach it."""
        return self.state_dir / RUN_FILE
