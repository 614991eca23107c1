"""The command as a whole: help, errors and exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ilaas import __version__
from ilaas.app.config import load_config
from ilaas.cli.main import app, run
from ilaas.cli.place import MEMO, find_place, remember_config
from tests.unit.cli.conftest import Ilaas

HEAVY = ("sqlalchemy", "fastapi", "uvicorn", "matplotlib", "pydantic", "httpx", "ilaas.app.runtime")


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(group, "commands", {})
    if not inner:
        yield path
    for name, command in inner.items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_has_help_with_an_example(ilaas: Ilaas, path: tuple[str, ...]) -> None:
    result = ilaas(*path, "--help")
    assert result.code == 0
    assert "ilaas " in result.out.partition("Examples:")[2]


def test_help_loads_nothing_heavy() -> None:
    code = (
        f"import sys; from ilaas.cli.main import run; run(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_the_version_is_told(ilaas: Ilaas) -> None:
    assert ilaas("version").out == ilaas("--version").out == f"ilaas {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["key", "create"], ["serve"], ["key", "list", "--nonsense"], ["sim", "server", "-p"]]
)
def test_a_wrong_call_is_told_in_one_line_with_exit_code_2(ilaas: Ilaas, arguments: list[str]) -> None:
    result = ilaas(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert "--help'" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--config", "missing.yaml"], "missing.yaml"),
        (["config", "check", "missing.yaml"], "missing.yaml"),
        (["simulate", "missing.yaml"], "missing.yaml"),
        (["simulate", "priority", "--key", "k"], "--live"),
        (["sim", "server", "--preset", "abacus"], "abacus"),
        (["sim", "server", "--fail", "boredom"], "boredom"),
        (["top"], "No gateway runs"),
        (["top", "--url", "gw1:9464"], "http://"),
        (["key", "list", "--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_exit_code_1(ilaas: Ilaas, arguments: list[str], said: str) -> None:
    result = ilaas(*arguments)
    assert result.code == 1
    assert said in result.err
    assert result.err.startswith("Error: ")
    assert "Traceback" not in result.err


def test_a_simulated_server_says_that_its_port_is_taken(ilaas: Ilaas) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = ilaas("sim", "server", "--port", str(port))
    assert result.code == 1
    assert result.err == (
        f"Error: can't listen on 127.0.0.1:{port}: Address already in use; choose another port, or 0 for a free one\n"
    )


def test_an_internal_error_shows_its_trace_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = typer.Typer()

    @faulty.command()
    def divide() -> None:
        print(1 // 0)

    monkeypatch.delenv("ILAAS_DEBUG", raising=False)
    assert run([], faulty) == 1
    quiet = capsys.readouterr().err
    assert quiet.startswith("Error: internal error")
    assert len(quiet.splitlines()) == 1
    monkeypatch.setenv("ILAAS_DEBUG", "1")
    run([], faulty)
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_quietly_with_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = typer.Typer()

    @interrupted.command()
    def wait() -> None:
        raise KeyboardInterrupt

    assert run([], interrupted) == 130
    assert capsys.readouterr().err == ""


def test_a_state_folder_alone_leads_to_the_configuration_it_was_served_with(
    ilaas: Ilaas, config: Path, tmp_path: Path
) -> None:
    remember_config(load_config(config, {}))
    place = find_place(tmp_path / "state", None, {})
    assert place.configured
    assert [model.name for model in place.settings.models] == ["mistral", "bge"]
    assert place.state_dir == tmp_path / "state"


def test_keys_can_be_revoked_while_the_configuration_is_broken(ilaas: Ilaas, config: Path) -> None:
    secret = ilaas(
        "key", "create", "--organisation", "uni-lyon", "--project", "p", "--name", "n", "--config", str(config)
    )
    remember_config(load_config(config, {}))
    config.write_text("models: [")
    result = ilaas("key", "revoke", secret.out.strip(), "--state-dir", "state")
    assert result.code == 0
    assert "ilaas.yaml" in result.err


def test_a_broken_configuration_that_names_the_database_is_an_error(ilaas: Ilaas, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    memo = {"config": str(tmp_path / "gone.yaml"), "own_store": True}
    (tmp_path / "state" / MEMO).write_text(json.dumps(memo))
    result = ilaas("key", "list", "--state-dir", "state")
    assert result.code == 1
    assert "gone.yaml" in result.err


def test_the_demo_is_worked_on_when_it_is_the_only_state_here(ilaas: Ilaas) -> None:
    Path(".ilaas/demo").mkdir(parents=True)
    who = ("--organisation", "o", "--project", "p", "--name", "n")
    ilaas("key", "create", *who, "--state-dir", ".ilaas/demo")
    listed = ilaas("key", "list")
    assert listed.code == 0
    assert "demo" in listed.err
    ilaas("key", "create", *who, "--state-dir", ".ilaas")
    assert "demo" not in ilaas("key", "list").err


def test_a_reader_that_closes_early_gets_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    said = subprocess.run(
        [sys.executable, "-m", "ilaas.cli.main", "version"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in said.stderr


def test_a_scenario_is_played_and_leaves_json_and_a_picture(ilaas: Ilaas, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        """
name: small
duration_s: 5
models:
  - name: m
    servers:
      - {id: s1, site: lyon, owner: lyon}
workloads:
  - {name: users, kind: users, organisations: [a], models: [m], ramp: [[0, 3]]}
"""
    )
    result = ilaas("simulate", "small.yaml", "--out", "results")
    assert result.code == 0
    assert "interactive" in result.out
    written = [Path(line) for line in result.out.splitlines() if line.startswith("results/")]
    assert sorted(path.suffix for path in written) == [".json", ".png"]
    assert all(path.stat().st_size for path in written)
    assert json.loads(next(path for path in written if path.suffix == ".json").read_text())["scenario"] == "small"


def test_events_that_commands_log_are_told_on_standard_error(tmp_path: Path) -> None:
    program = """
import structlog
from ilaas.cli.place import find_place
find_place(None, None, {})
structlog.get_logger().info("it_happened")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert said.stdout == ""
    assert "it_happened" in said.stderr
