"""Messages: what a list of many things looks like."""

from __future__ import annotations

from contour_ai.errors import listed


def test_a_long_list_in_a_message_is_cut() -> None:
    assert listed(["a", "b"]) == "a; b"
    assert listed(range(5), between=", ", most=3) == "0, 1, 2 and 2 more"
    assert listed([]) == ""
