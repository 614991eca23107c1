"""A scenario: sites, servers, models, organisations, workloads and what happens to the servers; read from YAML."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.errors import ConfigError
from ilaas.core.values import RequestClass, Strategy
from ilaas.sim.files import invalid, read_mapping
from ilaas.sim.params import PRESETS, EngineParams
from ilaas.sim.workload import Backlog, Lengths, Poisson, Seconds, Spec, Trace, Users, Workload

_WORKLOAD_KINDS = frozenset({"users", "poisson", "backlog", "trace"})


class Organisation(Spec):
    """A university or partner and its share when a model is saturated."""

    name: str
    weight: float = Field(default=1.0, gt=0)


class Server(Spec):
    """One simulated server: a preset, changed by `params` where given."""

    id: str
    site: str
    owner: str
    preset: str = "a100"
    params: Mapping[str, float] = Field(default_factory=dict)
    max_parallel: int | None = Field(default=None, gt=0)
    owner_reserved: int = Field(default=0, ge=0)
    statistics: bool = True
    """Whether its gauges can be read (vLLM yes, some others no)."""

    @property
    def engine(self) -> EngineParams:
        """Size and speed."""
        preset = PRESETS[self.preset]
        values = {item.name: getattr(preset, item.name) for item in fields(EngineParams)}
        values.update({name: type(values[name])(value) for name, value in self.params.items()})
        return EngineParams(**values)

    @model_validator(mode="after")
    def _known(self) -> Server:
        if self.preset not in PRESETS:
            raise ValueError(f"preset '{self.preset}' is not known; use one of {', '.join(PRESETS)}")
        names = [item.name for item in fields(EngineParams)]
        for name in self.params:
            if name not in names:
                raise ValueError(f"params.{name} is not known; use {', '.join(names)}")
        _ = self.engine  # raises ValueError for a value out of range
        return self


class Model(Spec):
    """One model, its servers and how it is dispatched. `policy` takes the fields of a model's policy."""

    name: str
    strategy: Strategy = Strategy.LEAST_BUSY
    policy: DispatchPolicy = DispatchPolicy()
    servers: tuple[Server, ...] = Field(min_length=1)

    @field_validator("policy", mode="before")
    @classmethod
    def _known_fields(cls, value: object) -> object:
        names = {item.name for item in fields(DispatchPolicy)} - {"strategy"}
        if isinstance(value, dict) and (unknown := sorted(set(value) - names)):
            raise ValueError(f"'{unknown[0]}' is not a field of a policy; use {', '.join(sorted(names))}")
        return value

    def spec(self) -> ModelSpec:
        """The model as the dispatcher knows it."""
        policy = {item.name: getattr(self.policy, item.name) for item in fields(DispatchPolicy)}
        return ModelSpec(
            name=self.name,
            policy=DispatchPolicy(**{**policy, "strategy": self.strategy}),
            servers=tuple(
                ServerSpec(
                    id=server.id,
                    url=f"http://{server.id}",
                    site=server.site,
                    owner=server.owner,
                    served_name=self.name,
                    max_parallel_requests=server.max_parallel,
                    owner_reserved=server.owner_reserved,
                    context_window=server.engine.context_tokens,
                )
                for server in self.servers
            ),
        )


class Event(Spec):
    """Something that happens to one server, or to all servers of a site."""

    at_s: Seconds
    action: Literal["down", "up", "drain", "resume"]
    server: str | None = None
    site: str | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Event:
        if (self.server is None) == (self.site is None):
            raise ValueError("name either 'server' or 'site'")
        return self


class Window(Spec):
    """A part of the run that is reported by itself."""

    name: str
    from_s: Seconds
    to_s: Seconds


class Scenario(Spec):
    """Everything one run depends on."""

    name: str
    description: str = ""
    seed: int = 1
    duration_s: float = Field(gt=0)
    """No request is sent from then on, and the run ends: what is still under way is counted as unfinished."""
    drain_s: Seconds = 0.0
    """Time after that in which requests under way may still end."""
    statistics_interval_s: float = Field(default=1.0, gt=0)
    health_interval_s: float = Field(default=5.0, gt=0)
    organisations: tuple[Organisation, ...] = ()
    """Those not named have weight 1."""
    models: tuple[Model, ...] = Field(min_length=1)
    workloads: tuple[Workload, ...] = Field(min_length=1)
    events: tuple[Event, ...] = ()
    windows: tuple[Window, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        models = {model.name for model in self.models}
        servers = [server for model in self.models for server in model.servers]
        for what, names in (
            ("model", [model.name for model in self.models]),
            ("server id", [server.id for server in servers]),
            ("workload", [workload.name for workload in self.workloads]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"the {what} '{name}' is there twice; each needs a name of its own")
        for workload in self.workloads:
            used = {line.model for line in workload.lines} if isinstance(workload, Trace) else set(workload.models)
            for name in sorted(used - models):
                raise ValueError(f"workload '{workload.name}' asks for model '{name}', which is not under models")
        sites = {server.site for server in servers}
        for event in self.events:
            if event.server is not None and event.server not in {server.id for server in servers}:
                raise ValueError(f"events name the server '{event.server}', which no model has")
            if event.site is not None and event.site not in sites:
                raise ValueError(f"events name the site '{event.site}', where no server is")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Organisation to weight."""
        return {organisation.name: organisation.weight for organisation in self.organisations}

    def with_strategy(self, strategy: Strategy) -> Scenario:
        """The same run with all models dispatched by this strategy."""
        models = tuple(model.model_copy(update={"strategy": strategy}) for model in self.models)
        return self.model_copy(update={"models": models, "name": f"{self.name}, {strategy}"})

    def without(self, *workloads: str) -> Scenario:
        """The same run without some workloads."""
        kept = tuple(workload for workload in self.workloads if workload.name not in workloads)
        return self.model_copy(update={"workloads": kept})


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises ConfigError naming file, line, field and what is wrong with it."""
    raw, node = read_mapping(path, "name, duration_s, models and workloads")
    if "institutions" in raw:
        raise ConfigError(f"{path}: this describes a federation; play it with 'ilaas simulate federation {path}'")
    workloads = raw.get("workloads")
    for workload in workloads if isinstance(workloads, list) else ():
        if isinstance(workload, dict) and workload.get("kind") == "trace" and "lines" not in workload:
            workload["lines"] = _trace_lines(path.parent / str(workload.get("file", "")))
    try:
        return Scenario.model_validate(raw)
    except ValidationError as error:
        raise invalid(path, node, error, _WORKLOAD_KINDS) from error


def _trace_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace: CSV with a header, or one JSON object a line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the trace can't be read ({error}); set 'file' beside the scenario") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: a line is not JSON ({error}); one object a line, or use .csv") from error


def reference_experiment(*, strategy: Strategy = Strategy.LEAST_BUSY, users: int = 50, seed: int = 1) -> Scenario:
    """A ramp of users in one minute, a plateau of three, a ramp down; beside them a full batch queue and owners.

    Three servers of three sites have 72 slots between them. Take `batch` or `owners` out with `Scenario.without`.
    """
    sites = (("lyon", "h200", 32), ("paris", "a100", 24), ("lille", "l40s", 16))
    servers = tuple(
        Server(id=f"{site}-{preset}", site=site, owner=site, preset=preset, max_parallel=slots)
        for site, preset, slots in sites
    )
    model = "mistral-small"
    return Scenario(
        name="reference experiment",
        description="Ramp, plateau and ramp down of interactive users beside a full batch queue and owners.",
        seed=seed,
        duration_s=300,
        models=(Model(name=model, strategy=strategy, servers=servers),),
        workloads=(
            Users(
                name="users",
                organisations=("nantes", "rennes", "brest", "tours", "angers"),
                models=(model,),
                ramp=((0, 0), (60, users), (240, users), (300, 0)),
                system_prompt_tokens=256,
            ),
            Backlog(
                name="batch",
                organisations=("nantes", "rennes"),
                models=(model,),
                request_class=RequestClass.BATCH,
                requests=4_000,
                prompt_tokens=Lengths(median=800),
                output_tokens=Lengths(median=300, maximum=1_500),
            ),
            Poisson(name="owners", organisations=("lyon", "lille"), models=(model,), rate=((0, 0.5),)),
        ),
        windows=(Window(name="plateau", from_s=60, to_s=240),),
    )
