"""What is known to be refused, by whom, and how that is known; `docs/interoperability.md` has the same table.

Only what was tried, or what somebody reported with the message of the system, stands here. What the standard asks for
is no reason by itself: ARIA, Pinnacle and XiO export sets without OperatorsName and with labels over 16 characters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A thing in a structure set that a system is known to refuse.

    Args:
        rule: name of the rule that finds it.
        what: the thing, for people.
        systems: who refuses it.
        source: how that is known.
    """

    rule: str
    what: str
    systems: str
    source: str


KNOWN = (
    Refusal(
        rule="cut-short",
        what="a file whose last element is cut short",
        systems="Orthanc and dcmtk",
        source="tried with Orthanc 1.10.1 and dcmtk 3.6.7",
    ),
    Refusal(
        rule="no-uid",
        what="no SOPInstanceUID, SeriesInstanceUID or StudyInstanceUID",
        systems="Orthanc",
        source="tried with Orthanc 1.10.1: not stored",
    ),
    Refusal(
        rule="sop-class",
        what="no SOPClassUID",
        systems="dcmtk",
        source="tried with drtdump of dcmtk 3.6.7; storescu cannot send it",
    ),
    Refusal(
        rule="number-length",
        what="a number of ContourData with more than 16 characters",
        systems="Varian Eclipse",
        source="github.com/GSTT-CSC/TotalSegmentator-AIDE issue 11, github.com/qurit/rt-utils issue 80",
    ),
)


def known_refusal(rule: str) -> Refusal:
    """The refusal that a rule stands for.

    Raises:
        KeyError: none is known.
    """
    return {refusal.rule: refusal for refusal in KNOWN}[rule]
