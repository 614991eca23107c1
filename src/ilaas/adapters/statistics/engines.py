"""What each engine tells of itself, and how it is read.

Names verified in the engines' own sources and documentation:
- vLLM: docs.vllm.ai "Production Metrics"; `gpu_cache_usage_perc` was renamed `kv_cache_usage_perc` in 0.9/0.10.
- SGLang: docs/references/production_metrics.md of sgl-project/sglang (served with `--enable-metrics` only).
- LMDeploy: lmdeploy/metrics/loggers.py of InternLM/lmdeploy (served with `--enable-metrics` only).
- llama.cpp: tools/server/README.md of ggml-org/llama.cpp; `/metrics` needs `--metrics`, newer builds have lost
  `kv_cache_usage_ratio`; `/slots` may be switched off.
- Ollama: docs.ollama.com/api/ps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from ilaas.adapters.statistics.scan import Sample, of_model, scan
from ilaas.adapters.statistics.ttft import TtftWindow, buckets
from ilaas.core.dispatch.events import ServerStatistics
from ilaas.core.values import Engine

_MOST_REQUESTS = 1_000_000
_ROUNDING = 1.05
"""A share slightly above 1 is rounding by the server; one far above is another unit."""

NOTHING = ServerStatistics()
"""What a page without any known value gives."""


@dataclass(frozen=True, slots=True)
class _Names:
    """How one engine calls what is wanted; of several names the first that is there counts."""

    running: str
    waiting: str
    usage: tuple[str, ...]
    ttft: str


_VLLM = _Names(
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ttft="vllm:time_to_first_token_seconds_bucket",
)
_SGLANG = _Names(
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    usage=("sglang:token_usage",),
    ttft="sglang:time_to_first_token_seconds_bucket",
)
_LMDEPLOY = _Names(
    running="lmdeploy:num_requests_running",
    waiting="lmdeploy:num_requests_waiting",
    usage=("lmdeploy:gpu_cache_usage_perc",),
    ttft="lmdeploy:time_to_first_token_seconds_bucket",
)


def parse_vllm(text: str, model: str, window: TtftWindow | None = None) -> ServerStatistics:
    """vLLM's `/metrics`. Without a window of earlier readings there is no time to first token."""
    return _parse(_VLLM, text, model, window)


def parse_sglang(text: str, model: str, window: TtftWindow | None = None) -> ServerStatistics:
    """SGLang's `/metrics`."""
    return _parse(_SGLANG, text, model, window)


def parse_lmdeploy(text: str, model: str, window: TtftWindow | None = None) -> ServerStatistics:
    """LMDeploy's `/metrics`."""
    return _parse(_LMDEPLOY, text, model, window)


def parse_llamacpp(metrics: str, slots: str = "") -> ServerStatistics:
    """llama.cpp's `/metrics` and `/slots`; either may be empty. One server runs one model, so labels don't matter.

    Old builds put prompts into `/slots`: only the number of slots and of those at work is kept of it.
    """
    listed = _json(slots)
    count = busy = None
    if isinstance(listed, list) and listed and all(isinstance(slot, dict) for slot in listed):
        count = len(listed)
        busy = sum(1 for slot in listed if slot.get("is_processing") is True or slot.get("state") == 1)
    running = _count(list(scan(metrics, "llamacpp:requests_processing")))
    return ServerStatistics(
        running=busy if running is None else running,
        waiting=_count(list(scan(metrics, "llamacpp:requests_deferred"))),
        kv_cache_usage=_share(list(scan(metrics, "llamacpp:kv_cache_usage_ratio"))),
        slots=count,
    )


def parse_ollama(text: str) -> ServerStatistics:
    """Ollama's `/api/ps`: the models in memory. It tells neither running nor waiting requests."""
    answer = _json(text)
    listed = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return NOTHING
    names = (model.get("model") or model.get("name") for model in listed if isinstance(model, dict))
    return ServerStatistics(models=tuple(name for name in names if isinstance(name, str)))


def _parse(names: _Names, text: str, model: str, window: TtftWindow | None) -> ServerStatistics:
    def of(name: str) -> Sequence[Sample]:
        return of_model(list(scan(text, name)), model)

    ttft_s = window.add(buckets(of(names.ttft))) if window is not None else None
    usage = next((share for share in (_share(of(name)) for name in names.usage) if share is not None), None)
    return ServerStatistics(
        running=_count(of(names.running)), waiting=_count(of(names.waiting)), kv_cache_usage=usage, ttft_p95_s=ttft_s
    )


def _count(samples: Sequence[Sample]) -> int | None:
    """Requests of all engines behind one URL together (data parallelism)."""
    if not samples:
        return None
    total = sum(sample.value for sample in samples)
    return int(total) if total <= _MOST_REQUESTS else None


def _share(samples: Sequence[Sample]) -> float | None:
    """The fullest engine's: that one preempts first."""
    largest = max((sample.value for sample in samples), default=None)
    return min(largest, 1.0) if largest is not None and largest <= _ROUNDING else None


def _json(text: str) -> object:
    if not text:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return None


Parse = Callable[[Mapping[str, str], str, TtftWindow], ServerStatistics]
"""Takes the pages by path (a missing one is left out), the served model's name and its window."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Which pages of a server are fetched, and what is read out of them."""

    paths: tuple[str, ...]
    parse: Parse


READERS: Mapping[Engine, Reader] = MappingProxyType(
    {
        Engine.VLLM: Reader(("/metrics",), lambda pages, model, window: parse_vllm(pages["/metrics"], model, window)),
        Engine.SGLANG: Reader(
            ("/metrics",), lambda pages, model, window: parse_sglang(pages["/metrics"], model, window)
        ),
        Engine.LMDEPLOY: Reader(
            ("/metrics",), lambda pages, model, window: parse_lmdeploy(pages["/metrics"], model, window)
        ),
        Engine.LLAMACPP: Reader(
            ("/metrics", "/slots"),
            lambda pages, _model, _window: parse_llamacpp(pages.get("/metrics", ""), pages.get("/slots", "")),
        ),
        Engine.OLLAMA: Reader(("/api/ps",), lambda pages, _model, _window: parse_ollama(pages["/api/ps"])),
    }
)
"""By engine; LiteLLM and plain OpenAI servers tell nothing, and are judged by what the gateway itself observes."""
