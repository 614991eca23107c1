"""The run in virtual time connects workloads, scheduler and engines as the gateway does, and loses nothing."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.values import Outcome, RequestClass
from ilaas.sim.recording import Recording
from ilaas.sim.run import play
from ilaas.sim.scenario import Event, Model, Server
from ilaas.sim.study import simulate
from ilaas.sim.workload import Backlog, Poisson, always
from tests.unit.sim_run.scenes import scenario, servers, users

BATCH = Backlog(
    name="batch",
    requests=60,
    organisations=("nantes",),
    models=("m",),
    request_class=RequestClass.BATCH,
    prompt_tokens=always(300),
    output_tokens=always(80),
)


def outcomes(recording: Recording) -> set[Outcome | None]:
    return {played.outcome for played in recording.played}


def test_the_same_scenario_gives_the_same_report_to_the_last_digit() -> None:
    scene = scenario(users(number=10, think_s=1.0, stop_share=0.2), BATCH)
    assert simulate(scene).to_json() == simulate(scene).to_json()


def test_another_seed_gives_another_run() -> None:
    poisson = Poisson(name="p", rate=((0.0, 2.0),), organisations=("nantes",), models=("m",))
    scene = scenario(poisson)
    assert simulate(scene).to_json() != simulate(scene.model_copy(update={"seed": 2})).to_json()


def test_every_request_is_answered_and_counted_once() -> None:
    scene = scenario(users(number=10), BATCH, drain_s=120.0)
    recording = play(scene)
    assert outcomes(recording) == {Outcome.COMPLETED}
    assert len({played.planned.id for played in recording.played}) == len(recording.played) > 100
    assert all(
        played.tokens == played.planned.prompt_tokens + played.planned.output_tokens for played in recording.played
    )
    assert recording.ended_s < 100  # it does not wait for nothing


def test_no_server_ever_holds_more_than_its_slots() -> None:
    recording = play(scenario(users(number=30), BATCH))
    for server in ("lyon", "lille"):
        leases = [held for played in recording.played for held in played.leases if held.server == server]
        for at_s in range(60):
            held = [x for x in leases if x.granted_s <= at_s and (x.ended_s is None or x.ended_s > at_s)]
            assert len(held) <= 4


def test_what_is_under_way_at_the_end_is_unfinished() -> None:
    recording = play(scenario(users(number=10), duration_s=3.0))
    assert recording.unfinished == 10
    assert recording.ended_s == 3.0


def test_a_server_that_dies_breaks_its_streams_and_its_other_requests_go_elsewhere() -> None:
    scene = scenario(users(number=8), events=(Event(at_s=20.0, action="down", server="lyon"),), drain_s=60.0)
    recording = play(scene)
    broken = [played for played in recording.played if played.outcome is Outcome.STREAM_BROKEN]
    assert broken
    assert all(played.ended_s == 20.0 and played.first_token_s is not None for played in broken)
    assert outcomes(recording) <= {Outcome.COMPLETED, Outcome.STREAM_BROKEN}
    ended = [played.leases[-1].server for played in recording.played if played.leases and played.sent_s > 20.0]
    assert set(ended) == {"lille"}  # the dead one is tried now and then, at nobody's cost
    assert recording.slots == {"m": [(0.0, 8), (20.0, 4)]}


def test_a_server_that_comes_back_is_used_again() -> None:
    events = (Event(at_s=10.0, action="down", site="lyon"), Event(at_s=25.0, action="up", site="lyon"))
    recording = play(scenario(users(number=8), events=events))
    used = {held.server for played in recording.played for held in played.leases if held.granted_s > 45.0}
    assert used == {"lyon", "lille"}


def test_with_no_server_up_requests_are_refused_and_users_come_again_later() -> None:
    events = tuple(Event(at_s=5.0, action="down", server=name) for name in ("lyon", "lille"))
    recording = play(scenario(users(number=2), events=events))
    late = [played for played in recording.played if played.sent_s > 30.0]
    assert late
    assert {played.outcome for played in late} <= {Outcome.REFUSED_NO_SERVER, Outcome.CONNECT_FAILED, None}
    assert len(recording.played) < 500  # they wait as long as they are told


def test_a_draining_server_ends_its_work_and_gets_no_more() -> None:
    recording = play(scenario(users(number=8), events=(Event(at_s=20.0, action="drain", server="lyon"),)))
    assert outcomes(recording) <= {Outcome.COMPLETED, None}
    leases = [held for played in recording.played for held in played.leases if held.server == "lyon"]
    assert max(held.granted_s for held in leases) <= 20.0


def test_a_user_who_presses_stop_frees_the_slot_at_once() -> None:
    recording = play(scenario(users(number=20, stop_share=1.0, stop_after_s=1.0, output_tokens=always(2_000))))
    left = {Outcome.CLIENT_LEFT_QUEUE, Outcome.CLIENT_LEFT_DECODE}
    assert left <= outcomes(recording)
    stopped = [played for played in recording.played if played.outcome is Outcome.CLIENT_LEFT_DECODE]
    assert all(200 < played.tokens < 2_200 for played in stopped)
    assert all(played.leases[-1].ended_s == played.ended_s for played in stopped)


def test_a_prompt_longer_than_any_window_is_an_error_of_the_request_alone() -> None:
    small = Server(id="s", site="s", owner="s", params={"max_model_len": 500}, max_parallel=2)
    recording = play(
        scenario(
            users(number=1, prompt_tokens=always(600), think_s=1.0),
            users("short", number=1),
            models=(Model(name="m", servers=(small,)),),
        )
    )
    by_workload = {
        name: {p.outcome for p in recording.played if p.planned.workload == name} for name in ("users", "short")
    }
    assert by_workload["users"] <= {Outcome.UPSTREAM_REJECTED, Outcome.REJECTED_INVALID, None}
    assert Outcome.COMPLETED in by_workload["short"]


def test_a_server_that_gives_no_first_token_in_time_is_left_for_another() -> None:
    slow = Server(id="slow", site="slow", owner="slow", params={"prefill_tps": 10.0}, max_parallel=4)
    policy = DispatchPolicy(deadlines=replace(Deadlines(), first_token_s=5.0))
    model = Model(name="m", servers=(slow, *servers(lyon=1)), policy=policy)
    recording = play(scenario(users(number=3), models=(model,)))
    retried = [played for played in recording.played if len(played.leases) > 1]
    assert retried
    assert all(played.leases[0].server == "slow" for played in retried)


def test_work_that_only_reads_ends_without_a_first_token_of_its_own() -> None:
    from ilaas.sim.workload import Trace, TraceLine

    line = TraceLine(at_s=1.0, organisation="nantes", model="m", prompt_tokens=50, output_tokens=0)
    (played,) = play(scenario(Trace(name="t", lines=(line,)))).played
    assert played.outcome is Outcome.COMPLETED
    assert played.first_token_s == played.ended_s
