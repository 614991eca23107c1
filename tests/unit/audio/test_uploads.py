"""Forms with recordings at the public listener: kept aside as they come, refused early, forgotten in the end."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from ilaas.core.values import Outcome
from ilaas.http.limits import Limits
from ilaas.http.spool import BLOCK_BYTES, FULL_BYTES, MEMORY_BYTES
from ilaas.http.uploads import Uploads
from tests.support.listener import Listener, listening, until
from tests.support.twins import SECRET, House

MIB = 1024 * 1024
PATH = "/v1/audio/transcriptions"
ANSWER = {"text": "Bonjour", "duration": 3.0}


def field(name: str, value: str) -> bytes:
    return f'--XX\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


FILE = b'--XX\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
END = b"\r\n--XX--\r\n"


def form(content: bytes, model: str = "public") -> bytes:
    return field("model", model) + FILE + content + END


def head(
    length: int | None, kind: str = "multipart/form-data; boundary=XX", key: str = SECRET, extra: str = ""
) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = f"host: x\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\n{framing}\r\n{extra}"
    return f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode()


async def sent_file(listener: Listener) -> bytes:
    """The recording, as the newest server would read it."""
    upload = listener.house.upstream.calls[-1].request.upload
    assert upload is not None
    pieces, offset = [], 0
    while offset < upload.file.size_bytes:
        pieces.append(await upload.file.read(offset, 64 * 1024))
        offset += len(pieces[-1])
    return b"".join(pieces)


def forgotten(listener: Listener) -> bool:
    uploads = listener.front.uploads
    return not uploads.open and uploads.kept_bytes == 0 and listener.house.at_rest()


@pytest.mark.parametrize("size", [10, MEMORY_BYTES, MEMORY_BYTES + 1, 3 * MIB])
@pytest.mark.parametrize("model_last", [False, True])
async def test_a_recording_of_any_size_arrives_whole_with_the_model_before_or_behind_it(
    size: int, model_last: bool
) -> None:
    house, content = House(), os.urandom(size)
    body = FILE + content + b"\r\n" + field("model", "public")[:-2] + END if model_last else form(content)
    async with listening(house) as listener:
        client = await listener.connect()
        for _ in range(2):  # on one connection
            before = len(house.upstream.calls)
            client.send(head(len(body)) + body)
            await until(lambda before=before: len(house.upstream.calls) > before)
            assert await sent_file(listener) == content
            house.upstream.calls[-1].plain(ANSWER)
            status, _, answer = await client.answer()
            assert (status, orjson.loads(answer)) == (200, ANSWER)
        assert forgotten(listener)


async def test_a_chunked_form_is_taken_and_a_client_that_asks_is_told_to_go_on() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        client.send(head(None, extra="expect: 100-continue\r\n"))
        assert await client.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        body = form(b"sound" * 1000)
        for at in range(0, len(body), 700):
            piece = body[at : at + 700]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        await until(lambda: house.upstream.calls)
        house.upstream.calls[0].plain(ANSWER)
        assert (await client.answer())[0] == 200


async def test_memory_stays_flat_while_a_large_recording_comes_and_its_file_has_no_name(tmp_path: Path) -> None:
    house, block = House(), os.urandom(MIB)
    async with listening(house) as listener:
        listener.front.uploads = Uploads(Limits(), tmp_path / "uploads")
        client = await listener.connect()
        start, total = field("model", "public") + FILE, 60
        client.send(head(len(start) + total * MIB + len(END)) + start)
        most = 0
        for _ in range(total):
            client.send(block)
            await client.writer.drain()
            most = max([most, *(each.memory_bytes for each in listener.front.uploads.open)])
            assert not list((tmp_path / "uploads").glob("*")) if (tmp_path / "uploads").exists() else True
        client.send(END)
        await until(lambda: house.upstream.calls)
        upload = house.upstream.calls[0].request.upload
        assert upload is not None
        assert upload.file.size_bytes == total * MIB
        assert 0 < most <= FULL_BYTES + 2 * BLOCK_BYTES
        assert await upload.file.read(59 * MIB, MIB) == block
        house.upstream.calls[0].plain(ANSWER)
        assert (await client.answer())[0] == 200
        assert forgotten(listener)


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing_behind() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        client.send(head(10 * MIB) + field("model", "public") + FILE + b"x" * MIB)
        await until(lambda: listener.front.uploads.kept_bytes >= MIB - 100)
        client.close()
        await until(lambda: forgotten(listener))
        assert not house.upstream.calls
        assert not house.outbox.records


async def test_a_client_that_leaves_while_the_server_works_stops_it() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        body = form(b"x" * MIB)
        client.send(head(len(body)) + body)
        await until(lambda: house.upstream.calls)
        client.close()
        await until(lambda: forgotten(listener))
        assert house.upstream.calls[0].aborted
        assert house.outbox.records[0].outcome is Outcome.CLIENT_LEFT_PREFILL


async def test_a_slow_upload_does_not_use_up_the_time_of_its_request() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        body = form(b"x" * 100)
        client.send(head(len(body)) + body[:-50])
        await until(lambda: listener.front.uploads.open)
        house.clock.now += 3000
        client.send(body[-50:])
        await until(lambda: house.upstream.calls)
        house.inference.sweep()
        house.upstream.calls[0].plain(ANSWER)
        assert (await client.answer())[0] == 200
        assert house.outbox.records[0].duration_ms == 0


async def refused(data: bytes, limits: Limits | None = None) -> tuple[int, dict[str, str]]:
    """Status and error of a form that is refused before it is whole; the connection is closed after it."""
    house = House()
    async with listening(house, replace(limits or Limits(), linger_s=0.01)) as listener:
        client = await listener.connect()
        client.send(data)
        status, headers, body = await client.answer()
        assert headers[b"connection"] == b"close"
        assert await client.closed()
        assert not house.upstream.calls
        await until(lambda: forgotten(listener))
        return status, orjson.loads(body)["error"]


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (head(10, key="wrong"), 401, "key"),
        (head(10, kind="application/json"), 415, "send 'multipart/form-data'"),
        (head(10, kind="multipart/form-data"), 400, "boundary"),
        (head(10, extra="content-encoding: gzip\r\n"), 415, "unpacked"),
        (head(600 * MIB), 413, "limit of 536870912 bytes"),
        (head(10 * MIB) + field("model", "publik") + FILE, 404, "Did you mean 'public'"),
        (head(100) + b"x" * 100, 400, "cut off"),
        (head(10 * MIB) + b"nothing of the kind" * 100, 400, "boundary"),
        (head(10 * MIB) + FILE + b"x\r\n" + FILE, 400, "more than once"),
    ],
)
async def test_what_can_be_known_early_is_refused_before_the_recording_is_received(
    data: bytes, status: int, says: str
) -> None:
    found, error = await refused(data)
    assert found == status, error
    assert says in error["message"]


async def test_a_chunked_form_is_refused_when_it_passes_the_limit() -> None:
    data = head(None) + b"%x\r\n" % (3 * MIB) + field("model", "public") + FILE + b"x" * (2 * MIB)
    status, error = await refused(data, Limits(max_upload_bytes=MIB))
    assert (status, error["code"]) == (413, "body_too_large")


async def test_recordings_are_taken_up_to_a_number_and_to_a_size_of_all_together() -> None:
    house = House()
    limits = Limits(max_uploads=1, max_kept_bytes=2 * MIB, linger_s=0.01)
    async with listening(house, limits) as listener:
        listener.front.uploads = Uploads(limits)
        first, second = await listener.connect(), await listener.connect()
        first.send(head(10 * MIB) + field("model", "public") + FILE + b"x" * MIB)
        await until(lambda: listener.front.uploads.open)
        second.send(head(100))
        status, headers, body = await second.answer()
        assert (status, headers[b"retry-after"]) == (429, b"10")
        assert "holds 1 recordings" in orjson.loads(body)["error"]["message"]
        first.send(b"x" * 2 * MIB)
        status, _, body = await first.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (429, "too_busy")
        await until(lambda: forgotten(listener))


async def test_an_upload_that_does_not_go_on_or_never_ends_is_given_up() -> None:
    for limits in (Limits(header_timeout_s=0.0), Limits(upload_timeout_s=0.0)):
        async with listening(House(), replace(limits, linger_s=0.01)) as listener:
            client = await listener.connect()
            client.send(head(1000) + field("model", "public"))
            await until(lambda listener=listener: listener.front.uploads.open)
            await asyncio.sleep(0)
            await until(lambda listener=listener: listener.front.sweep() or not listener.front.uploads.open)
            status, _, body = await client.answer()
            assert (status, orjson.loads(body)["error"]["code"]) == (408, "request_timeout")


async def test_a_disk_that_is_full_is_told_and_not_a_lost_connection(tmp_path: Path) -> None:
    house = House()
    (tmp_path / "file").write_text("no folder can be made here")
    async with listening(house, Limits(linger_s=0.01)) as listener:
        listener.front.uploads = Uploads(Limits(), tmp_path / "file")
        client = await listener.connect()
        client.send(head(10 * MIB) + field("model", "public") + FILE + b"x" * MIB)
        status, _, body = await client.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (503, "store_unavailable")
        await until(lambda: forgotten(listener))


async def test_a_sender_that_is_faster_than_the_disk_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from ilaas.http import spool

    gate, real = threading.Event(), spool._nameless
    monkeypatch.setattr(spool, "_nameless", lambda folder: (gate.wait(20), real(folder))[1])
    house, total = House(), 24
    async with listening(house) as listener:
        client = await listener.connect()
        body = form(b"x" * total * MIB)
        client.send(head(len(body)) + body)
        await until(lambda: any(each.waits for each in listener.front.uploads.open))
        for _ in range(50):
            await asyncio.sleep(0)
        kept = listener.front.uploads.kept_bytes
        assert kept < 3 * MIB  # the rest is with the client and in the system's buffers
        listener.front.sweep()  # holding back is no slowness of the client's
        gate.set()
        await until(lambda: house.upstream.calls)
        upload = house.upstream.calls[0].request.upload
        assert upload is not None
        assert upload.file.size_bytes == total * MIB
        house.upstream.calls[0].plain(ANSWER)
        assert (await client.answer())[0] == 200


async def test_a_get_of_the_path_says_that_it_takes_post() -> None:
    async with listening(House()) as listener:
        client = await listener.connect()
        client.send(f"GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        status, headers, _ = await client.answer()
        assert (status, headers[b"allow"]) == (405, b"post")


async def test_json_requests_on_the_same_connection_go_on_as_ever() -> None:
    from tests.support.listener import post

    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        body = form(b"x" * 10)
        client.send(head(len(body)) + body)
        await until(lambda: house.upstream.calls)
        house.upstream.calls[0].plain(ANSWER)
        assert (await client.answer())[0] == 200
        client.send(post(orjson.dumps({"model": "public", "messages": [{"role": "user", "content": "a"}]})))
        await until(lambda: len(house.upstream.calls) == 2)
        house.upstream.calls[1].plain({"model": "org/served", "choices": []})
        assert (await client.answer())[0] == 200
