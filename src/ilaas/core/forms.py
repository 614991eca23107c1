"""Forms with a file (multipart/form-data, RFC 7578): read piece by piece as they come in, and written anew.

The parser is fed the body's bytes as they arrive and gives back events; it keeps no more than a part's head, a field,
or the few bytes that may be the beginning of a boundary. What is sent on is written anew, with a boundary of our own:
a server can't read a form in another way than it was read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import unquote

from ilaas.core.errors import InvalidRequest, UnsupportedMediaType

MAX_FIELDS_BYTES = 256 * 1024
"""Of all fields together, names included; the file is not counted."""
MAX_PARTS = 64
MAX_PART_HEAD_BYTES = 8 * 1024
MAX_PREAMBLE_BYTES = 1024
ONE_FILE = frozenset({"file"})

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER = re.compile(r""";[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;\s"]*)""")
_ESCAPED = re.compile(r'\\(["\\])')


def boundary_of(content_type: bytes | None) -> bytes:
    """The boundary that a content type names. Raises UnsupportedMediaType, or InvalidRequest without a usable one."""
    text = (content_type or b"").decode("latin-1")
    kind = text.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        told = f"The content type '{kind[:50]}' is not taken here" if kind else "The content type is missing"
        raise UnsupportedMediaType(f"{told}: send 'multipart/form-data' with the fields 'file' and 'model'.")
    found = [value for name, value in _parameters(text) if name == "boundary"]
    if len(found) != 1 or not _BOUNDARY.fullmatch(found[0]):
        raise InvalidRequest(
            "The content type 'multipart/form-data' names no boundary: let your HTTP library set this header."
        )
    return found[0].encode("latin-1")


def _parameters(header: str) -> list[tuple[str, str]]:
    return [
        (name.lower(), _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value)
        for name, value in _PARAMETER.findall(header)
    ]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is whole."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The file's part begins; its bytes follow as `FileBytes`."""

    name: str
    filename: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FileBytes:
    """Some bytes of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FormEnds:
    """The form is whole; what may follow it is not looked at."""


FormEvent = Field | FileBegins | FileBytes | FormEnds


class _State(IntEnum):
    PREAMBLE = 0
    DELIMITED = 1
    """Behind a boundary."""
    HEAD = 2
    FIELD = 3
    FILE = 4
    ENDED = 5


class FormParser:
    """Reads one form. `feed` raises InvalidRequest; nothing may be fed after that."""

    __slots__ = ("_buffer", "_delimiter", "_field", "_fields_bytes", "_files", "_parts", "_state")

    def __init__(self, boundary: bytes, files: frozenset[str] = ONE_FILE) -> None:
        """`files` are the names of the parts that are files."""
        self._files = files
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that a boundary at the very beginning is like the others
        self._state = _State.PREAMBLE
        self._field = ""
        self._parts = 0
        self._fields_bytes = 0

    @property
    def ended(self) -> bool:
        """The closing boundary was there."""
        return self._state is _State.ENDED

    def feed(self, data: bytes) -> list[FormEvent]:
        """The events of the next bytes."""
        events: list[FormEvent] = []
        if self._state is _State.ENDED:
            return events
        self._buffer = self._buffer + data if self._buffer else data
        while self._step(events):
            pass
        return events

    def finish(self) -> None:
        """The body is at its end. Raises InvalidRequest when the form is not."""
        if self._state is not _State.ENDED:
            raise InvalidRequest("The form is cut off: its closing boundary is missing. Send it again, whole.")

    def _step(self, events: list[FormEvent]) -> bool:
        """One step forward; False when more bytes are needed."""
        match self._state:
            case _State.DELIMITED:
                return self._behind_delimiter(events)
            case _State.HEAD:
                return self._head(events)
            case _State.ENDED:
                return False
            case _:
                return self._content(events)

    def _behind_delimiter(self, events: list[FormEvent]) -> bool:
        buffer = self._buffer
        if buffer.startswith(b"--"):
            self._state = _State.ENDED
            self._buffer = b""
            events.append(FormEnds())
            return False
        end = buffer.find(b"\r\n")
        line = buffer if end < 0 else buffer[:end]
        unfinished = (b"-", b"\r") if end < 0 else ()
        if line.strip(b" \t") not in (b"", *unfinished) or len(line) > 64:
            raise InvalidRequest("The form is malformed: its boundary stands inside a part. Choose another boundary.")
        if end < 0:
            return False
        self._buffer = buffer[end:]  # the line break stays, so that a head without lines is seen
        self._state = _State.HEAD
        return True

    def _head(self, events: list[FormEvent]) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_PART_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_PART_HEAD_BYTES):
            raise InvalidRequest(f"The head of a part of the form exceeds {MAX_PART_HEAD_BYTES} bytes.")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.")
        name, filename, content_type = _read_head(self._buffer[:end])
        self._buffer = self._buffer[end + 4 :]
        if name in self._files:
            self._state = _State.FILE
            events.append(FileBegins(name, filename or "audio", content_type or "application/octet-stream"))
        elif filename is not None:
            taken = "' or '".join(sorted(self._files))
            raise InvalidRequest(
                f"The field '{name[:50]}' is a file: the only file taken is the field '{taken}'.", param=name[:50]
            )
        else:
            self._state, self._field = _State.FIELD, name
            self._count(len(name))
        return True

    def _content(self, events: list[FormEvent]) -> bool:
        """The content of the preamble, a field or the file, up to the next boundary."""
        buffer, delimiter = self._buffer, self._delimiter
        at = buffer.find(delimiter)
        if at >= 0:
            self._part_ends(buffer[:at], events)
            self._buffer = buffer[at + len(delimiter) :]
            self._state = _State.DELIMITED
            return True
        if self._state is _State.FILE:
            kept = _may_begin(buffer, delimiter)
            if kept < len(buffer):
                events.append(FileBytes(buffer[: len(buffer) - kept]))
                self._buffer = buffer[len(buffer) - kept :]
        elif self._state is _State.FIELD:
            self._check(len(buffer) - len(delimiter))
        elif len(buffer) > MAX_PREAMBLE_BYTES:
            raise InvalidRequest("The body does not begin with the boundary that its content type names.")
        return False

    def _part_ends(self, content: bytes, events: list[FormEvent]) -> None:
        if self._state is _State.FILE:
            if content:
                events.append(FileBytes(content))
        elif self._state is _State.FIELD:
            self._count(len(content))
            events.append(Field(self._field, content))

    def _count(self, size: int) -> None:
        self._check(size)
        self._fields_bytes += size

    def _check(self, size: int) -> None:
        if self._fields_bytes + size > MAX_FIELDS_BYTES:
            raise InvalidRequest(
                f"The form's fields exceed {MAX_FIELDS_BYTES} bytes: only the field 'file' may be large.",
                param=self._field[:50] or None,
            )


def _may_begin(buffer: bytes, delimiter: bytes) -> int:
    """How many bytes at the end may be the beginning of the delimiter."""
    at = buffer.find(b"\r", max(0, len(buffer) - len(delimiter) + 1))
    while at >= 0:
        if delimiter.startswith(buffer[at:]):
            return len(buffer) - at
        at = buffer.find(b"\r", at + 1)
    return 0


def _read_head(head: bytes) -> tuple[str, str | None, str | None]:
    """Name, file name and content type of a part."""
    disposition, content_type = "", None
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        match name.strip().lower():
            case "content-disposition":
                disposition = value.strip()
            case "content-type":
                content_type = value.strip()
    parameters = _parameters(disposition)
    given = dict(parameters)
    if not disposition.lower().startswith("form-data") or len(given) != len(parameters) or not given.get("name"):
        raise InvalidRequest("A part of the form has no name: each needs 'Content-Disposition: form-data; name=\"…\"'.")
    filename = given.get("filename")
    if filename is None and "filename*" in given:
        filename = unquote(given["filename*"].rpartition("'")[2], "utf-8", "replace")
    return given["name"], filename, content_type


# -- writing -----------------------------------------------------------------------------------------------------------

_NOT_IN_QUOTES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\0": ""})
_CONTENT_TYPE = re.compile(r"[!#$&^_.+0-9A-Za-z-]+/[!#$&^_.+0-9A-Za-z-]+")


def form_before(fields: Iterable[tuple[str, bytes]], file: FileBegins, boundary: bytes) -> bytes:
    """A form up to the first byte of its file: all other fields go first. `boundary` may be in none of the values."""
    parts = [
        b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, _quoted(name), value)
        for name, value in fields
    ]
    kind = file.content_type if _CONTENT_TYPE.fullmatch(file.content_type) else "application/octet-stream"
    parts.append(
        b'--%b\r\ncontent-disposition: form-data; name="%b"; filename="%b"\r\ncontent-type: %b\r\n\r\n'
        % (boundary, _quoted(file.name), _quoted(file.filename), kind.encode("ascii"))
    )
    return b"".join(parts)


def form_after(boundary: bytes) -> bytes:
    """What ends the form behind its file."""
    return b"\r\n--%b--\r\n" % boundary


def _quoted(text: str) -> bytes:
    return text.translate(_NOT_IN_QUOTES).encode("utf-8", "replace")
