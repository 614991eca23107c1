"""`ilaas usage` in the terminal and as files."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ilaas.adapters.secret import load_secret
from ilaas.adapters.sql import SqlStore
from ilaas.cli.usage import app
from ilaas.core.periods import DAY_S
from tests.contract.samples import record

OCTOBER = ("--from", "2024-10", "--to", "2024-10")
FIRST = 19_997  # 2024-10-01


def fill(folder: Path) -> None:
    async def run() -> None:
        store = SqlStore(f"sqlite:///{folder / 'ilaas.db'}", load_secret(folder))
        await store.open()
        await store.add_usage(
            [
                record(
                    number,
                    finished_at_ms=(FIRST + number % 31) * DAY_S * 1000,
                    model="llama" if number % 3 else "mistral",
                    organisation="Lille" if number % 2 else "Lyon",
                    prompt_tokens=number,
                    price_micro_eur=10_000,
                )
                for number in range(60)
            ]
        )
        await store.close()

    asyncio.run(run())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    fill(folder)
    return folder


def run(state: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--state-dir", str(state)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_has_a_line_per_model_a_trend_and_the_total(state: Path) -> None:
    shown = run(state, "--by", "model", *OCTOBER).splitlines()
    assert [line.split()[0] for line in shown] == ["model", "llama", "mistral", "total"]
    assert [line.split()[1] for line in shown[1:]] == ["40", "20", "60"]
    assert "█" in shown[1]
    assert shown[3].split()[5] == "0.60"


def test_seconds_of_audio_are_told_where_there_are_some(state: Path) -> None:
    assert "audio s" not in run(state, *OCTOBER)
    heard = [record(100 + n, finished_at_ms=FIRST * DAY_S * 1000, model="whisper", audio_ms=90_600) for n in range(2)]

    async def add() -> None:
        store = SqlStore(f"sqlite:///{state / 'ilaas.db'}", load_secret(state))
        await store.open()
        await store.add_usage(heard)
        await store.close()

    asyncio.run(add())
    head, *lines, total = run(state, "--by", "model", *OCTOBER).splitlines()
    assert "tokens out  audio s" in head
    told = {line.split()[0]: line.split()[5] for line in [*lines, total]}
    assert told == {"llama": "0", "mistral": "0", "whisper": "181", "total": "181"}


def test_json_lines_add_up_to_the_total(state: Path) -> None:
    found = json.loads(run(state, "--by", "project", "--organisation", "Lille", *OCTOBER, "--json"))
    assert [(line["organisation"], line["project"]) for line in found["lines"]] == [("Lille", "linguistique")]
    assert found["total"]["prompt_tokens"] == sum(line["prompt_tokens"] for line in found["lines"])
    assert found["total"]["prompt_tokens"] == sum(number for number in range(60) if number % 2)
    assert (found["from"], found["to"]) == ("2024-10-01", "2024-10-31")


@pytest.mark.parametrize("by", ["organisation", "key", "site", "class", "day"])
def test_every_way_to_tell_apart_has_the_same_total(state: Path, by: str) -> None:
    assert json.loads(run(state, "--by", by, *OCTOBER, "--json"))["total"]["requests"] == 60
    assert run(state, "--by", by, *OCTOBER).splitlines()[-1].startswith("total")


def test_an_export_has_every_record_once(state: Path, tmp_path: Path) -> None:
    table, columns = tmp_path / "usage.csv", tmp_path / "usage.parquet"
    run(state, "export", *OCTOBER, "--out", str(table))
    run(state, "export", "--format", "parquet", *OCTOBER, "--out", str(columns))
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(f"request-{number}" for number in range(60))
    assert sum(int(row["prompt_tokens"]) for row in rows) == sum(range(60))
    read = pq.read_table(columns)
    assert read.column("id").to_pylist() == [row["id"] for row in rows]
    assert sum(read.column("price_micro_eur").to_pylist()) == 600_000
    assert set(read.column("request_class").to_pylist()) == {"owner"}
    assert not list(tmp_path.glob("*.part"))


def test_an_export_of_some_records_has_only_those(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "usage.csv"
    run(state, "export", "--from", "2024-10-01", "--to", "2024-10-02", "--model", "llama", "--out", str(out))
    with out.open(newline="") as file:
        assert sorted(row["id"] for row in csv.DictReader(file)) == ["request-1", "request-31", "request-32"]


@pytest.mark.parametrize(
    "period", [("--from", "October"), ("--to", "2024-10"), ("--from", "2024-10", "--to", "2024-09")]
)
def test_a_period_that_is_none_is_a_usage_error(state: Path, period: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*period, "--state-dir", str(state)])
    assert result.exit_code == 2
