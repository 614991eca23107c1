"""A federation and a day of it, as people write it: machines, sites, institutions, uses and models; read from YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.impact import FRANCE
from ilaas.core.values import Category, RequestClass, Strategy
from ilaas.sim.files import invalid, read_mapping
from ilaas.sim.params import PRESETS, EngineParams
from ilaas.sim.workload import Lengths, Seconds, Share, Spec

HOURS = 24
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Spot(Spec):
    """Machines lent for a while: they come and go by themselves. Times are exponentially distributed."""

    present_h: Positive = 4.0
    """Mean time from coming to going."""
    away_h: Positive = 2.0
    """Mean time until it comes back."""
    notice_s: Seconds = 60.0
    """Between the notice, from which on it takes no new request, and its end; what still runs then is cut off."""


class Kind(Spec):
    """A kind of machine: an engine preset, changed by `params` where given."""

    preset: str
    params: Mapping[str, float] = Field(default_factory=dict)
    max_parallel: int = Field(gt=0)
    owner_reserved: Count = 0
    quantisation: str | None = None
    gpu_memory_gb: Positive = 80.0
    idle_w: float = Field(default=0.0, ge=0)
    """Power of the whole machine with nothing to compute."""
    busy_w: float = Field(default=0.0, ge=0)
    spot: Spot | None = None

    @model_validator(mode="after")
    def _known(self) -> Kind:
        if self.preset not in PRESETS:
            raise ValueError(f"preset '{self.preset}' is not known; use one of {', '.join(PRESETS)}")
        names = [item.name for item in fields(EngineParams)]
        for name in self.params:
            if name not in names:
                raise ValueError(f"params.{name} is not known; use {', '.join(names)}")
        if self.busy_w < self.idle_w:
            raise ValueError(f"busy_w ({self.busy_w:g}) is below idle_w ({self.idle_w:g}); give watts of the machine")
        _ = self.engine(1.0)  # raises ValueError for a value out of range
        return self

    def engine(self, speed: float) -> EngineParams:
        """Size and speed for a model that is computed `speed` times as fast as that of the presets."""
        preset = PRESETS[self.preset]
        values = {item.name: getattr(preset, item.name) for item in fields(EngineParams)}
        values.update({name: type(values[name])(value) for name, value in self.params.items()})
        values["prefill_tps"] *= speed
        values["decode_base_s"] /= speed
        values["decode_per_sequence_s"] /= speed
        return EngineParams(**values)


class Site(Spec):
    """A data centre, the institution that provides it, and its machines by kind."""

    name: str
    owner: str
    pue: float = Field(default=FRANCE.pue, ge=1)
    grid_g_per_kwh: float = Field(default=FRANCE.grid_g_per_kwh, ge=0)
    servers: Mapping[str, Count]


class Institution(Spec):
    """A member: its people, and its share when a model is saturated."""

    name: str
    people: Count
    weight: Positive = 1.0


class Use(Spec):
    """One way of using the federation. A conversation is a number of requests in a row, each after a pause."""

    name: str
    request_class: RequestClass = Field(
        default=RequestClass.INTERACTIVE, validation_alias=AliasChoices("class", "request_class")
    )
    per_person: float = Field(ge=0)
    """Requests of the day for each person, on average over all people."""
    profile: str
    turns: float = Field(default=1.0, ge=1)
    """Mean number of requests in a conversation (geometrically distributed); of a batch job, its size."""
    pause_s: Seconds = 30.0
    """Mean time from one request of a conversation to the next (exponentially distributed)."""
    history: bool = True
    """Each request carries the questions and answers before it."""
    system_prompt_tokens: Count = 0
    """Shared by all requests of the use."""
    prompt_tokens: Lengths = Lengths(median=600, spread=0.8)
    output_tokens: Lengths = Lengths(median=250, spread=0.6, maximum=2_048)
    max_prompt_tokens: int = Field(default=30_000, gt=0)
    """History included: clients cut what is older."""
    max_tokens: int = Field(default=1_024, gt=0)
    """What clients say an answer may have: the dispatcher's estimate."""

    @field_validator("request_class")
    @classmethod
    def _not_owner(cls, value: RequestClass) -> RequestClass:
        if value is RequestClass.OWNER:
            raise ValueError("'owner' is given by the dispatcher; use interactive or batch")
        return value


class Models(Spec):
    """A group of like models, and what each kind of machine gives to it."""

    name: str
    models: int = Field(default=1, gt=0)
    """How many; more than one are named with a number."""
    parameters_b: Positive
    active_parameters_b: Positive | None = None
    speed: Positive = 1.0
    """How fast the presets' machines compute them; 1 is a model of some 30 billion parameters."""
    popularity: float = Field(default=1.0, ge=0)
    """The n-th model of the group is asked for in proportion to n to the power of minus this."""
    category: Category = Category.GENERALIST
    """What the impact is estimated by: embeddings and reranking have no method."""
    uses: Mapping[str, Share]
    """Share of each use's requests that goes to the group."""
    servers: Mapping[str, Count]
    strategy: Strategy = Strategy.LEAST_BUSY
    policy: DispatchPolicy = DispatchPolicy()

    @field_validator("policy", mode="before")
    @classmethod
    def _known_fields(cls, value: object) -> object:
        names = {item.name for item in fields(DispatchPolicy)} - {"strategy"}
        if isinstance(value, dict) and (unknown := sorted(set(value) - names)):
            raise ValueError(f"'{unknown[0]}' is not a field of a policy; use {', '.join(sorted(names))}")
        return value


class Day(Spec):
    """Everything one run depends on."""

    name: str
    description: str = ""
    seed: int = 1
    hours: float = Field(default=24.0, gt=0, le=24)
    """From midnight; no request is sent from then on."""
    drain_s: Seconds = 3_600.0
    """Time after that in which requests under way may still end."""
    statistics_interval_s: Positive = 5.0
    health_interval_s: Positive = 5.0
    profiles: Mapping[str, tuple[Annotated[float, Field(ge=0)], ...]]
    """How a day's requests are spread: a weight for each hour, joined by straight lines."""
    kinds: Mapping[str, Kind]
    sites: tuple[Site, ...] = Field(min_length=1)
    institutions: tuple[Institution, ...] = Field(min_length=1)
    uses: tuple[Use, ...] = Field(min_length=1)
    models: tuple[Models, ...] = Field(min_length=1)

    @field_validator("profiles")
    @classmethod
    def _whole_days(cls, value: Mapping[str, tuple[float, ...]]) -> Mapping[str, tuple[float, ...]]:
        for name, weights in value.items():
            if len(weights) != HOURS or not sum(weights):
                raise ValueError(f"'{name}' has {len(weights)} weights; give 24, one for each hour, not all 0")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Day:
        _each_once("sites", "site", [site.name for site in self.sites])
        _each_once("institutions", "institution", [member.name for member in self.institutions])
        _each_once("uses", "use", [use.name for use in self.uses])
        _each_once("models", "group of models", [group.name for group in self.models])
        if not sum(member.people for member in self.institutions):
            raise ValueError("institutions: nobody is there; give one of them people")
        self._names_known()
        for kind in self.kinds:
            there = sum(site.servers.get(kind, 0) for site in self.sites)
            wanted = sum(group.servers.get(kind, 0) for group in self.models)
            if there != wanted:
                raise ValueError(
                    f"models.servers: the sites have {there} machines of kind '{kind}' and the models take {wanted}; "
                    "make both the same"
                )
        for group in self.models:
            if sum(group.servers.values()) < group.models:
                raise ValueError(f"models.servers: group '{group.name}' has fewer servers than models; give more")
        for use in self.uses:
            total = sum(group.uses.get(use.name, 0.0) for group in self.models)
            if use.per_person and abs(total - 1.0) > 0.001:
                raise ValueError(f"models.uses: the shares of use '{use.name}' add up to {total:g}; make it 1")
        return self

    def _names_known(self) -> None:
        members = [member.name for member in self.institutions]
        for site in self.sites:
            _known(f"sites: owner of '{site.name}'", [site.owner], members, "institutions")
            _known(f"sites: '{site.name}'", site.servers, self.kinds, "kinds")
        for use in self.uses:
            _known(f"uses: profile of '{use.name}'", [use.profile], self.profiles, "profiles")
        for group in self.models:
            _known(f"models: uses of '{group.name}'", group.uses, [use.name for use in self.uses], "uses")
            _known(f"models: servers of '{group.name}'", group.servers, self.kinds, "kinds")

    @property
    def people(self) -> int:
        """Of all institutions."""
        return sum(member.people for member in self.institutions)

    @property
    def duration_s(self) -> float:
        """In which requests are sent."""
        return self.hours * 3600.0


def _each_once(field: str, what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{field}: the {what} '{name}' is there twice; each needs a name of its own")


def _known(where: str, names: Iterable[str], among: Iterable[str], field: str) -> None:
    known = list(among)
    for name in names:
        if name not in known:
            raise ValueError(f"{where} is '{name}', which is not under {field}; use one of {', '.join(known)}")


def load_day(path: Path) -> Day:
    """Read a federation's file. Raises ConfigError naming file, line, field and what is wrong with it."""
    raw, node = read_mapping(path, "name, profiles, kinds, sites, institutions, uses and models")
    try:
        return Day.model_validate(raw)
    except ValidationError as error:
        raise invalid(path, node, error) from error
