"""Claims on how well it serves: users beside batch, idle slots, where requests wait, strategies, dying servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.values import Outcome, RequestClass, Strategy
from ilaas.sim.recording import Recording, Steps
from ilaas.sim.report import Report, Spread
from ilaas.sim.run import play
from ilaas.sim.scenario import Event, Model, Scenario, Server, reference_experiment
from ilaas.sim.study import Comparison, compare_strategies
from ilaas.sim.workload import Backlog, Lengths, Users, always

Reference = tuple[Recording, Report]


def p95_s(report: Report, request_class: str = "interactive", window: str = "plateau") -> float:
    value = report.windows[window].classes[request_class].ttft_s.p95
    assert value is not None
    return value


def test_fifty_users_do_not_notice_a_full_batch_queue(reference: Reference, without_batch: Report) -> None:
    """The 95th percentile of their time to first token at the plateau is within 20 % of the run without batch."""
    beside_batch_s, alone_s = p95_s(reference[1]), p95_s(without_batch)
    assert beside_batch_s <= 1.2 * alone_s


def test_they_do_not_notice_it_whatever_they_ask() -> None:
    """The same over five runs with other requests, taken together: one p95 alone varies by a tenth."""
    beside_batch: list[float] = []
    alone: list[float] = []
    for seed in range(2, 7):
        scenario = reference_experiment(seed=seed)
        beside_batch += plateau_ttft_s(play(scenario))
        alone += plateau_ttft_s(play(scenario.without("batch")))
    beside_batch_s, alone_s = Spread.of(beside_batch).p95, Spread.of(alone).p95
    assert beside_batch_s is not None
    assert alone_s is not None
    assert beside_batch_s <= 1.2 * alone_s


def plateau_ttft_s(recording: Recording) -> list[float]:
    return [
        played.ttft_s
        for played in recording.played
        if played.planned.workload == "users" and 60 <= played.sent_s < 240 and played.ttft_s is not None
    ]


def test_owners_hardly_wait_at_their_own_servers(reference: Reference) -> None:
    """Median and 95th percentile of an owner's time in the queue at the plateau, with every slot in use."""
    queue = reference[1].windows["plateau"].classes["owner"].queue_s
    assert queue.p50 == 0.0
    assert queue.p95 is not None
    assert queue.p95 < 0.5


def test_batch_takes_at_least_nine_tenths_of_the_slots_that_others_leave(reference: Reference) -> None:
    """Exact slot-seconds, as `report.Slots` defines them: over the whole run, and at the plateau."""
    report = reference[1]
    for part in (report.whole, report.windows["plateau"]):
        share = part.slots.batch_share_of_idle
        assert share is not None
        assert share >= 0.9


def test_nobody_is_refused_in_the_reference_experiment(reference: Reference) -> None:
    outcomes = {played.outcome for played in reference[0].played}
    assert outcomes == {Outcome.COMPLETED, None}


def test_requests_wait_in_the_dispatcher_and_not_inside_the_servers(reference: Reference) -> None:
    """Thousands wait in the dispatcher; a server's own queue holds less than one request on average."""
    recording, report = reference
    assert min(report.series.waiting["batch"][:240]) > 300
    for server in {gauge.server for gauge in recording.gauges}:
        waiting = [gauge.waiting for gauge in recording.gauges if gauge.server == server]
        assert sum(waiting) / len(waiting) < 1, server


def test_least_busy_keeps_the_servers_queues_short_when_no_maximum_is_configured() -> None:
    """The default maximum is far above what this server can run at once: its own statistics must be the limit."""
    server = Server(id="s", site="s", owner="s", preset="l40s", params={"slots": 12})
    scenario = Scenario(
        name="unknown size",
        duration_s=300,
        models=(Model(name="m", servers=(server,), policy=DispatchPolicy(max_wait_s=3_600)),),
        workloads=(
            Users(name="users", organisations=("nantes", "rennes"), models=("m",), ramp=((0, 200),)),
            backlog(1_000),
        ),
    )
    recording = play(scenario)
    settled = [gauge for gauge in recording.gauges if gauge.at_s >= 60]
    assert sum(gauge.waiting for gauge in settled) / len(settled) < 1
    assert sum(gauge.running for gauge in settled) / len(settled) > 0.85 * 12  # and the server is not left idle


def test_least_busy_finds_the_size_of_a_server_that_tells_nothing() -> None:
    """Four slots, no statistics, no maximum: the time to first token alone keeps the server's own queue bounded."""
    server = Server(id="s", site="s", owner="s", preset="workstation-ollama", statistics=False)
    scenario = Scenario(
        name="silent",
        duration_s=900,
        models=(Model(name="m", servers=(server,), policy=DispatchPolicy(max_wait_s=3_600)),),
        workloads=(
            Users(
                name="users",
                organisations=("nantes",),
                models=("m",),
                ramp=((0, 40),),
                prompt_tokens=Lengths(median=150, maximum=500),
                output_tokens=Lengths(median=60, maximum=200),
            ),
        ),
    )
    recording = play(scenario)
    waiting = [gauge.waiting for gauge in recording.gauges if gauge.at_s >= 300]
    assert sum(waiting) / len(waiting) < 5  # of 36 that must wait somewhere
    running = [gauge.running for gauge in recording.gauges if gauge.at_s >= 300]
    assert sum(running) / len(running) > 0.85 * 4


def backlog(requests: int) -> Backlog:
    return Backlog(
        name="batch",
        organisations=("nantes",),
        models=("m",),
        requests=requests,
        request_class=RequestClass.BATCH,
    )


UNEQUAL = Scenario(
    name="unequal servers",
    duration_s=150,
    models=(
        Model(
            name="m",
            servers=(
                Server(id="fast", site="lyon", owner="lyon", preset="h200", max_parallel=32),
                Server(id="slow", site="lille", owner="lille", preset="slow-spot", max_parallel=8),
            ),
        ),
    ),
    workloads=(
        Users(name="users", organisations=("nantes", "rennes"), models=("m",), ramp=((0, 0), (30, 30))),
        backlog(300),
    ),
)
"""A fast server and a slow one, nearly as many users as slots, and batch."""


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Each strategy in turn."""
    return compare_strategies(UNEQUAL, tmp_path_factory.mktemp("comparison"))


def test_least_busy_beats_round_robin_on_unequal_servers(unequal: Comparison) -> None:
    ttft = {name: report.whole.classes["interactive"].ttft_s.p95 for name, report in unequal.reports.items()}
    assert ttft["least-busy"] is not None
    assert ttft["round-robin"] is not None
    assert ttft["least-busy"] < 0.5 * ttft["round-robin"]


def test_holding_back_beats_round_robin_when_batch_is_there(unequal: Comparison) -> None:
    ttft = {name: report.whole.classes["interactive"].ttft_s.p95 for name, report in unequal.reports.items()}
    assert ttft["round-robin-priority"] is not None
    assert ttft["round-robin"] is not None
    assert ttft["round-robin-priority"] < ttft["round-robin"]


def test_least_busy_uses_the_faster_server_while_it_has_room() -> None:
    """Without batch there are slots to spare: taking turns sends users to the slow server, least-busy does not."""
    alone = UNEQUAL.without("batch")
    ttft: dict[Strategy, list[float]] = {Strategy.LEAST_BUSY: [], Strategy.ROUND_ROBIN_PRIORITY: []}
    for strategy, values in ttft.items():
        for seed in (1, 2, 3):
            recording = play(alone.with_strategy(strategy).model_copy(update={"seed": seed}))
            values += [played.ttft_s for played in recording.played if played.ttft_s is not None]
    best, turns = Spread.of(ttft[Strategy.LEAST_BUSY]).p95, Spread.of(ttft[Strategy.ROUND_ROBIN_PRIORITY]).p95
    assert best is not None
    assert turns is not None
    assert best < 0.8 * turns


def test_the_three_strategies_are_drawn_in_one_picture(unequal: Comparison) -> None:
    assert list(unequal.reports) == [strategy.value for strategy in Strategy]
    assert Path(unequal.png_path).read_bytes().startswith(b"\x89PNG")


def test_a_servers_death_loses_no_ticket() -> None:
    """Each request ends in one way; those without a first token are answered by another server."""
    scenario = reference_experiment()
    events = (
        Event(at_s=100, action="down", server="paris-a100"),
        Event(at_s=160, action="up", server="paris-a100"),
    )
    batch = next(workload for workload in scenario.workloads if isinstance(workload, Backlog))
    workloads = (scenario.workloads[0], batch.model_copy(update={"requests": 800}), scenario.workloads[2])
    recording = play(scenario.model_copy(update={"events": events, "workloads": workloads, "drain_s": 1_200.0}))
    outcomes = [played.outcome for played in recording.played]
    assert set(outcomes) == {Outcome.COMPLETED, Outcome.STREAM_BROKEN}
    assert outcomes.count(Outcome.STREAM_BROKEN) <= 24  # at most the dead server's slots
    broken = [played for played in recording.played if played.outcome is Outcome.STREAM_BROKEN]
    assert {played.ended_s for played in broken} == {100.0}
    names = [played.planned.id for played in recording.played]
    assert len(set(names)) == len(names)
    back = [lease for played in recording.played for lease in played.leases if lease.granted_s > 175]
    assert "paris-a100" in {lease.server for lease in back}


def test_a_retried_request_keeps_its_place() -> None:
    """The requests of a server that dies during their prefill go before those that came after them."""
    params = {"prefill_tps": 300.0}
    servers = tuple(Server(id=name, site=name, owner=name, params=params, max_parallel=2) for name in ("lyon", "lille"))
    users = Users(
        name="users",
        organisations=("nantes",),
        models=("m",),
        ramp=((0, 20),),
        prompt_tokens=always(1_500),
        output_tokens=Lengths(median=20, maximum=40),
    )
    scenario = Scenario(
        name="place",
        duration_s=120,
        models=(Model(name="m", servers=servers, policy=DispatchPolicy(max_wait_s=3_600, ttft_guard_s=60)),),
        workloads=(users,),
        events=(Event(at_s=27.0, action="down", server="lyon"),),
    )
    recording = play(scenario)
    retried = [played for played in recording.played if len(played.leases) == 2 and played.leases[0].ended_s == 27.0]
    assert retried
    for played in retried:
        overtakers = [
            other.planned.id
            for other in recording.played
            if other.sent_s > played.sent_s
            and other.leases
            and 27.0 < other.leases[-1].granted_s < played.leases[-1].granted_s
        ]
        assert not overtakers


def test_slots_freed_are_used_at_once(reference: Reference) -> None:
    """While batch waits, no more slots than the headroom (a tenth) stay empty for longer than a quarter of a second."""
    recording = reference[0]
    held = Steps(
        (lease.granted_s, lease.ended_s or recording.ended_s) for played in recording.played for lease in played.leases
    )
    levels = held.sampled([5 + index / 4 for index in range(4 * 285)])
    assert sorted(levels)[len(levels) // 100] >= 0.9 * 72 - 1
