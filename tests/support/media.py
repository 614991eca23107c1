"""Real media: a voice by espeak-ng, containers and codecs by ffmpeg. Made once for a test run."""

from __future__ import annotations

import subprocess
from pathlib import Path

TEXT = "Hello and welcome. This lecture is about the energy that computers need."


class MediaBox:
    """Makes files in a folder, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def voice(self, text: str = TEXT, name: str = "voice.wav", speed: int = 160) -> Path:
        """A spoken text."""
        path = self.folder / name
        if not path.exists():
            _run("espeak-ng", "-s", str(speed), "-w", str(path), text)
        return path

    def of(self, name: str, *options: str, inputs: tuple[str, ...] | None = None) -> Path:
        """A file by ffmpeg, from the voice unless other inputs are given."""
        path = self.folder / name
        if not path.exists():
            given = inputs if inputs is not None else ("-i", str(self.voice()))
            _run("ffmpeg", "-v", "error", "-y", *given, *options, str(path))
        return path

    def video(self, name: str, *options: str) -> Path:
        """The voice under a test picture; the picture ends with it."""
        picture = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=5:d=5.0")
        return self.of(name, *options, inputs=(*picture, "-i", str(self.voice())))

    def long_voice(self, name: str = "long.wav", sentences: int = 6, gap_s: float = 1.5) -> Path:
        """Sentences with real silences between them."""
        path = self.folder / name
        if not path.exists():
            pad = f"apad=pad_dur={gap_s}"
            pieces = [
                self.voice(f"This is sentence number {at} of the lecture.", f"s{at}.wav") for at in range(sentences)
            ]
            padded = [self.of(f"p{at}.wav", "-af", pad, inputs=("-i", str(each))) for at, each in enumerate(pieces)]
            listing = self.folder / f"{name}.txt"
            listing.write_text("".join(f"file '{each}'\n" for each in padded))
            _run("ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(listing), str(path))
        return path

    def raw(self, name: str, content: bytes) -> Path:
        """A file with these bytes."""
        path = self.folder / name
        path.write_bytes(content)
        return path


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
