"""A real speech engine, on speech that espeak-ng made: words and times come out, whatever it understands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ilaas.adapters.media_ffmpeg import Ffmpeg
from ilaas.adapters.objects_local import LocalObjects
from ilaas.adapters.speech_pocketsphinx import PocketSphinxTranscriber
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.subtitles import write_vtt
from ilaas.core.enrichment.values import Transcript
from tests.support.media import MediaBox
from tests.support.speech_house import SpeechHouse

GRAMMAR = """#JSGF V1.0;
grammar commands;
public <command> = go forward (ten | two | seven) meters;
"""


async def heard(tmp_path: Path, media: Path, grammar: str | None = None, **policy: float) -> Transcript:
    """What the engine heard in a file, through every step of the internal worker."""
    house = await SpeechHouse(tmp_path / "scratch", policy=policy).open()
    house.source.content = media.read_bytes()
    house.context = replace(
        house.context,
        objects=LocalObjects(tmp_path / "objects"),
        tools=Ffmpeg(),
        transcriber=PocketSphinxTranscriber(grammar),
    )
    asked = await house.ask(generate_metadata=False, generate_quiz=False)
    async with house.working():
        done = await house.until(asked, Status.SUCCESS, Status.FAILURE)
    assert done.status is Status.SUCCESS, done.failure_cause
    transcript = (await house.version(done)).transcript
    assert transcript is not None
    return transcript


async def test_a_real_engine_gives_words_with_times_inside_the_media(tmp_path: Path) -> None:
    box = MediaBox(tmp_path / "media")
    lecture = box.video("lecture.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")
    duration_s = (await Ffmpeg().probe(lecture)).duration_s
    assert duration_s is not None
    transcript = await heard(tmp_path, lecture)
    words = [word for each in transcript.sentences for word in each.words or ()]
    assert len(words) >= 5
    assert transcript.language == "en"
    assert all(0 <= word.start < word.end <= duration_s + 0.1 for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert write_vtt(transcript.sentences).count("-->") >= 1


async def test_with_a_grammar_it_understands_what_was_said_and_when(tmp_path: Path) -> None:
    box = MediaBox(tmp_path / "media")
    spoken = box.voice("go forward ten meters", "command.wav", speed=130)
    padded = box.of(
        "command.webm", "-af", "adelay=2000:all=1,apad=pad_dur=1", "-c:a", "libopus", inputs=("-i", str(spoken))
    )
    transcript = await heard(tmp_path, padded, GRAMMAR)
    assert transcript.text == "go forward ten meters"
    assert transcript.sentences[0].start == pytest.approx(2.0, abs=0.4)


async def test_what_it_hears_in_parts_lies_where_it_was_said(tmp_path: Path) -> None:
    """Two commands with a long silence between: the audio is cut there, and each part is heard by itself."""
    box = MediaBox(tmp_path / "media")
    spoken = box.voice("go forward ten meters", "command.wav", speed=130)
    twice = box.of(
        "twice.wav",
        *("-filter_complex", "[0:a]adelay=1500:all=1,apad=pad_dur=7,asplit[a][b];[a][b]concat=n=2:v=0:a=1"),
        inputs=("-i", str(spoken)),
    )
    transcript = await heard(tmp_path, twice, GRAMMAR, part_target_s=8.0, part_longest_s=12.0)
    commands = [each for each in transcript.sentences if each.text.startswith("go forward")]
    assert len(commands) == 2, transcript.sentences
    assert commands[1].start - commands[0].start == pytest.approx(8.5 + await length_s(spoken), abs=0.5)


async def length_s(path: Path) -> float:
    return (await Ffmpeg().probe(path)).duration_s or 0.0
