from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.ids import ENTROPY_BYTES, uuid7

TIMES = st.floats(0, 2**37, allow_nan=False)
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


def test_it_is_the_standards_own_example() -> None:
    """RFC 9562, A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    entropy = bytes.fromhex("0cc3" + "18c4dc0c0c07398f")
    assert uuid7(1645557742.000, entropy) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(TIMES, ENTROPY)
def test_it_is_of_version_7_and_of_the_standard_variant(epoch_s: float, entropy: bytes) -> None:
    made = uuid.UUID(uuid7(epoch_s, entropy))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


@given(TIMES, TIMES, ENTROPY, ENTROPY)
def test_they_sort_by_the_time_they_were_made(first_s: float, second_s: float, one: bytes, other: bytes) -> None:
    if int(first_s * 1000) < int(second_s * 1000):
        assert uuid7(first_s, one) < uuid7(second_s, other)


def test_what_is_made_in_one_millisecond_differs() -> None:
    assert uuid7(1.0, bytes(9) + b"\x01") != uuid7(1.0, bytes(9) + b"\x02")
