"""The commands as people type them, on a database of their own."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql import SqlStore
from ilaas.cli import statements, tariffs, weights
from ilaas.core.periods import Month
from ilaas.core.tenancy import Organisation
from ilaas.core.usage import UsageRecord
from ilaas.ports.tenancy import AuditLine
from tests.contract.samples import record

LAST = Month.at(time.time()).plus(-1)


def used(number: int, consumer: str, owner: str, price_micro_eur: int) -> UsageRecord:
    return record(
        number,
        finished_at_ms=LAST.start_s * 1000 + number,
        organisation=consumer,
        owner=owner,
        price_micro_eur=price_micro_eur,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    async def fill() -> None:
        store = SqlStore(f"sqlite:///{tmp_path / 'ilaas.db'}", load_secret(tmp_path))
        await store.open()
        for name in ("Lille", "Lyon"):
            await store.put_organisation(
                Organisation(name=name), AuditLine(at_s=0.0, actor="test", action="made", subject=name)
            )
        await store.add_usage([used(1, "Lille", "Lyon", 12_340_000), used(2, "Lyon", "Lyon", 0)])
        await store.close()

    asyncio.run(fill())
    return tmp_path


def ilaas(folder: Path, *words: str) -> Result:
    app = typer.Typer()
    for each in (tariffs, statements, weights):
        app.add_typer(each.app)
    return CliRunner().invoke(app, [*words, "--state-dir", str(folder)])


def test_a_tariff_is_set_in_euros_and_listed_as_it_was_set(folder: Path) -> None:
    today = datetime.now(UTC).date().isoformat()
    rates = ("--prompt", "0.2", "--completion", "0,60", "--audio-hour", "0.36", "--credit-prompt", "0.000001")
    done = ilaas(folder, "tariff", "set", "mistral", "--from", today, *rates)
    assert done.exit_code == 0, done.output
    table = ilaas(folder, "tariff", "list").output.splitlines()
    assert table[1].split() == ["mistral", today, "-", "0.2", "0.6", "0.2", "0", "0.36"]
    assert table[2].split() == ["credited", "-", "-", "0.000001", "0", "0.000001", "0", "0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "2026-13-01", "--prompt", "1"), "2026-13-01"),
        (("--from", "2999-01-01"), "--prompt"),
        (("--from", "2999-01-01", "--prompt", "0.0000001"), "not an amount of euros"),
        (("--from", "2999-01-01", "--prompt", "-1"), "not an amount of euros"),
        (("--from", "2999-01-01", "--to", "2998-01-01", "--prompt", "1"), "ends before"),
    ],
)
def test_a_tariff_that_makes_no_sense_is_refused_with_the_reason(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = ilaas(tmp_path, "tariff", "set", "mistral", *words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_month_is_previewed_closed_shown_and_exported(folder: Path) -> None:
    month = str(LAST)
    preview = json.loads(ilaas(folder, "statement", "preview", month, "--json").stdout)
    assert {each["organisation"]: each["net_cents"] for each in preview} == {"Lille": -1234, "Lyon": 1234}
    assert ilaas(folder, "statement", "close", month).exit_code == 0
    again = ilaas(folder, "statement", "close", month)
    assert again.exit_code == 1
    assert "are closed" in str(again.exception)
    shown = json.loads(ilaas(folder, "statement", "show", month, "--organisation", "Lille", "--json").stdout)
    assert [(line["kind"], line["counterparty"], line["cents"]) for line in shown[0]["lines"]] == [
        ("consumed", "Lyon", 1234)
    ]
    for form, beginning in (("csv", b"organisation,"), ("pdf", b"%PDF-")):
        out = folder / f"all.{form}"
        assert ilaas(folder, "statement", "export", month, "--format", form, "--out", str(out)).exit_code == 0
        assert out.read_bytes().startswith(beginning)


def test_an_export_of_an_open_month_says_that_it_is_provisional(folder: Path) -> None:
    out = folder / "open.csv"
    done = ilaas(folder, "statement", "export", str(LAST), "--format", "csv", "--out", str(out))
    assert "provisional" in done.output
    assert "12.34" in out.read_text()


def test_a_preview_names_the_models_that_nobody_priced(folder: Path) -> None:
    assert (
        "'mistral' was served to others on days without a tariff"
        in ilaas(folder, "statement", "preview", str(LAST)).stderr
    )


def test_weights_are_listed_refreshed_and_set_by_hand(folder: Path) -> None:
    assert ilaas(folder, "weight", "refresh").exit_code == 0
    assert ilaas(folder, "weight", "set", "Lille", "2.5").exit_code == 0
    found = json.loads(ilaas(folder, "weight", "list", "--json").stdout)
    assert [(each["organisation"], each["weight"], each["source"]) for each in found] == [
        ("Lille", 2.5, "by hand"),
        ("Lyon", 4.0, "formula"),
    ]
    assert ilaas(folder, "weight", "unset", "Lille").exit_code == 0
