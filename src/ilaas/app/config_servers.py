"""Makes the servers of the models: URL, owner, site, served name, and an identifier that stays the same."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ilaas.app.config_model import ModelSection, ServerSection
from ilaas.app.config_urls import BaseUrl, base_url, page_url
from ilaas.app.config_yaml import Problems, YamlMap, line_at
from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.values import Engine

NOBODY = "federation"
"""The owner of a server of which the file says none, when there is more than one organisation."""

DEFAULT_GPU_MEMORY_GB = 80.0

_NO_WORD = re.compile(r"[^\w.-]+")

Place = tuple[int | str, ...]


@dataclass(slots=True)
class Pool:
    """Reads the servers of one model after another."""

    tree: YamlMap
    problems: Problems
    known: tuple[str, ...]
    """Names of the organisations of the file; empty when it lists none."""
    check_known: Callable[[str, tuple[str, ...], Place], None]
    lines: dict[tuple[str, str], int] = field(default_factory=dict)
    """Line of each server by model and URL."""

    def servers(self, index: int, model: ModelSection, policy: DispatchPolicy) -> tuple[ServerSpec, ...]:
        """The servers of the model at `index`; those that are wrong are reported and left out."""
        name = model.name or model.model or ""
        found: list[ServerSpec] = []
        for number, section in enumerate(model.servers or ()):
            place: Place = ("models", index, "servers", number)
            url = self._url(section, place)
            if url is None:
                continue
            line = line_at(self.tree, (*place, "url"))
            first = self.lines.setdefault((name, url.url), line)
            if any(server.url == url.url for server in found):
                self.problems.error(line, f"this URL is a server of '{name}' on line {first} already; remove one")
                continue
            found.append(self._server(section, url, model, place))
            self._check_slots(section, policy, place)
        return tuple(found)

    def _url(self, section: ServerSection, place: Place) -> BaseUrl | None:
        line = line_at(self.tree, (*place, "url"))
        try:
            url = base_url(section.url)
        except ValueError as error:
            self.problems.error(line, f"'url' {error}")
            return None
        for remark in url.remarks:
            self.problems.warn(line, remark)
        return url

    def _server(self, section: ServerSection, url: BaseUrl, model: ModelSection, place: Place) -> ServerSpec:
        owner = section.organisation
        if owner is not None:
            self.check_known(owner, self.known, (*place, "organisation"))
        elif len(self.known) == 1:
            owner = self.known[0]
        else:
            self.problems.warn(
                line_at(self.tree, place),
                "the server has no 'organisation', so nobody goes first on it; add who provides it",
            )
        site = section.site or owner or url.host
        return ServerSpec(
            id=section.id or f"{_NO_WORD.sub('-', site)}/{url.host}:{url.port}{url.path}",
            url=url.url,
            site=site,
            owner=owner or NOBODY,
            served_name=section.served_name or model.served_name or model.model or model.name or "",
            engine=section.engine or Engine.VLLM,
            token=section.token,
            max_parallel_requests=section.max_parallel_requests,
            owner_reserved=section.owner_reserved or 0,
            context_window=section.context_window or model.context_window,
            quantisation=section.quantisation or model.quantisation,
            gpu_memory_gb=section.gpu_memory_gb or DEFAULT_GPU_MEMORY_GB,
            power_url=self._power_url(section, place),
            power_gpus=tuple(section.power_gpus or ()),
            spot=bool(section.spot),
            draining=bool(section.draining),
        )

    def _power_url(self, section: ServerSection, place: Place) -> str | None:
        if section.power_url is None:
            if section.power_gpus:
                line = line_at(self.tree, (*place, "power_gpus"))
                self.problems.error(line, "'power_gpus' is nothing without 'power_url'; add the exporter's page")
            return None
        try:
            return page_url(section.power_url)
        except ValueError as error:
            self.problems.error(line_at(self.tree, (*place, "power_url")), f"'power_url' {error}")
            return None

    def _check_slots(self, section: ServerSection, policy: DispatchPolicy, place: Place) -> None:
        slots = section.max_parallel_requests or policy.default_max_parallel
        if (section.owner_reserved or 0) > slots:
            self.problems.error(
                line_at(self.tree, (*place, "owner_reserved")),
                f"'owner_reserved' is more than the {slots} simultaneous requests of the server; lower it, "
                "or raise 'max_parallel_requests'",
            )


def unique_ids(
    models: Iterable[ModelSpec], lines: dict[tuple[str, str], int], problems: Problems
) -> tuple[ModelSpec, ...]:
    """Tell servers of several models at one address apart by `#model`; report identifiers that are still the same."""
    models = tuple(models)
    shared = Counter(server.id for model in models for server in model.servers)
    seen: dict[str, int] = {}
    result: list[ModelSpec] = []
    for model in models:
        servers: list[ServerSpec] = []
        for server in model.servers:
            line = lines[model.name, server.url]
            identifier = server.id if shared[server.id] == 1 else f"{server.id}#{model.name}"
            if identifier in seen:
                problems.error(
                    line,
                    f"the server on line {seen[identifier]} has the id '{server.id}' too; give each its own 'id'",
                )
            seen.setdefault(identifier, line)
            servers.append(dataclasses.replace(server, id=identifier))
        result.append(dataclasses.replace(model, servers=tuple(servers)))
    return tuple(result)
