"""What the demonstration consists of: organisations, sites, models and simulated servers, and their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MARK = "# Demo federation of ilaas."
"""How the demo's own configuration file begins: nothing else is ever removed by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoServer:
    """One simulated server and its place in the federation."""

    id: str
    model: str
    site: str
    owner: str
    preset: str
    port: int
    """Wanted; another is taken on the first start when it is not free."""
    slots: int
    """Simultaneous requests the dispatcher may send; small, so that queues are seen with little load."""
    remark: str
    engine: str = "vllm"
    failures: str = ""
    reasoning_tokens: int = 0
    spot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """One public model."""

    name: str
    served_name: str
    category: str
    description: str
    context_window: int = 0
    """0: it has none."""
    tool_calling: bool = False
    parameters: str = ""
    """Of `parameters_b`, for its energy."""


CONTRIBUTORS: Mapping[str, int] = {
    "univ-grenoble-alpes": 4,
    "univ-paris-saclay": 3,
    "univ-lille": 2,
    "univ-reims": 1,
}
"""Organisations that give servers, with their weights."""
CONSUMER = "univ-rennes"
"""The one that only uses."""
ORGANISATIONS = (*CONTRIBUTORS, CONSUMER)

CHAT_MODELS = ("mistral-small", "qwen-coder", "magistral")

MODELS = (
    DemoModel(
        name="mistral-small",
        served_name="mistralai/Mistral-Small-3.2-24B-Instruct-2506",
        category="generalist",
        description="For everyday work; two sites, so that it stays up when one is down.",
        parameters="24",
        context_window=65536,
        tool_calling=True,
    ),
    DemoModel(
        name="qwen-coder",
        served_name="Qwen/Qwen3-Coder-30B-A3B-Instruct",
        category="agentic",
        description="For programming, on a steady server and on spot capacity of a cluster.",
        parameters="{total: 30.5, active: 3.3}",
        context_window=65536,
        tool_calling=True,
    ),
    DemoModel(
        name="magistral",
        served_name="mistralai/Magistral-Small-2509",
        category="reasoning",
        description="Thinks before it answers.",
        parameters="24",
        context_window=32768,
    ),
    DemoModel(
        name="bge-m3",
        served_name="BAAI/bge-m3",
        category="embedding",
        description="Embeddings, on a workstation.",
        context_window=8192,
    ),
    DemoModel(
        name="whisper",
        served_name="openai/whisper-large-v3-turbo",
        category="transcription",
        description="Transcribes and translates recordings.",
    ),
)

SERVERS = (
    DemoServer(
        id="grenoble-h200",
        model="mistral-small",
        site="grenoble",
        owner="univ-grenoble-alpes",
        preset="h200",
        port=8101,
        slots=16,
        remark="fast, and univ-grenoble-alpes goes first on it",
    ),
    DemoServer(
        id="lille-l40s",
        model="mistral-small",
        site="lille",
        owner="univ-lille",
        preset="l40s",
        port=8102,
        slots=8,
        failures="500=0.04,die_after=30:0.02",
        remark="fails now and then: 4 of 100 requests get a 500, 2 of 100 streams break off",
    ),
    DemoServer(
        id="saclay-a100",
        model="qwen-coder",
        site="paris-saclay",
        owner="univ-paris-saclay",
        preset="a100",
        port=8103,
        slots=10,
        remark="steady",
    ),
    DemoServer(
        id="reims-spot",
        model="qwen-coder",
        site="reims",
        owner="univ-reims",
        preset="slow-spot",
        port=8104,
        slots=4,
        spot=True,
        remark="slow: spot capacity of a cluster",
    ),
    DemoServer(
        id="saclay-l40s",
        model="magistral",
        site="paris-saclay",
        owner="univ-paris-saclay",
        preset="l40s",
        port=8105,
        slots=6,
        reasoning_tokens=60,
        remark="shows its reasoning",
    ),
    DemoServer(
        id="lille-workstation",
        model="bge-m3",
        site="lille",
        owner="univ-lille",
        preset="workstation-ollama",
        port=8106,
        slots=4,
        engine="openai",
        remark="tells no statistics",
    ),
    DemoServer(
        id="saclay-whisper",
        model="whisper",
        site="paris-saclay",
        owner="univ-paris-saclay",
        preset="l40s",
        port=8107,
        slots=4,
        remark="hears what the recording's metadata say (ILAAS-SCRIPT: …), else makes it up",
    ),
)


def configuration(ports: Mapping[str, int], port: int, ops_port: int) -> str:
    """The configuration file of the demo, with comments for those who read and change it."""
    sites = {server.site for server in SERVERS}
    lines = [
        f"{MARK} {len(sites)} sites, {len(MODELS)} models, {len(SERVERS)} simulated servers.",
        "# Change it while the demo runs: organisations, models and servers are taken over at once, the rest at",
        "# the next start. A file with a mistake changes nothing; gateway.log beside it then tells the line.",
        "",
        "state_dir: .",
        "host: 127.0.0.1",
        f"port: {port}",
        f"metrics: {{host: 127.0.0.1, port: {ops_port}}}",
        "statistics_interval: 500ms",
        "health_interval: 2s",
        "shutdown_grace: 1s                # Ctrl-C: what answers under way get to come to their end",
        "allow_private_addresses: true     # so that 'ilaas server add' takes servers of this machine",
        "",
        "organisations:                    # weight: the share when a model is saturated",
        *(f"  - {{name: {name}, weight: {weight}}}" for name, weight in CONTRIBUTORS.items()),
        f"  - {{name: {CONSUMER}, weight: 1, contributor: false}}",
        "",
        "speech:                           # /api: transcription and enrichment of media",
        "  enabled: true",
        "  transcription_model: whisper",
        "  enrichment_model: mistral-small",
        "  objects: objects",
        "  allow_private_addresses: true",
        "",
        "models:",
    ]
    for model in MODELS:
        lines += _model(model, ports)
    return "\n".join(lines) + "\n"


def _model(model: DemoModel, ports: Mapping[str, int]) -> list[str]:
    lines = [
        f"  - name: {model.name}",
        f"    model: {model.served_name}",
        f"    category: {model.category}",
        f"    description: {model.description}",
        *((f"    context_window: {model.context_window}",) if model.context_window else ()),
        *(("    tool_calling: true",) if model.tool_calling else ()),
        *((f"    parameters_b: {model.parameters}",) if model.parameters else ()),
        "    servers:",
    ]
    for server in SERVERS:
        if server.model == model.name:
            lines += [
                f"      - id: {server.id}             # {server.remark}",
                f"        url: http://127.0.0.1:{ports[server.id]}",
                f"        site: {server.site}",
                f"        organisation: {server.owner}",
                f"        engine: {server.engine}",
                f"        max_parallel_requests: {server.slots}",
                *(("        spot: true",) if server.spot else ()),
            ]
    return [*lines, ""]
