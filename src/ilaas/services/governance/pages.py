"""Pages: a fixed order, and a cursor that says after which value the next one begins. A cursor is opaque to clients.

New values never shift a page that comes later, as an offset would.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from ilaas.core.errors import InvalidRequest, Unprocessable

T = TypeVar("T")

MAX_PAGE = 200
_MAX_CURSOR_CHARS = 2000
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some values, and where the next page begins; None is the end."""

    items: Sequence[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: at most `limit` values after the cursor."""

    cursor: str | None = None
    limit: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PAGE:
            raise Unprocessable(f"limit is a number from 1 to {MAX_PAGE}.", param="limit")

    def after_texts(self, count: int) -> tuple[str, ...] | None:
        """The sort key that the page begins after, of that many texts; None is the beginning. Raises InvalidRequest."""
        if self.cursor is None:
            return None
        found = _decoded(self.cursor)
        if len(found) != count or not all(isinstance(each, str) for each in found):
            raise _not_ours()
        return tuple(str(each) for each in found)

    def after_text(self) -> str | None:
        """The same for an order by one text."""
        found = self.after_texts(1)
        return None if found is None else found[0]

    def before_number(self) -> int | None:
        """The same for an order by a number that falls."""
        if self.cursor is None:
            return None
        found = _decoded(self.cursor)
        if len(found) != 1 or not isinstance(found[0], int) or not 0 <= found[0] <= _LARGEST:
            raise _not_ours()
        return found[0]

    def page(self, found: Sequence[T], sort_key: Callable[[T], Sequence[str | int]]) -> Page[T]:
        """A page of what was found, which is one more than the limit when there is another page."""
        items = found[: self.limit]
        more = len(found) > self.limit
        return Page(items, _encoded(sort_key(items[-1])) if more else None)

    def of_all(self, everything: Sequence[T], sort_key: Callable[[T], tuple[str, ...]]) -> Page[T]:
        """A page of values that are all in memory."""
        ordered = sorted(everything, key=sort_key)
        if ordered and (after := self.after_texts(len(sort_key(ordered[0])))) is not None:
            ordered = [each for each in ordered if sort_key(each) > after]
        return self.page(ordered, sort_key)


def _encoded(key: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).decode("ascii").rstrip("=")


def _decoded(cursor: str) -> list[object]:
    if len(cursor) > _MAX_CURSOR_CHARS:
        raise _not_ours()
    try:
        found = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _not_ours() from None
    if not isinstance(found, list):
        raise _not_ours()
    return found


def _not_ours() -> InvalidRequest:
    return InvalidRequest(
        "This cursor is not one of this list: take `next_cursor` of the page before, unchanged.", param="cursor"
    )
