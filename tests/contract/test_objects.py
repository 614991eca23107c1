"""One suite for the stores of media, run on each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore as ObstoreMemory

from ilaas.adapters.objects_local import LocalObjects
from ilaas.adapters.objects_s3 import S3Objects, S3Settings, s3_objects
from ilaas.core.errors import BodyTooLarge, Conflict, InvalidRequest, NotFound, StoreUnavailable
from ilaas.ports.content import ObjectStore

KEY = "medias/client-1/0197/Leçon 1.mp4"
MEGABYTE = 1024 * 1024


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalObjects(tmp_path / "media") if request.param == "folder" else S3Objects(ObstoreMemory())


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def content(store: ObjectStore, key: str = KEY, *, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(key, start=start, end=end)])


async def test_an_object_comes_back_whole_and_by_ranges(objects: ObjectStore) -> None:
    whole = os.urandom(3 * MEGABYTE + 17)
    stored = await objects.put(KEY, chunks(whole[:100], b"", whole[100:]), max_bytes=len(whole))
    assert (stored.key, stored.size_bytes) == (KEY, len(whole))
    assert await objects.info(KEY) == stored
    assert await content(objects) == whole
    assert await content(objects, start=len(whole) - 5) == whole[-5:]
    assert await content(objects, start=MEGABYTE - 1, end=2 * MEGABYTE + 1) == whole[MEGABYTE - 1 : 2 * MEGABYTE + 1]
    assert await content(objects, start=7, end=7) == b""
    assert await content(objects, start=0, end=10**12) == whole


async def test_an_empty_object_is_one_too(objects: ObjectStore) -> None:
    assert (await objects.put(KEY, chunks(), max_bytes=10)).size_bytes == 0
    assert await content(objects) == b""


async def test_what_is_not_there_is_said_to_be_so(objects: ObjectStore) -> None:
    assert await objects.info(KEY) is None
    with pytest.raises(NotFound, match="Leçon"):
        await content(objects)
    await objects.delete(KEY)
    assert list(await objects.list()) == []


async def test_an_object_that_is_too_large_leaves_nothing(objects: ObjectStore) -> None:
    with pytest.raises(BodyTooLarge, match="20 bytes"):
        await objects.put(KEY, chunks(b"x" * 15, b"x" * 6), max_bytes=20)
    assert await objects.info(KEY) is None
    assert list(await objects.list()) == list(await objects.list(unfinished=True)) == []


async def test_an_object_whose_sender_breaks_off_leaves_nothing(objects: ObjectStore) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * MEGABYTE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await objects.put(KEY, breaking(), max_bytes=10 * MEGABYTE)
    assert await objects.info(KEY) is None
    assert list(await objects.list(unfinished=True)) == []


async def test_an_object_whose_receiver_is_cancelled_leaves_nothing(objects: ObjectStore) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(objects.put(KEY, endless(), max_bytes=10))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await objects.info(KEY) is None
    assert list(await objects.list(unfinished=True)) == []


async def test_nobody_sees_an_object_before_it_is_whole_and_a_new_one_takes_the_place_of_the_old(
    objects: ObjectStore,
) -> None:
    await objects.put(KEY, chunks(b"old"), max_bytes=10)
    upload = await objects.resume(KEY, max_bytes=10)
    await upload.write(b"new")
    await upload.write(b"er")
    assert upload.size_bytes == 5
    assert await content(objects) == b"old"
    assert (await upload.finish()).size_bytes == 5
    assert await content(objects) == b"newer"
    with pytest.raises(Conflict):
        await upload.write(b"more")


async def test_an_object_is_deleted_and_listed_by_its_prefix(objects: ObjectStore) -> None:
    for key in ("a/b/1.mp3", "a/b/2.mp3", "a/bc.mp3", "z"):
        await objects.put(key, chunks(b"x"), max_bytes=1)
    assert [each.key for each in await objects.list("a/b")] == ["a/b/1.mp3", "a/b/2.mp3", "a/bc.mp3"]
    assert [each.key for each in await objects.list("a/b/")] == ["a/b/1.mp3", "a/b/2.mp3"]
    assert [each.key for each in await objects.list(limit=1)] == ["a/b/1.mp3"]
    await objects.delete("a/b/1.mp3")
    assert [each.key for each in await objects.list()] == ["a/b/2.mp3", "a/bc.mp3", "z"]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../../b", "a//b", "./a", "a\nb", "a\x00b", "x" * 256, "a/" * 600]
)
async def test_a_key_that_is_no_plain_path_is_refused(objects: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidRequest):
        await objects.put(key, chunks(b"x"), max_bytes=1)
    with pytest.raises(InvalidRequest):
        await content(objects, key)


# -- the folder alone --------------------------------------------------------------------------------------------------


async def test_a_paused_upload_is_taken_up_where_it_was(tmp_path: Path) -> None:
    first = await LocalObjects(tmp_path).resume(KEY, max_bytes=2 * MEGABYTE)
    await first.write(b"a" * MEGABYTE)
    await first.write(b"b" * 10)
    await first.pause()
    assert [each.key for each in await LocalObjects(tmp_path).list(unfinished=True)] == [KEY]
    second = await LocalObjects(tmp_path).resume(KEY, max_bytes=2 * MEGABYTE)
    assert second.size_bytes == MEGABYTE + 10
    await second.write(b"c")
    await second.finish()
    assert await content(LocalObjects(tmp_path)) == b"a" * MEGABYTE + b"b" * 10 + b"c"
    assert list(await LocalObjects(tmp_path).list(unfinished=True)) == []


async def test_an_upload_whose_process_dies_is_taken_up_and_what_it_had_not_said_is_not_lost(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            asyncio.run(_write_and_die(tmp_path))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == 9
    upload = await LocalObjects(tmp_path).resume(KEY, max_bytes=10 * MEGABYTE)
    assert upload.size_bytes == 2 * MEGABYTE
    await upload.finish()
    assert await content(LocalObjects(tmp_path)) == b"d" * 2 * MEGABYTE


async def _write_and_die(folder: Path) -> None:  # pragma: no cover - another process
    upload = await LocalObjects(folder).resume(KEY, max_bytes=10 * MEGABYTE)
    await upload.write(b"d" * 2 * MEGABYTE)
    await upload.write(b"e")
    os.kill(os.getpid(), 9)


async def test_two_senders_of_one_object_are_kept_apart(tmp_path: Path) -> None:
    first = await LocalObjects(tmp_path).resume(KEY, max_bytes=10)
    with pytest.raises(Conflict, match="another worker"):
        await LocalObjects(tmp_path).resume(KEY, max_bytes=10)
    await first.abort()
    await (await LocalObjects(tmp_path).resume(KEY, max_bytes=10)).finish()


async def test_a_deleted_object_leaves_no_empty_folders(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    await objects.put(KEY, chunks(b"x"), max_bytes=1)
    await objects.delete(KEY)
    assert list((tmp_path / "objects").iterdir()) == []


async def test_a_folder_that_can_not_be_used_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="folder of the media"):
        await LocalObjects(tmp_path / "file").put(KEY, chunks(b"x"), max_bytes=1)


async def test_others_on_the_machine_can_not_read_media(tmp_path: Path) -> None:
    await LocalObjects(tmp_path).put(KEY, chunks(b"x"), max_bytes=1)
    assert (tmp_path / "objects" / KEY).stat().st_mode & 0o077 == 0


# -- the bucket alone --------------------------------------------------------------------------------------------------


async def test_a_bucket_gives_addresses_that_anyone_may_fetch_for_a_while() -> None:
    settings = S3Settings(
        bucket="media",
        endpoint_url="http://127.0.0.1:1",
        region="eu",
        access_key_id="id",
        secret_access_key="secret",
        prefix="prod",
    )
    link = await s3_objects(settings).link("a/b.mp3", 600)
    assert link is not None
    assert link.startswith("http://127.0.0.1:1/media/prod/a/b.mp3?")
    assert "X-Amz-Expires=600" in link
    assert await LocalObjects(Path("anywhere")).link("a/b.mp3", 600) is None
