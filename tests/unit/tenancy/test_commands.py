"""`ilaas organisation`, `project`, `person`, `role` and `audit`, as someone at the gateway's machine uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ilaas.cli.tenancy import TENANCY_APPS
from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.keys import is_mistyped

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a state folder of its own; gives what it printed, raises what it raised."""
    monkeypatch.setenv("COLUMNS", "300")
    app = typer.Typer()
    for part in TENANCY_APPS:
        app.add_typer(part)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--state-dir", str(tmp_path / "state")])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def wrong(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--state-dir", str(tmp_path / "state")])
        assert done.exit_code == 2, done.output
        return done.output

    run.wrong = wrong  # type: ignore[attr-defined]
    return run


def shown(run: Run, *words: str) -> Any:
    return json.loads(run(*words))


def test_an_organisation_is_added_shown_set_and_listed(run: Run) -> None:
    run(
        *("organisation", "add", "Angers", "--kind", "partner", "--weight", "2", "--agreement-from", "2026-09-01"),
        *("--limit", "tokens-per-day=5", "--limit", "budget-eur-per-month=12.5"),
        *("--model-limit", "qwen:7b:requests-per-minute=3"),
    )
    assert shown(run, "organisation", "show", "Angers") == {
        "name": "Angers",
        "kind": "partner",
        "contributor": True,
        "consumer": True,
        "weight": 2.0,
        "agreement": {"starts_on": "2026-09-01", "ends_on": None, "document_url": None},
        "limits": {"tokens_per_day": 5, "budget_micro_eur_per_month": 12_500_000},
        "model_limits": {"qwen:7b": {"requests_per_minute": 3}},
    }
    run(
        *("organisation", "set", "Angers", "--no-contributor", "--agreement-to", "2028-12-31"),
        *("--limit", "tokens-per-day=none", "--model-limit", "qwen:7b:requests-per-minute=none"),
    )
    after = shown(run, "organisation", "show", "Angers")
    assert (after["contributor"], after["weight"], after["agreement"]["ends_on"]) == (False, 2.0, "2028-12-31")
    assert (after["limits"], after["model_limits"]) == ({"budget_micro_eur_per_month": 12_500_000}, {})
    listed = run("organisation", "list")
    assert "budget-eur-per-month=12.5" in listed
    assert "2028-12-31" in listed
    assert shown(run, "organisation", "list", "--json") == [after]


def test_a_project_is_added_set_and_listed(run: Run) -> None:
    run("organisation", "add", "Angers")
    run("project", "add", "Angers", "corpus", "--models", "mistral,llama", "--limit", "simultaneous-requests=2")
    run("project", "set", "Angers", "corpus", "--no-active", "--models", "all")
    assert shown(run, "project", "list", "--json") == [
        {
            "organisation": "Angers",
            "name": "corpus",
            "active": False,
            "models": None,
            "limits": {"simultaneous_requests": 2},
        }
    ]
    assert "corpus" in run("project", "list", "--organisation", "Angers")
    assert shown(run, "project", "list", "--organisation", "Lyon", "--json") == []


def test_a_person_gets_roles_and_a_token(run: Run) -> None:
    run("organisation", "add", "Angers")
    person_id = run("person", "add", "Anne", "--email", "Anne@Example.org", "--role", "operator").strip()
    run("role", "grant", "anne@example.org", "organisation-manager", "--organisation", "Angers")
    secret = run("person", "token", person_id, "--name", "laptop", "--expires", "30d").strip()
    assert not is_mistyped(secret)
    assert secret.startswith("ilaas-")
    listed = run("person", "list")
    assert "operator, organisation-manager of Angers" in listed
    run("role", "revoke", person_id, "operator")
    (person,) = shown(run, "person", "list", "--json")
    assert person["roles"] == [{"role": "organisation-manager", "organisation": "Angers", "project": None}]
    assert secret not in run("audit", "list", "--json")


def test_the_audit_trail_names_the_user_and_every_change(run: Run) -> None:
    run("organisation", "add", "Angers")
    run("organisation", "set", "Angers", "--weight", "2")
    run("organisation", "set", "Angers", "--weight", "2")
    found = shown(run, "audit", "list", "--subject", "organisation:Angers", "--json")
    assert [line["action"] for line in found] == ["organisation.changed", "organisation.created"]
    assert (found[0]["before"]["weight"], found[0]["after"]["weight"]) == (1.0, 2.0)
    assert all(line["who"].startswith("cli:") for line in found)
    assert "organisation.created" in run("audit", "list")
    assert len(shown(run, "audit", "list", "--limit", "1", "--json")) == 1


def test_what_can_not_be_done_is_refused_with_the_reason(run: Run) -> None:
    with pytest.raises(NotFound, match="state-dir"):
        run("organisation", "list")
    run("organisation", "add", "Angers")
    with pytest.raises(Conflict, match="already"):
        run("organisation", "add", "Angers")
    with pytest.raises(Unprocessable, match="weight"):
        run("organisation", "set", "Angers", "--weight", "0")
    with pytest.raises(NotFound, match="Nowhere"):
        run("project", "add", "Nowhere", "corpus")
    with pytest.raises(NotFound):
        run("person", "token", "nobody@example.org")


@pytest.mark.parametrize(
    "words",
    [
        ("organisation", "set", "Angers", "--limit", "tokens=5"),
        ("organisation", "set", "Angers", "--limit", "tokens-per-day=many"),
        ("organisation", "set", "Angers", "--limit", "tokens-per-day=-1"),
        ("organisation", "set", "Angers", "--model-limit", "tokens-per-day=1"),
        ("organisation", "set", "Angers", "--agreement-to", "tomorrow"),
        ("organisation", "set", "Angers", "--agreement-from", "2027-01-01", "--agreement-to", "2026-01-01"),
        ("role", "grant", "x", "operator", "--organisation", "Angers"),
        ("role", "grant", "x", "project-manager", "--organisation", "Angers"),
        ("person", "token", "x", "--expires", "soon"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Run, words: tuple[str, ...]) -> None:
    run("organisation", "add", "Angers")
    run.wrong(*words)  # type: ignore[attr-defined]
