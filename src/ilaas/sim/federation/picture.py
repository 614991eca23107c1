"""Pictures of a federation's day: requests, slots, waiting, first tokens; servers and sites; a day beside its variant.

Colours, lines and figures without pyplot as in `ilaas.sim.picture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ilaas.sim.federation.figures import CLASS_NAMES, DayReport

_COLOURS = {"owner": "#D55E00", "interactive": "#0072B2", "batch": "#E69F00"}
_INK = "#333333"
_HOURS = range(0, 25, 3)
_BUSY, _ACTIVE = "#009E73", "#56B4E9"

Axes = Any
"""matplotlib has no types."""


def draw_days(reports: Sequence[DayReport], path: Path) -> Path:
    """One day, or a day and its variants side by side on the same scales, as a PNG."""
    figure = Figure(figsize=(6.2 * len(reports) + 3.0, 12.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(4, len(reports), sharex=True, sharey="row", squeeze=False)
    figure.suptitle(reports[0].scenario, fontsize=15, fontweight="bold", color=_INK)
    for column, report in enumerate(reports):
        axes = [grid[row][column] for row in range(4)]
        axes[0].set_title(report.variant or "as in the scenario", fontsize=11, color=_INK)
        for axis in axes:
            _frame(axis)
        _stacked(axes[0], report, report.series.requests_per_s)
        _stacked(axes[1], report, report.series.running)
        axes[1].plot(_hours(report), report.series.slots, color=_INK, linestyle="--", linewidth=1.2, label="slots")
        axes[1].set_ylim(bottom=0, top=1.05 * max(report.series.slots, default=1))
        _waiting(axes[2], report)
        _first_tokens(axes[3], report)
        axes[3].set_xlabel("hour of the day")
    for row, label in enumerate(
        ("requests per second", "slots in use", "requests waiting", "first token, p95 of people's requests (s)")
    ):
        grid[row][0].set_ylabel(label)
        axis = grid[row][-1]
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
    figure.savefig(path)
    return path


def draw_places(report: DayReport, path: Path) -> Path:
    """How busy each site and each server was, and what institutions gave and took, as a PNG."""
    figure = Figure(figsize=(15, 8.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    sites, servers, balance = figure.subplots(1, 3)
    figure.suptitle(
        f"{report.scenario}{': ' + report.variant if report.variant else ''}",
        fontsize=14,
        fontweight="bold",
        color=_INK,
    )
    _sites(sites, report)
    _servers(servers, report)
    _balances(balance, report)
    figure.savefig(path)
    return path


def _frame(axis: Axes) -> None:
    axis.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _hours(report: DayReport) -> list[float]:
    return [at_s / 3600 for at_s in report.series.at_s]


def _stacked(axis: Axes, report: DayReport, values: Any) -> None:
    axis.stackplot(
        _hours(report),
        [values[name] for name in CLASS_NAMES],
        labels=CLASS_NAMES,
        colors=[_COLOURS[name] for name in CLASS_NAMES],
        alpha=0.85,
        linewidth=0,
    )
    axis.set_xticks(list(_HOURS))
    axis.set_ylim(bottom=0)


def _waiting(axis: Axes, report: DayReport) -> None:
    for name in CLASS_NAMES:
        axis.step(_hours(report), report.series.waiting[name], color=_COLOURS[name], linewidth=1.4, label=name)
    axis.set_yscale("symlog", linthresh=1, linscale=0.5)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _first_tokens(axis: Axes, report: DayReport) -> None:
    values = [float("nan") if value is None else value for value in report.series.first_token_p95_s]
    axis.step(_hours(report), values, color="#003355", linewidth=1.4, label="p95")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _sites(axis: Axes, report: DayReport) -> None:
    names = sorted((name for name in report.uses if name != "all"), key=lambda name: report.uses[name].up_hours)
    rows = range(len(names))
    axis.barh([row + 0.2 for row in rows], [report.uses[n].active for n in names], 0.4, color=_ACTIVE, label="working")
    axis.barh(
        [row - 0.2 for row in rows], [report.uses[n].slots_used for n in names], 0.4, color=_BUSY, label="slots used"
    )
    axis.set_yticks(list(rows), [f"{name} ({report.uses[name].servers})" for name in names], fontsize=9)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_title("sites (servers): share of the time with work, of slots", fontsize=10, loc="left")
    axis.legend(fontsize=9, frameon=False)
    _frame(axis)


def _servers(axis: Axes, report: DayReport) -> None:
    kinds = list(dict.fromkeys(server.kind for server in report.servers))
    for kind in kinds:
        shares = sorted(
            (s.active_s / s.up_s if s.up_s else 0.0 for s in report.servers if s.kind == kind), reverse=True
        )
        axis.plot([(n + 0.5) / len(shares) for n in range(len(shares))], shares, label=f"{kind} ({len(shares)})")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_title("servers of each kind, busiest first: share of the time with work", fontsize=10, loc="left")
    axis.legend(fontsize=9, frameon=False)
    _frame(axis)


def _balances(axis: Axes, report: DayReport) -> None:
    names = sorted(report.balances, key=lambda name: report.balances[name].given - report.balances[name].taken)
    net = [(report.balances[name].given - report.balances[name].taken) / 1e6 for name in names]
    axis.barh(names, net, color=[_COLOURS["interactive"] if value >= 0 else _COLOURS["owner"] for value in net])
    axis.tick_params(axis="y", labelsize=8)
    axis.set_title("institutions: given less taken, millions of tokens", fontsize=10, loc="left")
    _frame(axis)
