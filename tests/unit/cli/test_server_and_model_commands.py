"""`ilaas server`, `ilaas model` and `ilaas config`, without a gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Ilaas

ADD = ("--url", "https://gpu.example.fr", "--site", "reims", "--owner", "uni-lille", "--allow-private")


def servers(ilaas: Ilaas, config: Path) -> dict[str, dict[str, Any]]:
    listed = json.loads(ilaas("server", "list", "--json", "--config", str(config)).out)
    return {server["id"]: server for server in listed}


def test_models_are_listed_from_the_configuration_when_no_gateway_runs(ilaas: Ilaas, config: Path) -> None:
    listed = ilaas("model", "list", "--config", str(config))
    assert listed.code == 0
    assert "No gateway runs" in listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == ["model", "mistral", "bge"]


def test_a_model_is_shown_by_name_or_alias(ilaas: Ilaas, config: Path) -> None:
    by_name = ilaas("model", "show", "mistral", "--config", str(config))
    by_alias = ilaas("model", "show", "org/mistral-24b", "--config", str(config))
    assert by_name.out == by_alias.out
    assert "lyon-1" in by_name.out


def test_an_unknown_model_is_refused_with_near_names(ilaas: Ilaas, config: Path) -> None:
    result = ilaas("model", "show", "mistrall", "--config", str(config))
    assert (result.code, result.out) == (1, "")
    assert "'mistral'" in result.err


def test_an_added_server_is_listed_with_the_models_served_name_until_it_is_removed(ilaas: Ilaas, config: Path) -> None:
    added = ilaas("server", "add", "mistral", *ADD, "--config", str(config))
    assert added.code == 0
    server_id = added.out.strip()
    found = servers(ilaas, config)[server_id]
    assert (found["model"], found["owner"], found["from_file"]) == ("mistral", "uni-lille", False)
    assert ilaas("server", "remove", server_id, "--config", str(config)).code == 0
    assert server_id not in servers(ilaas, config)


def test_a_server_that_may_be_taken_away_is_added_and_listed_as_such(ilaas: Ilaas, config: Path) -> None:
    steady = ilaas("server", "add", "mistral", *ADD, "--config", str(config)).out.strip()
    other = ("--url", "https://gpu2.example.fr", *ADD[2:])
    spot = ilaas("server", "add", "mistral", *other, "--spot", "--config", str(config)).out.strip()
    found = servers(ilaas, config)
    assert (found[steady]["spot"], found[spot]["spot"]) == (False, True)
    lines = ilaas("server", "list", "--config", str(config)).out.splitlines()
    assert [line.split()[0] for line in lines if "  yes  " in line] == [spot]


def test_a_server_of_the_file_is_not_removed_here(ilaas: Ilaas, config: Path) -> None:
    ilaas("server", "drain", "lyon-2", "--config", str(config))
    ilaas("server", "add", "mistral", *ADD, "--config", str(config))
    result = ilaas("server", "remove", "lyon-1", "--config", str(config))
    assert result.code == 1
    assert "configuration file" in result.err


def test_a_server_for_a_model_that_is_not_offered_is_refused(ilaas: Ilaas, config: Path) -> None:
    result = ilaas("server", "add", "mistrale", *ADD, "--config", str(config))
    assert result.code == 1
    assert "'mistral'" in result.err


def test_a_server_of_the_file_is_not_added_again(ilaas: Ilaas, config: Path) -> None:
    again = ilaas("server", "add", "mistral", "--url", "http://127.0.0.1:1/v1", *ADD[2:], "--config", str(config))
    named = ilaas("server", "add", "mistral", *ADD, "--id", "lyon-1", "--config", str(config))
    assert (again.code, named.code) == (1, 1)
    assert "'lyon-1'" in again.err
    assert "'lyon-1'" in named.err
    assert all(server["from_file"] for server in servers(ilaas, config).values())


def test_an_address_of_a_private_network_needs_to_be_allowed(ilaas: Ilaas, config: Path) -> None:
    url = ("--url", "http://10.0.0.8:8000")
    refused = ilaas("server", "add", "mistral", *url, *ADD[2:-1], "--config", str(config))
    assert refused.code == 1
    assert "not public" in refused.err
    assert ilaas("server", "add", "mistral", *url, *ADD[2:], "--config", str(config)).code == 0


def test_a_drained_server_shows_it_and_is_resumed(ilaas: Ilaas, config: Path) -> None:
    ilaas("key", "create", "--organisation", "uni-lille", "--project", "p", "--name", "n", "--config", str(config))
    assert ilaas("server", "drain", "lyon-1", "--config", str(config)).code == 0
    assert servers(ilaas, config)["lyon-1"]["state"] == "draining"
    assert ilaas("server", "resume", "lyon-1", "--config", str(config)).code == 0
    assert servers(ilaas, config)["lyon-1"]["state"] == "configured"


def test_draining_an_unknown_server_is_refused_with_near_names(ilaas: Ilaas, config: Path) -> None:
    ilaas("key", "create", "--organisation", "uni-lille", "--project", "p", "--name", "n", "--config", str(config))
    result = ilaas("server", "drain", "lyon1", "--config", str(config))
    assert result.code == 1
    assert "'lyon-1'" in result.err


def test_a_servers_token_comes_from_a_file_or_the_environment_and_is_never_shown(
    ilaas: Ilaas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret-of-file\n")
    from_file = ilaas("server", "add", "mistral", *ADD, "--token-file", "token", "--config", str(config))
    monkeypatch.setenv("ILAAS_SERVER_TOKEN", "s3cret-of-environment")
    other = ("--url", "https://gpu2.example.fr", *ADD[2:])
    from_environment = ilaas("server", "add", "mistral", *other, "--config", str(config))
    listed = ilaas("server", "list", "--json", "--config", str(config))
    shown = "".join(each.out + each.err for each in (from_file, from_environment, listed))
    assert from_file.code == from_environment.code == 0
    assert "s3cret" not in shown


def test_a_correct_configuration_is_summed_up(ilaas: Ilaas, config: Path) -> None:
    result = ilaas("config", "check", str(config))
    assert result.code == 0
    assert "mistral, bge" in result.out
    assert "lille, lyon" in result.out


def test_a_wrong_configuration_tells_every_problem_with_its_line(ilaas: Ilaas, config: Path) -> None:
    config.write_text("port: eight\nmodels:\n  - name: m\n    servrs: []\n")
    result = ilaas("config", "check", str(config))
    assert (result.code, result.out) == (1, "")
    assert "ilaas.yaml:1:" in result.err
    assert "ilaas.yaml:4:" in result.err


def test_a_warning_leaves_the_exit_code_at_0(ilaas: Ilaas, config: Path) -> None:
    config.write_text("models:\n  - name: m\n    servers:\n      - {url: 'http://a:1/v1', organisation: o}\n")
    result = ilaas("config", "check", str(config))
    assert result.code == 0
    assert "Warning: " in result.err


def test_a_server_of_an_organisation_that_nobody_knows_is_refused(ilaas: Ilaas, config: Path) -> None:
    options = [*ADD[:5], "uni-lion", *ADD[6:]]
    refused = ilaas("server", "add", "mistral", *options, "--config", str(config))
    assert refused.code == 1
    assert "uni-lyon" in refused.err
