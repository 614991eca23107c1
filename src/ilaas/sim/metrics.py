"""The simulated server's `/metrics`, in vLLM's names."""

from __future__ import annotations

from ilaas.sim.histogram import Histogram
from ilaas.sim.journal import PHASES, Journal
from ilaas.sim.serving import Serving


def render(serving: Serving, journal: Journal, model: str, *, old: bool) -> bytes:
    """Prometheus text. `old` adds the name that vLLM's KV-cache gauge had before."""
    engine = serving.engine
    label = '{model_name="' + model.replace("\\", "\\\\").replace('"', '\\"') + '"}'
    lines: list[str] = []

    def plain(name: str, kind: str, value: float) -> None:
        lines.extend((f"# TYPE {name} {kind}", f"{name}{label} {value!r}"))

    plain("vllm:num_requests_running", "gauge", float(serving.running))
    plain("vllm:num_requests_waiting", "gauge", float(serving.waiting))
    plain("vllm:kv_cache_usage_perc", "gauge", engine.kv_cache_usage)
    if old:
        plain("vllm:gpu_cache_usage_perc", "gauge", engine.kv_cache_usage)
    plain("vllm:prompt_tokens_total", "counter", float(serving.prompt_tokens_total))
    plain("vllm:generation_tokens_total", "counter", float(serving.generation_tokens_total))
    plain("vllm:prefix_cache_queries_total", "counter", float(engine.prefix_cache.queried_tokens))
    plain("vllm:prefix_cache_hits_total", "counter", float(engine.prefix_cache.hit_tokens))
    plain("vllm:num_preemptions_total", "counter", float(engine.preemptions_total))
    _histogram(lines, "vllm:time_to_first_token_seconds", engine.ttft, label)
    _histogram(lines, "vllm:e2e_request_latency_seconds", engine.latency, label)
    lines.append("# TYPE sim:clients_left_total counter")
    lines.extend(f'sim:clients_left_total{{phase="{phase}"}} {journal.clients_left[phase]}' for phase in PHASES)
    lines.append("# TYPE sim:requests_total counter")
    lines.extend(f'sim:requests_total{{result="{name}"}} {count}' for name, count in sorted(journal.results.items()))
    return ("\n".join(lines) + "\n").encode()


def _histogram(lines: list[str], name: str, histogram: Histogram, label: str) -> None:
    lines.append(f"# TYPE {name} histogram")
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    opened = label[:-1]
    counts = histogram.cumulative()
    lines.extend(f'{name}_bucket{opened},le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True))
    lines.extend((f"{name}_sum{label} {histogram.sum!r}", f"{name}_count{label} {histogram.count}"))
