"""ETags (RFC 9110, 8.8.3): a change says which state it was made from, so that nobody undoes another's unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson

from ilaas.core.errors import PreconditionRequired, Stale

ANY = "*"
"""The `If-Match` of those who change whatever is there: the command line."""


def etag_of(view: Mapping[str, object]) -> str:
    """The entity tag of what is shown; what changes by itself (last use) is left out."""
    shown = {name: value for name, value in view.items() if name != "last_used_at"}
    text = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
    return f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'


def check_match(if_match: str | None, view: Mapping[str, object]) -> None:
    """Raises PreconditionRequired when the header is missing, Stale when it names another state."""
    current = etag_of(view)
    if if_match is None:
        raise PreconditionRequired(
            "Say which state you change: send the ETag of your last GET as the header If-Match.", param="If-Match"
        )
    given = {tag.strip() for tag in if_match.split(",")}
    if ANY not in given and current not in given:
        raise Stale("It was changed since you read it. Read it again, and send its new ETag.", param="If-Match")
