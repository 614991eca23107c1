"""Media files by ffmpeg: what they are, and their sound for speech servers.

Files come from anybody. So: only containers that hold media are opened (playlists and the like would make ffmpeg read
other files, or call addresses), nothing but local files is read, and each run has limits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ilaas.adapters.processes import Limits, Ran, run
from ilaas.core.errors import MediaUnusable
from ilaas.ports.media import Probed, Sound

SAMPLE_RATE_HZ = 16_000

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mp3,wav,w64,flac,ogg,aac,aiff,caf,amr,asf,avi,flv,mpeg,mpegts,ac3,eac3,au,"
    "mxf,rm,wv,ape,tta,dts,live_flv,mpegvideo,m4v,nut"
)
_SAFE = ("-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS)
_AS_JSON = ("-show_format", "-show_streams", "-of", "json")
_MIME = {
    "mov": "mp4",
    "matroska": "x-matroska",
    "mp3": "mpeg",
    "wav": "wav",
    "flac": "flac",
    "ogg": "ogg",
    "aac": "aac",
    "aiff": "aiff",
    "asf": "x-ms-asf",
    "avi": "x-msvideo",
    "flv": "x-flv",
    "mpeg": "mpeg",
    "mpegts": "mp2t",
    "amr": "amr",
}
_SILENCE = re.compile(rb"silence_(start|end): (-?[\d.]+)")
_PROGRESS = re.compile(rb"out_time_us=(\d+)")
_PROBE_S = 60.0
_START_S = 60.0
"""What a run may take beside what the media's length explains."""
_SLOWEST_SPEED = 2.0
"""Times faster than it plays that any media is read at least; a loaded machine reads sound some 100 times faster."""
_UNKNOWN_S = 12 * 3600.0
_DAMAGED_SHARE = 0.5
"""When less than this of the sound that a file promises can be read, the file is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FfmpegOptions:
    """The programs, and what counts as silence."""

    ffmpeg: str = "ffmpeg"
    ffprobe: str = "ffprobe"
    silence_db: float = -35.0
    silence_s: float = 0.35
    max_sound_s: float = 24 * 3600.0
    """What lasts longer is cut there: a file may claim to last for years."""


class Ffmpeg:
    """Probes, converts and cuts by subprocesses."""

    def __init__(self, options: FfmpegOptions | None = None) -> None:
        self._options = options or FfmpegOptions()

    async def probe(self, path: Path) -> Probed:
        """What the file is, by its content. Raises MediaUnusable when it is no media, or has no sound."""
        if await asyncio.to_thread(lambda: path.stat().st_size) == 0:
            raise MediaUnusable("The media file is empty (0 bytes). Send it again.")
        found = await run(
            (self._options.ffprobe, "-v", "error", *_SAFE, *_AS_JSON, _local(path)),
            Limits(timeout_s=_PROBE_S),
        )
        _check_time(found)
        tree: dict[str, Any] = orjson.loads(found.out or b"{}")
        streams: list[dict[str, Any]] = tree.get("streams", [])
        if found.code != 0 or not streams:
            raise MediaUnusable(
                "The file is not a video or audio file that can be read: it is damaged, or its content is something "
                "else than its name says."
            )
        container = tree["format"]
        sounds = [stream for stream in streams if stream.get("codec_type") == "audio"]
        is_video = any(stream.get("codec_type") == "video" and not _is_picture(stream) for stream in streams)
        if not sounds:
            raise MediaUnusable("The media has no audio track, so there is nothing to transcribe.")
        sound = sounds[0]
        if sound.get("codec_name", "unknown") in {"unknown", "none"}:
            tag = sound.get("codec_tag_string", "unknown")
            raise MediaUnusable(f"The audio track has a codec that can't be read ({tag}). Convert it to AAC or Opus.")
        sound_s = _seconds(sound.get("duration")) or _clock_seconds(sound.get("tags", {}).get("DURATION"))
        duration_s = _seconds(container.get("duration")) or sound_s or await self._measured(path)
        return Probed(
            mime_type=_mime_type(str(container.get("format_name", "")), sound, is_video=is_video),
            is_video=is_video,
            duration_s=duration_s,
            sound_s=sound_s,
        )

    async def _measured(self, path: Path) -> float | None:
        """Of a file that doesn't say how long it is, as browsers record them: read through, without decoding."""
        ran = await self._ffmpeg(
            ("-i", _local(path), "-map", "0:a:0"), ("-c", "copy", "-f", "null", "-"), _time_limit(None)
        )
        return _progress_s(ran) or None

    async def extract(self, source: Path, target: Path, probed: Probed) -> Sound:
        """Write the first audio track as FLAC, 16 kHz, one channel. Raises MediaUnusable when little of it is there.

        Gaps and a late start are filled with silence, so that times are those of the media.
        """
        options = self._options
        filters = (
            f"aresample={SAMPLE_RATE_HZ}:async=1:first_pts=0,"
            f"silencedetect=noise={options.silence_db}dB:d={options.silence_s}"
        )
        ran = await self._ffmpeg(
            ("-i", _local(source), "-map", "0:a:0", "-vn", "-sn", "-dn", "-t", str(options.max_sound_s)),
            ("-af", filters, *_FLAC, _local(target)),
            _time_limit(probed.duration_s),
        )
        heard_s = _progress_s(ran)
        if heard_s <= 0:
            raise MediaUnusable("The audio track is empty or damaged: no sound can be read from it.")
        if ran.code != 0:
            raise MediaUnusable(f"The media is damaged: its sound can't be read beyond {_shown(heard_s)}.")
        promised_s = probed.sound_s
        if promised_s is not None and heard_s < min(promised_s, options.max_sound_s) * _DAMAGED_SHARE:
            raise MediaUnusable(
                f"The media is damaged: only {_shown(heard_s)} of its {_shown(promised_s)} of sound can be read."
            )
        return Sound(duration_s=heard_s, silences=_silences(ran.err, heard_s))

    async def cut(self, source: Path, target: Path, span: tuple[float, float]) -> None:
        """Write the seconds of `span`, to the sample."""
        start_s, end_s = span
        ran = await self._ffmpeg(
            ("-ss", f"{start_s:.3f}", "-to", f"{end_s:.3f}", "-i", _local(source)),
            (*_FLAC, _local(target)),
            _time_limit(end_s - start_s),
        )
        if ran.code != 0:
            raise MediaUnusable(f"The media's sound can't be cut at {_shown(start_s)}: it is damaged.")

    async def _ffmpeg(self, source: Sequence[str], target: Sequence[str], timeout_s: float) -> Ran:
        ran = await run(
            (
                *(self._options.ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-v", "info", "-progress", "pipe:1"),
                *("-stats_period", "30", "-threads", "1", *_SAFE, *source),
                *("-threads", "1", "-filter_threads", "1", "-map_metadata", "0", "-y", *target),
            ),
            Limits(timeout_s=timeout_s),
        )
        _check_time(ran)
        return ran


_FLAC = ("-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-sample_fmt", "s16", "-c:a", "flac", "-f", "flac")


def _local(path: Path) -> str:
    """As an address of the file protocol, so that a name with a colon or a dash is nothing else."""
    return f"file:{path.absolute()}"


def _progress_s(ran: Ran) -> float:
    found = _PROGRESS.findall(ran.out)
    return int(found[-1]) / 1e6 if found else 0.0


def _time_limit(duration_s: float | None) -> float:
    return _START_S + (duration_s or _UNKNOWN_S) / _SLOWEST_SPEED


def _check_time(ran: Ran) -> None:
    if ran.timed_out:
        raise MediaUnusable("Reading the media took too long: it is damaged, or made in an unusual way. Convert it.")


def _seconds(value: object) -> float | None:
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _clock_seconds(value: object) -> float | None:
    """Of `01:02:03.5`, as Matroska files have it."""
    hours, _, rest = str(value).partition(":")
    minutes, _, seconds = rest.partition(":")
    total_s = (_seconds(hours) or 0.0) * 3600 + (_seconds(minutes) or 0.0) * 60 + (_seconds(seconds) or 0.0)
    return total_s or None


def _is_picture(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _mime_type(format_name: str, sound: dict[str, Any], *, is_video: bool) -> str:
    names = format_name.split(",")
    group = "video" if is_video else "audio"
    if "matroska" in names:
        web = sound.get("codec_name") in {"opus", "vorbis"}
        return f"{group}/{'webm' if web else 'x-matroska'}"
    return f"{group}/{_MIME.get(names[0], names[0] or 'octet-stream')}"


def _silences(log: bytes, end_s: float) -> tuple[tuple[float, float], ...]:
    found: list[tuple[float, float]] = []
    start_s: float | None = None
    for kind, seconds in _SILENCE.findall(log):
        if kind == b"start":
            start_s = max(float(seconds), 0.0)
        elif start_s is not None:
            found.append((start_s, float(seconds)))
            start_s = None
    if start_s is not None and start_s < end_s:
        found.append((start_s, end_s))
    return tuple(found)


def _shown(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s" if seconds >= 60 else f"{seconds:.1f} s"
