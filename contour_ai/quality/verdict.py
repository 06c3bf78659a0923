"""The verdict on a contour, on a patient: whether a person may trust it, should look at it, or must not use it."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["clear", "look", "stop"]
"""`clear`: nothing found; `look`: a finding to look at; `stop`: not fit to be used."""
