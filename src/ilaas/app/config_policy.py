"""The shape of what the configuration file says on how requests are held back, ordered, placed and ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ilaas.app.config_section import Section
from ilaas.app.config_types import Interval, Positive, Share, Switch, Word
from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.values import Continuation, Strategy

SCORERS = Literal["load", "affinity", "own"]

POLICY_OF_TODAY = {
    "routing_strategy": "strategy",
    "time_to_first_token_threshold": "ttft_guard",
    "default_max_parallel_requests": "default_max_parallel",
    "message_timeout": "deadlines.queue",
    "proxy_client_request_timeout": "deadlines.answer",
}
PRIORITY_OF_TODAY = "requests are put in order here, before they reach a server; remove it"


class DeadlinesSection(Section):
    """How long each stage of a request may last."""

    TARGET = Deadlines

    queue: Interval | None = Field(None, description="Waiting for a server, interactive requests")
    batch_queue: Interval | None = Field(None, description="Waiting for a server, batch requests")
    connect: Interval | None = Field(None, description="Until the server accepts the connection")
    first_token: Interval | None = Field(None, description="From sending to the first token of a streamed answer")
    answer: Interval | None = Field(None, description="From sending to the end of an answer that is not streamed")
    idle: Interval | None = Field(None, description="Silence in the middle of a streamed answer")
    total: Interval | None = Field(None, description="The whole request")


class PolicySection(Section):
    """How a model's requests are held back, ordered and placed."""

    TARGET = DispatchPolicy
    SYNONYMS: ClassVar[Mapping[str, str]] = POLICY_OF_TODAY
    IGNORED: ClassVar[Mapping[str, str]] = {"priority_handler": PRIORITY_OF_TODAY, "best_priority": PRIORITY_OF_TODAY}

    strategy: Annotated[Strategy, Word] | None = Field(None, description="How servers are chosen")
    quality_of_service_policy: (
        Annotated[
            Literal["warning-log", "performance-based-requeue", "parallel-requests-threshold-requeue"],
            Word,
        ]
        | None
    ) = Field(
        None,
        description="Today's setting: `parallel-requests-threshold-requeue` with `round-robin` is the strategy "
        "`round-robin-priority`; the others change nothing",
    )
    default_max_parallel: Positive | None = Field(
        None, description="Simultaneous requests of a server that names no `max_parallel_requests`"
    )
    ttft_guard: Interval | None = Field(
        None, description="A server whose time to first token passes this gets less work (`least-busy`)"
    )
    max_wait: Interval | None = Field(
        None, description="An interactive request whose predicted wait passes this is refused at once with 429"
    )
    batch_max_wait: Interval | None = Field(None, description="The same for batch requests")
    max_queued: Positive | None = Field(None, description="Requests that may wait for the model")
    max_queued_per_organisation: Positive | None = Field(None, description="The same, of one organisation")
    ageing: Interval | None = Field(
        None, description="A batch request that waited this long gets a share of the slots beside interactive ones"
    )
    ageing_share: Share | None = Field(None, description="That share, 0 to 1")
    max_attempts: Positive | None = Field(None, description="Servers tried for a request, the first one included")
    continuation: Annotated[Continuation, Switch] | None = Field(
        None, description="Whether another server goes on with a streamed answer whose server died in mid-answer"
    )
    scorers: list[SCORERS] | None = Field(None, description="What a server is chosen by, most important first")
    failures_before_down: Positive | None = Field(None, description="Failures in a row that take a server out")
    successes_before_up: Positive | None = Field(None, description="Successes in a row that bring it back")
    down: Interval | None = Field(None, description="First pause of a server that failed; doubled at each relapse")
    stale: Interval | None = Field(None, description="Statistics of a server older than this are not used")
    deadlines: DeadlinesSection | None = Field(None, description="See deadlines")
