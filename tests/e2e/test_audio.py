"""Recordings and speech with the openai SDK: formats, streams, errors, failing servers, leaving clients, the books."""

from __future__ import annotations

import asyncio
import os
import re
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ilaas.core.catalogue import DispatchPolicy
from ilaas.http.limits import Limits
from ilaas.sim.server import SimServerOptions
from tests.support.federation import Federation, Site, bearer, federation, suppressed
from tests.support.patience import client_left

SCRIPT = "Bonjour à tous. Voici le cours d'aujourd'hui. Merci."


def wav(seconds: float = 6.0, script: str | None = SCRIPT, rate: int = 16_000) -> bytes:
    """A recording that says its script to the simulated server."""
    info = b""
    if script is not None:
        text = b"ILAAS-SCRIPT:" + script.encode() + b"\0"
        text += b"\0" * (len(text) % 2)
        info = b"LIST" + struct.pack("<I", 12 + len(text)) + b"INFOICMT" + struct.pack("<I", len(text)) + text
    sound = bytes(int(seconds * rate) * 2)
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16) + info
    body += b"data" + struct.pack("<I", len(sound)) + sound
    return b"RIFF" + struct.pack("<I", len(body)) + body


def site(name: str = "one", **options: Any) -> Site:
    given: dict[str, Any] = {"models": ("org/whisper",), "markers": True, "seed": 0, "engine": "h200"}
    return Site(name, SimServerOptions(**{**given, **options}))


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Federation]:
    async with federation(tmp_path, site(api_key="server-secret")) as running:
        yield running


async def test_every_format_is_what_the_sdk_asks_for(fed: Federation) -> None:
    create = fed.openai().audio.transcriptions.create
    file = ("cours.wav", wav())
    plain = await create(model="mistral", file=file)
    assert plain.text == SCRIPT
    assert (await create(model="mistral", file=file, response_format="text")).strip() == SCRIPT
    srt = await create(model="mistral", file=file, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:02,")
    assert "Voici le cours" in srt
    vtt = await create(model="mistral", file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 -->")
    verbose = await create(
        model="mistral", file=file, response_format="verbose_json", language="fr", timestamp_granularities=["word"]
    )
    assert (verbose.text, float(verbose.duration), verbose.language) == (SCRIPT, 6.0, "fr")
    assert verbose.words is not None
    assert [word.word.strip() for word in verbose.words] == SCRIPT.split()
    assert verbose.segments is not None
    assert len(verbose.segments) == 3
    records = await fed.records(5)
    assert {record["audio_ms"] for record in records} == {6000}
    assert {(record["endpoint"], record["outcome"]) for record in records} == {("audio.transcriptions", "completed")}
    assert not any(record["estimated"] or record["prompt_tokens"] for record in records)


async def test_a_transcript_is_streamed_as_it_is_heard(fed: Federation) -> None:
    stream = await fed.openai().audio.transcriptions.create(
        model="mistral", file=("cours.wav", wav()), response_format="json", stream=True
    )
    deltas, done = [], ""
    async for event in stream:
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        elif event.type == "transcript.text.done":
            done = event.text
    assert "".join(deltas).strip() == done == SCRIPT
    record = (await fed.records(1))[0]
    assert (record["audio_ms"], record["streamed"], record["ttft_ms"] > 0) == (6000, 1, True)


async def test_a_translation_goes_its_own_path(fed: Federation) -> None:
    answer = await fed.openai().audio.translations.create(model="mistral", file=("cours.wav", wav()))
    assert answer.text == f"(English) {SCRIPT}"
    assert (await fed.records(1))[0]["endpoint"] == "audio.translations"


async def test_spoken_text_is_sound_that_can_be_heard_again(fed: Federation) -> None:
    client = fed.openai()
    for kind in ("wav", "mp3", "pcm"):
        async with client.audio.speech.with_streaming_response.create(
            model="mistral", voice="alloy", input="Un deux trois quatre cinq.", response_format=kind
        ) as answer:
            sound = await answer.read()
            assert answer.headers["content-type"].startswith("audio/")
        if kind != "pcm":
            heard = await client.audio.transcriptions.create(model="mistral", file=(f"a.{kind}", sound))
            assert heard.text == "Un deux trois quatre cinq."
    spoken = [record for record in await fed.records(5) if record["endpoint"] == "audio.speech"]
    assert all(abs(record["audio_ms"] - 2000) < 100 for record in spoken)
    assert len(spoken) == 3


@pytest.mark.parametrize(
    ("sent", "error", "param", "says"),
    [
        ({"model": "mistrale", "file": b"x"}, openai.NotFoundError, "model", "Did you mean 'mistral'"),
        ({"model": "", "file": b"x"}, openai.BadRequestError, "model", "empty"),
        ({"model": "mistral", "file": b""}, openai.BadRequestError, "file", "empty"),
        (
            {"model": "mistral", "file": b"x", "response_format": "docx"},
            openai.BadRequestError,
            None,
            "response_format",
        ),
    ],
)
async def test_errors_name_the_field_and_the_remedy(
    fed: Federation, sent: dict[str, Any], error: type[openai.APIStatusError], param: str | None, says: str
) -> None:
    with pytest.raises(error) as raised:
        await fed.openai().audio.transcriptions.create(**{**sent, "file": ("a.wav", sent["file"])})
    assert says in str(raised.value)
    if param:
        assert raised.value.param == param
    await fed.at_rest()


async def test_too_large_a_recording_is_refused_with_the_limit(tmp_path: Path) -> None:
    async with federation(tmp_path, site(), limits=Limits(max_upload_bytes=100_000)) as fed:
        answer = await fed.http.post(
            "/v1/audio/transcriptions", headers=bearer(fed.key), data={"model": "mistral"}, files={"file": wav(10)}
        )
        assert answer.status_code == 413
        assert "100000 bytes" in answer.json()["error"]["message"]


async def test_a_server_that_dies_with_the_recording_is_replaced_by_another(tmp_path: Path) -> None:
    for failures in ("die_after=0", "close_after=0", "500", "503", "html", "wrong_json"):
        async with federation(tmp_path / failures, site("one", failures=failures), site("two")) as fed:
            for _ in range(3):
                answer = await fed.openai().audio.transcriptions.create(model="mistral", file=("cours.wav", wav()))
                assert answer.text == SCRIPT
            records = await fed.records(3)
            assert {record["server"] for record in records} == {"two"}
            assert max(record["attempts"] for record in records) >= 2
            await fed.at_rest()


async def test_a_server_that_dies_before_its_first_word_is_replaced_in_a_stream_too(tmp_path: Path) -> None:
    async with federation(tmp_path, site("one", failures="die_after=0"), site("two")) as fed:
        for _ in range(3):
            stream = await fed.openai().audio.transcriptions.create(
                model="mistral", file=("cours.wav", wav()), stream=True
            )
            assert [event.type async for event in stream][-1] == "transcript.text.done"


async def test_a_client_that_leaves_in_mid_upload_never_reaches_a_server(fed: Federation) -> None:
    began = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nmistral\r\n'
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(1_000_000)
        began.set()
        await asyncio.Event().wait()

    headers = {**bearer(fed.key), "content-type": "multipart/form-data; boundary=x"}
    task = asyncio.create_task(fed.http.post("/v1/audio/transcriptions", headers=headers, content=slowly()))
    await began.wait()
    assert not fed.sites["one"].journal.notes
    task.cancel()
    with suppressed():
        await task
    await fed.at_rest()
    assert not fed.sites["one"].journal.notes


async def test_a_client_that_leaves_in_mid_answer_stops_the_server(tmp_path: Path) -> None:
    async with federation(tmp_path, site(failures="slow_tokens=0.05")) as fed:
        sim = fed.sites["one"]
        stream = await fed.openai().audio.transcriptions.create(
            model="mistral", file=("cours.wav", wav(60, " ".join(["mot"] * 500))), stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        assert await client_left(sim)
        assert sim.journal.notes[-1].phase == "decode"
        await fed.at_rest(1)
        record = (await fed.records(1))[0]
        assert (record["outcome"], record["audio_ms"]) == ("client_left_decode", 60_000)


async def test_a_large_recording_goes_through_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with federation(tmp_path, site(gap_s=0.0)) as fed:
        media = wav(600, rate=48_000)  # 57.6 MB
        answer = await fed.openai().audio.transcriptions.create(model="mistral", file=("long.wav", media))
        assert answer.text == SCRIPT
        assert not list((fed.settings.state_dir / "uploads").iterdir())
        assert (await fed.records(1))[0]["audio_ms"] == 600_000


async def test_recordings_wait_for_a_slot_and_keep_none_while_they_come(tmp_path: Path) -> None:
    one = site(failures="slow_first_token=0.2")
    one.spec["max_parallel_requests"] = 1
    async with federation(tmp_path, one, policy=DispatchPolicy(max_wait_s=1e9)) as fed:
        create = fed.openai().audio.transcriptions.create
        await asyncio.gather(*(create(model="mistral", file=("a.wav", wav(1))) for _ in range(4)))
        waits = sorted(record["queue_ms"] for record in await fed.records(4))
        assert waits[0] < 200 <= waits[-1]


async def test_usage_reports_tell_the_seconds_of_audio(fed: Federation) -> None:
    for seconds in (2.0, 4.0):
        await fed.openai().audio.transcriptions.create(
            model="mistral", file=("a.wav", wav(seconds)), response_format="vtt"
        )
    await fed.records(2)
    today = datetime.now(UTC).date().isoformat()
    report = await fed.http.get("/v1/usage", headers=bearer(fed.key), params={"from": today})
    assert report.status_code == 200, report.text
    assert re.search(r'"audio_seconds":\s*6(\.0)?\b', report.text), report.text


async def test_a_deadline_of_an_answer_ends_a_server_that_never_gives_one(tmp_path: Path) -> None:
    policy = DispatchPolicy()
    policy = replace(policy, max_attempts=1, deadlines=replace(policy.deadlines, answer_s=0.3))
    async with federation(tmp_path, site(failures="hang_before_head"), policy=policy) as fed:
        with pytest.raises(openai.APIStatusError) as raised:
            await fed.openai().audio.transcriptions.create(model="mistral", file=("a.wav", wav(1)))
        assert raised.value.status_code == 504
        await fed.at_rest()


async def test_the_page_of_a_model_says_what_it_is_for(tmp_path: Path) -> None:
    async with federation(tmp_path, site(), model={"category": "transcription"}) as fed:
        page = (await fed.http.get("/v1/models", headers=bearer(fed.key))).json()["data"][0]
        assert page["category"] == "transcription"
        assert page["capabilities"]["endpoints"] == ["audio.transcriptions", "audio.translations"]
        answer: httpx.Response = await fed.http.get(fed.sites["one"].url)
        assert answer.status_code == 200


def test_random_bytes_are_heard_alike_each_time() -> None:
    from ilaas.sim.hearing import script_of

    assert script_of(os.urandom(100)) is None
    assert script_of(b"abc comment=ILAAS-SCRIPT: a b\x00c") == "a b"
    vorbis = b"comment=ILAAS-SCRIPT: a b"
    assert script_of(b"abcd" + struct.pack("<I", len(vorbis)) + vorbis + b"\x41\0\0\0") == "a b"
