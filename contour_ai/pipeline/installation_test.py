"""Whether this installation computes what it should: analytic shapes through DICOM and back, figures worked by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import contours_on_slices, load_structure_set, read_structures
from contour_ai.dicom.rtstruct_write import contours_of_level, write_structure_set, write_structures
from contour_ai.evaluation.limits import Check
from contour_ai.evaluation.metrics import RoiMetrics, roi_metrics, volume_cm3
from contour_ai.grid import Grid
from contour_ai.polygons import polygon_area
from contour_ai.structures import RoiInfo
from contour_ai.volume import Structures, Volume

Mask = NDArray[np.bool_]

PHANTOM_SHAPE = (24, 60, 52)
RADIUS_MM = 21.0
SUBJECT = "RTSTRUCT and back"
VOLUME_TOL = 0.005
"""Of a ball 42 mm across on the grids below: what is left where polygons stand for circles and slices for caps."""


@dataclass(frozen=True)
class _Case:
    name: str
    grid: Grid


def self_test() -> tuple[Check, ...]:
    """All checks, in a temporary folder that is removed."""
    checks: list[Check] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for n, case in enumerate(_cases()):
            checks += _through_dicom(case, Path(folder) / str(n))
    checks += _figures()
    return tuple(checks)


# -- through DICOM ---------------------------------------------------------------------------------------------


def _cases() -> Iterator[_Case]:
    """Anisotropic, feet first, oblique, coronal and unevenly spaced stacks around the origin."""
    up, back, left = np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), np.array([1.0, 0, 0])
    even = (np.arange(PHANTOM_SHAPE[0]) - PHANTOM_SHAPE[0] / 2) * 2.5
    yield _Case("axial, 2.5 x 0.97 x 1.13 mm", _grid(even, up, 0.97 * back, 1.13 * left))
    yield _Case("feet first", _grid(even, -up, 1.1 * back, -1.1 * left))
    turn = math.radians(17)
    tilted_up = math.cos(turn) * up + math.sin(turn) * back
    tilted_back = math.cos(turn) * back - math.sin(turn) * up
    yield _Case("oblique by 17 degrees", _grid(even, tilted_up, 1.1 * tilted_back, 1.2 * left))
    yield _Case("coronal", _grid(even, back, -1.1 * up, 1.1 * left))
    uneven = np.cumsum(np.where(np.arange(PHANTOM_SHAPE[0]) < 11, 2.0, 3.0)) - 30
    yield _Case("slices 2 and 3 mm apart", _grid(uneven, up, 1.1 * back, 1.1 * left))


def _grid(
    slice_offsets_mm: ArrayLike,
    normal: ArrayLike,
    step_i: ArrayLike,
    step_j: ArrayLike,
) -> Grid:
    heights, up, down, right = (np.asarray(a, np.float64) for a in (slice_offsets_mm, normal, step_i, step_j))
    corner = -down * PHANTOM_SHAPE[1] / 2 - right * PHANTOM_SHAPE[2] / 2
    return Grid(
        shape_kij=PHANTOM_SHAPE,
        positions_lps=corner + heights[:, None] * up,
        step_i_lps=down,
        step_j_lps=right,
    )


def _depth_mm(grid: Grid) -> NDArray[np.float32]:
    """(k, i, j) mm from the surface of the ball, positive inside."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape_kij), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid.index_to_lps(index), axis=-1)
    return (RADIUS_MM - distance).astype(np.float32)


def _shapes(depth_mm: NDArray[np.float32]) -> dict[str, Mask]:
    """A ball, a shell around a core, a box at the border, a line and a single voxel."""
    box, line, single = (np.zeros(depth_mm.shape, bool) for _ in range(3))
    box[3:, :9, 4:30] = True
    line[2:20, 31, 7:44] = True
    single[5, 40, 41] = True
    shell = (depth_mm > 0) & (depth_mm < 7) | (depth_mm > 15)
    return {"Ball": depth_mm > 0, "Shell": shell, "Box": box, "Line": line, "Voxel": single}


def _through_dicom(case: _Case, folder: Path) -> Iterator[Check]:
    grid = case.grid
    image = Volume(np.zeros(PHANTOM_SHAPE, np.int16), grid)
    ct = write_ct(
        folder / "ct",
        image,
        PatientIdentity(patient_id="SELFTEST", patient_name="Self^Test", study_date="20000101"),
        uid_seed=case.name,
    )
    depth_mm = _depth_mm(grid)
    shapes = _shapes(depth_mm)
    path = folder / "masks.dcm"
    write_structures(path, Structures.from_masks(shapes, grid), ct, Provenance(label="SELFTEST"))
    read = read_structures(path, ct)
    for name, mask in shapes.items():
        changed = int(np.count_nonzero(read.mask(name) != mask))
        yield Check(
            subject=SUBJECT,
            rule=f"{name.lower()}, {case.name}: voxels changed",
            found=str(changed),
            passed=changed == 0,
        )
    path = folder / "level.dcm"
    box = (slice(0, PHANTOM_SHAPE[0]), slice(0, PHANTOM_SHAPE[1]), slice(0, PHANTOM_SHAPE[2]))
    smooth = contours_of_level(RoiInfo(name="Ball", color=(255, 0, 0)), depth_mm, box)
    write_structure_set(path, [smooth], ct, Provenance(label="SELFTEST"))
    (roi,) = load_structure_set(path).rois
    slices = contours_on_slices(roi, ct)
    pixel_mm2 = grid.spacing_mm[1] * grid.spacing_mm[2]
    found = sum(
        sum(abs(polygon_area(p)) for p in polygons) * pixel_mm2 * grid.slice_widths_mm[k]
        for k, polygons in slices.items()
    )
    share = float(found) / (4 / 3 * math.pi * RADIUS_MM**3) - 1
    rule = f"ball, {case.name}: volume inside its contours within {VOLUME_TOL:.1%} of 4/3 π r³"
    yield Check(
        subject="sub-voxel contours", rule=rule, found=f"{share:+.2%}", passed=abs(share) <= VOLUME_TOL
    )


# -- figures worked by hand ------------------------------------------------------------------------------------


def _figures() -> Iterator[Check]:
    """A box of 6 x 10 x 12 voxels of 3 x 1 x 2 mm against the same moved by one, two and three voxels."""
    grid = Grid.axial((20, 40, 40), (3, 1, 2))
    for axis, (steps, mm) in enumerate(((1, 3.0), (2, 1.0), (3, 2.0))):
        reference, predicted = np.zeros((2, *grid.shape_kij), bool)
        corner = [6, 12, 10]
        sizes = (6, 10, 12)
        reference[_box(corner, sizes)] = True
        corner[axis] += steps
        predicted[_box(corner, sizes)] = True
        m = roi_metrics(predicted, reference, grid, tau_mm=steps * mm)
        words = f"box moved by {steps * mm:g} mm along {('the slices', 'the rows', 'the columns')[axis]}"
        expected_dsc = 1 - steps / sizes[axis]
        yield _equal(f"{words}: DSC", m.dsc, expected_dsc)
        yield _equal(f"{words}: HD100 mm", m.hd100_mm, steps * mm)
        yield _equal(f"{words}: surface DSC at {steps * mm:g} mm", m.surface_dsc, 1.0)
        yield _equal(f"{words}: shift mm", _shift(m)[2 - axis], steps * mm)
    yield _equal("box: volume cm³", volume_cm3(reference, grid), 6 * 10 * 12 * 6 / 1000)
    yield _equal("box without a prediction: DSC", roi_metrics(None, reference, grid).dsc, 0.0)
    yield _equal("box without a prediction: HD95", roi_metrics(None, reference, grid).hd95_mm, math.inf)
    same = roi_metrics(reference, reference, grid)
    yield _equal("box against itself: DSC", same.dsc, 1.0)
    yield _equal("box against itself: HD100 mm", same.hd100_mm, 0.0)
    yield _equal("box against itself: added path mm", same.added_path_mm, 0.0)


def _box(corner: list[int], sizes: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(corner, sizes, strict=True))


def _shift(m: RoiMetrics) -> tuple[float, float, float]:
    return m.shift_left_mm, m.shift_posterior_mm, m.shift_superior_mm


def _equal(rule: str, found: float, expected: float) -> Check:
    passed = math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return Check(
        subject="figures worked by hand", rule=f"{rule} = {expected:.6g}", found=f"{found:.9g}", passed=passed
    )
