"""Estimates the impact factors of a model by the method of the library `ecologits`.

The method is linear in the tokens of the answer, so that its functions are asked once per model, server and site; what
they give for a request is then reproduced by whole-number products (`core.impact`). Method and sources:
https://ecologits.ai, "Environmental Impacts of LLM Inference". The library's registry gives the parameters of models
that it knows; its speeds are those of commercial services and are not used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

from ecologits.impacts import llm
from ecologits.model_repository import ParametersMoE, models
from ecologits.utils.range_value import RangeValue

from ilaas.adapters.electricity import DISTRIBUTION
from ilaas.core.errors import ConfigError
from ilaas.core.impact import Case, ImpactFactors, SiteFactors
from ilaas.core.values import Category

_REGISTRIES = ("huggingface_hub", "mistralai")
"""Registries of models whose weights one can host, the one with the names that servers use first."""

_NOT_COVERED = frozenset({Category.EMBEDDING, Category.RERANKING, Category.TRANSCRIPTION, Category.SPEECH})
"""The method is for models that generate text."""

_FEW_REQUESTS = 16
_MANY_REQUESTS = 256
"""Simultaneous requests at which the bounds are computed; the value is at the library's own 64."""

_GPU_ENERGY = (llm.GPU_ENERGY_ALPHA, llm.GPU_ENERGY_BETA, llm.GPU_ENERGY_GAMMA)
_LATENCY = (llm.LATENCY_ALPHA, llm.LATENCY_BETA, llm.LATENCY_GAMMA)
_NJ_PER_KWH = 3.6e15
_NS_PER_S = 1e9
_UW_PER_KW = 1e9
_PG_PER_KG = 1e15
_HOUR_S = 3600.0

_BITS = re.compile(r"(?:^|[^a-z0-9])(?:w|int|fp|nf|bf|q|iq|nvfp|mxfp|uint|float|bfloat)?(2|3|4|5|6|8|16|32)(?![0-9])")
_USUAL_BITS = (("awq", 4), ("gptq", 4), ("half", 16), ("none", 16))
"""Of names that don't say it."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Billions of parameters, each a lower and an upper bound (equal when known)."""

    active: tuple[float, float]
    total: tuple[float, float]

    def __post_init__(self) -> None:
        for what, (low, high) in (("active", self.active), ("total", self.total)):
            if not 0.0 < low <= high < 1e5:
                raise ConfigError(
                    f"{what} parameters must be billions, above 0 and low before high, not {low} to {high}"
                )
        if self.active[0] > self.total[0] or self.active[1] > self.total[1]:
            raise ConfigError("active parameters exceed total parameters: give both in billions, active the smaller")

    @classmethod
    def of(cls, total_b: float, active_b: float | None = None) -> Parameters:
        """Of a model whose parameters are known; a dense one has all of them active."""
        active_b = total_b if active_b is None else active_b
        return cls((active_b, active_b), (total_b, total_b))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How a server runs the model."""

    quantisation: str | None = None
    """Decides how many GPUs the weights need; None or not understood is 16 bits, the library's default."""
    gpu_memory_gb: float = float(llm.GPU_MEMORY)
    first_token_s: float = 0.0
    """Time to first token counted as computing for each request; 0 is the library's default."""
    output_tokens_per_s: float | None = None
    """Of one stream; None is the library's regression."""


def find_parameters(names: Iterable[str]) -> Parameters | None:
    """The first of a model's names that the library's registry knows; case does not count.

    A name may also be `registry:name`, with any of the library's providers. Nothing is guessed from a name.
    """
    registry = {(model.provider.value, model.name.lower()): model for model in models.list_models()}
    for name in names:
        provider, colon, rest = name.lower().partition(":")
        keys = [(provider, rest)] if colon else []
        keys += [(provider, name.lower()) for provider in _REGISTRIES]
        for key in keys:
            model = registry.get(key)
            if model is not None:
                return _parameters(model.architecture.parameters)
    return None


def quantisation_bits(quantisation: str | None) -> int | None:
    """Bits per weight of what operators write: `fp8`, `w4a16`, `Q4_K_M`, `awq`, `bf16`… None if not understood."""
    if not quantisation:
        return None
    text = quantisation.lower()
    match = _BITS.search(text)
    if match is not None:
        return int(match[1])
    return next((bits for name, bits in _USUAL_BITS if name in text), None)


def estimated_factors(
    parameters: Parameters | None,
    site: SiteFactors,
    deployment: Deployment | None = None,
    category: Category = Category.GENERALIST,
) -> ImpactFactors | None:
    """The factors by the library's method; None when parameters are not known or the method doesn't cover the category.

    The value is the library's (64 simultaneous requests; the mean over a range of parameters). The lower bound takes
    the smallest parameters, the lowest PUE and 256 simultaneous requests, the upper bound the largest, the highest and
    16, because how full a server is decides more than anything else.
    """
    if parameters is None or category in _NOT_COVERED:
        return None
    deployment = deployment or Deployment()
    pue_low, pue, pue_high = site.pue_range
    ends = {(parameters.active[end], parameters.total[end]) for end in (0, 1)}
    smallest, largest = min(ends), max(ends)
    return ImpactFactors(
        method=f"{DISTRIBUTION}/{version(DISTRIBUTION)}",
        measured=False,
        middle=tuple(_case(end, deployment, pue, int(llm.BATCH_SIZE)) for end in sorted(ends)),
        low=_case(smallest, deployment, pue_low, _MANY_REQUESTS),
        high=_case(largest, deployment, pue_high, _FEW_REQUESTS),
        site=site,
        grid_ug_per_kwh=site.grid_ug_per_kwh,
    )


def _case(size_b: tuple[float, float], deployment: Deployment, pue: float, batch: int) -> Case:
    """The library's functions, asked for one token, one hour and one second."""
    active_b, total_b = size_b
    bits = quantisation_bits(deployment.quantisation) or llm.MODEL_QUANTIZATION_BITS
    gpus = llm.gpu_required_count(llm.model_required_memory(total_b, bits), deployment.gpu_memory_gb)
    token_s = llm.generation_latency(active_b, 1, batch, *_LATENCY, math.inf, deployment.output_tokens_per_s, None)
    machine_kg = llm.server_gpu_embodied_gwp(
        llm.SERVER_EMBODIED_IMPACT_GWP, llm.SERVER_GPUS, llm.GPU_EMBODIED_IMPACT_GWP, gpus
    )
    host_kw = llm.server_energy(_HOUR_S, llm.SERVER_POWER, llm.SERVER_GPUS, gpus, batch)
    return Case(
        output_token_nj=round(llm.gpu_energy(active_b, 1, batch, *_GPU_ENERGY) * gpus * pue * _NJ_PER_KWH),
        output_token_ns=round(token_s * _NS_PER_S),
        first_token_ns=round(deployment.first_token_s * _NS_PER_S),
        host_uw=round(host_kw * pue * _UW_PER_KW),
        embodied_pg_per_s=round(llm.request_embodied_gwp(machine_kg, llm.HARDWARE_LIFESPAN, 1.0, batch) * _PG_PER_KG),
    )


def _parameters(known: object) -> Parameters:
    if isinstance(known, ParametersMoE):
        return Parameters(_ends(known.active), _ends(known.total))
    return Parameters(_ends(known), _ends(known))


def _ends(value: object) -> tuple[float, float]:
    if isinstance(value, RangeValue):
        return float(value.min), float(value.max)
    if isinstance(value, int | float):
        return float(value), float(value)
    raise TypeError(f"parameters of an unknown kind: {type(value).__name__}")
