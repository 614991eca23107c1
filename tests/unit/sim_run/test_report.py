"""The report says what happened: checked by hand on small recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.values import Outcome, RequestClass
from ilaas.sim.recording import Gauge, Held, Played, Recording, Steps
from ilaas.sim.report import Spread, build_report, jain
from ilaas.sim.scenario import Organisation, Window
from ilaas.sim.study import compare_strategies, simulate, write_report
from tests.unit.sim_run.scenes import planned, played, scenario, users


def test_percentiles_are_values_that_occurred() -> None:
    assert Spread.of(float(n) for n in range(100, 0, -1)) == Spread(50.0, 95.0, 99.0, 100.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 2.0)
    assert Spread.of([]).p95 is None


def test_jains_index_is_one_for_equal_shares_and_one_over_n_for_all_to_one() -> None:
    assert jain([3.0, 3.0, 3.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([]) is None


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20))
def test_jains_index_lies_between_one_over_n_and_one(values: list[float]) -> None:
    index = jain(values)
    assert index is not None
    assert 1 / len(values) - 1e-5 <= index <= 1 + 1e-5


def test_waiting_is_all_the_time_without_a_lease() -> None:
    batch = RequestClass.BATCH
    request = Played(planned("a"), 1.0, [Held("x", batch, 3.0, 5.0), Held("y", batch, 6.0, 9.0)], ended_s=9.0)
    assert list(request.waits(20.0)) == [(1.0, 3.0), (5.0, 6.0)]
    assert list(Played(planned("b"), 4.0).waits(20.0)) == [(4.0, 20.0)]
    assert list(Played(planned("c"), 4.0, ended_s=7.0).waits(20.0)) == [(4.0, 7.0)]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_steps_count_the_spans_that_cover_a_time(spans: list[tuple[int, int]]) -> None:
    times = [float(at_s) for at_s in range(22)]
    expected = [sum(start <= at_s < end for start, end in spans) for at_s in times]
    assert Steps((float(start), float(end)) for start, end in spans).sampled(times) == expected


def test_idle_slots_are_those_that_others_leave_while_batch_waits() -> None:
    """4 slots for 10 s; one interactive request the whole time; batch waits from 0 to 8 s and holds 2 slots then."""
    recording = Recording(ended_s=10.0, slots={"m": [(0.0, 4)]})
    recording.played = [
        played(planned("i"), 0.0, 0.0, 10.0),
        played(planned("b1", request_class="batch"), 0.0, 0.0, 8.0),
        played(planned("b2", request_class="batch"), 0.0, 0.0, 8.0),
        played(planned("b3", request_class="batch"), 0.0, 8.0, 10.0),
    ]
    slots = build_report(scenario(), recording).whole.slots
    assert slots.slot_s == 40.0
    assert slots.idle_slot_s == 24.0  # 3 free slots, 8 s
    assert slots.batch_share_of_idle == pytest.approx(2 / 3)
    assert slots.used_share == pytest.approx((10 + 16 + 2) / 40)


def test_slots_of_a_server_that_is_down_are_not_idle() -> None:
    recording = Recording(ended_s=10.0, slots={"m": [(0.0, 4), (5.0, 0)]})
    recording.played = [played(planned("b", request_class="batch"), 0.0, None, None)]
    slots = build_report(scenario(), recording).whole.slots
    assert (slots.slot_s, slots.idle_slot_s, slots.batch_share_of_idle) == (20.0, 20.0, 0.0)


def test_slots_of_another_model_are_not_idle_for_batch() -> None:
    recording = Recording(ended_s=10.0, slots={"m": [(0.0, 1)], "other": [(0.0, 7)]})
    recording.played = [
        played(planned(name, request_class="batch"), 0.0, at, None) for name, at in (("b", 0.0), ("c", None))
    ]
    slots = build_report(scenario(), recording).whole.slots
    assert (slots.slot_s, slots.idle_slot_s, slots.batch_share_of_idle) == (80.0, 10.0, 1.0)


def test_fairness_compares_tokens_by_weight_of_those_who_had_to_wait() -> None:
    recording = Recording(ended_s=100.0)
    for name, tokens in (("small", 1_000), ("large", 2_000)):
        recording.played.append(played(planned(f"{name}-1", name), 0.0, 0.0, 50.0, tokens))
        recording.played.append(played(planned(f"{name}-2", name), 0.0, None, None))  # waits all the time
    recording.played.append(played(planned("idle", "content"), 0.0, 0.0, 1.0, 10))
    equal = build_report(scenario(), recording).whole.jain_index
    weighted = scenario(organisations=(Organisation(name="large", weight=2.0),))
    assert equal == pytest.approx(0.9)
    assert build_report(weighted, recording).whole.jain_index == 1.0


def test_a_window_reports_the_requests_that_ended_in_it() -> None:
    recording = Recording(ended_s=100.0, gauges=[Gauge(5.0, "lyon", 1, 3), Gauge(50.0, "lyon", 1, 1)])
    recording.played = [
        played(planned("early"), 0.0, 1.0, 10.0, 100),
        played(planned("within"), 0.0, 25.0, 40.0, 300),
        played(planned("open"), 90.0, None, None),
    ]
    report = build_report(scenario(windows=(Window(name="middle", from_s=20.0, to_s=60.0),)), recording)
    middle = report.windows["middle"].classes["interactive"]
    assert (middle.requests, middle.outcomes, middle.tokens_per_s) == (1, {"completed": 1}, 7.5)
    assert (middle.ttft_s.p50, middle.queue_s.p50) == (25.5, 25.0)
    assert report.windows["middle"].engine_waiting_max == 1
    whole = report.whole.classes["interactive"]
    assert (whole.requests, whole.unfinished, report.whole.engine_waiting_mean) == (3, 1, 2.0)
    assert report.whole.servers == {"lyon": 2}


def test_the_series_show_who_waited_and_who_ran_each_second() -> None:
    recording = Recording(ended_s=4.0, slots={"m": [(0.0, 4)]}, gauges=[Gauge(1.0, "a", 1, 2), Gauge(1.0, "b", 1, 3)])
    recording.played = [played(planned("a"), 0.0, 2.0, 4.0)]
    series = build_report(scenario(), recording).series
    assert series.at_s == [0.0, 1.0, 2.0, 3.0]
    assert series.waiting["interactive"] == [1, 1, 0, 0]
    assert series.running["interactive"] == [0, 0, 1, 1]
    assert (series.slots, series.engine_waiting) == ([4] * 4, [0, 5, 5, 5])


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_a_report_is_written_as_json_and_picture(tmp_path: Path) -> None:
    report = simulate(scenario(name="A scene, 2 servers"))
    json_path, png_path = write_report(report, tmp_path / "new" / "folder")
    assert (json_path.name, png_path.name) == ("a-scene-2-servers.json", "a-scene-2-servers.png")
    read = json.loads(json_path.read_text())
    assert read["whole"]["classes"]["interactive"]["outcomes"]["completed"] > 10
    width, height = png_size(png_path)
    assert width > 800
    assert height > 800


def test_a_run_without_any_request_can_be_drawn(tmp_path: Path) -> None:
    report = simulate(scenario(users(number=1).model_copy(update={"ramp": ((0.0, 0),)})))
    assert report.whole.classes == {}
    assert write_report(report, tmp_path)[1].stat().st_size > 1_000


def test_the_three_strategies_are_compared_in_one_picture(tmp_path: Path) -> None:
    comparison = compare_strategies(scenario(users(number=12), duration_s=20.0), tmp_path)
    assert list(comparison.reports) == ["round-robin", "round-robin-priority", "least-busy"]
    width, height = png_size(comparison.png_path)
    assert width > height
    assert sorted(tmp_path.iterdir()) == sorted([comparison.png_path, *comparison.json_paths.values()])


def test_outcomes_are_told_by_name() -> None:
    recording = Recording(ended_s=1.0, played=[Played(planned("a"), 0.0, ended_s=0.0, outcome=Outcome.REFUSED_BUSY)])
    assert build_report(scenario(), recording).whole.classes["interactive"].outcomes == {"refused_busy": 1}
