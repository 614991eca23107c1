"""A federation's file is read whole, or refused with its line, its field and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilaas.core.errors import ConfigError
from ilaas.sim.federation.plan import plan_day
from ilaas.sim.federation.scenario import load_day

EXAMPLE = Path(__file__).parents[3] / "examples" / "scenarios" / "federation.yaml"
GOOD = """\
name: small
hours: 1
profiles:
  flat: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
kinds:
  fast: {preset: h200, max_parallel: 16, idle_w: 100, busy_w: 500}
sites:
  - {name: lyon, owner: nantes, servers: {fast: 2}}
institutions:
  - {name: nantes, people: 100}
uses:
  - {name: chat, per_person: 2, profile: flat}
models:
  - {name: m, models: 2, parameters_b: 30, uses: {chat: 1}, servers: {fast: 2}}
"""


def test_the_example_is_the_federation_that_is_planned_for() -> None:
    day = load_day(EXAMPLE)
    plans = plan_day(day)
    assert len(plans) == 100
    assert sum(len(plan.boxes) for plan in plans) == 500
    assert (len(day.institutions), day.people) == (40, 3_000_000)
    assert sum(box.spot for plan in plans for box in plan.boxes) == 120
    expected = sum(demand.requests for plan in plans for demand in plan.demands)
    assert 10e6 < expected < 13e6


def test_a_file_becomes_a_day(tmp_path: Path) -> None:
    day = load_day(written(tmp_path, GOOD))
    assert [plan.name for plan in plan_day(day)] == ["m-1", "m-2"]
    assert day.duration_s == 3600


def written(folder: Path, text: str) -> Path:
    path = folder / "federation.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("preset: h200", "preset: h300", 6, "kinds.fast: preset 'h300' is not known; use one of h200"),
        ("idle_w: 100", "idle_w: 900", 6, "busy_w (500) is below idle_w (900)"),
        ("idle_w: 100", "params: {slotz: 4}", 6, "params.slotz is not known; use slots"),
        ("owner: nantes", "owner: metz", 1, "owner of 'lyon' is 'metz', which is not under institutions"),
        ("fast: 2}}\ninst", "fats: 2}}\ninst", 1, "sites: 'lyon' is 'fats', which is not under kinds; use one of fast"),
        ("fast: 2}}\ninst", "fast: 3}}\ninst", 1, "the sites have 3 machines of kind 'fast' and the models take 2"),
        ("models: 2", "models: 3", 1, "group 'm' has fewer servers than models; give more"),
        ("uses: {chat: 1}", "uses: {chat: 0.5}", 1, "the shares of use 'chat' add up to 0.5; make it 1"),
        ("uses: {chat: 1}", "uses: {chat: 2}", 14, "models.0.uses.chat: Input should be less than or equal to 1"),
        ("uses: {chat: 1}", "uses: {chats: 1}", 1, "'chats', which is not under uses; use one of chat"),
        ("profile: flat", "profile: round", 1, "'round', which is not under profiles; use one of flat"),
        ("flat: [1, 1,", "flat: [1,", 4, "'flat' has 23 weights; give 24, one for each hour"),
        ("per_person: 2", "per_persn: 2", 12, "uses.0.per_person: Field required"),
        ("per_person: 2,", "class: owner, per_person: 2,", 12, "'owner' is given by the dispatcher"),
        ("people: 100", "people: 0", 1, "nobody is there; give one of them people"),
        ("parameters_b: 30,", "parameters_b: 30, policy: {max_wate_s: 1},", 14, "'max_wate_s' is not a field of a"),
        ("name: small", "name: [", 3, "this is not YAML"),
    ],
)
def test_a_mistake_is_told_with_line_field_and_remedy(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as raised:
        load_day(path)
    message = str(raised.value)
    assert message.startswith(f"{path}:{line}:")
    assert words in message


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    text = GOOD.replace("  - {name: nantes, people: 100}\n", "  - {name: nantes, people: 100}\n" * 2)
    with pytest.raises(ConfigError, match="the institution 'nantes' is there twice"):
        load_day(written(tmp_path, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the scenario can't be read"):
        load_day(tmp_path / "none.yaml")
