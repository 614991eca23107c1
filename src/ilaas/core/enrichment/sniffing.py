"""What a file is by its first bytes, whatever its name and its sender say."""

from __future__ import annotations

import codecs

from ilaas.core.enrichment.values import MediaKind

HEAD_BYTES = 4096
"""So much of the beginning is looked at."""

_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b".snd", "audio/basic"),
    (b"caff", "audio/x-caf"),
    (b"MThd", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "application/mxf"),
)
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_IN_RIFF = {b"WAVE": "audio/x-wav", b"AVI ": "video/x-msvideo"}
_IN_IFF = frozenset({b"AIFF", b"AIFC"})
_TS_PACKET_BYTES = 188


def sniff(head: bytes) -> tuple[str, MediaKind] | None:
    """Media type and kind of a file that begins so; None when it is nothing that can be transcribed.

    Containers hold sound or pictures or both: a probe of the whole tells for certain.
    """
    mime_type = _binary(head)
    if mime_type == "application/mxf":
        return "video/mxf", MediaKind.VIDEO
    if mime_type is not None:
        return mime_type, MediaKind.AUDIO if mime_type.startswith("audio/") else MediaKind.VIDEO
    text = _text(head)
    if text is None or not text.strip():
        return None
    if text.startswith("WEBVTT"):
        return "text/vtt", MediaKind.SUBTITLES
    return ("application/x-subrip", MediaKind.SUBTITLES) if "-->" in text else None


def _binary(head: bytes) -> str | None:
    for start, mime_type in _AT_START:
        if head.startswith(start):
            return mime_type
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:12] in _AUDIO_BRANDS else "video/mp4"
    if head[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if head.startswith((b"RIFF", b"RF64")):
        return _IN_RIFF.get(head[8:12])
    if head.startswith(b"FORM") and head[8:12] in _IN_IFF:
        return "audio/x-aiff"
    if head.startswith(b"OggS"):
        return "video/ogg" if b"theora" in head[:256] else "audio/ogg"
    if head.startswith(b"G") and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        return "video/mp2t"
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> str | None:
    """Frames without anything before them."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    has_layer, has_rate = head[1] & 0x06, head[2] & 0x0C != 0x0C and head[2] & 0xF0 != 0xF0
    return "audio/mpeg" if has_layer and has_rate and head[1] & 0x18 != 0x08 else None


def _text(head: bytes) -> str | None:
    """The text, when it is one; a character may be cut off at its end."""
    if b"\0" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        # Subtitles of old programs are in Windows' own code page.
        return head.decode("latin-1") if b"-->" in head else None
