"""What is refused of a request before its use case is known: sizes, and all that is not one unambiguous request."""

from __future__ import annotations

import httptools

from ilaas.core.errors import BodyTooLarge, HeadTooLarge, IlaasError, MalformedHttp, TargetTooLong
from ilaas.http.limits import Limits

MAX_HEADERS = 128
MAX_TARGET_BYTES = 8 * 1024

_SINGLE = (b"host", b"authorization", b"transfer-encoding", b"content-type")


def check_head(
    lines: list[tuple[bytes, bytes]], headers: dict[bytes, bytes], received_bytes: int, version: str, limits: Limits
) -> IlaasError | None:
    """What httptools lets through and one unambiguous request does not have (RFC 9112, 3.2 and 6.1).

    `lines` are the headers as they came, `headers` the same by name, `received_bytes` an upper bound of their size.
    """
    if len(lines) > MAX_HEADERS or received_bytes > limits.max_header_bytes:
        size = sum(len(name) + len(value) for name, value in lines)
        if len(lines) > MAX_HEADERS or size > limits.max_header_bytes:
            return head_too_large(limits)
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        return MalformedHttp("The only transfer coding taken is 'chunked', with HTTP/1.1.")
    if len(headers) != len(lines):
        names = [name for name, _ in lines]
        for single in _SINGLE:
            if names.count(single) > 1:
                return MalformedHttp(f"The header '{single.decode()}' is there more than once.")
    if b"host" not in headers and version == "1.1":
        return MalformedHttp("The header 'Host' is missing.")
    return None


def check_length(headers: dict[bytes, bytes], max_bytes: int) -> IlaasError | None:
    """A body that announces itself as too large."""
    length = headers.get(b"content-length")
    return body_too_large(max_bytes) if length is not None and int(length) > max_bytes else None


def check_target(target: bytes) -> IlaasError | None:
    """A target that is no path of this server: of CONNECT, or broken."""
    try:
        path = httptools.parse_url(target).path
    except httptools.HttpParserInvalidURLError:
        path = None
    if path is None:
        return MalformedHttp("The request's target is not the path of a page, such as /v1/models; this is no proxy.")
    return None


def malformed(error: Exception) -> IlaasError:
    """Not HTTP, in the parser's words; a fault inside a call-back only by its name."""
    reason = type(error).__name__ if isinstance(error, httptools.HttpParserCallbackError) else str(error)
    return MalformedHttp(f"The request is not valid HTTP/1.1 ({reason[:100]}).")


def head_too_large(limits: Limits) -> IlaasError:
    """Too many headers, or too long ones."""
    return HeadTooLarge(f"The headers exceed {limits.max_header_bytes} bytes or {MAX_HEADERS} lines.")


def target_too_long() -> IlaasError:
    """Path and query are too long."""
    return TargetTooLong(f"The request's target exceeds {MAX_TARGET_BYTES} bytes. Send what is long in the body.")


def body_too_large(max_bytes: int) -> IlaasError:
    """The body is too large."""
    return BodyTooLarge(f"The body exceeds this gateway's limit of {max_bytes} bytes.")
