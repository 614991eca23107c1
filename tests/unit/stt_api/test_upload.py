"""Sending a file: what it is, is told by its content; it goes into the object store as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.clients import ClientPolicy, Scope
from tests.support.objects import TwinObjects
from tests.support.stt_api import HOOK, PARAMETERS, SttWorld, speaking

MP4 = b"\0\0\0\x20ftypisom" + b"\0" * 100
VTT = b"WEBVTT\n\n00:00.000 --> 00:02.000\nBonjour\n"
NOT_SUPPORTED = "File type not supported. Supported types are videos, audio files and subtitles"
KINDS = [
    (MP4, "video/mp4", "video"),
    (b"\0\0\0\x20ftypM4A " + b"\0" * 20, "audio/mp4", "audio"),
    (b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime", "video"),
    (b"\x1aE\xdf\xa3" + b"\0" * 20, "video/webm", "video"),
    (b"ID3\x04" + b"\0" * 20, "audio/mpeg", "audio"),
    (b"\xff\xfb\x90\x00" + b"\0" * 20, "audio/mpeg", "audio"),
    (b"\xff\xf1\x50\x80" + b"\0" * 20, "audio/aac", "audio"),
    (b"RIFF\0\0\0\0WAVEfmt ", "audio/x-wav", "audio"),
    (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo", "video"),
    (b"OggS" + b"\0" * 24 + b"\x80theora", "video/ogg", "video"),
    (b"OggS" + b"\0" * 24 + b"OpusHead", "audio/ogg", "audio"),
    (b"fLaC\0\0\0\x22", "audio/flac", "audio"),
    (b"G" + b"\0" * 187 + b"G" + b"\0" * 187, "video/mp2t", "video"),
    (VTT, "text/vtt", "subtitles"),
    (b"\xef\xbb\xbf" + VTT, "text/vtt", "subtitles"),
    (b"1\n00:00:00,000 --> 00:00:02,000\n\xc9t\xe9\n", "application/x-subrip", "subtitles"),
]


def form(**fields: Any) -> dict[str, Any]:
    return {"notificationWebhookUrl": HOOK, "enrichmentParameters": json.dumps(PARAMETERS), **fields}


def sent(content: bytes, name: str = "lecture.mp4", kind: str = "application/octet-stream") -> dict[str, Any]:
    return {"file": (name, content, kind)}


async def test_the_content_says_what_a_file_is_whatever_its_name_and_sender_say(stt: SttWorld) -> None:
    for content, mime_type, kind in KINDS:
        files = sent(content, "x.exe", "application/x-msdownload")
        found = await stt.must("POST", "/enrichments/upload", data=form(), files=files)
        media = (await stt.store.enrichment(found["id"])).media
        assert media is not None
        assert (media.mime_type, media.kind) == (mime_type, kind), content[:12]
        assert stt.objects.objects[media.object_key or ""] == content


async def test_an_empty_file_is_refused_as_such(stt: SttWorld) -> None:
    answer = await stt.call("POST", "/enrichments/upload", data=form(), files=sent(b""))
    assert answer.status_code == 400
    assert answer.json() == {"status": "KO", "errors": [{"path": "file", "message": "An empty file is not allowed."}]}


async def test_what_can_t_be_transcribed_is_refused_and_nothing_of_it_is_kept(stt: SttWorld) -> None:
    for content in (b"MZ\x90\0" + b"\0" * 99, b"%PDF-1.7", b"just words", b"\x89PNG\r\n\x1a\n", b"\xff" * 9000):
        answer = await stt.call("POST", "/enrichments/upload", data=form(), files=sent(content))
        assert answer.status_code == 400, content[:9]
        assert answer.json() == {"status": "KO", "errors": [{"path": "file", "message": NOT_SUPPORTED}]}
    assert stt.objects.objects == {}
    assert stt.objects.unfinished == {}


async def test_empty_texts_mean_null_in_a_form_and_only_there(stt: SttWorld) -> None:
    asked = {**PARAMETERS, "aiModel": "", "infrastructure": "", "aiEvaluation": "", "translateTo": "", "language": ""}
    data = form(enrichmentParameters=json.dumps(asked), endUserIdentifier="", notificationLevel="", originalFileName="")
    found = await stt.must("POST", "/enrichments/upload", data=data, files=sent(MP4, kind="audio/mp4"))
    shown = await stt.must("GET", f"/enrichments/{found['id']}")
    for name in ("aiModel", "infrastructure", "aiEvaluation", "translateTo", "language", "endUserIdentifier"):
        assert shown[name] is None
    assert shown["media"] == {"originalFileName": "lecture.mp4", "mimeType": "video/mp4"}


async def test_fields_may_come_behind_the_file_and_the_name_can_be_given(stt: SttWorld) -> None:
    boundary = "x"
    parts = [('file"; filename="a.mp4', MP4), *((name, text.encode()) for name, text in form().items())]
    parts.append(("originalFileName", "../Été: cours n°1.mp4".encode()))
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in parts
    )
    answer = await stt.call(
        "POST",
        "/enrichments/upload",
        content=body + b"--x--\r\n",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 200, answer.text
    shown = await stt.must("GET", f"/enrichments/{answer.json()['id']}")
    assert shown["media"]["originalFileName"] == "Été: cours n°1.mp4"


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (form(), {}, "file"),
    (form(notificationWebhookUrl=""), sent(MP4), "notificationWebhookUrl"),
    ({"notificationWebhookUrl": HOOK}, sent(MP4), "enrichmentParameters"),
    (form(enrichmentParameters="{"), sent(MP4), "enrichmentParameters"),
    (form(enrichmentParameters="[]"), sent(MP4), "enrichmentParameters"),
    (form(enrichmentParameters='{"mediaTypes":["a"]}'), sent(MP4), "enrichmentParameters.disciplines"),
    (form(notificationLevel="x"), sent(MP4), "notificationLevel"),
]


async def test_a_form_that_breaks_a_rule_is_refused_and_its_file_removed(stt: SttWorld) -> None:
    for data, files, path in REFUSED:
        given: dict[str, Any] = (
            {"data": data, "files": files}
            if files
            else {"files": {name: (None, value) for name, value in data.items()}}
        )
        answer = await stt.call("POST", "/enrichments/upload", **given)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["path"] == path
    assert stt.objects.objects == {}
    answer = await stt.call("POST", "/enrichments/upload", json={})
    assert answer.status_code == 415
    wrong = form(enrichmentParameters='{"generateQuiz": "yes"}')
    answer = await stt.call("POST", "/enrichments/upload", data=wrong, files=sent(MP4))
    assert answer.status_code == 422
    assert stt.objects.objects == {}


async def test_a_file_above_the_limit_is_refused_with_nothing_kept(tmp_path: Path) -> None:
    async with speaking(tmp_path, limits=SpeechLimits(max_upload_bytes=50_000)) as stt:
        await stt.add_client("small", (Scope.CLIENT,), ClientPolicy(max_upload_bytes=10_000))
        for name, size, status in (("pod", 49_999, 200), ("pod", 50_001, 413), ("small", 10_001, 413)):
            answer = await stt.call(
                "POST", "/enrichments/upload", as_=name, data=form(), files=sent(MP4.ljust(size, b"\0"))
            )
            assert answer.status_code == status
        assert len(stt.objects.objects) == 1
        assert stt.objects.unfinished == {}


async def test_media_may_be_larger_than_any_other_body(tmp_path: Path) -> None:
    async with speaking(tmp_path, max_body_bytes=20_000, max_media_bytes=200_000) as stt:
        big = MP4.ljust(150_000, b"\0")
        assert (await stt.call("POST", "/enrichments/upload", data=form(), files=sent(big))).status_code == 200
        assert (await stt.call("POST", "/enrichments/url", content=big)).status_code == 413
        too_big = await stt.call("POST", "/enrichments/upload", data=form(), files=sent(MP4.ljust(210_000, b"\0")))
        assert too_big.status_code == 413


async def test_a_sender_without_a_token_is_refused_before_its_file_is_read(stt: SttWorld) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + MP4
        await asyncio.Event().wait()

    headers = {"content-type": "multipart/form-data; boundary=x"}
    sending = asyncio.create_task(stt.call("POST", "/enrichments/upload", as_=None, content=endless(), headers=headers))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stt.url.split(":")[2].split("/")[0]))
    writer.write(b"POST /api/v1/enrichments/upload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    sending.cancel()
    with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
        await sending
    assert stt.objects.unfinished == {}


async def test_a_sender_that_leaves_in_mid_file_leaves_nothing(tmp_path: Path) -> None:
    async with speaking(tmp_path) as stt:
        token = await stt.token("pod")
        _, writer = await asyncio.open_connection("127.0.0.1", int(stt.url.split(":")[2].split("/")[0]))
        head = f"POST /api/v1/enrichments/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + MP4.ljust(9000, b"\0")
        writer.write(
            f"{head}content-type: multipart/form-data; boundary=x\r\ncontent-length: 90000\r\n\r\n".encode() + part
        )
        objects: TwinObjects = stt.objects
        async with asyncio.timeout(10):
            while not objects.unfinished:
                await asyncio.sleep(0.005)
            writer.close()
            while objects.unfinished:
                await asyncio.sleep(0.005)
        assert objects.objects == {}
