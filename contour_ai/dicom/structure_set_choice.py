"""Chooses among the structure sets of one CT: which is taken, and what else there was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from contour_ai.dicom.classify import StructureSetFile
from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import PatientFiles
from contour_ai.dicom.values import text, words
from contour_ai.errors import ConfigError, ContourAIError

PRODUCT = "contour-ai"
NEEDS_REVIEW = "needs review"
"""Stands in the description of every structure set that `predict` and `derive` write."""

NEWEST, APPROVED, ONLY, MERGE = "newest", "approved", "only", "merge"
RULES = (NEWEST, APPROVED, ONLY)
KEYWORDS = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SeriesDescription",
    "StructureSetDescription",
    "ApprovalStatus",
)

REJECTED = "rejected"
DRAFT = "unapproved contours of contour-ai"


@dataclass(frozen=True, kw_only=True)
class StructureSetChoice:
    """What is taken of the structure sets of one CT.

    Args:
        taken: one, several where they are to be merged, or none.
        reason: what was taken and what else there was, or why none was; empty where there is nothing to say.
        others: what was not taken.
    """

    taken: tuple[StructureSetFile, ...]
    reason: str = ""
    others: tuple[StructureSetFile, ...] = ()

    def of(self, files: PatientFiles) -> PatientFiles:
        """The patient with what was taken, and with `reason` among its problems in place of the list of all sets."""
        problems = tuple(p for p in files.problems if "structure sets belong to this CT" not in p)
        reason = (self.reason,) if self.reason else ()
        return replace(files, structure_sets=self.taken, problems=(*problems, *reason))


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A structure set with what decides."""

    file: StructureSetFile
    approved: bool = False
    barred: str = ""
    """Why it is never taken; empty where it may be."""
    converted: bool = False
    """Whether contour-ai wrote it without a model: a phantom, or imported or converted masks."""

    @property
    def named(self) -> str:
        """Label, date, approval and file, for people."""
        label = f'"{self.file.label}"' if self.file.label else "no label"
        facts = [self.file.created.split(".")[0] or "no date"]
        facts.append(self.barred or ("approved" if self.approved else "not approved"))
        return f"{label} ({', '.join(facts)}; {self.file.path.name})"


def checked_rule(how: str, *, merge: bool = False) -> str:
    """A rule as it was given, if it is one.

    Args:
        how: `newest`, `approved`, `only`, a pattern of labels, or `merge`.
        merge: whether `merge` may be chosen.

    Raises:
        ConfigError: it is empty, or `merge` where that cannot be.
    """
    if not how.strip() or (how == MERGE and not merge):
        raise ConfigError(
            "This is no way to choose a structure set.",
            found=how or "nothing",
            expected="newest, approved, only, or a pattern of StructureSetLabel such as 'CLINICAL*'"
            + (", or merge" if merge else "; merge is for training"),
            fix="give one of them as --structure-set (in a configuration: data.structure_set)",
        )
    return how


def choose_structure_set(sets: Sequence[StructureSetFile], how: str = ONLY) -> StructureSetChoice:
    """Takes one of the structure sets of a CT, or none; the headers of several are read for it.

    Unapproved contours of contour-ai are never taken. What it wrote without a model (phantoms, imported or converted
    masks) is taken where no other program's set is left.

    Args:
        sets: all that belong to one CT.
        how: `newest` by StructureSetDate and -Time; `approved`, the newest approved one; `only`, none where there are
            several; `merge`, all; anything else is a pattern of StructureSetLabel, of which the newest is taken.

    Raises:
        ConfigError: `how` is empty.
    """
    checked_rule(how, merge=True)
    candidates = [_candidate(one) for one in sets]
    eligible, never = _eligible(candidates)
    if not eligible:
        reason = f"not taken: {_listed(never)}" if never else ""
        return StructureSetChoice(taken=(), reason=reason, others=tuple(sets))
    chosen, why = _chosen(eligible, how)
    others = [c for c in candidates if c not in chosen]
    if chosen:
        reason = f"taken: {_listed(chosen)} ({why}); not taken: {_listed(others)}" if others else ""
        if not others and len(chosen) > 1:
            reason = f"taken: {_listed(chosen)} ({why})"
    else:
        reason = f"no structure set was taken: {why}: {_listed(candidates)}"
    return StructureSetChoice(
        taken=tuple(c.file for c in chosen), reason=reason, others=tuple(c.file for c in others)
    )


def _chosen(eligible: Sequence[_Candidate], how: str) -> tuple[list[_Candidate], str]:
    """Those that a rule takes, and the rule in words, or why it takes none."""
    if how == MERGE:
        return list(eligible), "merged" if len(eligible) > 1 else "the only one that may be taken"
    if how == ONLY:
        if len(eligible) == 1:
            return list(eligible), "the only one that may be taken"
        return (
            [],
            f"{len(eligible)} belong to this CT, choose with --structure-set newest, approved or a label",
        )
    if how == APPROVED:
        left, what = [c for c in eligible if c.approved], "approved"
    elif how == NEWEST:
        left, what = list(eligible), ""
    else:
        pattern = how.casefold()
        left = [c for c in eligible if fnmatchcase(c.file.label.casefold(), pattern)]
        what = f"labelled {how}"
    if not left:
        return [], f"none is {what}"
    if len(left) == 1:
        return left, f"the only one that is {what}" if what else "the only one that may be taken"
    return _newest(left, what)


def _newest(left: Sequence[_Candidate], what: str) -> tuple[list[_Candidate], str]:
    """The newest; of several of one date the approved one, if that is one."""
    newest = max(_moment(c) for c in left)
    latest = [c for c in left if _moment(c) == newest]
    if len(latest) > 1:
        approved = [c for c in latest if c.approved]
        if len(approved) != 1:
            dated = "have no date" if newest == ("", "") else "are of the same date and time"
            return [], f"{len(latest)} {dated}, so none is the newest; choose with --structure-set 'LABEL*'"
        latest = approved
    return latest, f"the newest that is {what}" if what else "the newest"


def _moment(candidate: _Candidate) -> tuple[str, str]:
    """Date and time as text that sorts; older DICOM writes both with separators."""
    date, _, time = candidate.file.created.partition(" ")
    digits = "".join(c for c in time.split(".")[0] if c.isdigit())
    return "".join(c for c in date if c.isdigit()), digits.ljust(6, "0") if digits else ""


def _eligible(candidates: Sequence[_Candidate]) -> tuple[list[_Candidate], list[_Candidate]]:
    """Those that may be taken, and those that never are."""
    left = [c for c in candidates if not c.barred]
    others = [c for c in left if not c.converted]
    return (others or left), [c for c in candidates if c.barred]


def _candidate(one: StructureSetFile) -> _Candidate:
    try:
        header = read_header(one.path, KEYWORDS)
    except ContourAIError:  # its reader says what is wrong with it
        return _Candidate(file=one)
    status = text(header, "ApprovalStatus").upper()
    if status == "REJECTED":
        return _Candidate(file=one, barred=REJECTED)
    makers = {text(header, name).casefold() for name in ("Manufacturer", "ManufacturerModelName")}
    if PRODUCT not in makers or status == "APPROVED":
        return _Candidate(file=one, approved=status == "APPROVED")
    software = words(header, "SoftwareVersions")
    descriptions = " ".join(text(header, name) for name in ("SeriesDescription", "StructureSetDescription"))
    without_model = len(software) == 1 and software[0].casefold().startswith(PRODUCT)
    if without_model and NEEDS_REVIEW not in descriptions.casefold():
        return _Candidate(file=one, converted=True)
    return _Candidate(file=one, barred=DRAFT)


def _listed(candidates: Iterable[_Candidate]) -> str:
    return "; ".join(c.named for c in candidates) or "nothing"
