"""`ilaas demo` as a newcomer starts it: a real process with its simulated sites, on free ports."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from ilaas.app.demo_federation import SERVERS
from tests.support.processes import Ilaas, ilaas, until

READY = "Ctrl-C ends all"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Ilaas]]:
    """Demos of the test, ended with it."""
    running: list[Ilaas] = []
    yield running
    for each in running:
        each.kill()


def demo(started: list[Ilaas], folder: Path, *more: str) -> Ilaas:
    command = Ilaas(("demo", "--port", "0", "--state-dir", "state", *more), folder)
    started.append(command)
    command.says(READY)
    return command


def address(command: Ilaas) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+(?=/v1)", command.out)
    assert found
    return found[0]


def printed_keys(command: Ilaas) -> list[str]:
    return re.findall(r"^ +(ilaas-\w+)$", command.out, re.MULTILINE)


def ctrl_c(command: Ilaas) -> None:
    """Ctrl-C; nothing may remain."""
    family = command.children()
    command.signal(signal.SIGINT)
    assert command.process.wait(15) == 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_a_printed_key_gets_a_streamed_answer_and_ctrl_c_leaves_no_process(
    started: list[Ilaas], tmp_path: Path
) -> None:
    running = demo(started, tmp_path)
    assert len(running.children()) == 1  # all simulated servers together
    keys = printed_keys(running)
    assert len(keys) == 3
    client = openai.OpenAI(base_url=f"{address(running)}/v1", api_key=keys[0], max_retries=0)
    assert len(client.models.list().data) == 5
    stream = client.chat.completions.create(
        model="mistral-small", messages=[{"role": "user", "content": "Bonjour"}], stream=True, max_tokens=20
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert client.embeddings.create(model="bge-m3", input="Bonjour").data[0].embedding
    recording = ("cours.wav", b"RIFF0000WAVE ILAAS-SCRIPT: Bonjour, et bienvenue.")
    assert client.audio.transcriptions.create(model="whisper", file=recording).text == "Bonjour, et bienvenue."
    ctrl_c(running)
    assert "Traceback" not in running.out + running.err


def test_over_several_processes_the_same_is_answered_and_the_welcome_names_every_log(
    started: list[Ilaas], tmp_path: Path
) -> None:
    running = Ilaas(("demo", "--distributed", "--port", "0", "--state-dir", "state"), tmp_path)
    started.append(running)
    running.says(READY, within_s=120.0)
    client = openai.OpenAI(base_url=f"{address(running)}/v1", api_key=printed_keys(running)[0], max_retries=0)
    for _ in range(3):
        answer = client.chat.completions.create(
            model="mistral-small", messages=[{"role": "user", "content": "Bonjour"}], max_tokens=5
        )
        assert answer.choices[0].message.content
    (tmp_path / "cours.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:02.000\nBonjour, et bienvenue.\n")
    assert "SUCCESS" in ilaas("media", "send", "cours.vtt", "--no-quiz", "--state-dir", "state", folder=tmp_path)
    found = re.search(r"each part logs to (\S+) \((.*)\)", running.out)
    assert found
    parts = found[2].split(", ")
    assert len(parts) == 5
    assert all((tmp_path / found[1].replace("NAME", part)).exists() for part in parts)
    family = running.children()
    running.signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_the_second_start_shows_the_same_keys_and_they_are_for_their_owner_alone(
    started: list[Ilaas], tmp_path: Path
) -> None:
    first = demo(started, tmp_path)
    kept = tmp_path / "state" / "demo-keys.txt"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    keys = printed_keys(first)
    ctrl_c(first)
    second = demo(started, tmp_path)
    assert printed_keys(second) == keys
    answer = httpx.get(f"{address(second)}/v1/models", headers={"authorization": f"Bearer {keys[1]}"})
    assert answer.status_code == 200
    ctrl_c(second)
    fresh = demo(started, tmp_path, "--fresh")
    assert not set(printed_keys(fresh)) & set(keys)
    ctrl_c(fresh)


def test_a_port_that_was_taken_in_the_meantime_is_exchanged_and_edits_stay(
    started: list[Ilaas], tmp_path: Path
) -> None:
    ctrl_c(demo(started, tmp_path))
    config = tmp_path / "state" / "demo.yaml"
    config.write_text(config.read_text().replace("name: bge-m3", "name: bge-of-ours"))
    ports = json.loads((tmp_path / "state" / "servers.json").read_text())
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # when somebody else has it, that serves as well
            other.bind(("127.0.0.1", ports["lille-workstation"]))
            other.listen()
        running = demo(started, tmp_path)
        client = openai.OpenAI(base_url=f"{address(running)}/v1", api_key=printed_keys(running)[0], max_retries=0)
        assert client.embeddings.create(model="bge-of-ours", input="Bonjour").data[0].embedding
        ctrl_c(running)


def test_traffic_is_answered_and_does_not_hold_up_the_end(started: list[Ilaas], tmp_path: Path) -> None:
    running = demo(started, tmp_path, "--traffic")
    found = re.search(r"metrics: (\S+)/metrics", running.out)
    assert found
    state_url = f"{found[1]}/state"

    def completed() -> bool:
        requests = httpx.get(state_url).json()["requests"]
        return sum(line["count"] for line in requests if line["outcome"] == "completed") >= 5

    until(completed, "five answers to the demo's own load", 60)
    ctrl_c(running)
    assert "Traceback" not in running.out + running.err


def test_the_servers_end_with_a_demo_that_is_killed(started: list[Ilaas], tmp_path: Path) -> None:
    running = demo(started, tmp_path)
    family = running.children()
    running.process.kill()
    running.process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_a_second_demo_on_the_same_folder_is_told_where_the_first_is(started: list[Ilaas], tmp_path: Path) -> None:
    first = demo(started, tmp_path)
    second = Ilaas(("demo", "--port", "0", "--state-dir", "../state"), tmp_path / "second")
    started.append(second)
    assert second.process.wait(30) == 1
    assert address(first) in second.err
    ctrl_c(first)


def test_a_taken_port_is_a_clear_error_that_leaves_nothing(started: list[Ilaas], tmp_path: Path) -> None:
    first = demo(started, tmp_path / "one")
    port = address(first).rpartition(":")[2]
    second = Ilaas(("demo", "--port", port, "--state-dir", "state"), tmp_path / "two")
    started.append(second)
    assert second.process.wait(30) == 1
    assert port in second.err
    assert "--port" in second.err
    assert not (tmp_path / "two" / "state").exists()
    ctrl_c(first)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_is_not_a_demos_is_not_touched(started: list[Ilaas], tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.tex").write_text("years of work")
    command = Ilaas(("demo", "--port", "0", "--state-dir", "state", *(["--fresh"] * fresh)), tmp_path)
    started.append(command)
    assert command.process.wait(30) == 1
    assert "--state-dir" in command.err
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["thesis.tex"]


def test_fresh_removes_nothing_when_a_foreign_file_lies_in_the_demos_folder(
    started: list[Ilaas], tmp_path: Path
) -> None:
    ctrl_c(demo(started, tmp_path))
    (tmp_path / "state" / "thesis.tex").write_text("years of work")
    command = Ilaas(("demo", "--port", "0", "--state-dir", "state", "--fresh"), tmp_path)
    started.append(command)
    assert command.process.wait(30) == 1
    assert "thesis.tex" in command.err
    assert (tmp_path / "state" / "ilaas.db").exists()


def test_the_configuration_can_be_edited_while_it_runs(started: list[Ilaas], tmp_path: Path) -> None:
    running = demo(started, tmp_path)
    config = tmp_path / "state" / "demo.yaml"
    key = printed_keys(running)[0]
    config.write_text(config.read_text().replace("name: bge-m3", "name: bge-of-ours"))

    def names() -> set[str]:
        answer = httpx.get(f"{address(running)}/v1/models", headers={"authorization": f"Bearer {key}"})
        return {model["id"] for model in answer.json()["data"]}

    until(lambda: "bge-of-ours" in names(), "the renamed model")
    assert len(SERVERS) == 7
    ctrl_c(running)
