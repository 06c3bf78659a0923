"""Pairs predicted and reference structure sets by the CT series that they were drawn on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from contour_ai.dicom.archive import COPY, Archive, CTSeriesFiles, scan
from contour_ai.dicom.classify import StructureSetFile
from contour_ai.dicom.scan import PatientFiles, pair, why_not
from contour_ai.dicom.structure_set_choice import ONLY, choose_structure_set
from contour_ai.errors import InputError, listed
from contour_ai.progress import OnProgress, no_progress

UID_END = 12
"""Characters of a UID that tell two CT series of one patient apart."""


@dataclass(frozen=True, kw_only=True)
class FoundPair:
    """One patient's CT with a structure set on each side."""

    patient: str
    ct: CTSeriesFiles
    predicted: StructureSetFile
    reference: StructureSetFile


class Pairing(NamedTuple):
    """What belongs together, and what does not."""

    pairs: list[FoundPair]
    notes: list[str]
    """A sentence on every structure set without a counterpart."""


def find_pairs(
    predicted: Path,
    reference: Path,
    ct: Path | None = None,
    on_progress: OnProgress = no_progress,
    *,
    structure_set: str = ONLY,
    acquisition: int | None = None,
) -> Pairing:
    """Structure sets of both sides that were drawn on the same CT, and sentences on the others.

    Args:
        structure_set: which counts where the reference has several of a CT; one that is given as a file counts whoever
            wrote it.
        acquisition: which is read where several overlap in a CT series.

    Raises:
        InputError: as `evaluate`.
    """
    archive = scan(_places(predicted, reference, ct), on_progress)
    sides = {
        "PREDICTED": _side(archive, predicted, reference),
        "REFERENCE": _side(archive, reference, predicted),
    }
    for (side, found), path in zip(sides.items(), (predicted, reference), strict=True):
        if not found:
            raise InputError(f"There is no structure set in {side}.", where=path, found=archive)
    twice = [s.path for s in sides["PREDICTED"] if s in sides["REFERENCE"]]
    if twice:
        raise InputError(
            "A structure set is on both sides of the comparison.", where=twice[0], fix="keep the two apart"
        )
    if not archive.ct_series:
        raise InputError(
            "The CT that these structure sets were drawn on is not here.",
            where=reference,
            expected=f"CT series {', '.join(sides['REFERENCE'][0].referenced_series_uids) or 'of the patient'}",
            fix="give the folder that holds it with --ct DIR",
        )
    archive = replace(archive, structure_sets=(*sides["PREDICTED"], *sides["REFERENCE"]))
    how = None if reference.is_file() else structure_set
    pairs, notes = _pairs(pair(archive), sides["PREDICTED"], sides["REFERENCE"], how)
    if not pairs:
        raise _nothing_to_compare(archive, sides["PREDICTED"], sides["REFERENCE"], notes)
    return Pairing([replace(one, ct=replace(one.ct, acquisition=acquisition)) for one in pairs], notes)


def _places(predicted: Path, reference: Path, ct: Path | None) -> list[Path]:
    """The folders to look through. Results below a folder of patients are looked into only as a place of their own."""
    places = [path.resolve() for path in (predicted, reference)]
    places += [ct.resolve()] if ct is not None else [p.parent for p in places if p.is_file()]
    return list(dict.fromkeys(places))


def _side(archive: Archive, place: Path, other: Path) -> list[StructureSetFile]:
    """The structure sets on one side of the comparison, also one that is a copy of one on the other side.

    Where the other side lies within this one, as predictions below their patients do, its files are its own.
    """
    within = other.resolve() != place.resolve() and other.resolve().is_relative_to(place.resolve())

    def mine(path: Path) -> bool:
        return _lies_in(path, place) and not (within and _lies_in(path, other))

    found = [s for s in archive.structure_sets if mine(s.path)]
    copies = [o.path for o in archive.others if o.kind == COPY and mine(o.path)]
    known = {s.sop_instance_uid for s in found}
    restored = scan(copies).structure_sets if copies else ()
    return found + [s for s in restored if s.sop_instance_uid not in known]


def _lies_in(path: Path, place: Path) -> bool:
    """Whether a file that was found belongs to one side: by the way it was found, or by where it really is."""
    place = place.resolve()
    return path.absolute().is_relative_to(place) or path.resolve().is_relative_to(place)


def _pairs(
    patients: Sequence[PatientFiles],
    predicted: Sequence[StructureSetFile],
    reference: Sequence[StructureSetFile],
    structure_set: str | None,
) -> Pairing:
    """One pair a CT series with one structure set on each side; and sentences on the others."""
    pairs, notes = [], []
    labels = labels_of([patient.ct for patient in patients])
    for patient in patients:
        mine = [s for s in patient.structure_sets if s in predicted]
        theirs = [s for s in patient.structure_sets if s in reference]
        name = labels[patient.ct.series_instance_uid]
        if structure_set is not None and theirs:
            chosen = choose_structure_set(theirs, structure_set)
            if not chosen.taken:
                count = f"{len(theirs)} structure sets could be its" if len(theirs) > 1 else "no"
                notes.append(f"{name}: not compared, {count} reference: {chosen.reason}")
                continue
            theirs = list(chosen.taken)
            notes += [f"{name}: reference: {chosen.reason}"] if chosen.reason else []
        if len(mine) == 1 and len(theirs) == 1:
            pairs.append(FoundPair(patient=name, ct=patient.ct, predicted=mine[0], reference=theirs[0]))
            continue
        for found, side in ((mine, "prediction"), (theirs, "reference")):
            if len(found) > 1:
                listing = "; ".join(map(str, found))
                notes.append(
                    f"{name}: not compared, {len(found)} structure sets could be its {side}: {listing}"
                )
            elif not found and (mine or theirs):
                notes.append(f"{name}: not compared, no {side}")
    known = [s for patient in patients for s in patient.structure_sets]
    notes += [
        f"{s.path}: not compared, the CT it was drawn on is not here"
        for s in (*predicted, *reference)
        if s not in known
    ]
    return Pairing(sorted(pairs, key=lambda p: (p.patient, p.ct.series_instance_uid)), notes)


def labels_of(series: Sequence[CTSeriesFiles]) -> dict[str, str]:
    """{SeriesInstanceUID: what the patient is called}: the patient's ID, with the series where there are several."""
    names = {ct.series_instance_uid: ct.patient_id or ct.series_instance_uid for ct in series}
    counts = Counter(names.values())
    return {
        uid: name if counts[name] == 1 else f"{name} (CT ...{uid[-UID_END:]})" for uid, name in names.items()
    }


def _nothing_to_compare(
    archive: Archive,
    predicted: Sequence[StructureSetFile],
    reference: Sequence[StructureSetFile],
    notes: Sequence[str],
) -> InputError:
    reasons = list(notes)
    if len(archive.ct_series) == 1:
        reasons += [r for s in (*predicted, *reference) if (r := why_not(s, archive.ct_series[0]))]
    return InputError(
        "No prediction and reference were drawn on the same CT.",
        found=listed(reasons),
        expected="one structure set on each side for a CT series",
        fix="give the CT with --ct DIR, and one structure set a patient on each side",
    )
