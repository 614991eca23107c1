"""`ilaas media` against a running federation, as people type it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.media import MediaBox
from tests.support.processes import ILAAS, environment
from tests.support.speech_federation import SECRET, SpeechFederation, speech_federation
from tests.support.web import says

SCRIPT = "Bonjour à tous. Nous parlons de l'énergie des ordinateurs."


@dataclass
class Terminal:
    """Where the commands are typed."""

    speech: SpeechFederation
    folder: Path
    secret: str = SECRET

    async def media(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = environment(
            ILAAS_STT_URL=self.speech.federation.url, ILAAS_STT_CLIENT_ID="pod", ILAAS_STT_CLIENT_SECRET=self.secret
        )
        command = [*ILAAS, "media", *arguments]
        return await asyncio.to_thread(
            lambda: subprocess.run(
                command, capture_output=True, text=True, cwd=self.folder, env=env, check=False, timeout=90
            )
        )


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with speech_federation(tmp_path) as speech:
        yield Terminal(speech, tmp_path)


@pytest.fixture
def lecture(tmp_path: Path) -> Path:
    box = MediaBox(tmp_path / "media")
    return box.of("leçon.mp3", "-metadata", f"comment=ILAAS-SCRIPT: {SCRIPT}")


async def test_a_gateway_that_calls_public_addresses_only_takes_a_file_too(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path, allow_private_addresses=False) as speech:
        sent = await Terminal(speech, tmp_path).media("send", str(lecture), "--no-metadata", "--no-quiz")
        assert sent.returncode == 0, sent.stderr
        assert "SUCCESS" in sent.stdout


async def test_a_file_is_sent_watched_and_fetched(terminal: Terminal, lecture: Path) -> None:
    sent = await terminal.media("send", str(lecture), "--translate-to", "en", "--language", "fr", "--notes")
    assert sent.returncode == 0, sent.stderr
    assert "SUCCESS" in sent.stdout
    assert "Bonjour à tous." in sent.stdout
    listed = json.loads((await terminal.media("list", "--json")).stdout)
    enrichment_id = listed[0]["id"]
    vtt = (await terminal.media("download", enrichment_id)).stdout
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ")
    srt = (await terminal.media("download", enrichment_id, "--format", "srt", "--language", "en")).stdout
    assert "[traduction] Bonjour à tous." in srt
    assert (await terminal.media("download", enrichment_id, "--format", "txt")).stdout == SCRIPT + "\n"
    assert (await terminal.media("download", enrichment_id, "--format", "notes", "-o", "notes.md")).returncode == 0
    assert (terminal.folder / "notes.md").read_text().strip()
    shown = json.loads((await terminal.media("show", enrichment_id, "--json")).stdout)
    assert shown["version"]["enrichmentVersionMetadata"]["discipline"] == "Arts, lettres et langues"
    assert (await terminal.media("delete", enrichment_id)).returncode == 0
    assert (await terminal.media("show", enrichment_id)).returncode == 1


async def test_a_media_that_fails_ends_the_command_with_1_and_the_cause(terminal: Terminal) -> None:
    url = terminal.speech.page.on("/page.mp4", says(body=b"<html>Log in</html>"))
    sent = await terminal.media("send", url)
    assert sent.returncode == 1
    assert "not a video or audio file" in sent.stdout


async def test_a_file_of_another_kind_is_refused_at_once(terminal: Terminal) -> None:
    (terminal.folder / "a.pdf").write_bytes(b"%PDF-1.7 nothing to hear")
    sent = await terminal.media("send", "a.pdf")
    assert sent.returncode == 1
    assert "File type not supported" in sent.stderr


async def test_a_wrong_secret_is_told(terminal: Terminal) -> None:
    terminal.secret = "wrong"
    listed = await terminal.media("list")
    assert listed.returncode == 1
    assert "Client authentication failed" in listed.stderr
