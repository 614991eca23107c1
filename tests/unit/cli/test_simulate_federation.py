"""`ilaas simulate federation`: what it prints and writes, and what it says of a wrong call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ilaas

TEXT = """\
name: small one
hours: 0.5
profiles: {flat: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}
kinds:
  fast: {preset: h200, max_parallel: 16, gpu_memory_gb: 141, idle_w: 100, busy_w: 500}
sites:
  - {name: lyon, owner: nantes, servers: {fast: 1}}
  - {name: lille, owner: nantes, servers: {fast: 1}}
institutions:
  - {name: nantes, people: 2000}
uses:
  - {name: chat, per_person: 5, profile: flat}
models:
  - {name: m, parameters_b: 24, uses: {chat: 1}, servers: {fast: 2}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "federation.yaml"
    path.write_text(TEXT)
    return path


def test_a_day_and_a_what_if_stand_side_by_side(ilaas: Ilaas, file: Path, tmp_path: Path) -> None:
    asked = ("--add", "fast:1@lyon", "--lose-site", "lille", "--from", "00:10", "--to", "00:20")
    result = ilaas("simulate", "federation", str(file), "--out", str(tmp_path / "out"), *asked)
    assert result.code == 0
    line = next(line for line in result.out.splitlines() if line.startswith("servers' hours up"))
    assert "+0.33" in line  # half an hour of one server more, less ten minutes of another
    assert "what if" in result.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("small-one.json", "small-one-places.png", "small-one.png"),
        *("small-one-what-if.json", "small-one-what-if-places.png"),
    }
    base, changed = (json.loads((tmp_path / "out" / f"small-one{end}.json").read_text()) for end in ("", "-what-if"))
    assert base["whole"]["requests"] == changed["whole"]["requests"] > 100
    assert base["energy"]["attributed_kwh"] > 0
    assert (base["variant"], changed["variant"]) == ("", "1 fast more at lyon, lille lost from 00:10 to 00:20")


def test_without_a_what_if_there_is_one_day(ilaas: Ilaas, file: Path, tmp_path: Path) -> None:
    result = ilaas("simulate", "federation", str(file), "--out", str(tmp_path / "out"), "--seed", "3")
    assert result.code == 0
    assert "what if" not in result.out
    assert json.loads((tmp_path / "out" / "small-one.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--add", "h200"), "--add: 'h200' is not KIND:NUMBER@SITE"),
        (("--add", "h300:1@lyon"), "the scenario has no kind 'h300'; use one of fast"),
        (("--lose-site", "metz"), "the scenario has no site 'metz'; use one of lyon, lille"),
        (("--lose-site", "lyon", "--from", "14:00", "--to", "10:00"), "--to 10:00 is not after --from 14:00"),
        (("--from", "10:00"), "--from and --to belong to --lose-site SITE"),
        (("--batch", "twice"), "--batch: 'twice' is not a factor; write x2"),
    ],
)
def test_a_wrong_call_names_the_option_and_the_remedy(
    ilaas: Ilaas, file: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = ilaas("simulate", "federation", str(file), *arguments)
    assert result.code != 0
    assert words in result.err
    assert not Path("simulations").exists()


def test_a_wrong_file_names_line_and_field(ilaas: Ilaas, file: Path) -> None:
    file.write_text(TEXT.replace("owner: nantes", "owner: metz", 1))
    result = ilaas("simulate", "federation", str(file))
    assert result.code != 0
    assert "owner of 'lyon' is 'metz', which is not under institutions; use one of nantes" in result.err


def test_without_a_file_the_example_is_looked_for(ilaas: Ilaas) -> None:
    result = ilaas("simulate", "federation")
    assert result.code != 0
    assert "examples/scenarios/federation.yaml: the scenario can't be read" in result.err
