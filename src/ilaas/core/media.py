"""How long a recording is, by its headers: WAV, FLAC, MP3, Ogg, MP4, WebM. Reads a few small pieces, decodes nothing.

Written without I/O: a reader is a generator that yields `(offset, size)` and is sent those bytes (fewer at the end).
"""

from __future__ import annotations

from collections.abc import Generator

from ilaas.core.media_mp3 import mp3_ms

Reader = Generator[tuple[int, int], bytes, "int | None"]
"""Returns milliseconds; None when the headers don't tell."""

HEAD_BYTES = 64 * 1024
"""What a reader asks for first, from the beginning."""

_MAX_BOXES = 1000
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)
_LONGEST_MS = 7 * 24 * 3600 * 1000
"""A header that tells of more is wrong."""

GUESSED_BYTES_PER_S = 8_000
"""64 kbit/s: what a recording of unknown length is taken for."""


def guessed_ms(size: int) -> int:
    """From the size alone."""
    return size * 1000 // GUESSED_BYTES_PER_S


def duration_ms(size: int) -> Reader:
    """The length of a media file of so many bytes."""
    head = yield 0, min(HEAD_BYTES, size)
    found = yield from _by_kind(head, size)
    return found if found is not None and 0 < found <= _LONGEST_MS else None


def _by_kind(head: bytes, size: int) -> Reader:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return (yield from _wav(head, size))
    if head.startswith(b"fLaC"):
        return _flac(head)
    if head.startswith(b"OggS"):
        return (yield from _ogg(head, size))
    if head[4:8] == b"ftyp":
        return (yield from _mp4(size))
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _webm(head)
    if head.startswith((b"ID3", b"\xff")):
        return (yield from mp3_ms(head, size))
    return None


def of_beginning(head: bytes, size: int) -> int | None:
    """The length of a media file of which only the beginning is known."""
    reader = duration_ms(size)
    try:
        offset, wanted = next(reader)
        while offset + wanted <= len(head):
            offset, wanted = reader.send(head[offset : offset + wanted])
        if offset == 0:
            reader.send(head)
    except StopIteration as end:
        found: int | None = end.value
        return found
    return None


def _wav(head: bytes, size: int) -> Reader:
    at, bytes_per_s = 12, 0
    for _ in range(_MAX_BOXES):
        chunk = head[at : at + 24] if at + 24 <= len(head) else (yield at, 24)
        if len(chunk) < 8:
            return None
        kind, length = chunk[:4], int.from_bytes(chunk[4:8], "little")
        if kind == b"fmt " and len(chunk) >= 20:
            bytes_per_s = int.from_bytes(chunk[16:20], "little")
        elif kind == b"data":
            if not bytes_per_s:
                return None
            present = max(size - at - 8, 0)
            return (present if length in _UNKNOWN_SIZE else min(length, present)) * 1000 // bytes_per_s
        at += 8 + length + (length & 1)
    return None


def _flac(head: bytes) -> int | None:
    """STREAMINFO is always the first block (RFC 9639, 8.2)."""
    block = head[8:42]
    if len(block) < 18:
        return None
    rate = int.from_bytes(block[10:13], "big") >> 4
    samples = int.from_bytes(block[13:18], "big") & 0xFFFFFFFFF
    return samples * 1000 // rate if rate else None


def _ogg(head: bytes, size: int) -> Reader:
    """The granule position of the last page, in samples (RFC 3533; Opus counts in 48 kHz, RFC 7845)."""
    opus, vorbis = head.find(b"OpusHead", 0, 512), head.find(b"\x01vorbis", 0, 512)
    if opus >= 0:
        rate, skipped = 48_000, int.from_bytes(head[opus + 10 : opus + 12], "little")
    elif vorbis >= 0:
        rate, skipped = int.from_bytes(head[vorbis + 12 : vorbis + 16], "little"), 0
    else:
        return None
    tail = yield max(0, size - HEAD_BYTES), min(HEAD_BYTES, size)
    last = tail.rfind(b"OggS")
    if last < 0 or not rate:
        return None
    granule = int.from_bytes(tail[last + 6 : last + 14], "little", signed=True)
    return max(granule - skipped, 0) * 1000 // rate


def _mp4(size: int) -> Reader:
    """The movie header, wherever the movie box stands (ISO/IEC 14496-12, 8.2.2)."""
    at, end = 0, size
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return None
        box = yield at, min(40, size - at)
        length, kind, header = int.from_bytes(box[:4], "big"), box[4:8], 8
        if length == 1:
            length, header = int.from_bytes(box[8:16], "big"), 16
        elif length == 0:
            length = end - at
        if length < header:
            return None
        if kind == b"mvhd":
            return _movie_header(box[header:])
        if kind == b"moov":
            end = min(at + length, size)
            at += header
        else:
            at += length
    return None


def _movie_header(box: bytes) -> int | None:
    at, width = (20, 8) if box[:1] == b"\x01" else (12, 4)
    scale = int.from_bytes(box[at : at + 4], "big")
    length = int.from_bytes(box[at + 4 : at + 4 + width], "big")
    return length * 1000 // scale if scale else None


def _webm(head: bytes) -> int | None:
    """Duration (a float) and TimestampScale of the segment's info; recorders in browsers write none."""
    info = head.find(b"\x15\x49\xa9\x66")
    at = head.find(b"\x44\x89", info) if info >= 0 else -1
    if at < 0 or head[at + 2 : at + 3] not in (b"\x84", b"\x88"):
        return None
    value = _float(head[at + 3 : at + 3 + (head[at + 2] & 0x0F)])
    scale_ns = 1_000_000
    scale_at = head.find(b"\x2a\xd7\xb1", info)
    if scale_at >= 0:
        width = head[scale_at + 3] & 0x0F
        scale_ns = int.from_bytes(head[scale_at + 4 : scale_at + 4 + width], "big")
    return int(value * scale_ns / 1_000_000) if 0 < value < 1e15 else None


def _float(data: bytes) -> float:
    """An IEEE 754 number of 4 or 8 bytes, big-endian."""
    mantissa_bits, bias = (23, 127) if len(data) == 4 else (52, 1023)
    bits = int.from_bytes(data, "big")
    exponent = (bits >> mantissa_bits) & (2 * bias + 1)
    if bits >> (8 * len(data) - 1) or exponent in (0, 2 * bias + 1):
        return 0.0
    fraction = 1 + (bits & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    power = exponent - bias
    return fraction * 2.0**power if power < 64 else 0.0
