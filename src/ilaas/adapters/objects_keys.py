"""What object stores have in common: which keys are good, and how a stream is put in whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ilaas.core.errors import InvalidRequest
from ilaas.ports.content import StoredObject, Upload

_LONGEST_NAME_BYTES = 255
_LONGEST_KEY_BYTES = 1_024


def check_key(key: str) -> None:
    """Raises `InvalidRequest` for a key that is not a plain relative path, such as one that climbs out of a folder."""
    names = key.split("/")
    if (
        any(name in {"", ".", ".."} or len(name.encode("utf-8", "replace")) > _LONGEST_NAME_BYTES for name in names)
        or len(key.encode("utf-8", "replace")) > _LONGEST_KEY_BYTES
        or any(character < " " or "\ud800" <= character <= "\udfff" for character in key)
    ):
        raise InvalidRequest(f"{key!r:.200} can't be the key of a stored object.")


async def put_all(upload: Upload, chunks: AsyncIterator[bytes]) -> StoredObject:
    """Everything, or nothing: an error of the sender leaves no trace."""
    try:
        async for chunk in chunks:
            await upload.write(chunk)
        return await upload.finish()
    except BaseException:  # cancelled too: the client went away
        await upload.abort()
        raise
