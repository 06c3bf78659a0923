"""How much worse a model is on the CT a clinic would have made of the same patient.

    python benchmarks/robustness.py openkbp-dicom --patients pt_3 pt_5 --model NAME

Every patient is predicted as it is in the data set, and then in variants that differ in one thing each from
"clinical": full resolution with couch, mask, head-rest and noise (`contour_ai.sample.variants`). Dice is that of the
written structure set, read back and brought to the data set's own grid, against the patient's own structures, within
what was scanned; "fall" is how much less the mean is than that of the patient as it is, in the same region (on a finer
grid the data set's contours would be others: interpolated ones). "outside" counts contoured voxels outside the body by
more than 3 mm, "body" is the Dice of the external contour against that of the patient without couch and mask; both on
the variant's grid.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai import PredictOptions, predict
from contour_ai.bundle import ModelBundle, load_bundle
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.grid import Grid
from contour_ai.mask_agreement import dice
from contour_ai.preprocess import resample_structures
from contour_ai.sample.variants import Scan, scanned
from contour_ai.volume import Structures, Volume

CLINICAL = Scan()
VARIANTS = {
    "finer pixels only": replace(CLINICAL, couch="none", mask=False, head_rest=False, noise_hu=0.0),
    "clinical": CLINICAL,
    "3 mm slices, no mask": replace(CLINICAL, slice_mm=3.0, mask=False, head_rest=False),
    "1 mm slices": replace(CLINICAL, slice_mm=1.0),
    "solid board": replace(CLINICAL, couch="board"),
    "mattress": replace(CLINICAL, couch="mattress"),
    "noise 60 HU": replace(CLINICAL, noise_hu=60.0),
    "streaks": replace(CLINICAL, streaks_hu=400.0),
    "field of view 300 mm": replace(CLINICAL, field_of_view_mm=300.0),
    "ends at the orbit": replace(CLINICAL, above_mm=70.0),
    "starts at the chin": replace(CLINICAL, below_mm=120.0),
    "prone": replace(CLINICAL, position="HFP"),
    "feet first": replace(CLINICAL, position="FFS"),
}
NEAR_MM = 3.0
BODY = "Body"
SCANNED = "scanned"
PADDING_HU = Scan().padding_hu
Mask = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--patients", nargs="+", required=True, help="folders below DATA, not used in training"
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.model)
    table: dict[str, list[dict[str, float]]] = {}
    for name in arguments.patients:
        for variant, scores in of_patient(arguments.data / name, bundle, arguments.variants):
            table.setdefault(variant, []).append(scores)
            print(
                f"{name:10} {variant:22} " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()), flush=True
            )
    print()
    columns = [*bundle.roi_names, "mean", "fall", "body", "outside"]
    print("| variant | n | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for variant, rows in table.items():
        values = [[row[column] for row in rows if column in row] for column in columns]
        cells = [f"{np.mean(v):.3f}" if v else "-" for v in values]
        print(f"| {variant} | {len(rows)} | " + " | ".join(cells) + " |")


def of_patient(
    folder: Path, bundle: ModelBundle, variants: list[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """(variant, {ROI: Dice, mean, fall, body, outside}) of one patient, "as it is" first."""
    files = find_patient(folder, needs_rtstruct=True)
    ct = read_ct(files.ct)
    structures = read_structures(files.structure_sets[0].path, ct)
    volume = ct.volume
    whole = np.ones(volume.hu.shape, bool)
    plain = predicted(volume, bundle)
    yield (
        "as it is",
        {
            **scores(plain, plain, structures, whole, bundle.roi_names),
            **of_body(plain, volume.hu > volume.hu.min(), volume.grid),
        },
    )
    for variant in variants:
        patient = scanned(volume, structures, VARIANTS[variant], seed=1)
        drawn = predicted(patient.volume, bundle)
        seen = Structures.from_masks({SCANNED: patient.volume.hu != PADDING_HU}, patient.volume.grid)
        there = resample_structures(seen, volume.grid).mask(SCANNED)
        yield (
            variant,
            {
                **scores(resample_structures(drawn, volume.grid), plain, structures, there, bundle.roi_names),
                **of_body(drawn, patient.body, patient.volume.grid),
            },
        )


def predicted(volume: Volume, bundle: ModelBundle) -> Structures:
    """What the structure set says that was written for this CT."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_ct(
            root / "patient",
            volume,
            PatientIdentity(patient_id="variant", patient_name="Variant", study_date="20260101"),
            uid_seed="v",
        )
        result = predict(root / "patient", bundle, root / "out", PredictOptions(overlays=False))
        return read_structures(result.path, read_ct(root / "patient"))


def scores(
    drawn: Structures, plain: Structures, truth: Structures, scanned: Mask, rois: Sequence[str]
) -> dict[str, float]:
    """Dice on the data set's grid, within what was scanned, and how much less it is than of the plain patient there."""
    table, before = {}, []
    for roi in rois:
        if roi in truth.contoured() and (truth.mask(roi) & scanned).any():
            table[roi], usual = (
                dice(_mask(found, roi) & scanned, truth.mask(roi) & scanned, neither=math.nan)
                for found in (drawn, plain)
            )
            before.append(usual)
    mean = float(np.mean(list(table.values())))
    return {**table, "mean": mean, "fall": float(np.mean(before)) - mean}


def of_body(drawn: Structures, body: Mask, grid: Grid) -> dict[str, float]:
    """Dice of the external contour, and contoured voxels outside the body."""
    near = ndimage.distance_transform_edt(~body, sampling=grid.spacing_mm) <= NEAR_MM
    organs = [name for name in drawn.contoured() if name != BODY]
    outside = sum(int(np.count_nonzero(drawn.mask(name) & ~near)) for name in organs)
    return {
        "body": dice(_mask(drawn, BODY), body, neither=math.nan),
        "outside": float(outside),
    }


def _mask(structures: Structures, roi: str) -> Mask:
    """Empty where the ROI was not found."""
    if roi in structures.contoured():
        return structures.mask(roi)
    return np.zeros(structures.grid.shape_kij, bool)


if __name__ == "__main__":
    main()
