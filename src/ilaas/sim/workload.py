"""Who asks for what, and when: users in a closed loop, Poisson arrivals, a batch backlog, a recorded trace.

A workload is a description (pydantic, read from a scenario); `sources` plays it, in virtual time as against a live
gateway. All draws come from `random.Random` seeded by scenario, workload and user: the n-th request
of a user is the same whatever the dispatcher did before, so that two runs differ by the dispatching alone.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import Ticket
from ilaas.core.values import RequestClass, RoutingMode
from ilaas.sim.prefix_cache import Prefix

BLOCK_TOKENS = 128
"""Granularity of shared prompt beginnings."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Spec(BaseModel):
    """Base of everything written in a scenario: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lengths(Spec):
    """A number of tokens: log-normal around a median, cut at both ends. A bare number in the file means always that."""

    median: int = Field(gt=0)
    spread: float = Field(default=0.6, ge=0)
    """Standard deviation of the logarithm; 0 is no spread."""
    minimum: int = Field(default=1, ge=1)
    maximum: int = Field(default=4_096, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return {"median": value, "spread": 0, "maximum": max(value, 1)} if isinstance(value, int) else value

    def draw(self, rng: Random) -> int:
        """One length."""
        drawn = self.median * math.exp(self.spread * rng.gauss(0.0, 1.0))
        return max(self.minimum, min(self.maximum, round(drawn)))


def always(tokens: int) -> Lengths:
    """The same length each time."""
    return Lengths(median=tokens, spread=0, maximum=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One request to be sent. `at_s` is seconds since the start of the run."""

    id: str
    at_s: float
    workload: str
    user: int
    organisation: str
    model: str
    request_class: RequestClass
    routing_mode: RoutingMode
    priority: int
    prompt_tokens: int
    output_tokens: int
    estimated_tokens: int
    """What the gateway would guess before the answer is there."""
    conversation: int
    """Hash of the prompt's beginning; 0 is none."""
    prefix: Prefix | None
    stop_after_s: float | None
    """The user presses Stop so long after sending, if the answer is not whole by then."""

    def ticket(self, spec: ModelSpec, now: float) -> Ticket:
        """What the gateway gives to the dispatcher when the request comes in."""
        deadlines = spec.policy.deadlines
        batch = self.request_class is RequestClass.BATCH
        return Ticket(
            id=self.id,
            model=self.model,
            organisation=self.organisation,
            request_class=self.request_class,
            routing_mode=self.routing_mode,
            priority=self.priority,
            estimated_tokens=self.estimated_tokens,
            prefix_hash=self.conversation if len(spec.servers) > 1 else 0,
            arrived_s=now,
            deadline_s=now + (deadlines.batch_queue_s if batch else deadlines.queue_s),
        )


class Demand(Spec):
    """What all workloads but a trace have in common."""

    name: str
    organisations: Names
    """Users (or requests) are dealt out to them in turn."""
    models: Names
    """Each request takes one of them at random."""
    request_class: RequestClass = Field(
        default=RequestClass.INTERACTIVE, validation_alias=AliasChoices("class", "request_class")
    )
    routing_mode: RoutingMode = RoutingMode.ANY
    priority: int = 0
    prompt_tokens: Lengths = Lengths(median=600, spread=0.8)
    """Of the question alone; system prompt and earlier turns come on top."""
    output_tokens: Lengths = Lengths(median=250, spread=0.6, maximum=2_048)
    max_tokens: int = Field(default=512, gt=0)
    """What the client says the answer may have: the dispatcher's first estimate. Answers are not cut by it."""
    system_prompt_tokens: int = Field(default=0, ge=0)
    """Shared by all requests of the workload."""
    stop_share: Share = 0.0
    """Share of requests whose user presses Stop."""
    stop_after_s: Seconds = 5.0
    """Mean patience of those, exponentially distributed."""

    @field_validator("request_class")
    @classmethod
    def _not_owner(cls, value: RequestClass) -> RequestClass:
        if value is RequestClass.OWNER:
            raise ValueError("'owner' is given by the dispatcher: name a server's owner under organisations instead")
        return value


class Users(Demand):
    """Simultaneous users, each of whom sends a new request when the answer to the last is there."""

    kind: Literal["users"] = "users"
    ramp: tuple[tuple[Seconds, int], ...] = Field(min_length=1)
    """(time, number of users), linear in between; before the first and after the last time their numbers hold."""
    think_s: Seconds = 0.0
    """Mean pause between answer and next question, exponentially distributed."""
    turns: int = Field(default=1, ge=1)
    """Questions of one conversation; each carries the ones before it."""

    def users_at(self, at_s: float) -> float:
        """How many users there are."""
        before = self.ramp[0]
        for point in self.ramp:
            if point[0] > at_s:
                if point is before:
                    break
                share = (at_s - before[0]) / (point[0] - before[0])
                return before[1] + share * (point[1] - before[1])
            before = point
        return before[1]

    def active_from(self, user: int, at_s: float) -> float | None:
        """The earliest time from `at_s` on at which this user is there; None when never again."""
        wanted = user + 1 - 1e-9
        if self.users_at(at_s) >= wanted:
            return at_s
        for (start_s, low), (end_s, high) in zip(self.ramp, self.ramp[1:], strict=False):
            if high >= wanted and end_s > at_s:
                reached_s = end_s if high == low else start_s + (end_s - start_s) * (user + 1 - low) / (high - low)
                return max(at_s, min(reached_s, end_s))
        return None


class Poisson(Demand):
    """Requests that come independently of the answers."""

    kind: Literal["poisson"] = "poisson"
    rate: tuple[tuple[Seconds, Annotated[float, Field(ge=0)]], ...] = Field(min_length=1)
    """(time, requests per second from then on)."""


class Backlog(Demand):
    """A heap of requests, all there at once; what is refused is sent again after the Retry-After."""

    kind: Literal["backlog"] = "backlog"
    requests: int = Field(gt=0)
    at_s: Seconds = 0.0


class TraceLine(Spec):
    """One recorded request."""

    at_s: Seconds
    organisation: str
    model: str
    prompt_tokens: int = Field(gt=0)
    output_tokens: int = Field(ge=0)
    request_class: RequestClass = Field(
        default=RequestClass.INTERACTIVE, validation_alias=AliasChoices("class", "request_class")
    )
    routing_mode: RoutingMode = RoutingMode.ANY
    priority: int = 0


class Trace(Spec):
    """Requests as they were recorded, from a CSV or JSON-lines file beside the scenario."""

    kind: Literal["trace"] = "trace"
    name: str
    file: str = ""
    speed: float = Field(default=1.0, gt=0)
    """2 plays it twice as fast."""
    lines: tuple[TraceLine, ...] = ()
    """The content of `file`, filled in by the loader."""


Workload = Annotated[Users | Poisson | Backlog | Trace, Field(discriminator="kind")]


class Draws:
    """The requests of one user or stream, in order."""

    def __init__(self, spec: Demand, seed: int, user: int) -> None:
        self.rng = Random(f"{seed}/{spec.name}/{user}")  # noqa: S311  # repeatable, not secret
        self._spec = spec
        self._user = user
        self._count = 0
        self._history_tokens = 0
        self._turn = 0

    def next(self, at_s: float, turns: int = 1) -> Planned:
        """The request that follows, to be sent at `at_s`."""
        spec, rng, user = self._spec, self.rng, self._user
        number = self._count
        self._count += 1
        if self._turn >= turns:
            self._turn = self._history_tokens = 0
        self._turn += 1
        asked, output = spec.prompt_tokens.draw(rng), spec.output_tokens.draw(rng)
        stops, stop_after_s = rng.random() < spec.stop_share, rng.expovariate(1.0) * spec.stop_after_s
        model = spec.models[0] if len(spec.models) == 1 else rng.choice(spec.models)
        prompt = spec.system_prompt_tokens + self._history_tokens + asked
        self._history_tokens += asked + output
        conversation = zlib.crc32(f"{spec.name}/{user}/{number - self._turn}".encode()) | 1
        return Planned(
            id=f"{spec.name}-{user}-{number}" if user >= 0 else f"{spec.name}-{number}",
            at_s=at_s,
            workload=spec.name,
            user=user,
            organisation=spec.organisations[(user if user >= 0 else number) % len(spec.organisations)],
            model=model,
            request_class=spec.request_class,
            routing_mode=spec.routing_mode,
            priority=spec.priority,
            prompt_tokens=prompt,
            output_tokens=output,
            estimated_tokens=prompt + spec.max_tokens,
            conversation=conversation if turns > 1 else 0,
            prefix=_prefix(spec, conversation, prompt) if turns > 1 or spec.system_prompt_tokens else None,
            stop_after_s=stop_after_s if stops else None,
        )


def _prefix(spec: Demand, conversation: int, prompt_tokens: int) -> Prefix:
    """Blocks of the system prompt, which all share, then blocks of the conversation."""
    system = zlib.crc32(spec.name.encode())
    shared = spec.system_prompt_tokens // BLOCK_TOKENS
    blocks = range(prompt_tokens // BLOCK_TOKENS)
    return Prefix(tuple((system if block < shared else conversation) << 16 | block for block in blocks), BLOCK_TOKENS)
