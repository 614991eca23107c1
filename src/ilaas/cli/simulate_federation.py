"""`ilaas simulate federation`: a day of all institutions on all servers, and what would be different if."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilaas.cli.output import print_table, say
from ilaas.core.errors import InvalidRequest

if TYPE_CHECKING:
    from ilaas.sim.federation.figures import DayReport, Group
    from ilaas.sim.federation.result import ModelResult
    from ilaas.sim.federation.whatif import WhatIf

EXAMPLES = (
    "ilaas simulate federation",
    "ilaas simulate federation FILE --add 'h200:2@lyon-dc' --out simulations",
    "ilaas simulate federation FILE --lose-site lyon-dc --from 10:00 --to 14:00",
    "ilaas simulate federation FILE --batch x2",
)
_WORST = 10
DEFAULT = Path("examples/scenarios/federation.yaml")

File = Annotated[Path, typer.Argument(metavar="[FILE]", help="A federation and its day; see docs/scale.md.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where JSON and pictures are written.")]
Seed = Annotated[int | None, typer.Option(help="Another draw of the same day.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that share the models.")]
Add = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND:N@SITE[=MODEL]", help="What if so many machines more stood there; repeatable. "
        "Without a model they serve the one that people wait for most.",
    ),
]  # fmt: skip
LoseSite = Annotated[list[str] | None, typer.Option(metavar="SITE", help="What if this site were lost; repeatable.")]
From = Annotated[str, typer.Option("--from", metavar="HH:MM", help="With --lose-site: from when on.")]
To = Annotated[str, typer.Option("--to", metavar="HH:MM", help="With --lose-site: until when.")]
Batch = Annotated[str, typer.Option(metavar="xN", help="What if there were N times as many batch requests.")]
Demand = Annotated[str, typer.Option(metavar="xN", help="What if there were N times as many requests of all kinds.")]


def federation(
    file: File = DEFAULT,
    out: Out = Path("simulations"),
    *,
    seed: Seed = None,
    jobs: Jobs = 1,
    add: Add = None,
    lose_site: LoseSite = None,
    from_: From = "00:00",
    to: To = "24:00",
    batch: Batch = "x1",
    demand: Demand = "x1",
) -> None:
    """Play a day of the whole federation on the scheduler of production; with a what-if, both days side by side."""
    from ilaas.app.impact_wiring import estimate
    from ilaas.sim.federation.picture import draw_days, draw_places
    from ilaas.sim.federation.report import build_day_report, write_json
    from ilaas.sim.federation.scenario import load_day
    from ilaas.sim.federation.study import Study
    from ilaas.sim.study import file_stem

    day = load_day(file)
    if seed is not None:
        day = day.model_copy(update={"seed": seed})
    what_if = _what_if(add, lose_site, (from_, to), batch, demand)
    progress = _Progress(alone=jobs == 1)
    study = Study(day, jobs=jobs, told=progress.told)
    what_if.check(day, [plan.name for plan in study.plans])
    say(f"Playing '{day.name}': {len(study.plans)} models, {sum(len(plan.boxes) for plan in study.plans)} servers.")
    reports = [build_day_report(day, study.plans, study.base(), estimate)]
    progress.end(reports[0].whole.requests)
    if what_if:
        say(f"What if: {what_if.title()}.")
        plans, results = study.variant(what_if)
        reports.append(build_day_report(day, plans, results, estimate, what_if.title()))
        progress.end(None)
    _print(reports)
    out.mkdir(parents=True, exist_ok=True)
    stem = file_stem(day.name)
    names = [stem, f"{stem}-what-if"]
    for report, name in zip(reports, names, strict=False):
        print(write_json(report, out / f"{name}.json"))
        print(draw_places(report, out / f"{name}-places.png"))
    print(draw_days(reports, out / f"{stem}.png"))


def _what_if(
    add: list[str] | None, lose_site: list[str] | None, hours: tuple[str, str], batch: str, demand: str
) -> WhatIf:
    from ilaas.sim.federation.whatif import Addition, Loss, WhatIf, parse_clock, parse_factor

    from_s, to_s = parse_clock(hours[0], "--from"), parse_clock(hours[1], "--to")
    if lose_site and from_s >= to_s:
        raise InvalidRequest(f"--to {hours[1]} is not after --from {hours[0]}; give a later time of the same day.")
    if not lose_site and hours != ("00:00", "24:00"):
        raise InvalidRequest("--from and --to belong to --lose-site SITE.")
    return WhatIf(
        additions=tuple(Addition.parse(text) for text in add or ()),
        losses=tuple(Loss(site, from_s, to_s) for site in lose_site or ()),
        batch=parse_factor(batch, "--batch"),
        demand=parse_factor(demand, "--demand"),
    )


class _Progress:
    """What is said while it runs, on standard error."""

    def __init__(self, *, alone: bool) -> None:
        """`alone`: all is played in this process, whose CPU time then tells the cost."""
        self._alone = alone
        self._began_s = time.process_time()
        self._models = 0

    def told(self, result: ModelResult) -> None:
        self._models += 1
        if self._models % 10 == 0:
            say(f"  {self._models} models, the last one {result.name}")

    def end(self, requests: int | None) -> None:
        used_s = time.process_time() - self._began_s
        each = f", {1e6 * used_s / requests:.0f} µs for each request" if requests else ""
        spent = f"; {used_s:.0f} s of CPU{each}" if self._alone else ""
        say(f"  {self._models} models played{spent}")
        self._began_s, self._models = time.process_time(), 0


def _print(reports: list[DayReport]) -> None:
    base, other = reports[0], reports[1] if len(reports) > 1 else None
    print_table(
        ("figure", "scenario", *(("what if", "difference") if other else ())),
        _figures(base, other),
        "Nothing was asked for.",
    )
    for title, groups in (("class", "classes"), ("institution", "institutions"), ("model", "models")):
        print()
        print_table(_columns(title, other is not None), _groups(base, other, groups), "No request.")
    print()
    print_table(
        (
            "site",
            "servers",
            "slots used",
            "working",
            "requests",
            "drawn kWh",
            *(("what if: requests",) if other else ()),
        ),
        (
            (
                *(name, use.servers, use.slots_used, use.active, use.requests, base.site_energy[name].drawn_kwh),
                *((other.uses[name].requests,) if other else ()),
            )
            for name, use in base.uses.items()
            if name != "all"
        ),
        "No site.",
    )


def _columns(title: str, both: bool) -> tuple[str, ...]:
    columns = ("requests", "refused", "waiting p50 (s)", "p95", "p99", "first token p95", "p99")
    return (title, *columns, *(("what if: refused", "waiting p95", "p99", "first token p95") if both else ()))


def _groups(base: DayReport, other: DayReport | None, what: str) -> list[tuple[object, ...]]:
    """All classes; of institutions and models those with the most refused and the longest waits."""
    mine: dict[str, Group] = getattr(base, what)
    theirs: dict[str, Group] = getattr(other, what) if other is not None else {}

    def worst(name: str) -> tuple[float, float]:
        shown = theirs.get(name, mine[name])
        return shown.refused / max(shown.requests, 1), shown.waiting_s.p99 or 0.0

    names = list(mine) if what == "classes" else sorted(mine, key=worst, reverse=True)[:_WORST]
    rows: list[tuple[object, ...]] = []
    for name in names:
        group, beside = mine[name], theirs.get(name)
        wait, first = group.waiting_s, group.first_token_s
        row: tuple[object, ...] = (
            name,
            group.requests,
            group.refused,
            wait.p50,
            wait.p95,
            wait.p99,
            first.p95,
            first.p99,
        )
        if beside is not None:
            row += (beside.refused, beside.waiting_s.p95, beside.waiting_s.p99, beside.first_token_s.p95)
        rows.append(row)
    return rows


def _figures(base: DayReport, other: DayReport | None) -> list[tuple[object, ...]]:
    from ilaas.sim.federation.report import headline

    mine, theirs = headline(base), headline(other) if other is not None else {}
    rows: list[tuple[object, ...]] = []
    for name, value in mine.items():
        row: tuple[object, ...] = (name, _shown(value))
        if other is not None:
            row += (_shown(theirs[name]), _difference(value, theirs[name]))
        rows.append(row)
    return rows


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _difference(before: float | None, after: float | None) -> str:
    if before is None or after is None or before == after:
        return ""
    share = f" ({100 * (after - before) / before:+.1f} %)" if before else ""
    return ("+" if after > before else "-") + _shown(abs(after - before)) + share
