"""`python -m tests.bench.speech`: what the speech service itself costs, beside ffmpeg, and that memory stays flat.

Part `hour`: a video of one hour goes through all steps in a worker process; its own CPU seconds and those of its ffmpeg
processes are told apart. Part `large`: a file of 2 GB is fetched from the web, looked at, and transcribed; the highest
resident memory of the worker is compared with that after a small file. Part `upload`: the same of a gateway process to
which 2 GB are uploaded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from ilaas.adapters.secret import load_secret
from ilaas.app.config import load_config
from ilaas.app.settings import Settings
from ilaas.app.speech_wiring import build_speech
from ilaas.app.wiring import open_store
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.steps import Status
from ilaas.ports.tenancy import AuditLine
from ilaas.services.administration import Administration, NewKey
from ilaas.services.enrichment.tokens import secret_digest
from tests.support.media import MediaBox
from tests.support.process import gateway_process
from tests.support.speech_federation import ALL, SECRET, SpeechFederation, speech_federation
from tests.support.web import Visit

PARTS = ["hour", "large", "upload"]
HOUR_S = 3600
LARGE_BYTES = 2_000_000_000
CHUNK = bytes(1 << 20)
WAV_RATE = 48_000
WAV_BYTES_PER_S = WAV_RATE * 4


@contextlib.asynccontextmanager
async def worker_process(speech: SpeechFederation, folder: Path, *more: str) -> AsyncIterator[psutil.Process]:
    """`ilaas serve --role worker` on the federation's state."""
    config = folder / "worker.yaml"
    config.write_text(
        f"state_dir: {speech.federation.settings.state_dir.resolve()}\n"
        "models: [{name: mistral, servers: [{url: 'http://127.0.0.1:9', site: s, organisation: uni-a}]}]\n"
        "speech:\n  enabled: true\n  allow_private_addresses: true\n"
        f"  gateway_url: {speech.federation.url}\n" + "".join(f"  {line}\n" for line in more)
    )
    with (folder / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ilaas.cli.main", "serve", "--config", str(config), "--role", "worker"),
            *("--metrics-port", "0", "--log-format", "json"),
            stdout=log,
            stderr=log,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def spent_s(process: psutil.Process) -> tuple[float, float]:
    """CPU seconds: its own, and of its children that have ended."""
    times = process.cpu_times()
    return times.user + times.system, times.children_user + times.children_system


async def hour(folder: Path) -> dict[str, Any]:
    """One hour of video through every step."""
    box = MediaBox(folder / "media")
    loop = ("-stream_loop", "-1", "-i", str(box.long_voice(sentences=20, gap_s=1.0)))
    picture = ("-f", "lavfi", "-i", "color=s=320x180:r=1")
    video = box.of(
        "hour.mp4",
        *("-t", str(HOUR_S), "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-b:a", "96k"),
        inputs=(*picture, *loop),
    )
    async with speech_federation(folder, jobs=0) as speech, worker_process(speech, folder) as worker:
        await asyncio.sleep(3)
        own_before, _ = spent_s(worker)
        asked = await speech.ask(video, **ALL)
        done = await speech.ended(asked, within_s=1200)
        own_after, ffmpeg = spent_s(worker)
        assert done.status is Status.SUCCESS, done.failure_cause
        started = min(times.started_at_s or 0 for times in done.times.values())
        ended = max(times.ended_at_s or 0 for times in done.times.values())
        return {
            "media_s": done.media_duration_s,
            "own_cpu_s": round(own_after - own_before, 2),
            "ffmpeg_cpu_s": round(ffmpeg, 2),
            "wall_s": round(ended - started, 1),
            "steps_wall_s": {
                str(step): round((times.ended_at_s or 0) - (times.started_at_s or 0), 1)
                for step, times in done.times.items()
            },
        }


def wav_head(data_bytes: int) -> bytes:
    """Of 16 bits, two channels."""
    size = data_bytes.to_bytes(4, "little")
    rates = WAV_RATE.to_bytes(4, "little") + WAV_BYTES_PER_S.to_bytes(4, "little")
    form = b"fmt " + (16).to_bytes(4, "little") + b"\1\0\2\0" + rates + b"\4\0\x10\0"
    return b"RIFF" + (data_bytes + 36).to_bytes(4, "little") + b"WAVE" + form + b"data" + size


async def large(folder: Path, size: int) -> dict[str, Any]:
    """The highest memory of a worker that fetches and transcribes a large file."""

    async def answer(visit: Visit) -> None:
        length = size if "large" in visit.path else 2_000_000
        visit.writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {44 + length}\r\n\r\n".encode() + wav_head(length))
        left = length
        while left:
            visit.writer.write(CHUNK[: min(left, len(CHUNK))])
            left -= min(left, len(CHUNK))
            await visit.writer.drain()

    async with speech_federation(folder, jobs=0) as speech, worker_process(speech, folder) as worker:
        peaks = {}
        for name in ("small", "large"):
            asked = await speech.ask_url(
                speech.page.on(f"/{name}.wav", answer), generate_metadata=False, generate_quiz=False, language="fr"
            )
            peak = 0
            async with asyncio.timeout(3000):
                while not (found := await speech.speech.store.enrichment(asked)).status.is_final:
                    peak = max(peak, worker.memory_info().rss)
                    await asyncio.sleep(0.05)
            peaks[name] = {
                "status": str(found.status),
                "media_s": found.media_duration_s,
                "peak_rss_mb": round(peak / 1e6, 1),
            }
        return {"bytes": size, **peaks}


async def upload(folder: Path, size: int) -> dict[str, Any]:
    """The highest memory of a gateway process to which a large file is uploaded through the API."""
    state, config = folder / "state", folder / "gateway.yaml"
    config.write_text(
        "state_dir: state\nspeech: {enabled: true, jobs: 0, allow_private_addresses: true}\n"
        "models: [{name: mistral, servers: [{url: 'http://127.0.0.1:9', site: s, organisation: uni-a}]}]\n"
    )
    settings = load_config(config, {})
    await add_client(settings)
    async with gateway_process(config, state, folder / "out") as running:
        assert running.process is not None
        process = psutil.Process(running.process.pid)
        login = {"grant_type": "client_credentials", "client_id": "pod", "client_secret": SECRET}
        async with httpx.AsyncClient(base_url=f"{running.url}/api", timeout=600) as http:
            token = (await http.post("/token", data=login)).json()["access_token"]
            headers = {"authorization": f"Bearer {token}", "content-type": "multipart/form-data; boundary=b0"}
            peaks, before_s = {}, spent_s(process)[0]
            for name, length in (("small", 2_000_000), ("large", size)):
                sending = asyncio.create_task(
                    http.post("/v1/enrichments/upload", headers=headers, content=form(length))
                )
                peak = 0
                while not sending.done():
                    peak = max(peak, process.memory_info().rss)
                    await asyncio.sleep(0.02)
                peaks[name] = {"status": sending.result().status_code, "peak_rss_mb": round(peak / 1e6, 1)}
            return {"bytes": size, **peaks, "cpu_s": round(spent_s(process)[0] - before_s, 2)}


async def add_client(settings: Settings) -> None:
    """The project and its API client, before the gateway starts."""
    store, speech = open_store(settings), build_speech(settings)
    await store.open()
    await speech.open()
    pepper = load_secret(settings.state_dir).pepper
    admin = Administration(store, pepper, time.time, secrets.token_bytes, lambda _: None)
    await admin.create_key(NewKey(organisation="uni-a", project="tests", name="main"))
    digest = secret_digest(SECRET, pepper)
    client = ApiClient(id="pod", name="Pod", organisation="uni-a", project="tests", secret_digest=digest)
    await speech.store.add_client(
        client, AuditLine(at_s=time.time(), actor="bench", action="client.created", subject="client:pod")
    )
    await speech.close()
    await store.close()


async def form(size: int) -> AsyncIterator[bytes]:
    """The body of an upload."""
    fields = {
        "notificationWebhookUrl": "http://127.0.0.1:9/hook",
        "enrichmentParameters": json.dumps({"generateMetadata": False, "generateQuiz": False}),
    }
    for name, value in fields.items():
        yield f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    yield b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    yield wav_head(size)
    left = size
    while left:
        yield CHUNK[: min(left, len(CHUNK))]
        left -= min(left, len(CHUNK))
    yield b"\r\n--b0--\r\n"


async def measure(part: str, folder: Path, size: int) -> dict[str, Any]:
    """One part."""
    if part == "hour":
        return await hour(folder)
    return await (large if part == "large" else upload)(folder, size)


async def run(parts: list[str], size: int) -> None:
    """Each part in a folder of its own, one JSON line each."""
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({part: await measure(part, Path(folder), size)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speech", description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--bytes", type=int, default=LARGE_BYTES, help="of the large file (%(default)s)")
    given = parser.parse_args()
    asyncio.run(run(given.parts, given.bytes))
