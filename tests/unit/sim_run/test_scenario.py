"""A scenario file is read whole, or refused with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilaas.core.errors import ConfigError
from ilaas.core.values import RequestClass, Strategy
from ilaas.sim.scenario import Scenario, load_scenario, reference_experiment
from ilaas.sim.workload import Trace

EXAMPLES = Path(__file__).parents[3] / "examples" / "scenarios"
FEDERATION = EXAMPLES / "federation.yaml"
GOOD = """\
name: two servers
duration_s: 60
organisations:
  - {name: nantes, weight: 2}
models:
  - name: m
    strategy: round-robin-priority
    policy:
      max_wait_s: 30
    servers:
      - {id: a, site: lyon, owner: lyon, preset: h200, max_parallel: 8}
      - id: b
        site: lille
        owner: lille
        params: {slots: 4, prefill_tps: 1000}
workloads:
  - {kind: users, name: u, organisations: [nantes], models: [m], ramp: [[0, 0], [10, 5]], prompt_tokens: 100}
  - {kind: trace, name: t, file: trace.csv}
events:
  - {at_s: 30, action: down, site: lyon}
"""
CSV = "at_s,organisation,class,prompt_tokens,output_tokens,model\n1.5,rennes,batch,200,50,m\n3,nantes,,100,20,m\n"


def written(folder: Path, text: str, trace: str = CSV) -> Path:
    (folder / "trace.csv").write_text(trace)
    path = folder / "scenario.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_a_scenario_with_its_trace(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, GOOD))
    (model,) = scenario.models
    spec = model.spec()
    assert spec.policy.strategy is Strategy.ROUND_ROBIN_PRIORITY
    assert spec.policy.max_wait_s == 30
    assert [server.max_parallel_requests for server in spec.servers] == [8, None]
    assert (model.servers[1].engine.slots, model.servers[1].engine.prefill_tps) == (4, 1000.0)
    assert scenario.weights == {"nantes": 2.0}
    trace = scenario.workloads[1]
    assert isinstance(trace, Trace)
    assert [line.request_class for line in trace.lines] == [RequestClass.BATCH, RequestClass.INTERACTIVE]


def test_a_trace_may_be_json_lines(tmp_path: Path) -> None:
    line = (
        '{"at_s": 1, "organisation": "rennes", "class": "batch", "prompt_tokens": 9, "output_tokens": 2, "model": "m"}'
    )
    (tmp_path / "trace.jsonl").write_text(line + "\n\n" + line + "\n")
    scenario = load_scenario(written(tmp_path, GOOD.replace("trace.csv", "trace.jsonl")))
    trace = scenario.workloads[1]
    assert isinstance(trace, Trace)
    assert len(trace.lines) == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("preset: h200", "preset: h300", 11, "preset 'h300' is not known; use one of h200"),
        ("slots: 4", "slotz: 4", 12, "params.slotz is not known"),
        ("slots: 4", "slots: 0", 12, "slots must be greater than 0"),
        ("max_wait_s: 30", "max_wate_s: 30", 9, "'max_wate_s' is not a field of a policy"),
        ("models: [m]", "models: [n]", 1, "asks for model 'n', which is not under models"),
        ("site: lyon}\n", "site: metz}\n", 1, "names? the site 'metz', where no server is"),
        ("id: b", "id: a", 1, "'a' is there twice"),
        ("action: down", "action: burn", 20, "events.0.action: Input should be 'down'"),
        ("kind: users", "kind: robots", 17, "'robots'"),
        ("at_s: 30, action: down, site: lyon", "at_s: 30, action: down", 20, "name either 'server' or 'site'"),
        ("duration_s: 60\n", "", 1, "duration_s: Field required"),
        ("duration_s: 60", "duration_s: [", 4, "not YAML"),
        ("- {name: nantes, weight: 2}", "- {name: nantes, weight: heavy}", 4, "valid number"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words) as caught:
        load_scenario(path)
    assert caught.value.message.startswith(f"{path}:{line}:")


def test_a_missing_file_or_trace_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_scenario(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match=r"other\.csv: the trace can't be read"):
        load_scenario(written(tmp_path, GOOD.replace("trace.csv", "other.csv")))


def test_a_mistake_inside_a_trace_names_the_row(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, CSV.replace("200,50", "many,50"))
    with pytest.raises(ConfigError, match=r"workloads\.1\.lines\.0\.prompt_tokens"):
        load_scenario(path)


@pytest.mark.parametrize("path", sorted(set(EXAMPLES.glob("*.yaml")) - {FEDERATION}), ids=lambda path: path.stem)
def test_the_examples_are_valid(path: Path) -> None:
    assert load_scenario(path).description


def test_a_federation_s_file_is_sent_to_its_own_command() -> None:
    with pytest.raises(ConfigError, match="describes a federation; play it with 'ilaas simulate federation"):
        load_scenario(FEDERATION)


def test_the_example_of_the_reference_experiment_is_the_built_in_one() -> None:
    loaded = load_scenario(EXAMPLES / "reference.yaml")
    assert loaded == reference_experiment()


def test_workloads_and_strategy_can_be_changed() -> None:
    scenario: Scenario = reference_experiment().without("batch", "owners").with_strategy(Strategy.ROUND_ROBIN)
    assert [workload.name for workload in scenario.workloads] == ["users"]
    assert scenario.models[0].spec().policy.strategy is Strategy.ROUND_ROBIN
