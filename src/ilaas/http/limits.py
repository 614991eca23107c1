"""What one client may cost the gateway."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    max_body_bytes: int = 32 * MIB
    max_upload_bytes: int = 512 * MIB
    """Of a form with a recording."""
    max_media_bytes: int = 2 * 1024 * MIB + MIB
    """Of a form with a media for the speech service."""
    max_uploads: int = 1_000
    """Recordings that are kept at one time: on their way in, waiting for a server, or being sent to one."""
    max_kept_bytes: int = 32 * 1024 * MIB
    """All of them together."""
    upload_timeout_s: float = 3600.0
    """For the whole of a form with a recording."""
    max_header_bytes: int = 64 * KIB
    header_timeout_s: float = 10.0
    """From the first byte (or the last answer's end, when bytes have come) to the whole head."""
    client_write_buffer_bytes: int = 256 * KIB
    """Held for a client that reads slowly, before the server is no longer read."""
    max_connections: int = 20_000
    keep_alive_s: float = 75.0
    """An idle connection is kept this long for the next request."""
    linger_s: float = 2.0
    """After a refusal in mid-request: so long what the client still sends is dropped, and it can read the answer."""
