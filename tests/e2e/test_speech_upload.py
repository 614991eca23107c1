"""A large media sent to a real gateway: it goes to the disk as it comes, and nothing of it stays in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil

from ilaas.cli.main import run
from tests.support.process import gateway_process

SIZE_BYTES = 256 * 1024 * 1024
ROOM_BYTES = 48 * 1024 * 1024
HEAD = b"\0\0\0\x20ftypisom"
CONFIG = """
state_dir: state
speech: {enabled: true, jobs: 0}
models:
  - name: mistral
    servers:
      - {url: "http://127.0.0.1:1", site: lille, organisation: univ-lille}
"""


async def test_the_memory_of_the_gateway_does_not_grow_with_a_media(tmp_path: Path) -> None:
    config, state_dir = tmp_path / "ilaas.yaml", tmp_path / "state"
    config.write_text(CONFIG)
    made = tmp_path / "client.json"
    await _make_client(config, made)
    client = json.loads(made.read_text())
    async with gateway_process(config, state_dir, tmp_path / "output") as gateway:
        assert gateway.process is not None
        process = psutil.Process(gateway.process.pid)
        async with httpx.AsyncClient(base_url=f"{gateway.url}/api", timeout=120) as http:
            granted = await http.post("/token", json={"grant_type": "client_credentials", **client})
            headers = {
                "authorization": f"Bearer {granted.json()['access_token']}",
                "content-type": "multipart/form-data; boundary=x",
            }
            before = process.memory_info().rss
            largest = before
            piece = os.urandom(1024 * 1024)

            async def body() -> AsyncIterator[bytes]:
                nonlocal largest
                yield _part('name="notificationWebhookUrl"') + b"https://pod.example.fr/hook\r\n"
                asked = {"generateMetadata": False, "generateQuiz": False}
                yield _part('name="enrichmentParameters"') + json.dumps(asked).encode() + b"\r\n"
                yield _part('name="file"; filename="a.mp4"') + HEAD
                for _ in range(SIZE_BYTES // len(piece)):
                    yield piece
                    largest = max(largest, process.memory_info().rss)
                yield b"\r\n--x--\r\n"

            answer = await http.post("/v1/enrichments/upload", content=body(), headers=headers)
            assert answer.status_code == 200, answer.text
    files = [path for path in (state_dir / "objects").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) == SIZE_BYTES + len(HEAD)
    assert largest - before < ROOM_BYTES


async def _make_client(config: Path, output: Path) -> None:
    def make() -> None:
        with output.open("w") as file, contextlib.redirect_stdout(file):
            where = ("--organisation", "univ-lille", "--project", "video", "--name", "pod")
            assert run(["stt", "client", "create", "--config", str(config), *where, "--json"]) == 0

    await asyncio.to_thread(make)


def _part(disposition: str) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
