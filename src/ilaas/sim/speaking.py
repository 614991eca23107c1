"""Text to speech of the simulated server: a tone as long as the text would take, with the text in its metadata.

What it says can be heard by `sim.hearing` again.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from ilaas.sim.api_errors import ApiError
from ilaas.sim.hearing import SCRIPT
from ilaas.sim.recital import Answer

PATH = "/v1/audio/speech"

_RATE = 24_000
_SECONDS_PER_WORD = 0.4
_LONGEST_TEXT = 4096
_PIECE_BYTES = 16 * 1024
_TYPES = {"wav": b"audio/wav", "mp3": b"audio/mpeg", "pcm": b"audio/pcm"}

_SILENT_FRAME = bytes.fromhex("fffb10c4") + bytes(100)
"""MPEG-1 layer III, 32 kbit/s, 44.1 kHz, one channel."""
_FRAME_S = 1152 / 44_100


def speech(body: dict[str, Any]) -> Answer:
    """The answer to a request. Raises ApiError."""
    text = body.get("input")
    if not isinstance(text, str) or not text.strip():
        raise ApiError(400, "input: Input should be a text that is not empty", "input")
    if len(text) > _LONGEST_TEXT:
        raise ApiError(400, f"input: String should have at most {_LONGEST_TEXT} characters", "input")
    kind = body.get("response_format") or "mp3"
    if kind not in _TYPES:
        raise ApiError(400, f"response_format: Input should be one of {', '.join(_TYPES)}", "response_format")
    speed = body.get("speed") or 1.0
    if not isinstance(speed, int | float) or not 0.25 <= speed <= 4.0:
        raise ApiError(400, "speed: Input should be between 0.25 and 4", "speed")
    seconds = max(len(text.split()), 1) * _SECONDS_PER_WORD / speed
    sound = {"wav": _wav, "mp3": _mp3, "pcm": _pcm}[kind](text, seconds)
    return Answer(
        pieces=tuple(sound[at : at + _PIECE_BYTES] for at in range(0, len(sound), _PIECE_BYTES)),
        content_type=_TYPES[kind],
        streamed=True,
        prompt_tokens=max(len(text) // 4, 1),
    )


def _pcm(_text: str, seconds: float) -> bytes:
    period = [int(6_000 * math.sin(2 * math.pi * at / 60)) for at in range(60)]  # 400 Hz
    samples = int(seconds * _RATE)
    tone = struct.pack("<60h", *period)
    return (tone * (samples // 60 + 1))[: samples * 2]


def _wav(text: str, seconds: float) -> bytes:
    tone = _pcm(text, seconds)
    comment = SCRIPT + text.encode() + b"\0"
    comment += b"\0" * (len(comment) % 2)
    info = b"INFOICMT" + struct.pack("<I", len(comment)) + comment
    chunks = [
        (b"fmt ", struct.pack("<HHIIHH", 1, 1, _RATE, _RATE * 2, 2, 16)),
        (b"LIST", info),
        (b"data", tone),
    ]
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _mp3(text: str, seconds: float) -> bytes:
    comment = b"\x03eng\0" + SCRIPT + text.encode() + b"\0"
    frame = b"COMM" + struct.pack(">I", len(comment)) + b"\0\0" + comment
    size = len(frame)
    tag = b"ID3\x03\0\0" + bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127)) + frame
    return tag + _SILENT_FRAME * max(1, round(seconds / _FRAME_S))
