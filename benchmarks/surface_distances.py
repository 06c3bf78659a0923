"""Our figures against DeepMind's surface-distance on one patient: the same numbers, and how much faster.

    pip install --no-deps surface-distance absl-py
    python benchmarks/surface_distances.py
    python benchmarks/surface_distances.py --real patient_dir out/ID/RS.*.dcm      # contours against a prediction

Seven ellipsoids as large as the body, brainstem, cord, parotids, mandible and larynx on 150 slices of 512 x 512, each
against one moved by a voxel and 2 % larger. Ours computes all of `RoiMetrics`, theirs distances, HD95, HD100, means and
surface DSC. With `--real` the masks are those of a patient's own contours and of a prediction, every ROI both have.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.evaluation.metrics import roi_metrics
from contour_ai.grid import Grid

SHAPE = (150, 512, 512)
SPACING_MM = (2.5, 0.9766, 0.9766)
ELLIPSOIDS = (
    ((75, 256, 256), (70, 120, 200)),
    ((100, 250, 250), (12, 14, 16)),
    ((60, 290, 256), (55, 8, 8)),
    ((90, 250, 180), (12, 25, 18)),
    ((90, 250, 330), (12, 25, 18)),
    ((60, 200, 256), (15, 30, 40)),
    ((50, 220, 250), (10, 20, 22)),
)


def ellipsoid(
    centre: tuple[int, ...], radii: tuple[int, ...], moved: int = 0, scale: float = 1
) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum(((a - c - moved) / (r * scale)) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) < 1


Pairs = list[tuple[np.ndarray, np.ndarray]]


def drawn() -> tuple[Pairs, Grid]:
    return [(ellipsoid(c, r, 1, 1.02), ellipsoid(c, r)) for c, r in ELLIPSOIDS], Grid.axial(SHAPE, SPACING_MM)


def real(patient_dir: Path, predicted: Path) -> tuple[Pairs, Grid]:
    """Masks of every ROI that both have; surface-distance knows stacks of equal spacing only."""
    files = find_patient(patient_dir, needs_rtstruct=True)
    ct = read_ct(files.ct, with_pixels=False)
    if not ct.grid.is_regular:
        sys.exit(f"{patient_dir}: surface-distance has no word for its slices")
    sides = [read_structures(path, ct) for path in (predicted, files.structure_sets[0].path)]
    names = [name for name in sides[0].contoured() if name in sides[1].contoured()]
    return [(sides[0].mask(name), sides[1].mask(name)) for name in names], ct.grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", nargs=2, type=Path, metavar=("PATIENT_DIR", "PREDICTED"))
    arguments = parser.parse_args()
    # surface-distance 0.1 was written for NumPy 1 and names of SciPy that are gone.
    np.Inf, ndimage.filters, ndimage.morphology = np.inf, ndimage, ndimage  # type: ignore[attr-defined]
    import surface_distance as theirs

    pairs, grid = drawn() if arguments.real is None else real(*arguments.real)
    start = time.perf_counter()
    ours = [roi_metrics(a, b, grid) for a, b in pairs]
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    worst = 0.0
    for (a, b), m in zip(pairs, ours, strict=True):
        d = theirs.compute_surface_distances(b, a, grid.spacing_mm)
        worst = max(
            worst,
            abs(theirs.compute_robust_hausdorff(d, 95) - m.hd95_mm),
            abs(theirs.compute_robust_hausdorff(d, 100) - m.hd100_mm),
            abs(np.mean(theirs.compute_average_surface_distance(d)) - m.masd_mm),
            abs(theirs.compute_surface_dice_at_tolerance(d, m.tau_mm) - m.surface_dsc),
        )
    theirs_s = time.perf_counter() - start
    print(f"{len(pairs)} ROIs on {grid}: largest difference {worst:.1e}")
    print(f"ours {ours_s:.2f} s, surface-distance {theirs_s:.2f} s: {theirs_s / ours_s:.1f} times faster")


if __name__ == "__main__":
    main()
