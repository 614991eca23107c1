"""A federation with a real server (llama.cpp with a tiny random model) and a simulated one, behind `ilaas serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.bench.process import free_port, start

CACHE = Path(os.environ.get("ILAAS_REAL_CACHE", Path(__file__).parents[2] / ".cache/real")).resolve()
ILAAS = Path(sys.executable).with_name("ilaas")
PATIENCE_S = 60.0

CONFIGURATION = """
metrics: {{port: 0}}
shutdown_grace: 1s
statistics_interval: 0.2s
health_interval: 0.5s
models:
  - name: tiny-random
    model: tiny
    servers:
      - {{url: "http://127.0.0.1:{real}", site: real, organisation: alpha, engine: llamacpp, max_parallel_requests: 1}}
  - name: mixed
    servers:
      - url: http://127.0.0.1:{real}
        site: real
        organisation: alpha
        engine: llamacpp
        served_name: tiny
        max_parallel_requests: 1
      - url: http://127.0.0.1:{simulated}
        site: simulated
        organisation: beta
        served_name: {simulated_name}
        max_parallel_requests: 1
"""
SIMULATED_NAME = "simulated-model"


@dataclass(frozen=True, slots=True)
class Federation:
    """A running gateway, and how to reach it."""

    url: str
    key: str
    state_dir: Path

    def client(self) -> OpenAI:
        """The SDK that most clients are built on; it tries nothing twice, so that tests see each answer."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=PATIENCE_S)

    def state(self) -> dict[str, Any]:
        """The live state, from the operators' listener."""
        run = json.loads((self.state_dir / "run.json").read_text())
        with urllib.request.urlopen(f"http://{run['ops_host']}:{run['ops_port']}/state", timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def server(self, model: str, site: str = "real") -> dict[str, Any]:
        """The live view of a model's server."""
        [view] = [view for view in self.state()["models"] if view["model"] == model]
        [server] = [server for server in view["servers"] if server["site"] == site]
        return dict(server)


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a llama.cpp server."""
    python = CACHE / "venv/bin/python"
    if not python.exists():
        pytest.fail("the real server is not built: run  make test-real")
    port = free_port()
    command: list[str | Path] = [
        python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", str(port),
        "--model", CACHE / "tiny.gguf", "--model_alias", "tiny", "--embedding", "true",
        "--n_ctx", "65536", "--n_threads", "1",
        # by default a new request ends the one under way: that would hide whether the gateway ends it
        "--interrupt_requests", "false",
    ]  # fmt: skip
    with start("llama", command, tmp_path_factory.mktemp("llama")) as running:
        running.wait_for("/v1/models", port)
        yield port


@pytest.fixture(scope="session")
def simulated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a simulated server."""
    port = free_port()
    command: list[str | Path] = [ILAAS, "sim", "server", "--port", str(port), "--model", SIMULATED_NAME]
    with start("simulated", command, tmp_path_factory.mktemp("simulated")) as running:
        running.wait_for("/v1/models", port)
        yield port


@pytest.fixture(scope="session")
def federation(
    real_server: int, simulated_server: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    """The gateway in front of both."""
    folder = tmp_path_factory.mktemp("gateway")
    configuration = folder / "ilaas.yaml"
    configuration.write_text(
        CONFIGURATION.format(real=real_server, simulated=simulated_server, simulated_name=SIMULATED_NAME)
    )
    port = free_port()
    state_dir = folder / "state"
    environment = {"ILAAS_STATE_DIR": str(state_dir)}
    command: list[str | Path] = [ILAAS, "serve", "--config", configuration, "--host", "127.0.0.1", "--port", str(port)]
    with start("gateway", command, folder, environment=environment) as running:
        running.wait_for("/health/readiness", port)
        key = subprocess.run(
            [ILAAS, "key", "create", "--organisation", "alpha", "--project", "p", "--name", "n"],
            env=dict(os.environ) | environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout.strip()
        yield Federation(f"http://127.0.0.1:{port}", key, state_dir)
