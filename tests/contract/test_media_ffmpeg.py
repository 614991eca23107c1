"""What media files are by their content, and their sound for speech servers."""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path

import psutil
import pytest

from ilaas.adapters.media_ffmpeg import Ffmpeg, FfmpegOptions
from ilaas.adapters.processes import Limits, run
from ilaas.core.errors import ConfigError, MediaUnusable
from ilaas.ports.media import Probed, Sound
from tests.support.media import MediaBox


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> MediaBox:
    return MediaBox(tmp_path_factory.mktemp("media"))


def kinds(box: MediaBox) -> dict[str, tuple[Path, str, bool]]:
    return {
        "mp4": (box.video("a.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"), "video/mp4", True),
        "webm": (box.video("a.webm", "-c:v", "libvpx", "-c:a", "libopus"), "video/webm", True),
        "mkv": (box.video("a.mkv", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "ac3"), "video/x-matroska", True),
        "avi": (box.video("a.avi", "-c:v", "mpeg4", "-c:a", "mp2"), "video/x-msvideo", True),
        "ts": (box.video("a.ts", "-c:v", "mpeg2video", "-c:a", "mp2"), "video/mp2t", True),
        "mp3": (box.of("a.mp3"), "audio/mpeg", False),
        "wav": (box.voice(), "audio/wav", False),
        "ogg": (box.of("a.ogg", "-c:a", "libopus"), "audio/ogg", False),
        "m4a": (box.of("a.m4a", "-c:a", "aac"), "audio/mp4", False),
        "wma": (box.of("a.wma", "-c:a", "wmav2"), "audio/x-ms-asf", False),
        "odd wav": (box.of("odd.wav", "-c:a", "adpcm_ms"), "audio/wav", False),
        "8 kHz stereo": (box.of("phone.wav", "-ar", "8000", "-ac", "2"), "audio/wav", False),
    }


async def extracted(path: Path, folder: Path) -> tuple[Probed, Sound]:
    tools = Ffmpeg()
    probed = await tools.probe(path)
    return probed, await tools.extract(path, folder / "sound.flac", probed)


@pytest.mark.parametrize(
    "kind", ["mp4", "webm", "mkv", "avi", "ts", "mp3", "wav", "ogg", "m4a", "wma", "odd wav", "8 kHz stereo"]
)
async def test_every_usual_container_and_codec_gives_its_sound(kind: str, box: MediaBox, tmp_path: Path) -> None:
    path, mime_type, is_video = kinds(box)[kind]
    probed, sound = await extracted(path, tmp_path)
    assert (probed.mime_type, probed.is_video) == (mime_type, is_video)
    assert sound.duration_s == pytest.approx(length_s(box.voice()), abs=0.2)
    assert (tmp_path / "sound.flac").read_bytes()[:4] == b"fLaC"


async def test_the_content_counts_and_not_the_name(box: MediaBox, tmp_path: Path) -> None:
    webm = kinds(box)["webm"][0]
    wrong = box.raw("really-webm.mp3", webm.read_bytes())
    probed, _ = await extracted(wrong, tmp_path)
    assert probed.mime_type == "video/webm"


async def test_a_cover_picture_makes_no_video(box: MediaBox) -> None:
    picture = box.of("cover.png", "-frames:v", "1", inputs=("-f", "lavfi", "-i", "testsrc=s=64x64:d=1"))
    inputs = ("-i", str(box.of("a.mp3")), "-i", str(picture))
    song = box.of("cover.mp3", "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", inputs=inputs)
    assert not (await Ffmpeg().probe(song)).is_video


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.mp4", b"", "empty"),
        ("noise.mp4", bytes(range(256)) * 100, "not a video or audio file"),
        ("page.mp4", b"<!doctype html><title>Log in</title>", "not a video or audio file"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n",
            "not a video or audio",
        ),
        ("list.mp4", b"ffconcat version 1.0\nfile '/etc/hostname'\n", "not a video or audio file"),
    ],
)
async def test_what_is_no_media_is_refused_with_a_reason(name: str, content: bytes, says: str, box: MediaBox) -> None:
    with pytest.raises(MediaUnusable, match=says):
        await Ffmpeg().probe(box.raw(name, content))


async def test_a_video_without_sound_is_refused(box: MediaBox) -> None:
    silent = box.video("silent.mp4", "-an", "-c:v", "libx264", "-preset", "ultrafast")
    with pytest.raises(MediaUnusable, match="no audio track"):
        await Ffmpeg().probe(silent)


async def test_half_a_file_is_refused_as_damaged(box: MediaBox, tmp_path: Path) -> None:
    whole = box.video(
        "fast.mp4", "-movflags", "+faststart", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"
    ).read_bytes()
    with pytest.raises(MediaUnusable, match="damaged"):
        await extracted(box.raw("half.mp4", whole[: len(whole) * 2 // 5]), tmp_path)


async def test_a_file_whose_index_is_cut_off_is_refused(box: MediaBox) -> None:
    whole = kinds(box)["mp4"][0].read_bytes()
    with pytest.raises(MediaUnusable, match="damaged"):
        await Ffmpeg().probe(box.raw("noindex.mp4", whole[:5000]))


async def test_sound_that_begins_late_keeps_its_times(box: MediaBox, tmp_path: Path) -> None:
    inputs = ("-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=8", "-itsoffset", "3", "-i", str(box.voice()))
    late = box.of("late.mkv", "-t", "8", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", inputs=inputs)
    _, sound = await extracted(late, tmp_path)
    assert sound.silences[0][0] == 0.0
    assert sound.silences[0][1] == pytest.approx(3.0, abs=0.3)


async def test_a_recording_that_does_not_say_its_length_is_measured(box: MediaBox) -> None:
    """As browsers record: the file is written as it comes."""
    webm = kinds(box)["webm"][0]
    live = box.of("live.webm", "-map", "0:a", "-c", "copy", "-live", "1", inputs=("-i", str(webm)))
    assert (await Ffmpeg().probe(live)).duration_s == pytest.approx(length_s(box.voice()), abs=0.3)


async def test_silences_between_sentences_are_found(box: MediaBox, tmp_path: Path) -> None:
    _, sound = await extracted(box.long_voice(sentences=3), tmp_path)
    assert len([each for each in sound.silences if each[1] - each[0] > 1.0]) == 3
    assert all(0 <= start < end <= sound.duration_s for start, end in sound.silences)


async def test_a_cut_is_as_long_as_asked_for(box: MediaBox, tmp_path: Path) -> None:
    await extracted(box.voice(), tmp_path)
    tools = Ffmpeg()
    await tools.cut(tmp_path / "sound.flac", tmp_path / "cut.flac", (1.0, 2.5))
    assert (await tools.probe(tmp_path / "cut.flac")).duration_s == pytest.approx(1.5, abs=0.01)


async def test_no_more_than_the_longest_sound_is_read(box: MediaBox, tmp_path: Path) -> None:
    tools = Ffmpeg(FfmpegOptions(max_sound_s=1.0))
    sound = await tools.extract(box.voice(), tmp_path / "sound.flac", await tools.probe(box.voice()))
    assert sound.duration_s == pytest.approx(1.0, abs=0.01)


async def test_without_ffmpeg_the_operator_is_told_what_to_install(box: MediaBox) -> None:
    with pytest.raises(ConfigError, match="Install ffmpeg"):
        await Ffmpeg(FfmpegOptions(ffprobe="/nowhere/ffprobe")).probe(box.voice())


async def test_a_program_that_takes_too_long_is_killed() -> None:
    ran = await run((sys.executable, "-c", "import time; time.sleep(60)"), Limits(timeout_s=0.3))
    assert ran.timed_out


async def test_a_cancelled_program_is_killed() -> None:
    before = {child.pid for child in psutil.Process().children()}
    task = asyncio.create_task(run((sys.executable, "-c", "import time; time.sleep(60)"), Limits(timeout_s=60)))
    children = await until_child(before)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_more_output_than_the_limit_is_dropped() -> None:
    code = "import sys; sys.stdout.write('x' * 1_000_000)"
    ran = await run((sys.executable, "-c", code), Limits(timeout_s=30, output_bytes=1000))
    assert (ran.code, len(ran.out)) == (0, 1000)


async def until_child(before: set[int]) -> list[psutil.Process]:
    """Those that came since; servers of other tests may run beside."""
    async with asyncio.timeout(10):
        while not (found := [child for child in psutil.Process().children() if child.pid not in before]):
            await asyncio.sleep(0.01)
        return found


def length_s(path: Path) -> float:
    with wave.open(str(path)) as sound:
        return sound.getnframes() / sound.getframerate()
