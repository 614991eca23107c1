"""The length of recordings by their headers, against ffmpeg's files; whatever else comes, no wrong turn and no end."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.media import duration_ms, of_beginning

SECONDS = 7.5


def length_of(data: bytes) -> int | None:
    """As a reader of a file does."""
    reader = duration_ms(len(data))
    try:
        offset, size = next(reader)
        for _ in range(10_000):
            assert 0 <= offset <= len(data) + (1 << 33)
            assert 0 <= size <= 64 * 1024, "only small pieces"
            offset, size = reader.send(data[offset : offset + size])
    except StopIteration as end:
        found: int | None = end.value
        return found
    raise AssertionError("no end")


def wav(seconds: float, rate: int = 16_000, declared: int | None = None) -> bytes:
    content = bytes(int(seconds * rate) * 2)
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + len(content))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    )
    return head + b"data" + struct.pack("<I", len(content) if declared is None else declared) + content


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", []),
        ("a.flac", []),
        ("a.mp3", []),
        ("vbr.mp3", ["-q:a", "5"]),
        ("cbr.mp3", ["-b:a", "64k", "-write_xing", "0"]),
        ("stereo44.mp3", ["-ac", "2", "-ar", "44100"]),
        ("a.ogg", []),
        ("a.opus", []),
        ("a.m4a", []),
        ("fast.m4a", ["-movflags", "+faststart"]),
        ("a.webm", []),
        ("a.mka", []),
    ],
)
def test_the_length_of_a_file_is_read_from_its_headers(tmp_path: Path, name: str, options: list[str]) -> None:
    path = tmp_path / name
    sine = f"sine=frequency=440:duration={SECONDS}"
    command = [
        "ffmpeg",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        sine,
        *options,
        "-metadata",
        "title=Cours",
        str(path),
    ]
    subprocess.run(command, check=True)
    found = length_of(path.read_bytes())
    assert found is not None
    assert abs(found - SECONDS * 1000) < 120


def test_a_wav_that_was_written_to_a_pipe_is_as_long_as_its_bytes() -> None:
    for declared in (0, 0xFFFFFFFF):
        assert length_of(wav(2.0, declared=declared)) == 2000
    assert length_of(wav(3.0, declared=10**9)) == 3000


def test_the_beginning_is_enough_for_speech_whose_rest_has_gone_by() -> None:
    whole = wav(20.0, 24_000)
    assert of_beginning(whole[:4096], len(whole)) == 20_000
    assert of_beginning(whole[:10], len(whole)) is None


@given(
    st.binary(max_size=400),
    st.sampled_from(
        [
            b"",
            b"RIFF\0\0\0\0WAVE",
            b"fLaC",
            b"OggS",
            b"\0\0\0\x14ftypisom",
            b"\x1aE\xdf\xa3",
            b"ID3\4\0\0\0\0\0\1",
            b"\xff\xfb",
        ]
    ),
)
def test_any_bytes_have_a_length_or_none(data: bytes, magic: bytes) -> None:
    found = length_of(magic + data)
    assert found is None or 0 < found <= 7 * 24 * 3600 * 1000
    of_beginning(magic + data, 10**6)


@given(st.integers(0, 7_000), st.binary(min_size=1, max_size=60))
def test_a_damaged_file_is_read_to_an_end(at: int, damage: bytes) -> None:
    data = bytearray(
        b"\0\0\0\x14ftypisom"
        + bytes(8)
        + b"\0\0\0\x7cmoov\0\0\0\x6cmvhd"
        + bytes(12)
        + b"\0\0\3\xe8\0\0\x1d\x4c"
        + bytes(80)
    )
    assert length_of(bytes(data)) == 7500
    data[at % len(data) : at % len(data) + len(damage)] = damage
    length_of(bytes(data))
