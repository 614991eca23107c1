"""How long an MP3 is: from the Xing or VBRI header of its first frame, else from that frame's bit rate."""

from __future__ import annotations

from collections.abc import Generator

_BIT_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Layer III of MPEG-1, in kbit/s by index."""
_BIT_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Of MPEG-2 and 2.5."""
_SAMPLE_RATES = (44_100, 48_000, 32_000)
_SEARCHED_BYTES = 8 * 1024
"""How far behind the tag the first frame may begin."""


def mp3_ms(head: bytes, size: int) -> Generator[tuple[int, int], bytes, int | None]:
    """See `core.media`. `head` is the beginning of the file."""
    start = 0
    if head.startswith(b"ID3") and len(head) >= 10:
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    window = head[start : start + _SEARCHED_BYTES]
    if len(window) < _SEARCHED_BYTES and start + len(window) < size:
        window = yield start, min(_SEARCHED_BYTES, max(size - start, 0))
    at = window.find(b"\xff")
    while at >= 0:
        found = _frame(window[at : at + 64])
        if found is not None:
            return _length(found, window[at : at + 64], size - start - at)
        at = window.find(b"\xff", at + 1)
    return None


def _frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Samples per frame, sample rate, bytes per second, and where a Xing header would stand; None: not a frame."""
    if len(data) < 4 or data[1] & 0xE6 != 0xE2:  # the sync bits, and layer III
        return None
    version, bit_rate, sample_rate, mono = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3, data[3] >> 6 == 3
    if version == 1 or sample_rate == 3 or bit_rate in (0, 15):
        return None
    if version == 3:
        return 1152, _SAMPLE_RATES[sample_rate], _BIT_RATES_1[bit_rate] * 125, 4 + (17 if mono else 32)
    rate = _SAMPLE_RATES[sample_rate] // (2 if version == 2 else 4)
    return 576, rate, _BIT_RATES_2[bit_rate] * 125, 4 + (9 if mono else 17)


def _length(frame: tuple[int, int, int, int], data: bytes, size: int) -> int:
    samples, rate, bytes_per_s, xing = frame
    frames = 0
    if data[xing : xing + 4] in (b"Xing", b"Info") and data[xing + 7] & 1:
        frames = int.from_bytes(data[xing + 8 : xing + 12], "big")
    elif data[36:40] == b"VBRI":
        frames = int.from_bytes(data[50:54], "big")
    return frames * samples * 1000 // rate if frames else size * 1000 // bytes_per_s
