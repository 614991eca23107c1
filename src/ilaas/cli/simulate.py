"""`ilaas simulate`: scenarios in virtual time, or played against a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ilaas.cli.options import examples
from ilaas.cli.output import print_table, say
from ilaas.cli.simulate_federation import EXAMPLES, federation
from ilaas.core.errors import InvalidRequest
from ilaas.core.values import Strategy

if TYPE_CHECKING:
    from ilaas.sim.report import Report
    from ilaas.sim.scenario import Scenario

OUT = Path("simulations")


class _FilesToo(TyperGroup):
    """A group in which a name that is no command is the file of a scenario."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before a file's name."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="simulate",
    cls=_FilesToo,
    help="Play scenarios on the scheduler of production in virtual time: the reference experiment, or a FILE.",
    epilog=examples(
        "ilaas simulate priority",
        "ilaas simulate examples/scenarios/two-sites.yaml --out simulations",
        "ilaas simulate compare",
        EXAMPLES[0],
    ),
    no_args_is_help=True,
)
app.command(epilog=examples(*EXAMPLES))(federation)

Out = Annotated[Path, typer.Option(metavar="DIR", help="Where JSON and picture are written.")]
Users = Annotated[int, typer.Option(min=1, help="Simultaneous users on the plateau.")]
Seed = Annotated[int | None, typer.Option(help="Another draw of the same workload.")]
NoBatch = Annotated[bool, typer.Option("--no-batch", help="Leave the batch queue out.")]
NoOwners = Annotated[bool, typer.Option("--no-owners", help="Leave the owners' requests out.")]
Live = Annotated[
    str | None, typer.Option("--live", metavar="URL", help="Play against this running gateway, in real time.")
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", envvar="ILAAS_KEY", help="With --live: API key; repeated, organisations take them in turn."),
]
Model = Annotated[str | None, typer.Option("--model", help="With --live: ask for this model instead.")]


@app.command(epilog=examples("ilaas simulate priority", "ilaas simulate priority --users 80 --no-batch --out results"))
def priority(
    out: Out = OUT,
    users: Users = 50,
    strategy: Annotated[Strategy, typer.Option(help="How the model is dispatched.")] = Strategy.LEAST_BUSY,
    seed: Seed = None,
    *,
    no_batch: NoBatch = False,
    no_owners: NoOwners = False,
    live: Live = None,
    key: Keys = None,
    model: Model = None,
) -> None:
    """Play the reference experiment: users ramp up in a minute, stay for three, and go, beside batch and owners."""
    from ilaas.sim.scenario import reference_experiment

    scenario = reference_experiment(strategy=strategy, users=users, seed=seed if seed is not None else 1)
    left_out = [name for name, without in (("batch", no_batch), ("owners", no_owners)) if without]
    _play(scenario.without(*left_out), out, (live, key, model))


@app.command(
    epilog=examples(
        "ilaas simulate examples/scenarios/two-sites.yaml",
        "ilaas simulate mine.yaml --live http://127.0.0.1:8000 --key ilaas-... --model mistral-small",
    )
)
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario; see docs/simulation.md.")],
    out: Out = OUT,
    seed: Seed = None,
    live: Live = None,
    key: Keys = None,
    model: Model = None,
) -> None:
    """Play the scenario of a file. The word 'run' may be left out: 'ilaas simulate FILE'."""
    from ilaas.sim.scenario import load_scenario

    scenario = load_scenario(file)
    _play(scenario if seed is None else scenario.model_copy(update={"seed": seed}), out, (live, key, model))


@app.command(epilog=examples("ilaas simulate compare", "ilaas simulate compare examples/scenarios/two-sites.yaml"))
def compare(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Else the reference experiment.")] = None,
    out: Out = OUT,
    users: Users = 50,
) -> None:
    """Play the same workload under each of the three strategies, and draw them side by side."""
    from ilaas.sim.scenario import load_scenario, reference_experiment
    from ilaas.sim.study import compare_strategies

    scenario = reference_experiment(users=users) if file is None else load_scenario(file)
    comparison = compare_strategies(scenario, out)
    for name, report in comparison.reports.items():
        print(f"{name}:")
        _print(report)
    print(*comparison.json_paths.values(), comparison.png_path, sep="\n")


def _play(scenario: Scenario, out: Path, against: tuple[str | None, list[str] | None, str | None]) -> None:
    from ilaas.sim.study import simulate, write_report

    url, keys, model = against
    if url is None:
        if keys or model:
            raise InvalidRequest("--key and --model belong to --live URL.")
        report = simulate(scenario)
    else:
        from ilaas.sim.live import run_live

        if not keys:
            raise InvalidRequest("--live needs at least one --key (or ILAAS_KEY).")
        say(f"Playing '{scenario.name}' for {scenario.duration_s:.0f} s against {url}; Ctrl-C ends it.")
        report = run_live(scenario, url, keys, model=model)
    _print(report)
    print(*write_report(report, out), sep="\n")


def _print(report: Report) -> None:
    """What matters most, in numbers: the first window of the scenario, else the whole run."""
    name, part = next(iter(report.windows.items()), ("whole run", report.whole))
    print(f"{report.scenario}, {name} ({part.from_s:g} to {part.to_s:g} s)")
    print_table(
        ("class", "requests", "completed", "TTFT p50 (s)", "p95", "p99", "queue p95", "tokens/s"),
        (
            (
                *(request_class, group.requests, group.outcomes.get("completed", 0)),
                *(group.ttft_s.p50, group.ttft_s.p95, group.ttft_s.p99, group.queue_s.p95, group.tokens_per_s),
            )
            for request_class, group in part.classes.items()
        ),
        "No request ended.",
    )
    if part.jain_index is not None:
        print(f"Fairness between organisations that waited (Jain): {part.jain_index:.3f}")
    if part.slots.batch_share_of_idle is not None:
        print(f"Batch took {part.slots.batch_share_of_idle:.1%} of the slots that others left idle.")
