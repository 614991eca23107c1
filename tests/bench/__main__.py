"""`python -m tests.bench [PART...]`: measure, print a table, write JSON; exit code 1 when a bar is missed."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from tests.bench import burden, continuation, targets
from tests.bench.cost import Amounts, compare
from tests.bench.process import StartFailed
from tests.bench.report import Figure, Report
from tests.bench.targets import ROOT, Target

PARTS = ("cost", "streams", "memory", "slow", "continuation", "dispatcher")
STARTERS = {"nginx": targets.nginx, "ilaas": targets.gateway, "sglang-router": targets.router}
OPEN_FILES = 20_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts to run: {', '.join(PARTS)} (all)")
    parser.add_argument("--targets", default=",".join(STARTERS), help="measured in 'cost', in this order (%(default)s)")
    parser.add_argument("--subject", default="ilaas", choices=STARTERS, help="put under burden (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: only to see that it works")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache/bench/bench-results.json", help="(%(default)s)")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return chosen


@contextmanager
def started(name: str, folder: Path, servers: tuple[int, ...], report: Report) -> Iterator[Target | None]:
    """A target, or None with a line in the report when it can't be started here."""
    place = folder / name
    place.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            target = stack.enter_context(STARTERS[name](place, servers))
        except StartFailed as error:
            report.skipped.append(str(error))
            target = None
        yield target


def measure_costs(chosen: argparse.Namespace, folder: Path, direct: Target, report: Report) -> None:
    """The part `cost`: all targets at once, each measured in turn."""
    amounts = Amounts(repeats=2, requests=600, streams=20, chunks=50, warm_up=100) if chosen.quick else Amounts()
    with ExitStack() as stack:
        names = chosen.targets.split(",")
        made = [stack.enter_context(started(name, folder, direct.running.ports, report)) for name in names]
        compare(direct, [target for target in made if target is not None], amounts, report)


def measure_burdens(parts: list[str], chosen: argparse.Namespace, folder: Path, direct: Target, report: Report) -> None:
    """The parts that put one gateway under burden, each on a process of its own, so that none inherits memory."""
    share = 10 if chosen.quick else 1
    measures = {
        "streams": lambda target: burden.many_streams(target, report, 3000 // share),
        "memory": lambda target: burden.flat_memory(target, direct, report, 400_000 // share),
        "slow": lambda target: burden.slow_readers(target, direct, report, 200 // share),
    }
    for part in parts:
        place = folder / part
        place.mkdir()
        with started(chosen.subject, place, direct.running.ports, report) as target:
            if target is None:
                report.skipped.append(f"part '{part}': {chosen.subject} did not start")
            else:
                measures[part](target)


def measure_dispatcher(report: Report) -> None:
    """The part `dispatcher`: a program of its own, with bars of its own; it shows its figures itself."""
    if find_spec("tests.bench.dispatcher") is None:
        report.skipped.append("part 'dispatcher': tests/bench/dispatcher.py is not there")
        return
    done = subprocess.run([sys.executable, "-m", "tests.bench.dispatcher"], check=False)
    report.figures["dispatcher alone (figures above)"] = [Figure("exit code", done.returncode, "", 0)]


def main() -> int:
    """Run the chosen parts."""
    chosen = arguments()
    parts = chosen.parts or list(PARTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard) if hard >= 0 else OPEN_FILES, hard))
    report = Report()
    console = Console(soft_wrap=True)
    if "continuation" in parts:
        continuation.measure(report)
    with tempfile.TemporaryDirectory(prefix="ilaas-bench-") as folder:
        place = Path(folder)
        with targets.upstream_server(place) as direct:
            if "cost" in parts:
                measure_costs(chosen, place, direct, report)
            measure_burdens(
                [part for part in parts if part in {"streams", "memory", "slow"}], chosen, place, direct, report
            )
    if "dispatcher" in parts:
        measure_dispatcher(report)
    report.show(console)
    report.write(chosen.json)
    console.print(f"written to {chosen.json}", highlight=False)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
