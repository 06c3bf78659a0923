"""How far two spellings are apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contour_ai.structures.spelling import edits, letter_set


@pytest.mark.parametrize(
    ("a", "b", "most", "expected"),
    [
        ("parotid", "parotid", 1, 0),
        ("patotid", "parotid", 2, 1),
        ("paroitd", "parotid", 2, 1),
        ("carotid", "parotid", 3, 2),
        ("puititary", "pituitary", 2, 2),
        ("brachiaplex", "brachialplex", 1, 1),
        ("eosophagus", "oesophagus", 1, 1),
        ("liver", "spleen", 2, 3),
    ],
)
def test_edits(a: str, b: str, most: int, expected: int) -> None:
    assert edits(a, b, most) == expected


@given(st.text("abcd", min_size=1, max_size=9), st.text("abcd", min_size=1, max_size=9), st.integers(1, 4))
def test_a_limit_changes_no_smaller_distance(a: str, b: str, most: int) -> None:
    assert edits(a, b, most) == min(edits(a, b, 20), most + 1)
    assert edits(a, b, most) == edits(b, a, most)
    if edits(a, b, 20) <= most:
        assert (letter_set(a) ^ letter_set(b)).bit_count() <= 2 * most
