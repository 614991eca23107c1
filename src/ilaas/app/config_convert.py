"""Makes the settings out of the checked sections, and checks what no section can see alone: names, owners, dates."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ilaas.adapters.sql.engine import database_url
from ilaas.app.config_impact import site_of
from ilaas.app.config_model import FileSection, ModelSection, OrganisationSection
from ilaas.app.config_policy import PolicySection
from ilaas.app.config_section import Section
from ilaas.app.config_servers import Pool, unique_ids
from ilaas.app.config_speech import speech_of
from ilaas.app.config_urls import broker_url
from ilaas.app.config_yaml import Problems, YamlMap, line_at
from ilaas.app.settings import Settings
from ilaas.app.speech_settings import SpeechSettings
from ilaas.core.catalogue import DispatchPolicy, ModelSpec
from ilaas.core.errors import ConfigError
from ilaas.core.impact import SiteFactors
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Organisation
from ilaas.core.values import Lifecycle, Strategy

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


def to_settings(file: FileSection, tree: YamlMap, problems: Problems, state_dir: str | None) -> Settings:
    """The settings. `state_dir` is the environment's, which counts more than the file's. Notes problems."""
    return _Converter(file, tree, problems).settings(state_dir)


def changes(section: Section | None, target: Any) -> dict[str, Any]:
    """What a section says, by the names of the dataclass's fields (`max_wait` is `max_wait_s` there)."""
    if section is None:
        return {}
    names = {spec.name for spec in dataclasses.fields(target)}
    found: dict[str, Any] = {}
    for field_name, value in section:
        attribute = next((field_name + end for end in ("", "_s", "_bytes") if field_name + end in names), None)
        if attribute is not None and value is not None and not isinstance(value, Section):
            found[attribute] = tuple(value) if isinstance(value, list) else value
    return found


@dataclass(slots=True)
class _Converter:
    file: FileSection
    tree: YamlMap
    problems: Problems
    names: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Line and model of each public name and alias."""

    def settings(self, state_dir: str | None) -> Settings:
        file = self.file
        organisations = self._organisations()
        sites = self._sites()
        policy = self._policy(file.defaults, DispatchPolicy())
        models = self._models(organisations, policy)
        self._check_sites(sites, models)
        default = Settings()
        values = changes(file, Settings) | {
            "state_dir": self._state_dir(state_dir),
            "limits": dataclasses.replace(default.limits, **changes(file.limits, default.limits)),
            "store_url": self._store(),
            "broker_url": self._broker(),
            "organisations": organisations,
            "sites": sites,
            "models": models,
            "default_policy": policy,
            "speech": speech_of(file.speech, self.problems.path.parent, changes(file.speech, SpeechSettings)),
            "config_path": self.problems.path,
        }
        for name, value in changes(file.metrics, default).items():
            values[f"ops_{name}"] = value
        settings = dataclasses.replace(default, **values)
        if settings.port and (settings.host, settings.port) == (settings.ops_host, settings.ops_port):
            self._error(("metrics", "port"), "metrics must have a port of their own; choose another than 'port'")
        if not models and not self.problems.errors:
            self.problems.warn(1, "no models, so nothing can be asked for; add one under 'models:'")
        return dataclasses.replace(settings, warnings=self.problems.warning_lines())

    def _line(self, *place: int | str) -> int:
        return line_at(self.tree, place)

    def _error(self, place: tuple[int | str, ...], what: str) -> None:
        self.problems.error(self._line(*place), what)

    def _state_dir(self, environment: str | None) -> Path:
        if environment:
            return Path(environment)
        return self.problems.path.parent / self.file.state_dir if self.file.state_dir else Settings().state_dir

    def _store(self) -> str | None:
        url = self.file.store
        if url is not None:
            try:
                database_url(url)
            except (ConfigError, ValueError):  # ValueError: SQLAlchemy on a port that is no number
                self._error(
                    ("store",),
                    "'store' must be a database URL; write sqlite:///FILE or postgresql://USER@HOST/DATABASE",
                )
        return url

    def _broker(self) -> str | None:
        url = self.file.broker
        if url is not None:
            try:
                broker_url(url)
            except ValueError as error:
                self._error(("broker",), f"'broker' {error}")
        return url

    # -- organisations ---------------------------------------------------------------------------------------------

    def _organisations(self) -> tuple[Organisation, ...]:
        found: dict[str, Organisation] = {}
        lines: dict[str, int] = {}
        for index, section in enumerate(self.file.organisations or ()):
            line = self._line("organisations", index, "name")
            if section.name in found:
                self.problems.error(
                    line, f"the organisation '{section.name}' is on line {lines[section.name]} already; remove one"
                )
                continue
            lines[section.name] = line
            found[section.name] = self._organisation(section)
        return tuple(found.values())

    def _organisation(self, section: OrganisationSection) -> Organisation:
        limits = changes(section.limits, Limits)
        if section.limits is not None and section.limits.budget_eur_per_month is not None:
            limits["budget_micro_eur_per_month"] = round(section.limits.budget_eur_per_month * 1_000_000)
        return Organisation(**changes(section, Organisation), limits=Limits(**limits))

    # -- sites -----------------------------------------------------------------------------------------------------

    def _sites(self) -> tuple[SiteFactors, ...]:
        found: dict[str, SiteFactors] = {}
        for index, section in enumerate(self.file.sites or ()):
            if section.name in found:
                self._error(("sites", index, "name"), f"the site '{section.name}' is there already; remove one")
                continue
            try:
                found[section.name] = site_of(section)
            except ConfigError as error:
                self._error(("sites", index), error.message)
        return tuple(found.values())

    def _check_sites(self, sites: tuple[SiteFactors, ...], models: tuple[ModelSpec, ...]) -> None:
        used = {server.site for model in models for server in model.servers}
        for index, site in enumerate(sites):
            if used and site.name not in used and len(sites) == len(self.file.sites or ()):
                self.problems.warn(
                    self._line("sites", index, "name"),
                    f"no server of this file is at the site '{site.name}'; write its name as servers give it in 'site'",
                )

    # -- models ----------------------------------------------------------------------------------------------------

    def _policy(self, section: PolicySection | None, base: DispatchPolicy) -> DispatchPolicy:
        if section is None:
            return base
        deadlines = dataclasses.replace(base.deadlines, **changes(section.deadlines, base.deadlines))
        policy = dataclasses.replace(base, **changes(section, base), deadlines=deadlines)
        if section.quality_of_service_policy == "parallel-requests-threshold-requeue" and (
            policy.strategy is Strategy.ROUND_ROBIN
        ):
            policy = dataclasses.replace(policy, strategy=Strategy.ROUND_ROBIN_PRIORITY)
        return policy

    def _models(self, organisations: tuple[Organisation, ...], default: DispatchPolicy) -> tuple[ModelSpec, ...]:
        known = tuple(organisation.name for organisation in organisations)
        pool = Pool(self.tree, self.problems, known, self._check_known)
        models: list[ModelSpec] = []
        for index, section in enumerate(self.file.models or ()):
            name = section.name or section.model
            if name is None:
                self._error(("models", index), "a model needs a name; add 'name', 'model' or both")
                continue
            if not self._claim(name, name, ("models", index, "name" if section.name else "model")):
                continue
            for number, organisation in enumerate(section.organisations or ()):
                self._check_known(organisation, known, ("models", index, "organisations", number))
            self._check_lifecycle(index)
            policy = self._policy(section.policy, default)
            values = changes(section, ModelSpec) | {
                "name": name,
                "policy": policy,
                **self._parameters(section, index),
                "organisations": None if section.organisations is None else frozenset(section.organisations),
                "servers": pool.servers(index, section, policy),
            }
            models.append(ModelSpec(**values))
        models = self._aliases(models)
        return unique_ids(models, pool.lines, self.problems)

    def _parameters(self, section: ModelSection, index: int) -> dict[str, tuple[float, float]]:
        stated = section.parameters_b
        if stated is None:
            return {}
        place = ("models", index, "parameters_b")
        if stated.total is None:
            self._error(place, "'parameters_b' needs 'total'; add all parameters of the model, in billions")
            return {}
        active = stated.active or stated.total
        if active[0] > stated.total[0] or active[1] > stated.total[1]:
            self._error(place, "'active' is more than 'total'; exchange them, or leave 'active' out for a dense model")
            return {}
        return {"total_parameters_b": stated.total, "active_parameters_b": active}

    def _claim(self, name: str, model: str, place: tuple[int | str, ...]) -> bool:
        line = self._line(*place)
        if (taken := self.names.get(name)) is None:
            self.names[name] = (line, model)
            return True
        self.problems.error(
            line, f"a model named '{name}' is on line {taken[0]} already; put their servers together or rename one"
        )
        return False

    def _aliases(self, models: list[ModelSpec]) -> list[ModelSpec]:
        """Aliases after all names; the names that servers use come last and give way to every other."""
        place = {model.name: index for index, model in self._named()}
        for model in models:
            for number, alias in enumerate(model.aliases):
                line = self._line("models", place[model.name], "aliases", number)
                taken = self.names.setdefault(alias, (line, model.name))
                if taken[1] != model.name:
                    self.problems.error(
                        line, f"the alias '{alias}' belongs to '{taken[1]}' on line {taken[0]} already; choose another"
                    )
        result = []
        for model in models:
            section = (self.file.models or ())[place[model.name]]
            aliases = [alias for alias in dict.fromkeys(model.aliases) if alias != model.name]
            if section.model is not None and section.model != model.name and section.model not in aliases:
                line = self._line("models", place[model.name], "model")
                taken = self.names.setdefault(section.model, (line, model.name))
                if taken[1] == model.name:
                    aliases.append(section.model)
                else:
                    self.problems.warn(
                        line,
                        f"clients who ask for '{section.model}' get '{taken[1]}' (line {taken[0]}), "
                        f"not '{model.name}'; make it a name or an alias of the one that is meant",
                    )
            result.append(dataclasses.replace(model, aliases=tuple(aliases)))
        return result

    def _named(self) -> Iterable[tuple[int, Any]]:
        seen: set[str] = set()
        for index, section in enumerate(self.file.models or ()):
            name = section.name or section.model
            if name is not None and name not in seen:
                seen.add(name)
                yield index, section.model_copy(update={"name": name})

    def _check_known(self, name: str, known: tuple[str, ...], place: tuple[int | str, ...]) -> None:
        if not known or name in known:
            return
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"did you mean '{close[0]}'?" if close else "add it under 'organisations:'"
        self._error(place, f"'{name}' is not one of the organisations of this file; {remedy}")

    def _check_lifecycle(self, index: int) -> None:
        section = (self.file.models or ())[index]
        if section.retires_on is not None:
            try:
                if not _ISO_DATE.match(section.retires_on):
                    raise ValueError(section.retires_on)
                date.fromisoformat(section.retires_on)
            except ValueError:
                self._error(("models", index, "retires_on"), "'retires_on' must be a date; write it like 2026-12-31")
            if section.lifecycle is not Lifecycle.DEPRECATED:
                self.problems.warn(
                    self._line("models", index, "retires_on"),
                    "'retires_on' is announced only for a model with 'lifecycle: deprecated'; set it when it is time",
                )
        elif section.lifecycle is Lifecycle.DEPRECATED:
            self._error(
                ("models", index, "lifecycle"),
                "a deprecated model needs the date on which it goes; add 'retires_on: YYYY-MM-DD'",
            )
