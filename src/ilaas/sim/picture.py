"""Pictures of runs: waiting, running and time to first token by class; and the three strategies side by side.

Colours are of the Okabe-Ito palette, which people with any kind of colour vision can tell apart; line styles and
markers differ too. Figures are made without pyplot, so nothing is kept between two pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ilaas.sim.report import CLASSES, Part, Report, Spread

_COLOURS = {"owner": "#D55E00", "interactive": "#0072B2", "batch": "#E69F00"}
_MARKERS = {"owner": "^", "interactive": "o", "batch": "s"}
_STYLES = {"owner": (0, (1, 1)), "interactive": "-", "batch": (0, (5, 2))}
_INK = "#333333"
_BIN_S = 5.0
"""Width of the bins of the line of 95th percentiles."""

Axes = Any
"""matplotlib has no types."""


def draw(report: Report, path: Path) -> Path:
    """One run, as a PNG."""
    figure = Figure(figsize=(10, 10), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    figure.suptitle(report.scenario, fontsize=15, fontweight="bold", color=_INK)
    axes[0].set_title(_caption(report), fontsize=9.5, color=_INK, loc="left")
    for axis in axes:
        _windows(axis, report)
    _waiting(axes[0], report)
    _running(axes[1], report)
    _ttft(axes[2], report)
    axes[0].set_ylabel("requests waiting")
    axes[1].set_ylabel("slots in use")
    axes[2].set_ylabel("time to first token (s)")
    axes[2].set_xlabel("time since the start (s)")
    for axis in axes:
        _legend(axis)
    figure.savefig(path)
    return path


def draw_comparison(reports: Mapping[str, Report], title: str, path: Path) -> Path:
    """Several runs of the same workload, a column each, on the same scales."""
    figure = Figure(figsize=(4.6 * len(reports) + 1.6, 10.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, len(reports), sharex=True, sharey="row", squeeze=False)
    figure.suptitle(title, fontsize=15, fontweight="bold", color=_INK)
    for column, (name, report) in enumerate(reports.items()):
        axes = [grid[row][column] for row in range(3)]
        axes[0].set_title(f"{name}\n{_result(report)}", fontsize=10.5, color=_INK)
        for axis in axes:
            _windows(axis, report)
        _waiting(axes[0], report)
        _running(axes[1], report)
        _ttft(axes[2], report)
        axes[2].set_xlabel("time since the start (s)")
    grid[0][0].set_ylabel("requests waiting")
    grid[1][0].set_ylabel("slots in use")
    grid[2][0].set_ylabel("time to first token (s)")
    for row in range(3):
        _legend(grid[row][-1])
    figure.savefig(path)
    return path


def _legend(axis: Axes) -> None:
    """Beside the panel, where it hides nothing."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False, borderaxespad=0.6, markerscale=2.5
        )


def _main_part(report: Report) -> tuple[str, Part]:
    return next(iter(report.windows.items()), ("whole run", report.whole))


def _caption(report: Report) -> str:
    name, part = _main_part(report)
    lines = [f"{name} ({part.from_s:g} to {part.to_s:g} s): time to first token p50 / p95 / p99"]
    lines.append("     ".join(f"{cls}  {_three(group.ttft_s)}" for cls, group in part.classes.items()))
    share = part.slots.batch_share_of_idle
    if share is not None:
        lines.append(f"batch took {share:.1%} of the slots that others left idle")
    return "\n".join(lines)


def _three(spread: Spread) -> str:
    values = (spread.p50, spread.p95, spread.p99)
    return " / ".join("-" if value is None else _seconds(value) for value in values) + " s"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if 0.095 <= value < 10 else f"{value:.3g}"


def _result(report: Report) -> str:
    name, part = _main_part(report)
    group = part.classes.get("interactive")
    p95 = group.ttft_s.p95 if group is not None else None
    interactive = "interactive p95: " + ("-" if p95 is None else f"{_seconds(p95)} s")
    inside = part.engine_waiting_mean
    return f"{interactive} ({name})" + (
        "" if inside is None else f"\nwaiting inside each server: {_seconds(inside)} on average"
    )


def _windows(axis: Axes, report: Report) -> None:
    for part in report.windows.values():
        axis.axvspan(part.from_s, part.to_s, color="#000000", alpha=0.04, linewidth=0)
    axis.grid(visible=True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.01)


def _present(report: Report) -> list[str]:
    """Classes that this run has, in their order."""
    series = report.series
    return [name for name in CLASSES if any(series.running[name]) or any(series.waiting[name])]


def _waiting(axis: Axes, report: Report) -> None:
    """A symmetric logarithmic scale: a batch queue of thousands and an owner's single request are both seen."""
    series = report.series
    for name in _present(report):
        axis.step(
            series.at_s,
            series.waiting[name],
            where="post",
            color=_COLOURS[name],
            linestyle=_STYLES[name],
            linewidth=1.8,
            label=f"{name}, in the dispatcher",
        )
    if any(series.engine_waiting):
        axis.fill_between(
            series.at_s, series.engine_waiting, step="post", color="#000000", alpha=0.35, label="inside the servers"
        )
    axis.set_yscale("symlog", linthresh=1, linscale=0.5)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _running(axis: Axes, report: Report) -> None:
    series = report.series
    names = _present(report)
    if names:
        axis.stackplot(
            series.at_s,
            [series.running[name] for name in names],
            labels=names,
            colors=[_COLOURS[name] for name in names],
            alpha=0.85,
            step="post",
            linewidth=0,
        )
    if series.slots:
        axis.step(
            series.at_s, series.slots, where="post", color=_INK, linestyle="--", linewidth=1.2, label="slots there are"
        )
    # Without a limit thousands of leases are held, which wait inside the servers: that is seen in the panel above.
    most = max(series.slots, default=0)
    axis.set_ylim(bottom=0, top=1.15 * most if most else None)


def _ttft(axis: Axes, report: Report) -> None:
    for name in reversed(_present(report)):
        points = report.series.ttft[name]
        if not points:
            continue
        axis.plot(
            [at_s for at_s, _ in points],
            [value for _, value in points],
            linestyle="none",
            marker=_MARKERS[name],
            markersize=3.5 if name == "owner" else 2.2,
            markeredgewidth=0,
            alpha=0.8 if name == "owner" else 0.35,
            color=_COLOURS[name],
            label=f"{name}, each request",
        )
    points = report.series.ttft["interactive"]
    bins: dict[float, list[float]] = {}
    for at_s, value in points:
        bins.setdefault(at_s // _BIN_S * _BIN_S, []).append(value)
    if bins:
        axis.step(
            sorted(bins),
            [Spread.of(bins[start_s]).p95 for start_s in sorted(bins)],
            where="post",
            color="#003355",
            linewidth=1.6,
            label=f"interactive, p95 of {_BIN_S:g} s",
        )
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
