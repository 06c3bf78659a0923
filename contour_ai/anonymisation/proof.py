"""Proves a copy: the same pixels and contours, the same voxels, and nothing of the original's identity in any byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from contour_ai.anonymisation.identity import Identity, is_anatomical
from contour_ai.dicom.archive import scan
from contour_ai.dicom.ct import CTSeries, overlapping_in, read_ct
from contour_ai.dicom.header import UNREADABLE, damaged, read_data_set
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
from contour_ai.dicom.scan import PatientFiles, pair
from contour_ai.dicom.values import text
from contour_ai.errors import InputError, VerificationError
from contour_ai.progress import OnProgress, ProgressEvent

PIXELS, CONTOURS = "PixelData", "ContourData"

SHORTEST_IN_PIXELS = 8
"""Bytes of a word that is searched among pixels, too: a shorter one occurs among millions of them by chance."""

SHORTEST_AMONG_DIGITS = 12
"""Characters of a number that is searched among coordinates, too: a shorter one occurs there by chance."""


@dataclass(frozen=True)
class CopiedFile:
    """A file and its copy."""

    source: Path
    copy: Path


@dataclass(frozen=True)
class Proof:
    """How many ROIs were compared voxel by voxel, and sentences on what was not."""

    rois_compared: int
    notes: tuple[str, ...]


def prove(copied: Sequence[CopiedFile], identity: Identity, on_progress: OnProgress) -> Proof:
    """Compares copies with their originals and searches them.

    Raises:
        VerificationError: a difference, or a word of the identity; names the copy by its original.
    """
    kept_names: set[str] = set()
    for done, one in enumerate(copied, start=1):
        try:
            _prove_one(one, identity, kept_names)
        except UNREADABLE as error:
            raise damaged(one.source, error) from error
        on_progress(ProgressEvent(stage="proving", done=done, total=len(copied)))
    rois, notes = _compare_voxels(copied)
    anatomical = sorted(w for w in identity.words if _is_anatomical(w, kept_names))
    if anatomical:
        notes.append(
            f"{len(anatomical)} name(s) of persons are also part of an anatomical ROI name, which was kept as it is"
        )
    return Proof(rois, tuple(notes))


def _prove_one(one: CopiedFile, identity: Identity, kept_names: set[str]) -> None:
    """Compares and searches one copy; adds its ROI names to `kept_names`."""
    original, copy = read_data_set(one.source), read_data_set(one.copy)
    if PIXELS in original and original[PIXELS].value != copy[PIXELS].value:
        raise _differs(one, "other pixels")
    if list(_contour_bytes(original)) != list(_contour_bytes(copy)):
        raise _differs(one, "other contours")
    kept_names |= _names(copy)
    _search(one, copy, identity, kept_names)


def _contour_bytes(data_set: Dataset) -> Iterator[bytes | str]:
    """Every ContourData as it stands in the file."""
    for roi in data_set.get("ROIContourSequence") or ():
        for contour in roi.get("ContourSequence") or ():
            if CONTOURS in contour:
                element = contour.get_item(CONTOURS)
                value = element.value
                yield value if isinstance(value, bytes) else str(value)


def _names(data_set: Dataset) -> set[str]:
    names = {text(roi, "ROIName") for roi in data_set.get("StructureSetROISequence") or ()}
    return names | {text(segment, "SegmentLabel") for segment in data_set.get("SegmentSequence") or ()}


def _is_anatomical(word: str, names: set[str]) -> bool:
    folded = word.casefold()
    return any(folded in name.casefold() and is_anatomical(name) for name in names)


def _search(one: CopiedFile, copy: Dataset, identity: Identity, names: set[str]) -> None:
    whole = one.copy.read_bytes().lower()
    without_pixels = whole.replace(bytes(copy[PIXELS].value).lower(), b"") if PIXELS in copy else whole
    terms = _technical_terms(copy)
    has_contours = "ROIContourSequence" in copy
    for word, needle in identity.needles():
        if word.casefold() in terms or _is_anatomical(word, names):
            continue
        if has_contours and len(word) < SHORTEST_AMONG_DIGITS and word.replace(".", "").isdigit():
            found = word in _texts(copy)
        else:
            found = needle in (whole if len(needle) >= SHORTEST_IN_PIXELS else without_pixels)
        if found:
            raise VerificationError(
                "The copy still holds a word of the original's identity; it was not left behind.",
                where=one.source,
                found=f"a word of {len(word)} characters that begins with {word[:1]!r}",
                fix="report it, with the kind of scanner or program that made the file",
            )


def _technical_terms(data_set: Dataset) -> set[str]:
    """Code strings and kept texts of the standard kind (ORIGINAL, HEADNECK, a manufacturer) that a name may equal."""
    terms: set[str] = set()

    def collect(_: Dataset, element: object) -> None:
        if getattr(element, "VR", "") in ("CS", "UI") or getattr(element, "keyword", "") in (
            "CodeMeaning",
            "DeidentificationMethod",
            "Manufacturer",
        ):
            text_of = str(getattr(element, "value", "")).casefold()
            terms.update(
                text_of.replace("[", " ").replace("]", " ").replace("'", " ").replace(",", " ").split()
            )

    for element in data_set:
        if element.keyword not in (PIXELS, "ROIContourSequence"):
            collect(data_set, element)
            if element.VR == "SQ":
                for item in element.value:
                    item.walk(collect)
    return terms


def _texts(data_set: Dataset) -> str:
    """All text outside coordinates, for numbers that may occur among those by chance."""
    parts: list[str] = []
    for element in data_set:
        if element.keyword not in (PIXELS, "ROIContourSequence"):
            parts.append(str(element.value) if element.VR != "SQ" else "\n".join(map(str, element.value)))
    return "\n".join(parts)


def _compare_voxels(copied: Sequence[CopiedFile]) -> tuple[int, list[str]]:
    """Reads every structure set on its CT, in the original and in the copy."""
    copies = {one.source: one.copy for one in copied}
    compared, notes = 0, []
    for before in pair(scan(list(copies))):
        if not before.structure_sets:
            continue
        after = _same(before, copies, pair(scan([copies[p] for p in _paths(before)])))
        try:
            for n, acquisition in enumerate(overlapping_in(before.ct) or [None]):
                scans = [
                    read_ct(files.ct, acquisition=acquisition, with_pixels=False) for files in (before, after)
                ]
                rois = _compare_on(scans, before, after)
                compared += rois if n == 0 else 0  # the same ROIs on every acquisition
        except InputError as error:  # the bytes of the contours are equal all the same
            notes.append(
                f"voxels were not compared, since the original cannot be read on its CT: {error.what}"
            )
    return compared, notes


def _compare_on(scans: Sequence[CTSeries], before: PatientFiles, after: PatientFiles) -> int:
    """Compares every ROI of the original with that of the copy, each on its scan; gives their number."""
    compared = 0
    for one, other in zip(before.structure_sets, after.structure_sets, strict=True):
        sets = load_structure_set(one.path), load_structure_set(other.path)
        if len(sets[0].names) != len(sets[1].names):
            raise VerificationError(
                "ROIs of the original cannot be read in the copy; it was not left behind.",
                where=one.path,
                found=f"{len(sets[1].names)} of {len(sets[0].names)} ROIs",
                fix="look at the ROI numbers of the original: `contour-ai inspect` names what is odd",
            )
        masks = [iter_masks(s, scan, on_note=_silent) for s, scan in zip(sets, scans, strict=True)]
        for (name, mask), (_, same) in zip(*masks, strict=True):
            if not np.array_equal(mask, same):
                raise VerificationError("A ROI of the copy has other voxels.", where=one.path, found=name)
            compared += 1
    return compared


def _paths(files: PatientFiles) -> list[Path]:
    return [*files.ct.paths, *(s.path for s in files.structure_sets)]


def _same(before: PatientFiles, copies: dict[Path, Path], pairs: Sequence[PatientFiles]) -> PatientFiles:
    expected = [copies[s.path] for s in before.structure_sets]
    for after in pairs:
        if sorted(s.path for s in after.structure_sets) == sorted(expected):
            order = {path: n for n, path in enumerate(expected)}
            sets = sorted(after.structure_sets, key=lambda s: order[s.path])
            return PatientFiles(after.ct, tuple(sets), after.problems)
    raise VerificationError(
        "In the copy, CT and structure set do not belong together any more.", where=before.ct.paths[0]
    )


def _silent(note: object) -> None:
    """What is odd in the original is odd in the copy; other commands say it."""


def _differs(one: CopiedFile, what: str) -> VerificationError:
    return VerificationError("A copy is not equal to its original.", where=one.source, found=what)
