"""The report's figures: they add up, are repeatable, and say of percentiles what numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.impact import Case, ImpactFactors, SiteFactors
from ilaas.services.impacts import Deployed
from ilaas.sim.federation.figures import DayReport
from ilaas.sim.federation.picture import draw_days, draw_places
from ilaas.sim.federation.report import build_day_report, headline, write_json
from ilaas.sim.federation.result import BINS, bins_of, percentile
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.study import Study
from tests.support.days import small_day

MJ_PER_TOKEN = 2_000


def estimate(deployed: Deployed) -> ImpactFactors:
    """Two joules for each token of an answer."""
    case = Case(output_token_nj=MJ_PER_TOKEN * 10**6)
    site: SiteFactors = deployed.site
    return ImpactFactors(
        method="test",
        measured=False,
        middle=(case,),
        low=case,
        high=case,
        site=site,
        grid_ug_per_kwh=site.grid_ug_per_kwh,
    )


def report_of(day: Day, jobs: int = 1) -> DayReport:
    study = Study(day, jobs=jobs)
    return build_day_report(day, study.plans, study.base(), estimate)


@pytest.fixture(scope="module")
def report() -> DayReport:
    return report_of(small_day())


def test_parts_add_up_to_the_whole(report: DayReport) -> None:
    whole = report.whole
    assert sum(whole.outcomes.values()) == whole.requests > 1_000
    for groups in (report.classes, report.institutions, report.models):
        assert sum(group.requests for group in groups.values()) == whole.requests
    assert sum(use.requests for name, use in report.uses.items() if name != "all") == whole.outcomes["completed"]
    assert sum(server.requests for server in report.servers) == whole.outcomes["completed"]
    rates = [sum(rate) for rate in zip(*report.series.requests_per_s.values(), strict=True)]
    assert sum(rates) * 300 == pytest.approx(whole.requests, rel=1e-3)


def test_what_is_given_is_taken_by_others(report: DayReport) -> None:
    balances = report.balances
    assert sum(balance.given for balance in balances.values()) == sum(balance.taken for balance in balances.values())
    assert balances["nantes"].given == balances["nantes"].own == 0
    assert balances["nantes"].taken > balances["rennes"].taken > 0
    assert balances["univ-lyon"].own > 0
    assert "owner" in report.classes


def test_energy_is_the_method_s_times_the_tokens(report: DayReport) -> None:
    tokens = sum(server.output_tokens for server in report.servers)
    assert report.energy.attributed_kwh == pytest.approx(tokens * MJ_PER_TOKEN / 3.6e9, rel=0.01, abs=0.05)
    assert report.energy.method == "test"
    assert report.energy.covered == 1.0


def test_machines_draw_power_while_they_idle_too(report: DayReport) -> None:
    hours = report.uses["all"].up_hours
    assert hours == pytest.approx(4 * 2, rel=0.01)
    least = 2 * 2 * (100 + 50) / 1000 * 1.56
    most = 2 * 2 * (500 + 300) / 1000 * 1.56
    assert least < report.energy.drawn_kwh < most
    assert report.energy.idle_kwh < least
    assert report.energy.drawn_co2e_kg == pytest.approx(report.energy.drawn_kwh * 0.04144, rel=0.02)


def test_the_same_scenario_gives_the_same_bytes_however_many_processes(report: DayReport, tmp_path: Path) -> None:
    one = write_json(report, tmp_path / "one.json").read_bytes()
    other = write_json(report_of(small_day(), jobs=2), tmp_path / "other.json").read_bytes()
    assert one == other
    assert json.loads(one)["people"] == 10_000


def test_the_headline_has_the_same_lines_for_every_run_of_a_scenario(report: DayReport) -> None:
    assert list(headline(report)) == list(headline(report_of(small_day(seed=2, hours=0.5))))
    assert headline(report)["requests"] == report.whole.requests


def test_pictures_are_drawn(report: DayReport, tmp_path: Path) -> None:
    for path in (draw_days([report, report], tmp_path / "days.png"), draw_places(report, tmp_path / "places.png")):
        assert path.read_bytes().startswith(b"\x89PNG")


@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_a_percentile_of_bins_is_right_to_one_percent(values: list[float], percent: int) -> None:
    counts = np.bincount(bins_of(np.array(values)), minlength=BINS)
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    told = percentile(counts, percent)
    assert told is not None
    assert told == pytest.approx(exact, rel=0.0101, abs=0.01)


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile(np.zeros(BINS, dtype=np.int64), 95) is None
