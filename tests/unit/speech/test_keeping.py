"""What is kept and for how long, and the place that long media leave to short ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ilaas.core.enrichment.steps import Status
from ilaas.core.errors import NotFound
from ilaas.ports.media import Sound
from ilaas.ports.speech import SpeechTask
from ilaas.services.enrichment.retention import remove_due, remove_strays
from ilaas.services.enrichment.scratch import clear_scratch
from tests.support.speech_house import SpeechHouse

DAY_S = 86_400.0


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)


async def test_media_are_kept_as_long_as_the_clients_policy_says(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path).with_client(keep_media_s=DAY_S).open()
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
    await remove_due(house.context)
    assert len(house.objects.objects) == 1
    house.clock.now += DAY_S + 1
    assert await remove_due(house.context) == 1
    assert house.objects.objects == {}
    assert (await house.store.enrichment(asked)).status is Status.SUCCESS


async def test_results_go_at_their_date(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path).with_client(keep_results_s=DAY_S).open()
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
        await house.told()
    house.clock.now += DAY_S + 1
    await remove_due(house.context)
    assert (await house.store.enrichment(asked)).deleted_at_s is not None
    assert await house.store.latest_version(asked) is None


async def test_objects_that_nothing_refers_to_are_removed_and_others_stay(tmp_path: Path) -> None:
    """What a killed worker had fetched for an enrichment that was deleted meanwhile."""
    house = await SpeechHouse(tmp_path).with_client(keep_media_s=DAY_S).open()
    asked = await house.ask()
    async with house.working():
        await house.ended(asked)
    kept = set(house.objects.objects)
    house.objects.objects["medias/pod/gone/media"] = b"x"
    house.objects.unfinished["medias/pod/half/media"] = b"x"
    assert await remove_strays(house.context) == 2
    assert set(house.objects.objects) == kept
    assert house.objects.unfinished == {}


def test_scratch_folders_of_processes_that_are_no_more_are_removed(tmp_path: Path) -> None:
    (tmp_path / "step-999999999-abc").mkdir()
    (tmp_path / "step-1-abc").mkdir()
    (tmp_path / "other").mkdir()
    assert clear_scratch(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "step-1-abc"]


async def test_a_place_is_kept_free_for_short_media(tmp_path: Path) -> None:
    house = await SpeechHouse(tmp_path).open()
    held: dict[float, asyncio.Event] = {}

    async def hang(task: SpeechTask) -> None:
        if task.duration_s > 90:
            await held.setdefault(task.duration_s, asyncio.Event()).wait()

    house.transcriber.before = hang

    def lasts(seconds: float) -> None:
        house.tools.probed = replace(house.tools.probed, duration_s=seconds, sound_s=seconds)
        house.tools.sound = Sound(duration_s=seconds, silences=())

    async with house.working(jobs=2, short_jobs=1, short_s=120.0):
        lasts(600.0)
        long_ones = [await house.ask(generate_metadata=False, generate_quiz=False) for _ in range(3)]
        for each in long_ones:
            await house.until(each, Status.WAITING_MEDIA_TRANSCRIPTION, Status.TRANSCRIBING_MEDIA)
        await until(lambda: held)
        lasts(60.0)
        short = await house.ask(generate_metadata=False, generate_quiz=False)
        assert (await house.ended(short)).status is Status.SUCCESS
        statuses = [(await house.store.enrichment(each)).status for each in long_ones]
        assert sorted(statuses) == [
            Status.TRANSCRIBING_MEDIA,
            Status.WAITING_MEDIA_TRANSCRIPTION,
            Status.WAITING_MEDIA_TRANSCRIPTION,
        ]
        house.transcriber.before = None
        for event in held.values():
            event.set()


async def test_an_enrichment_of_a_client_that_is_gone_is_still_done(tmp_path: Path) -> None:
    """Its policy can't be read; the service's own limits hold."""
    house = SpeechHouse(tmp_path)
    await house.store.open()
    asked = await house.ask()
    with pytest.raises(NotFound):
        await house.store.client("pod")
    async with house.working():
        assert (await house.ended(asked)).status is Status.SUCCESS
