"""Patients for `against_nnunet.py`: training and held-back folders, and nnU-Net's raw format of them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SIDES = {"nnunet-complete": 801, "nnunet-background": 802}
"""{way of dealing with missing organs: nnU-Net's number of the data set}."""
HELD_BACK_SHARE = 0.12


def split_patients(out: Path, data: str, training: str, held_back: str) -> None:
    """Links or copies the patients into two folders."""
    from contour_ai.dicom.scan import find_patients
    from contour_ai.files import safe_name
    from contour_ai.pipeline.archive import split

    found = {p.ct.patient_id: p for p in find_patients(Path(data)) if p.structure_sets}
    sides = split({patient_id: patient_id for patient_id in found}, HELD_BACK_SHARE)
    listing = {}
    for name, ids, most in zip(("training", "held-back"), sides, (training, held_back), strict=True):
        chosen = sorted(ids, key=_hash)[: int(most) or None]
        listing[name] = sorted(chosen)
        for patient_id in chosen:
            folder = out / "patients" / name / safe_name(patient_id)
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "ct").mkdir(parents=True)
            for n, path in enumerate(found[patient_id].ct.paths):
                _place(path, folder / "ct" / f"{n:04}.dcm")
            _place(found[patient_id].structure_sets[0].path, folder / "RS.dcm")
    print({name: len(ids) for name, ids in listing.items()})
    (out / "patients.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")


def _hash(patient_id: str) -> str:
    return hashlib.sha256(patient_id.encode()).hexdigest()


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def export(out: Path, side: str, roi_list: str) -> None:
    """Patients in nnU-Net's raw format, with our masks as labels."""
    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set

    rois, folder = roi_list.split(","), out / side / "raw" / f"Dataset{SIDES[side]}_Comparison"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    left_out = wrong_contours(out / "check" / "archive-check.csv")
    counts, patients, overlapping = dict.fromkeys(rois, 0), 0, 0
    for patient in sorted((out / "patients" / "training").iterdir()):
        ct = read_ct(patient / "ct")
        structure_set = load_structure_set(patient / "RS.dcm")
        names = [roi for roi in rois if roi in structure_set.names and (ct.patient_id, roi) not in left_out]
        masks = {roi: mask for roi, mask in iter_masks(structure_set, ct, names) if mask.any()}
        if not masks or (side == "nnunet-complete" and len(masks) < len(rois)):
            continue
        labels, twice = label_map(masks, rois)
        for roi in masks:
            counts[roi] += 1
        patients, overlapping = patients + 1, overlapping + twice
        _save_ct(folder / "imagesTr" / f"{patient.name}_0000.nii.gz", ct)
        _save_image(folder / "labelsTr" / f"{patient.name}.nii.gz", labels, ct.grid)
    if not patients:
        sys.exit(f"No training patient has all of {', '.join(rois)}: {side} has nothing to learn from.")
    for patient in sorted((out / "patients" / "held-back").iterdir()):
        _save_ct(folder / "imagesTs" / f"{patient.name}_0000.nii.gz", read_ct(patient / "ct"))
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{roi: label for label, roi in enumerate(rois, start=1)}},
        "numTraining": patients,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1), encoding="utf-8")
    exported = {"patients": patients, "training": counts, "overlapping_voxels": overlapping}
    (out / side / "export.json").write_text(json.dumps(exported, indent=1), encoding="utf-8")
    print(exported)


def wrong_contours(path: Path) -> set[tuple[str, str]]:
    """(patient ID, ROI) that the check of the archive leaves out."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["patient"], row["roi"]) for row in csv.DictReader(file) if row["left_out"] == "yes"}


def label_map(masks: Mapping[str, Any], rois: Sequence[str]) -> tuple[Any, int]:
    """One label a voxel, the smaller ROI's where several claim it; and how many voxels that concerns."""
    import numpy as np

    sizes = {roi: int(np.count_nonzero(mask)) for roi, mask in masks.items()}
    labels = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for roi in sorted(masks, key=lambda roi: -sizes[roi]):
        labels[masks[roi]] = rois.index(roi) + 1
    return labels, sum(sizes.values()) - int(np.count_nonzero(labels))


def _save_ct(path: Path, ct: Any) -> None:
    _save_image(path, ct.volume.hu, ct.grid)


def _save_image(path: Path, array: Any, grid: Any) -> None:
    """SimpleITK's axes are (x, y, z) = (j, i, k), its world LPS."""
    import numpy as np
    import SimpleITK as sitk  # noqa: N813 - its customary name

    image: Any = sitk.GetImageFromArray(array)
    columns = grid.affine[:3, [2, 1, 0]]
    lengths = np.linalg.norm(columns, axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
