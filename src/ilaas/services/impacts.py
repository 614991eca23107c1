"""The impact of requests as they end: factors of every model on every server, estimated once and measured as it runs.

Measured factors are preferred while readings are fresh; when they are stale the estimate takes their place again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ilaas.core.catalogue import Catalogue, ModelSpec, ServerSpec
from ilaas.core.impact import FRANCE, Impact, ImpactFactors, SiteFactors, impact_of
from ilaas.core.impact_measured import EnergyShare, PowerReading, SharingRules, measured_factors
from ilaas.core.usage import Usage
from ilaas.core.values import Category

Place = tuple[str, str]
"""Model and server id."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Whose power is read: an exporter's page and the GPUs of it that count (empty is all)."""

    url: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """All that the estimate for a model on a server depends on."""

    names: tuple[str, ...]
    """By which the model may be known, the surest first."""
    total_parameters_b: tuple[float, float] | None
    active_parameters_b: tuple[float, float] | None
    category: Category
    quantisation: str | None
    gpu_memory_gb: float
    site: SiteFactors

    @classmethod
    def of(cls, model: ModelSpec, server: ServerSpec, site: SiteFactors) -> Deployed:
        """A model on one of its servers."""
        names = (model.impact_reference, server.served_name, model.name, *model.aliases)
        return cls(
            names=tuple(name for name in names if name),
            total_parameters_b=model.total_parameters_b,
            active_parameters_b=model.active_parameters_b,
            category=model.category,
            quantisation=server.quantisation,
            gpu_memory_gb=server.gpu_memory_gb,
            site=site,
        )


Estimate = Callable[[Deployed], ImpactFactors | None]


def no_estimate(_deployed: Deployed) -> None:
    """For gateways that reckon no impact."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """A model on a server whose machine's power is read."""

    share: EnergyShare
    site: SiteFactors
    estimate: ImpactFactors | None


class Impacts:
    """Factors by model and server, as one snapshot that is swapped in whole. One instance per gateway."""

    def __init__(
        self,
        estimate: Estimate = no_estimate,
        clock: Callable[[], float] = lambda: 0.0,
        rules: SharingRules | None = None,
    ) -> None:
        """`estimate` gives the factors of a method, or None; `clock` is monotonic seconds; `rules` share out power."""
        self._estimate = estimate
        self._clock = clock
        self._rules = rules
        self._known: dict[Deployed, ImpactFactors | None] = {}
        self._estimated: dict[Place, ImpactFactors | None] = {}
        self._factors: Mapping[Place, ImpactFactors | None] = {}
        self._shares: dict[Machine, EnergyShare] = {}
        self._measured: dict[Place, _Measured] = {}

    def use(self, catalogue: Catalogue, sites: Sequence[SiteFactors] = ()) -> None:
        """The catalogue or the sites changed. What was measured of machines that stay is kept."""
        by_name = {site.name: site for site in sites}
        known: dict[Deployed, ImpactFactors | None] = {}
        estimated: dict[Place, ImpactFactors | None] = {}
        shares: dict[Machine, EnergyShare] = {}
        measured: dict[Place, _Measured] = {}
        for model in catalogue.models.values():
            for server in model.servers:
                place, site = (model.name, server.id), by_name.get(server.site, FRANCE)
                deployed = Deployed.of(model, server, site)
                if deployed not in known:
                    known[deployed] = self._known[deployed] if deployed in self._known else self._estimate(deployed)
                estimated[place] = known[deployed]
                if server.power_url is not None:
                    machine = Machine(server.power_url, server.power_gpus)
                    share = shares.get(machine) or self._shares.get(machine) or EnergyShare(self._rules)
                    shares[machine] = share
                    measured[place] = _Measured(share, site, known[deployed])
        self._known, self._estimated, self._shares, self._measured = known, estimated, shares, measured
        self.refresh()

    def machines(self) -> tuple[Machine, ...]:
        """Whose power is to be read."""
        return tuple(self._shares)

    def read(self, machine: Machine, reading: PowerReading) -> None:
        """A machine's exporter was read just now. Takes effect with `refresh`."""
        share = self._shares.get(machine)
        if share is not None:
            share.read(reading, self._clock())

    def refresh(self) -> None:
        """Prefer what was measured where it is fresh, and swap the new snapshot in."""
        now = self._clock()
        factors = dict(self._estimated)
        for place, measured in self._measured.items():
            energy = measured.share.per_token(now)
            if energy is not None:
                factors[place] = measured_factors(energy, measured.site, measured.estimate)
        self._factors = factors

    def factors(self, model: str, server_id: str) -> ImpactFactors | None:
        """Of a model on a server; None when nothing is known."""
        return self._factors.get((model, server_id))

    def of(self, model: str, server_id: str, usage: Usage, duration_s: float = math.inf) -> Impact:
        """The impact of a request that spent `duration_s` at the server."""
        return impact_of(self._factors.get((model, server_id)), usage, duration_s)

    def computed(self, model: str, server_id: str, usage: Usage) -> None:
        """A request ended: its tokens bear a share of what its machine used meanwhile."""
        if self._measured:
            measured = self._measured.get((model, server_id))
            if measured is not None:
                measured.share.computed(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens)
