"""`ilaas key`, on a store of its own and without a gateway."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ilaas.core.keys import is_mistyped
from tests.unit.cli.conftest import Ilaas

WHO = ("--organisation", "uni-lyon", "--project", "physics", "--name", "alice")


def keys(ilaas: Ilaas, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ilaas("key", "list", "--json", *more).out)
    return found


def test_creating_a_key_prints_its_secret_alone_on_standard_output(ilaas: Ilaas) -> None:
    made = ilaas("key", "create", *WHO)
    assert made.code == 0
    secret = made.out.removesuffix("\n")
    assert secret.startswith("ilaas-")
    assert not is_mistyped(secret)
    assert "uni-lyon/physics/alice" in made.err
    assert secret not in made.err


def test_a_key_carries_what_was_asked_for(ilaas: Ilaas) -> None:
    options = ["--priority", "5", "--routing-mode", "private-first", "--classes", "batch", "--models", "a,b"]
    limits = ["--requests-per-minute", "60", "--budget-eur-per-month", "12.5", "--expires", "30d"]
    assert ilaas("key", "create", *WHO, *options, *limits).code == 0
    (key,) = keys(ilaas)
    assert (key["priority"], key["routing_mode"], key["classes"], key["models"]) == (
        5,
        "private-first",
        ["batch"],
        ["a", "b"],
    )
    assert key["limits"]["requests_per_minute"] == 60
    assert key["limits"]["budget_micro_eur_per_month"] == 12_500_000
    assert key["expires_at_s"] == pytest.approx(time.time() + 30 * 86400, abs=60)


def test_a_date_of_expiry_holds_to_the_end_of_that_day(ilaas: Ilaas) -> None:
    ilaas("key", "create", *WHO, "--expires", "2099-06-30")
    assert keys(ilaas)[0]["expires_at_s"] == 4086547200  # 2099-07-01T00:00:00Z


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--expires", "someday"], "'someday'"),
        (["--classes", "owner"], "'owner'"),
        (["--routing-mode", "best"], "best"),
        (["--priority", "high"], "--priority"),
    ],
)
def test_a_wrong_option_is_named_in_one_line_and_nothing_is_made(ilaas: Ilaas, more: list[str], said: str) -> None:
    result = ilaas("key", "create", *WHO, *more)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert not Path(".ilaas").exists()


def test_an_expiry_in_the_past_and_a_name_in_use_are_refused(ilaas: Ilaas) -> None:
    assert ilaas("key", "create", *WHO).code == 0
    for result in (
        ilaas("key", "create", *WHO),
        ilaas("key", "create", *WHO[:-1], "bob", "--expires", "2001-01-01"),
    ):
        assert result.code == 1
        assert result.out == ""
        assert result.err.startswith("Error: ")
    assert len(keys(ilaas)) == 1


def test_a_revoked_key_is_listed_only_when_asked_for(ilaas: Ilaas) -> None:
    secret = ilaas("key", "create", *WHO).out.strip()
    assert ilaas("key", "revoke", secret).code == 0
    assert keys(ilaas) == []
    assert keys(ilaas, "--all")[0]["revoked_at_s"] <= time.time()
    assert "revoked" in ilaas("key", "list", "--all").out


def test_a_rotated_key_has_a_new_secret_and_both_live_for_the_overlap(ilaas: Ilaas) -> None:
    old = ilaas("key", "create", *WHO).out.strip()
    new = ilaas("key", "rotate", old, "--overlap", "1h").out.strip()
    assert new != old
    assert not is_mistyped(new)
    expiries = sorted(key["expires_at_s"] or 0 for key in keys(ilaas))
    assert expiries == [0, pytest.approx(time.time() + 3600, abs=60)]


def test_no_secret_is_ever_listed(ilaas: Ilaas) -> None:
    secret = ilaas("key", "create", *WHO).out.strip()
    shown = ilaas("key", "list").out + ilaas("key", "list", "--json").out
    assert secret not in shown
    assert "digest" not in shown


def test_a_command_on_a_folder_without_state_says_so_and_makes_nothing(ilaas: Ilaas, tmp_path: Path) -> None:
    for command in (("list",), ("revoke", "key_1"), ("rotate", "key_1")):
        result = ilaas("key", *command, "--state-dir", str(tmp_path / "elsewhere"))
        assert result.code == 1
        assert "elsewhere" in result.err
    assert not (tmp_path / "elsewhere").exists()


def test_the_state_folder_comes_from_option_configuration_or_environment(
    ilaas: Ilaas, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ilaas("key", "create", *WHO, "--state-dir", "by-option")
    ilaas("key", "create", *WHO, "--config", str(config))
    monkeypatch.setenv("ILAAS_STATE_DIR", "by-environment")
    ilaas("key", "create", *WHO)
    for folder in ("by-option", "state", "by-environment"):
        assert (tmp_path / folder / "ilaas.db").exists()
    assert not (tmp_path / ".ilaas").exists()


def test_each_change_is_audited_with_the_person_who_typed_it(
    ilaas: Ilaas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sqlite3

    monkeypatch.setenv("LOGNAME", "dupont")
    ilaas("key", "create", *WHO)
    with sqlite3.connect(tmp_path / ".ilaas" / "ilaas.db") as database:
        table = next(name for (name,) in database.execute("SELECT name FROM sqlite_master") if "audit" in name)
        actors = {actor for (actor,) in database.execute(f"SELECT actor FROM {table}")}
    assert actors == {"cli:dupont"}


def test_a_mistyped_organisation_is_refused_with_the_known_ones_and_a_new_one_can_be_added(
    ilaas: Ilaas, config: Path
) -> None:
    who = ("--organisation", "uni-lylle", "--project", "p", "--name", "n", "--config", str(config))
    refused = ilaas("key", "create", *who)
    assert (refused.code, refused.out) == (1, "")
    assert "uni-lille" in refused.err
    assert "ilaas organisation add uni-lylle" in refused.err
    assert ilaas("organisation", "add", "uni-lylle", "--config", str(config)).code == 0
    assert ilaas("key", "create", *who).code == 0
