"""`python -m tests.bench.distributed`: the price of a dispatcher in another process, beside embedded mode and nginx.

Gateway and dispatcher are counted together, RabbitMQ by itself. A key for interactive requests is served by credits;
one for batch sends every ticket over the broker, since batch always asks the dispatcher.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ilaas.app.local import PrivateRabbitMQ
from tests.bench import targets, upstream
from tests.bench.cost import plain
from tests.bench.measure import measure
from tests.bench.process import Running, cpu_s, free_port, start
from tests.bench.report import Figure, Report
from tests.bench.targets import MODEL, ROOT, Target

REPEATS = 5
REQUESTS = 4000
BAR_CREDITS = 1.3
"""Times embedded."""


@contextmanager
def parts(folder: Path, servers: tuple[int, ...], broker: PrivateRabbitMQ) -> Iterator[tuple[Target, Target]]:
    """One gateway and one dispatcher: as interactive requests see them, and as batch does."""
    program = Path(sys.executable).with_name("ilaas")
    configuration, port, ops = folder / "ilaas.yaml", free_port(), free_port()
    common = targets.GATEWAY_CONFIGURATION.format(
        model=MODEL,
        served=upstream.NAME,
        servers="".join(targets.GATEWAY_SERVER.format(port=server, number=n) for n, server in enumerate(servers)),
    )
    configuration.write_text(f"broker: {broker.url}\nstore: sqlite:///{folder}/ilaas.db\n{common}")
    secret = {"ILAAS_SECRET": "a secret of the benchmark, of no worth"}
    serve = (program, "serve", "--config", configuration)
    dispatcher = (*serve, "--role", "dispatcher", "--metrics-port", str(ops), "--state-dir", folder / "d")
    gateway = (*serve, "--role", "gateway", "--port", str(port), "--state-dir", folder / "g")
    with (
        start("dispatcher", dispatcher, folder, (ops,), secret) as deciding,
        start("gateway", gateway, folder, (port,), secret) as serving,
    ):
        deciding.wait_for("/health", ops)
        serving.wait_for("/health/readiness", port)
        keys = [_key(program, folder, secret, kind) for kind in ("interactive", "batch")]
        by_credit = Target("distributed, credits", port, serving, MODEL, keys[0], others=(deciding,))
        yield by_credit, replace(by_credit, name="distributed, broker", key=keys[1])


def _key(program: Path, folder: Path, secret: dict[str, str], kind: str) -> str:
    return subprocess.run(
        [
            *(program, "key", "create", "--config", folder / "ilaas.yaml", "--state-dir", folder / "g"),
            *("--organisation", "bench-0", "--project", "bench", "--name", kind, "--classes", kind),
        ],
        env=dict(os.environ) | secret,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.strip()


def main() -> int:
    """Measure all, interleaved, and compare medians of the ratios within one round."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="ilaas-bench-") as place, ExitStack() as stack:
        folder = Path(place)
        for name in ("nginx", "embedded", "parts"):
            (folder / name).mkdir()
        broker = PrivateRabbitMQ(folder / "rabbitmq")
        broker.start()
        stack.callback(broker.stop)
        direct = stack.enter_context(targets.upstream_server(folder))
        servers = direct.running.ports
        floor = stack.enter_context(targets.nginx(folder / "nginx", servers))
        embedded = replace(stack.enter_context(targets.gateway(folder / "embedded", servers)), name="embedded")
        by_credit, over_broker = stack.enter_context(parts(folder / "parts", servers, broker))
        _compare([floor, embedded, by_credit, over_broker], broker, report)
    report.show(Console(soft_wrap=True))
    report.write(ROOT / ".cache/bench/bench-distributed.json")
    return 0 if report.met else 1


def _compare(all_targets: list[Target], broker: PrivateRabbitMQ, report: Report) -> None:
    for target in all_targets:
        measure(target, plain(target, 500))  # warm
    costs: dict[str, list[float]] = {target.name: [] for target in all_targets}
    brokers: dict[str, list[float]] = {target.name: [] for target in all_targets}
    deciding: dict[str, list[float]] = {target.name: [] for target in all_targets}
    for repeat in range(REPEATS):
        turn = repeat % len(all_targets)
        for target in (*all_targets[turn:], *all_targets[:turn]):
            before_s = cpu_s(broker.pid or 0)
            others_s = _others_s(target.others)
            cost = measure(target, plain(target, REQUESTS))
            if cost.result.errors:
                report.skipped.append(f"{target.name}: {cost.result.errors} errors: {cost.result.causes[0]}")
            costs[target.name].append(cost.us_per_request)
            brokers[target.name].append(1e6 * (cpu_s(broker.pid or 0) - before_s) / REQUESTS)
            deciding[target.name].append(1e6 * (_others_s(target.others) - others_s) / REQUESTS)
    figures = [Figure(name, statistics.median(values), "µs") for name, values in costs.items()]
    for name, bar in (("distributed, credits", BAR_CREDITS), ("distributed, broker", None)):
        ratios = [mine / theirs for mine, theirs in zip(costs[name], costs["embedded"], strict=True)]
        figures.append(Figure(f"{name} / embedded", statistics.median(ratios), "times", bar))
        figures.append(Figure(f"{name}: of it the dispatcher", statistics.median(deciding[name]), "µs"))
        figures.append(Figure(f"{name}: RabbitMQ beside it", statistics.median(brokers[name]), "µs"))
    report.figures["CPU per plain request, gateway and dispatcher"] = figures


def _others_s(others: tuple[Running, ...]) -> float:
    return sum(cpu_s(other.pid) for other in others)


if __name__ == "__main__":
    sys.exit(main())
