"""A scenario: sites, servers, models, organisations, workloads and what happens to the servers; read from YAML."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.errors import ConfigError
from ilaas.core.values import RequestClass, Strategy
from ilaas.sim.params import PRESETS, EngineParams
from ilaas.sim.workload import Backlog, Lengths, Poisson, Seconds, Spec, Trace, Users, Workload


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
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the scenario can't be read ({error}); give the path of a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: this is not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a scenario is a mapping with name, duration_s, models and workloads")
    workloads = raw.get("workloads")
    for workload in workloads if isinstance(workloads, list) else ():
        if isinstance(workload, dict) and workload.get("kind") == "trace" and "lines" not in workload:
            workload["lines"] = _trace_lines(path.parent / str(workload.get("file", "")))
    try:
        return Scenario.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        loc = tuple(part for part in first["loc"] if part not in {"users", "poisson", "backlog", "trace"})
        field = ".".join(str(part) for part in loc)
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}:{_line(node, loc)}: {field + ': ' if field else ''}{message}") from error


def _line(node: yaml.Node | None, loc: tuple[Any, ...]) -> int:
    """The line of the deepest part of a field's path that is in the file."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            node = None
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


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
