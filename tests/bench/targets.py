"""What is measured: the upstream itself, nginx, the gateway with its whole path on, sglang-router when installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import upstream
from tests.bench.process import Running, StartFailed, free_port, start

ROOT = Path(__file__).resolve().parents[2]
ROUTER_PYTHON = ROOT / ".cache/bench/venv/bin/python"
MODEL = "bench"

NGINX_CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
worker_rlimit_nofile 20000;
events {{ worker_connections 9000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream servers {{
        {servers}
        keepalive 4096;
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 10000000;
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

GATEWAY_CONFIGURATION = """
metrics: {{port: 0}}
shutdown_grace: 1s
models:
  - name: {model}
    model: {served}
    servers:
{servers}
"""

GATEWAY_SERVER = """      - url: http://127.0.0.1:{port}
        site: bench-{number}
        organisation: bench-{number}
        max_parallel_requests: 20000
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to send load to."""

    name: str
    port: int
    running: Running
    model: str = upstream.NAME
    key: str = "none"
    others: tuple[Running, ...] = ()
    """Processes whose CPU time counts too."""


@contextmanager
def upstream_server(folder: Path) -> Iterator[Target]:
    """The upstream, on two ports: two servers, so that there is something to choose between."""
    ports = (free_port(), free_port())
    with start("upstream", [sys.executable, "-m", "tests.bench.upstream", *map(str, ports)], folder, ports) as running:
        running.wait_for("/health", ports[0])
        yield Target("direct", ports[0], running)


@contextmanager
def nginx(folder: Path, servers: tuple[int, ...]) -> Iterator[Target]:
    """nginx with one worker, keep-alive on both sides and no buffering: what relaying bytes costs at the least."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise StartFailed("nginx is not installed: run  scripts/need.sh nginx=nginx-light")
    port = free_port()
    (folder / "nginx.conf").write_text(
        NGINX_CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            port=port,
            servers=" ".join(f"server 127.0.0.1:{server};" for server in servers),
        )
    )
    command = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "nginx-error.log"]
    with start("nginx", command, folder, (port,)) as running:
        running.wait_for("/health", port)
        yield Target("nginx", port, running)


@contextmanager
def gateway(folder: Path, servers: tuple[int, ...]) -> Iterator[Target]:
    """`ilaas serve` in embedded mode, as an operator starts it: hashed keys, rights, dispatcher, metering, metrics."""
    program = Path(sys.executable).with_name("ilaas")
    state = folder / "state"
    port = free_port()
    configuration = folder / "ilaas.yaml"
    configuration.write_text(
        GATEWAY_CONFIGURATION.format(
            model=MODEL,
            served=upstream.NAME,
            servers="".join(GATEWAY_SERVER.format(port=server, number=n) for n, server in enumerate(servers)),
        )
    )
    environment = {"ILAAS_STATE_DIR": str(state)}
    command = [program, "serve", "--config", configuration, "--host", "127.0.0.1", "--port", str(port)]
    with start("ilaas", command, folder, (port,), environment) as running:
        running.wait_for("/health/readiness", port)
        key = subprocess.run(
            [program, "key", "create", "--organisation", "bench-0", "--project", "bench", "--name", "bench"],
            env=dict(os.environ) | environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.strip()
        yield Target("ilaas", port, running, MODEL, key)


@contextmanager
def router(folder: Path, servers: tuple[int, ...]) -> Iterator[Target]:
    """sglang-router (Rust), the router that others measure themselves by. Raises StartFailed when not installed."""
    if not ROUTER_PYTHON.exists():
        raise StartFailed("sglang-router is not installed: run  scripts/bench-router.sh")
    port = free_port()
    command = [
        ROUTER_PYTHON, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port),
        "--prometheus-port", str(free_port()), "--policy", "round_robin", "--log-level", "error",
        "--max-concurrent-requests", "20000",
        "--worker-urls", *(f"http://127.0.0.1:{server}" for server in servers),
    ]  # fmt: skip
    with start("sglang-router", command, folder, (port,)) as running:
        running.wait_for("/health", port)
        running.wait_for("/readiness", port)
        yield Target("sglang-router", port, running)
