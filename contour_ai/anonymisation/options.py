"""What an anonymisation keeps beyond the Basic Profile, each with its code of PS3.16 CID 7050."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class MethodCode:
    """A code of CID 7050 (de-identification method), coding scheme DCM."""

    value: str
    meaning: str


BASIC_PROFILE = MethodCode("113100", "Basic Application Confidentiality Profile")
MODIFIED_DATES = MethodCode("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
CLEAN_DESCRIPTORS = MethodCode("113105", "Clean Descriptors Option")


class Keep(Enum):
    """Options of PS3.15 annex E.3 that a user may choose."""

    DATES = "dates"
    PATIENT = "patient"
    DEVICE = "device"
    DESCRIPTIONS = "descriptions"

    @property
    def code(self) -> MethodCode:
        """The option's code for DeidentificationMethodCodeSequence."""
        return _CODES[self]


_CODES = {
    Keep.DATES: MethodCode("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Keep.PATIENT: MethodCode("113108", "Retain Patient Characteristics Option"),
    Keep.DEVICE: MethodCode("113109", "Retain Device Identity Option"),
    Keep.DESCRIPTIONS: CLEAN_DESCRIPTORS,
}


def method_codes(keep: frozenset[Keep]) -> tuple[MethodCode, ...]:
    """The profile and the options at work, in the order of their codes. ROI names are always kept and cleaned."""
    codes = {BASIC_PROFILE, CLEAN_DESCRIPTORS, *(option.code for option in keep)}
    if Keep.DATES not in keep:
        codes.add(MODIFIED_DATES)
    return tuple(sorted(codes, key=lambda code: code.value))
