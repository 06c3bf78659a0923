"""How much worse a model is on the CT a clinic would have made of the same patient.

    python benchmarks/robustness.py openkbp-dicom --patients pt_3 pt_5 --model NAME

Every patient is predicted as it is in the data set, and then in variants that differ in one thing each from
"clinical": full resolution with couch, mask, head-rest and noise (`contour_ai.sample.variants`). Dice is that of the
written structure set, read back, against the patient's own structures on the same grid; "outside" counts contoured
voxels outside the body by more than 3 mm, "body" is the Dice of the external contour against that of the patient
without couch and mask.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from contour_ai.bundle import ModelBundle, load_bundle
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.evaluation.metrics import dice
from contour_ai.pipeline import PredictOptions, predict
from contour_ai.sample.variants import Scan, Scanned, scanned
from contour_ai.volume import Structures, Volume

CLINICAL = Scan()
VARIANTS = {
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
    columns = [*bundle.roi_names, "mean", "body", "outside"]
    print("| variant | n | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for variant, rows in table.items():
        values = [[row[column] for row in rows if column in row] for column in columns]
        cells = [f"{np.mean(v):.3f}" if v else "-" for v in values]
        print(f"| {variant} | {len(rows)} | " + " | ".join(cells) + " |")


def of_patient(
    folder: Path, bundle: ModelBundle, variants: list[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """(variant, {ROI: Dice, mean, body, outside}) of one patient, "as it is" first."""
    files = find_patient(folder, needs_rtstruct=True)
    ct = read_ct(files.ct)
    structures = read_structures(files.structure_sets[0].path, ct)
    whole = _whole(ct.volume, structures)
    yield "as it is", scores(whole, bundle)
    for variant in variants:
        yield variant, scores(scanned(ct.volume, structures, VARIANTS[variant], seed=1), bundle)


def _whole(volume: Volume, structures: Structures) -> Scanned:
    return Scanned(volume, structures, volume.hu > volume.hu.min())


def scores(patient: Scanned, bundle: ModelBundle) -> dict[str, float]:
    """Written as DICOM, predicted, read back."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_ct(
            root / "patient", patient.volume, PatientIdentity("variant", "Variant", "20260101"), uid_seed="v"
        )
        result = predict(root / "patient", bundle, root / "out", PredictOptions(overlays=False))
        found = read_structures(result.structure_set, read_ct(root / "patient"))
    near = ndimage.distance_transform_edt(~patient.body, sampling=patient.volume.grid.spacing_mm) <= NEAR_MM
    table: dict[str, float] = {}
    outside = 0
    for roi in bundle.roi_names:
        there = found.mask(roi) if roi in found.contoured() else np.zeros_like(patient.body)
        outside += int(np.count_nonzero(there & ~near))
        if roi in patient.structures.contoured() and patient.structures.mask(roi).any():
            table[roi] = dice(there, patient.structures.mask(roi))
    table["mean"] = float(np.mean(list(table.values())))
    table["body"] = dice(found.mask(BODY), patient.body) if BODY in found.contoured() else 0.0
    table["outside"] = float(outside)
    return table


if __name__ == "__main__":
    main()
