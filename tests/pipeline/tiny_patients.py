"""Tiny DICOM patients: a body with cubes for ROIs, a CT and a structure set each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.grid import Grid
from contour_ai.volume import Structures, Volume

SHAPE = (12, 22, 26)


def write_patient(
    folder: Path,
    number: int,
    names: dict[str, tuple[int, int, int]],
    shown: slice = slice(None),
    *,
    patient_id: str | None = None,
) -> None:
    """A body with cubes: {ROI name: corner (k, i, j)}; slices other than `shown` are air outside the cubes."""
    grid = Grid.axial(SHAPE, (6.0, 5.0, 5.0), (0.0, 0.0, 10.0 * number))
    hu = np.full(SHAPE, -1000, np.int16)
    hu[shown, 3:-3, 3:-3] = 20
    masks = {}
    for n, (name, (k, i, j)) in enumerate(names.items()):
        masks[name] = np.zeros(SHAPE, bool)
        masks[name][k : k + 3, i : i + 4, j : j + 4] = True
        hu[masks[name]] = 100 + 50 * n + number
    patient = PatientIdentity(
        patient_id=patient_id or f"P{number}", patient_name=f"Tiny^{number}", study_date="20260101"
    )
    ct = write_ct(folder / "ct", Volume(hu, grid), patient, uid_seed=f"tiny {number}")
    if masks:
        write_structures(
            folder / "RS.dcm",
            Structures.from_masks(masks, ct.grid),
            ct,
            Provenance(label="test", series_description="test", description="test"),
            uid_seed=f"tiny {number}",
        )
