"""The constancy test: the patients of an earlier commissioning run are contoured again, and compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from contour_ai.dicom.archive import CTSeriesFiles
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import RoiContoursRead, iter_masks, load_structure_set
from contour_ai.errors import ConfigError, ContourAIError, listed
from contour_ai.evaluation.limits import Limits
from contour_ai.evaluation.metrics import volume_cm3
from contour_ai.faults import patient_boundary
from contour_ai.files import is_whole
from contour_ai.mask_agreement import dice
from contour_ai.pipeline._commission.options import PREDICTIONS, RECORD
from contour_ai.pipeline._commission.record import RunSettings, read_commissioning_record
from contour_ai.pipeline.summary import SUMMARY, read_summary
from contour_ai.report.constancy import ChangedFact, ChangedRoi, Constancy
from contour_ai.settings import from_mapping
from contour_ai.yaml_files import parse_yaml

NOT_COMPARED = frozenset({"data", "device"})
"""Entries of a record's options that say nothing about the installation."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A commissioning run that is repeated.

    Args:
        folder: that it wrote.
        title, started: of its report.
        model: name of the model.
        limits_text: the file of limits, and `limits` what it says.
        settings: with which it was run.
        environment: {heading: {name: value}}.
        patients: {SeriesInstanceUID: what the patient was called}.
        structure_sets: {SeriesInstanceUID: what was predicted}.
    """

    folder: Path
    title: str
    started: str
    model: str
    limits_text: str
    limits: Limits
    settings: RunSettings
    environment: Mapping[str, Mapping[str, str]]
    patients: Mapping[str, str]
    structure_sets: Mapping[str, Path] = field(default_factory=dict)


class ContouredSeries(NamedTuple):
    """What became of one CT series."""

    ct: CTSeriesFiles
    structure_set: Path | None
    """That was predicted."""
    problem: str
    """Why there is none."""


def read_earlier_run(place: Path) -> EarlierRun:
    """The run in a folder, or that of its `commissioning.json`.

    Raises:
        ConfigError: it is no record of a commissioning run, or one of contour-ai 0.1, or was changed since.
    """
    folder = place if place.is_dir() else place.parent
    path = folder / RECORD
    record = read_commissioning_record(path)
    model = record.environment.get("Model", {}).get("name", "")
    if record.settings is None or not model:
        raise ConfigError(
            "This run cannot be repeated.",
            where=path,
            found="no settings, or no model",
            expected="the folder of a commissioning run of contour-ai 0.2 or later, or its commissioning.json",
        )
    changed = [name for name in _of_run(folder) if not is_whole(folder, name)]
    if changed:
        raise ConfigError(
            "Files of the run to repeat are not as they were written: it cannot be compared with.",
            where=folder,
            found=f"changed or missing: {listed(changed, between=', ', most=3)}",
            expected="every file with the SHA-256 of the folder's manifest",
            fix="take an unchanged copy of its folder, or commission the model anew without --repeat",
        )
    return EarlierRun(
        folder=folder,
        title=record.title,
        started=record.started,
        model=model,
        limits_text=record.limits_file,
        limits=from_mapping(Limits, parse_yaml(record.limits_file), where=path),
        settings=record.settings,
        environment=record.environment,
        patients={one.series_uid: one.patient for one in record.patients},
        structure_sets=_structure_sets(folder),
    )


def compare_with(
    earlier: EarlierRun,
    now: Mapping[str, ContouredSeries],
    environment: Mapping[str, Mapping[str, str]],
) -> Constancy:
    """What changed since an earlier run.

    Args:
        now: {SeriesInstanceUID: what became of it}.
        environment: of the run now.
    """
    changed: list[ChangedRoi] = []
    not_compared: list[str] = []
    number = 0
    for uid, patient in earlier.patients.items():
        before = earlier.structure_sets.get(uid)
        series = now.get(uid)
        if series is None or series.structure_set is None or before is None:
            problem = "not among the patients to contour" if series is None else series.problem
            reason = problem or "no structure set"
            not_compared.append(f"{patient}: {reason if before else 'not contoured in the earlier run'}")
            continue
        try:
            with patient_boundary(f"comparing patient {patient}"):
                found, rois = _compared(patient, before, series.structure_set, series.ct)
        except ContourAIError as error:
            not_compared.append(f"{patient}: {error}")
            continue
        changed += found
        number += rois
    return Constancy(
        earlier=f"{earlier.title} of {earlier.started}",
        patients=len(earlier.patients),
        rois=number,
        changed=tuple(changed),
        not_compared=tuple(not_compared),
        installation=_changed_installation(earlier.environment, environment),
    )


def _compared(patient: str, before: Path, now: Path, ct: CTSeriesFiles) -> tuple[list[ChangedRoi], int]:
    """ROIs that differ, and how many were compared."""
    sets = [load_structure_set(path) for path in (before, now)]
    rois = [{roi.name: roi for roi in one.rois} for one in sets]
    names = list(dict.fromkeys([*rois[0], *rois[1]]))
    differ = [name for name in names if not _equal(rois[0].get(name), rois[1].get(name))]
    if not differ:
        return [], len(names)
    scan = read_ct(ct, with_pixels=False)
    masks = [
        dict(iter_masks(one, scan, [name for name in differ if name in named], on_note=lambda note: None))
        for one, named in zip(sets, rois, strict=True)
    ]
    found = []
    for name in differ:
        a, b = masks[0].get(name), masks[1].get(name)
        sizes = [None if mask is None else round(volume_cm3(mask, scan.grid), 3) for mask in (a, b)]
        alike = None
        what = "not there now" if b is None else "not there then"
        if a is not None and b is not None:
            voxels = int(np.count_nonzero(a ^ b))
            alike = round(dice(a, b, neither=1.0), 6)
            what = f"{voxels} voxels differ" if voxels else "points differ by less than a voxel"
        found.append(
            ChangedRoi(
                patient=patient, roi=name, what=what, dice=alike, before_cm3=sizes[0], now_cm3=sizes[1]
            )
        )
    return found, len(names)


def _equal(a: RoiContoursRead | None, b: RoiContoursRead | None) -> bool:
    """Whether two ROIs have the same contours, point by point."""
    if a is None or b is None or len(a.contours) != len(b.contours):
        return False
    return all(
        one.geometric_type == other.geometric_type and np.array_equal(one.points_lps, other.points_lps)
        for one, other in zip(a.contours, b.contours, strict=True)
    )


def _changed_installation(
    before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> tuple[ChangedFact, ...]:
    found = []
    for heading in dict.fromkeys([*before, *now]):
        old, new = before.get(heading, {}), now.get(heading, {})
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name) and name not in NOT_COMPARED:
                what = f"{heading}: {name}"
                found.append(ChangedFact(what, old.get(name, "not named"), new.get(name, "not named")))
    return tuple(found)


def _structure_sets(folder: Path) -> dict[str, Path]:
    """{SeriesInstanceUID: structure set} of what a run predicted."""
    found = {}
    for path in sorted((folder / PREDICTIONS).glob(f"*/{SUMMARY}")):
        summary = read_summary(path)
        if summary.structure_set.file:
            found[summary.input.series_instance_uid] = path.parent / summary.structure_set.file
    return found


def _of_run(folder: Path) -> list[str]:
    """The record and the structure sets of a run, as its list of files names them."""
    sets = sorted((folder / PREDICTIONS).glob("*/RS.*.dcm"))
    return [RECORD, *(path.relative_to(folder).as_posix() for path in sets)]
