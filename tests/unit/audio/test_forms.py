"""Forms with a file: read in pieces as they come, refused by name when they are wrong, written so that all agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart import parse_form as other_parse

from ilaas.core.errors import IlaasError, InvalidRequest, UnsupportedMediaType
from ilaas.core.forms import (
    MAX_FIELDS_BYTES,
    Field,
    FileBegins,
    FileBytes,
    FormEnds,
    FormEvent,
    FormParser,
    boundary_of,
    form_after,
    form_before,
)

B = b"XX"


def part(head: bytes, content: bytes) -> bytes:
    return b"--XX\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, value: bytes) -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', value)


def file(content: bytes, disposition: bytes = b'form-data; name="file"; filename="a.wav"') -> bytes:
    return part(b"Content-Disposition: " + disposition + b"\r\nContent-Type: audio/wav", content)


END = b"--XX--\r\n"


def read(body: bytes, sizes: list[int] | None = None, boundary: bytes = B) -> list[FormEvent]:
    """The events, with the file's pieces joined."""
    parser = FormParser(boundary)
    events: list[FormEvent] = []
    sizes = list(sizes or [])
    while body:
        size = sizes.pop(0) if sizes else len(body)
        events += parser.feed(body[:size])
        body = body[size:]
    parser.finish()
    joined: list[FormEvent] = []
    for event in events:
        if isinstance(event, FileBytes) and joined and isinstance(joined[-1], FileBytes):
            joined[-1] = FileBytes(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


CONTENT = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"-", b"X", b"\r\n--X", b"\r\n--", b"a"]), max_size=40).map(
        b"".join
    ),
).filter(lambda content: b"\r\n--XX" not in b"\r\n" + content)


@given(CONTENT, CONTENT, st.lists(st.integers(1, 40), max_size=60), st.booleans())
def test_a_form_is_read_the_same_however_its_bytes_are_cut(
    value: bytes, content: bytes, sizes: list[int], model_last: bool
) -> None:
    parts = [field(b"model", b"m"), field(b"prompt", value), file(content)]
    if model_last:
        parts.reverse()
    events = read(b"".join(parts) + END, sizes)
    body = [FileBytes(content)] if content else []
    expected: list[list[FormEvent]] = [
        [Field("model", b"m")],
        [Field("prompt", value)],
        [FileBegins("file", "a.wav", "audio/wav"), *body],
    ]
    if model_last:
        expected.reverse()
    assert events == [*(event for each in expected for event in each), FormEnds()]


@given(st.text(max_size=40), st.binary(max_size=400), st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=40))))
def test_what_is_written_is_read_alike_by_another_parser(
    filename: str, content: bytes, fields: list[tuple[str, bytes]]
) -> None:
    boundary = b"ilaas-5f0c"
    begins = FileBegins("file", filename, "audio/wav")
    body = form_before([("model", b"served"), *fields], begins, boundary) + content + form_after(boundary)
    if body.count(boundary) != len(fields) + 3:
        return
    found: list[tuple[bytes | None, bytes | None]] = []
    files: list[bytes] = []

    def on_file(each: object) -> None:
        each.file_object.seek(0)  # type: ignore[attr-defined]
        files.append(each.file_object.read())  # type: ignore[attr-defined]

    import io

    other_parse(
        {"Content-Type": b"multipart/form-data; boundary=" + boundary, "Content-Length": str(len(body)).encode()},
        io.BytesIO(body),
        lambda each: found.append((each.field_name, each.value)),
        on_file,
    )
    assert found[0] == (b"model", b"served")
    assert [value or b"" for _, value in found] == [b"served", *[value for _, value in fields]]
    assert files == [content]


@given(st.binary(max_size=600), st.lists(st.integers(1, 50), max_size=30))
def test_any_bytes_are_a_form_or_an_error_that_says_why(body: bytes, sizes: list[int]) -> None:
    refusals: list[IlaasError] = []
    try:
        read(b"--XX\r\n" + body, sizes)
    except IlaasError as error:
        refusals.append(error)
    assert all(error.status == 400 and len(error.message) > 20 for error in refusals)


def test_quoted_escaped_and_encoded_file_names_are_read() -> None:
    for disposition, name in (
        (b'form-data; name="file"; filename="a \\"b\\".mp3"', 'a "b".mp3'),
        (b"form-data; name=file; filename=a.mp3", "a.mp3"),
        (b"form-data; name=\"file\"; filename*=UTF-8''cours%20d%C3%A9but.mp3", "cours début.mp3"),
        ('form-data; name="file"; filename="début.mp3"'.encode(), "début.mp3"),
        (b'form-data; name="file"', "audio"),
    ):
        assert read(file(b"x", disposition) + END)[0] == FileBegins("file", name, "audio/wav")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (field(b"model", b"m"), "cut off"),
        (file(b"x" * 100), "cut off"),
        (b"nothing of the kind" * 100, "does not begin with the boundary"),
        (part(b"Content-Type: text/plain", b"x") + END, "has no name"),
        (part(b'Content-Disposition: form-data; name="model"; name="other"', b"x") + END, "has no name"),
        (part(b'Content-Disposition: attachment; name="model"', b"x") + END, "has no name"),
        (part(b'Content-Disposition: form-data; name="x"; filename="y"', b"z") + END, "'x' is a file"),
        (b"--XX\r\n" + b"a" * 9000, "exceeds"),
        (field(b"prompt", b"a" * MAX_FIELDS_BYTES) + END, "only the field 'file' may be large"),
        (b"".join(field(b"a", b"") for _ in range(70)) + END, "more than 64 parts"),
        (file(b"a\r\n--XXb") + END, "boundary stands inside"),
    ],
)
def test_a_wrong_form_is_refused_with_its_reason(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says.replace("'", ".")):
        read(body)


def test_an_endless_field_is_refused_before_it_is_whole() -> None:
    parser = FormParser(B)
    with pytest.raises(InvalidRequest, match="only the field"):
        parser.feed(field(b"prompt", b"a" * (MAX_FIELDS_BYTES + 1000))[:-200])


def test_the_boundary_comes_from_the_content_type() -> None:
    assert boundary_of(b'multipart/form-data; boundary="a b"') == b"a b"
    assert (
        boundary_of(b"Multipart/Form-Data;boundary=----WebKitFormBoundary7MA4YWxk") == b"----WebKitFormBoundary7MA4YWxk"
    )
    for wrong in (None, b"application/json", b"multipart/mixed; boundary=a"):
        with pytest.raises(UnsupportedMediaType, match="multipart/form-data"):
            boundary_of(wrong)
    for wrong in (
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"a" * 80,
    ):
        with pytest.raises(InvalidRequest, match="boundary"):
            boundary_of(wrong)
