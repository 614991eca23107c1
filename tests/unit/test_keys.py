from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.keys import CHECKSUM_CHARS, PREFIX, RANDOM_CHARS, digest, hint, is_mistyped, make_key

ENTROPY = st.binary(min_size=32, max_size=32)
CHARACTERS = st.sampled_from(string.ascii_letters + string.digits)


@given(ENTROPY)
def test_a_key_is_of_the_promised_form_and_is_not_mistyped(entropy: bytes) -> None:
    key = make_key(entropy)
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS
    assert key.removeprefix(PREFIX).isalnum()
    assert not is_mistyped(key)


@given(ENTROPY, st.integers(len(PREFIX), len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS - 1), CHARACTERS)
def test_any_single_wrong_character_is_refused(entropy: bytes, position: int, wrong: str) -> None:
    key = make_key(entropy)
    typo = key[:position] + wrong + key[position + 1 :]
    assert is_mistyped(typo) is (typo != key)


@given(ENTROPY, st.integers(len(PREFIX), len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS - 2))
def test_two_neighbours_that_changed_places_are_refused(entropy: bytes, position: int) -> None:
    key = make_key(entropy)
    typo = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
    assert is_mistyped(typo) is (typo != key)


@given(ENTROPY, st.integers(1, RANDOM_CHARS), CHARACTERS)
def test_a_key_that_lost_or_gained_characters_is_refused(entropy: bytes, count: int, more: str) -> None:
    key = make_key(entropy)
    assert is_mistyped(key[:-count])
    assert is_mistyped(key + more)


@given(st.text().filter(lambda text: not text.startswith(PREFIX)))
def test_tokens_of_other_forms_are_never_called_mistyped(token: str) -> None:
    assert not is_mistyped(token)


def test_a_key_needs_enough_entropy() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        make_key(b"x" * 31)


@given(ENTROPY, ENTROPY)
def test_different_entropy_makes_different_keys(one: bytes, other: bytes) -> None:
    assert (make_key(one) == make_key(other)) is (one == other)


def test_the_hint_shows_a_beginning_and_not_more() -> None:
    key = make_key(bytes(range(32)))
    assert hint(key) == key[: len(PREFIX) + 4] + "…"
    assert hint("some-old-token") == "so…"


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_a_digest_depends_on_the_key_and_on_the_pepper(one: bytes, other: bytes) -> None:
    assert len(digest(one, b"p" * 32)) == 32
    assert (digest(one, b"p" * 32) == digest(other, b"p" * 32)) is (one == other)
    assert digest(one, b"p" * 32) != digest(one, b"q" * 32)
