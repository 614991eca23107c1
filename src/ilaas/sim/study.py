"""What `ilaas simulate` does: run a scenario, write its report and picture, compare the strategies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ilaas.core.values import Strategy
from ilaas.sim import picture
from ilaas.sim.report import Report, build_report, write_json
from ilaas.sim.run import play
from ilaas.sim.scenario import Scenario

REPORT_SUFFIX = ".json"
PICTURE_SUFFIX = ".png"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same workload under each strategy, by the strategy's name."""

    reports: dict[str, Report]
    json_paths: dict[str, Path]
    png_path: Path


def simulate(scenario: Scenario) -> Report:
    """Play the scenario in virtual time on the production scheduler. The same scenario gives the same report."""
    return build_report(scenario, play(scenario))


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write JSON and picture into the folder (made if need be); returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = file_stem(report.scenario)
    json_path = write_json(report, folder / (stem + REPORT_SUFFIX))
    return json_path, picture.draw(report, folder / (stem + PICTURE_SUFFIX))


def compare_strategies(scenario: Scenario, folder: Path) -> Comparison:
    """Run the scenario once with each strategy; write a JSON file for each and one picture of all three."""
    folder.mkdir(parents=True, exist_ok=True)
    reports = {strategy.value: simulate(scenario.with_strategy(strategy)) for strategy in Strategy}
    paths = {
        name: write_json(report, folder / (file_stem(report.scenario) + REPORT_SUFFIX))
        for name, report in reports.items()
    }
    png_path = folder / (file_stem(f"{scenario.name} strategies") + PICTURE_SUFFIX)
    picture.draw_comparison(reports, f"{scenario.name}: strategies compared", png_path)
    return Comparison(reports, paths, png_path)


def file_stem(name: str) -> str:
    """A scenario's name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "scenario"
