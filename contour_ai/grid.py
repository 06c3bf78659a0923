"""Where the voxels of an image lie in the patient: index (k, i, j) to and from LPS millimetres."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contour_ai.errors import GeometryError

Float = NDArray[np.float64]

REGULAR_TOL_MM = 0.01
"""Slices count as equally spaced when each lies within this of its place; scanners write positions to
0.001-0.01 mm, and an error of 0.01 mm is far below any voxel."""

PARALLEL_TOL = 1e-4
"""Largest sine of the angle between the stack direction and the slice normal of an unsheared stack
(1e-4 over 1 m of scan is 0.1 mm)."""

ROUNDING_NOISE_VOXELS = 0.1
"""Positions written with few digits (0.1 mm on slices of 0.625 mm are 0.08 voxels) are neither a tilt nor unequal
spacing; nobody draws a contour to a tenth of a voxel."""


@dataclass(frozen=True, eq=False)
class RegularFit:
    """The regular grid nearest to a stack of slices."""

    affine: Float
    """(4, 4) from (k, i, j, 1) to LPS mm."""
    along_voxels: float
    """Largest distance of a slice from its place along the normal, in slice spacings."""
    across_voxels: float
    """Largest distance across the normal, in pixels."""

    @property
    def deviation_voxels(self) -> float:
        """Largest distance along any axis, in voxels."""
        return max(self.along_voxels, self.across_voxels)


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """A stack of parallel, equally oriented slices: voxel centres in DICOM patient (LPS) millimetres.

    Arrays on a grid have the axis order (k, i, j) = (slice, row, column); k ascends along the slice normal,
    which is the cross product of the row direction (along which j grows) and the column direction (along
    which i grows), as in DICOM PS3.3 C.7.6.2.1.1. Slices may be unequally spaced or sheared (gantry tilt): each
    has its own position.

    Args:
        shape_kij: number of slices, rows, columns.
        positions_lps: (K, 3) float64, mm: centre of voxel (k, 0, 0) of every slice (ImagePositionPatient).
        step_i_lps: (3,) mm: from voxel (k, i, j) to (k, i + 1, j).
        step_j_lps: (3,) mm: from voxel (k, i, j) to (k, i, j + 1).
        frame_of_reference_uid: FrameOfReferenceUID, empty where unknown.
        slice_thickness_mm: used as the slice spacing of a single-slice grid only.

    Raises:
        GeometryError: shapes do not fit, a step is zero or the steps are not perpendicular, or slices do not ascend.
    """

    shape_kij: tuple[int, int, int]
    positions_lps: Float
    step_i_lps: Float
    step_j_lps: Float
    frame_of_reference_uid: str = ""
    slice_thickness_mm: float = field(default=1.0)

    def __post_init__(self) -> None:
        def frozen(value: ArrayLike) -> Float:
            array = np.array(value, dtype=np.float64)
            array.setflags(write=False)
            return array

        shape = tuple(int(n) for n in self.shape_kij)
        object.__setattr__(self, "shape_kij", shape)
        for name in ("positions_lps", "step_i_lps", "step_j_lps"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError("A grid needs three sizes of at least 1.", found=self.shape_kij)
        if self.positions_lps.shape != (shape[0], 3):
            raise GeometryError(
                "A grid needs one position for every slice.",
                found=self.positions_lps.shape,
                expected=(shape[0], 3),
            )
        lengths = [float(np.linalg.norm(v)) for v in (self.step_i_lps, self.step_j_lps)]
        if not np.isfinite(lengths).all() or min(lengths) <= 0:
            raise GeometryError("Pixel spacing must be positive.", found=lengths)
        cosine = float(self.step_i_lps @ self.step_j_lps) / (lengths[0] * lengths[1])
        if abs(cosine) > 1e-3:
            raise GeometryError(
                "Row and column directions must be perpendicular.",
                found=f"cosine {cosine:.6f}",
                expected="at most 0.001",
            )
        if shape[0] > 1 and np.diff(self.slice_offsets_mm).min() <= 0:
            k = int(np.diff(self.slice_offsets_mm).argmin())
            raise GeometryError(
                "Slices must ascend along the slice normal.",
                where=f"slices {k + 1} and {k + 2}",
                found=f"slice offsets {self.slice_offsets_mm[k]:.3f} and {self.slice_offsets_mm[k + 1]:.3f} mm",
            )

    # -- named constructors ---------------------------------------------------------------------------------

    @classmethod
    def from_affine(
        cls, shape_kij: tuple[int, int, int], affine: ArrayLike, frame_of_reference_uid: str = ""
    ) -> Grid:
        """A regular grid from a matrix.

        Args:
            shape_kij: number of slices, rows, columns.
            affine: (4, 4), takes (k, i, j, 1) to LPS mm.
            frame_of_reference_uid: FrameOfReferenceUID, empty where unknown.

        Raises:
            GeometryError: not a 4 x 4 matrix, or its axes are not perpendicular or do not ascend.
        """
        a = np.array(affine, dtype=np.float64)
        if a.shape != (4, 4):
            raise GeometryError("An affine is a 4 x 4 matrix.", found=a.shape)
        positions = a[:3, 3] + np.arange(shape_kij[0])[:, None] * a[:3, 0]
        return cls(
            shape_kij=shape_kij,
            positions_lps=positions,
            step_i_lps=a[:3, 1],
            step_j_lps=a[:3, 2],
            frame_of_reference_uid=frame_of_reference_uid,
            slice_thickness_mm=float(np.linalg.norm(a[:3, 0])),
        )

    @classmethod
    def axial(
        cls,
        shape_kij: tuple[int, int, int],
        spacing_mm_kij: tuple[float, float, float],
        origin_lps: tuple[float, float, float] = (0.0, 0.0, 0.0),
        frame_of_reference_uid: str = "",
    ) -> Grid:
        """A head-first supine axial grid: k towards the head, i towards the back, j towards the patient's left.

        Args:
            shape_kij: number of slices, rows, columns.
            spacing_mm_kij: distance of slices, rows, columns in mm.
            origin_lps: centre of voxel (0, 0, 0) in LPS mm.
            frame_of_reference_uid: FrameOfReferenceUID, empty where unknown.
        """
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm_kij
        affine[:3, 3] = origin_lps
        affine[3, 3] = 1
        return cls.from_affine(shape_kij, affine, frame_of_reference_uid)

    # -- named properties -----------------------------------------------------------------------------------

    @cached_property
    def normal(self) -> Float:
        """(3,) unit vector: row direction x column direction; k ascends along it."""
        n = np.cross(self.step_j_lps, self.step_i_lps)
        return n / np.linalg.norm(n)

    @cached_property
    def slice_offsets_mm(self) -> Float:
        """(K,) mm: projection of every slice position on the normal, ascending."""
        return self.positions_lps @ self.normal

    @property
    def heights_mm(self) -> Float:
        """The name of `slice_offsets_mm` in version 0.1."""
        return self.slice_offsets_mm

    @cached_property
    def slice_spacings_mm(self) -> Float:
        """(K - 1,) mm: distance along the normal between neighbouring slices."""
        return np.diff(self.slice_offsets_mm)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(k, i, j) voxel size in mm; for unequally spaced slices the median slice spacing."""
        dk = float(np.median(self.slice_spacings_mm)) if self.shape_kij[0] > 1 else self.slice_thickness_mm
        return dk, float(np.linalg.norm(self.step_i_lps)), float(np.linalg.norm(self.step_j_lps))

    @cached_property
    def slice_widths_mm(self) -> Float:
        """(K,) mm: the length of patient each slice stands for (half-way to its neighbours), for volumes."""
        if self.shape_kij[0] == 1:
            return np.array([self.slice_thickness_mm])
        gaps = self.slice_spacings_mm
        edges = np.concatenate([gaps[:1], gaps, gaps[-1:]])
        return (edges[:-1] + edges[1:]) / 2

    @cached_property
    def voxel_volumes_cm3(self) -> Float:
        """(K,) cm3: volume of one voxel in every slice."""
        return self.slice_widths_mm * self.spacing_mm[1] * self.spacing_mm[2] / 1000

    @cached_property
    def _step_k_lps(self) -> Float:
        if self.shape_kij[0] == 1:
            return self.normal * self.slice_thickness_mm
        return (self.positions_lps[-1] - self.positions_lps[0]) / (self.shape_kij[0] - 1)

    @cached_property
    def regular_fit(self) -> RegularFit:
        """The affine that comes nearest to the slices, with steps along the normal, and how far they lie from it."""
        affine = np.eye(4)
        affine[:3, 1], affine[:3, 2] = self.step_i_lps, self.step_j_lps
        if self.shape_kij[0] == 1:
            affine[:3, 0], affine[:3, 3] = self.normal * self.slice_thickness_mm, self.positions_lps[0]
            return RegularFit(affine, 0.0, 0.0)
        k = np.arange(self.shape_kij[0], dtype=np.float64)
        step_mm, first_mm = np.polyfit(k, self.slice_offsets_mm, 1)
        sideways = self.positions_lps - np.outer(self.slice_offsets_mm, self.normal)
        middle = (sideways.min(axis=0) + sideways.max(axis=0)) / 2
        affine[:3, 0], affine[:3, 3] = self.normal * step_mm, middle + self.normal * first_mm
        along = np.abs(self.slice_offsets_mm - first_mm - step_mm * k).max() / step_mm
        steps = (self.step_i_lps, self.step_j_lps)
        across = max(np.abs((sideways - middle) @ step).max() / (step @ step) for step in steps)
        return RegularFit(affine, float(along), float(across))

    @property
    def is_sheared(self) -> bool:
        """Whether slices slide sideways along the stack (gantry tilt), by more than `ROUNDING_NOISE_VOXELS`."""
        return self.regular_fit.across_voxels > ROUNDING_NOISE_VOXELS

    @property
    def is_uniform(self) -> bool:
        """Whether all slices lie at equal distances, to `ROUNDING_NOISE_VOXELS`."""
        return self.regular_fit.along_voxels <= ROUNDING_NOISE_VOXELS

    @cached_property
    def is_regular(self) -> bool:
        """Whether one affine describes the grid exactly: to `REGULAR_TOL_MM` along the normal and across it."""
        if self.shape_kij[0] == 1:
            return True
        even = np.linspace(self.slice_offsets_mm[0], self.slice_offsets_mm[-1], self.shape_kij[0])
        offsets = self.positions_lps - self.positions_lps[0]
        sideways = offsets - np.outer(offsets @ self.normal, self.normal)
        limit = max(REGULAR_TOL_MM, PARALLEL_TOL * float(np.ptp(self.slice_offsets_mm)))
        return bool(
            np.abs(self.slice_offsets_mm - even).max() <= REGULAR_TOL_MM
            and np.linalg.norm(sideways, axis=1).max() <= limit
        )

    @cached_property
    def affine(self) -> Float:
        """(4, 4) matrix from (k, i, j, 1) to LPS mm.

        Raises:
            GeometryError: slices are unequally spaced or sheared, so that no single matrix is right.
        """
        if not self.is_regular:
            raise GeometryError(
                "This stack of slices has no single affine.",
                found="sheared slices (gantry tilt)" if self.is_sheared else "unequal slice spacing",
                fix="use index_to_lps, which is exact for every slice, regular_fit, which is the nearest, or resample "
                "onto a regular grid",
            )
        a = np.eye(4)
        a[:3, 0], a[:3, 1], a[:3, 2] = self._step_k_lps, self.step_i_lps, self.step_j_lps
        a[:3, 3] = self.positions_lps[0]
        return a

    # -- coordinates ----------------------------------------------------------------------------------------

    def index_to_lps(self, index_kij: ArrayLike) -> Float:
        """(..., 3) voxel indices (k, i, j), fractions allowed, to (..., 3) LPS mm.

        Between slices the position is linear from one slice to the next; beyond the ends it goes on at the
        distance of the last two.
        """
        index = np.asarray(index_kij, dtype=np.float64)
        return (
            self._slice_origin(index[..., 0])
            + index[..., 1, None] * self.step_i_lps
            + index[..., 2, None] * self.step_j_lps
        )

    def lps_to_index(self, points_lps: ArrayLike) -> Float:
        """(..., 3) LPS mm to (..., 3) fractional voxel indices (k, i, j); the inverse of `index_to_lps`."""
        points = np.asarray(points_lps, dtype=np.float64)
        k = self.slice_offset_to_k(points @ self.normal)
        rest = points - self._slice_origin(k)
        i = rest @ self.step_i_lps / (self.step_i_lps @ self.step_i_lps)
        j = rest @ self.step_j_lps / (self.step_j_lps @ self.step_j_lps)
        return np.stack([k, i, j], axis=-1)

    def slice_offset_to_k(self, offsets_mm: ArrayLike) -> Float:
        """Positions along the normal in mm, as `slice_offsets_mm` has them, to fractional slice indices k from 0."""
        found = np.asarray(offsets_mm, dtype=np.float64)
        if self.shape_kij[0] == 1:
            return (found - self.slice_offsets_mm[0]) / self.slice_thickness_mm
        low = np.searchsorted(self.slice_offsets_mm, found, side="right") - 1
        low = np.clip(low, 0, self.shape_kij[0] - 2)
        return low + (found - self.slice_offsets_mm[low]) / self.slice_spacings_mm[low]

    def height_to_k(self, heights_mm: ArrayLike) -> Float:
        """The name of `slice_offset_to_k` in version 0.1."""
        return self.slice_offset_to_k(heights_mm)

    def _slice_origin(self, k: ArrayLike) -> Float:
        k = np.asarray(k, dtype=np.float64)
        if self.shape_kij[0] == 1:
            return self.positions_lps[0] + k[..., None] * self._step_k_lps
        low = np.clip(np.floor(k).astype(int), 0, self.shape_kij[0] - 2)
        a, b = self.positions_lps[low], self.positions_lps[low + 1]
        return a + (k - low)[..., None] * (b - a)

    # -- relations ------------------------------------------------------------------------------------------

    def matches(self, other: Grid, tol_mm: float = REGULAR_TOL_MM) -> bool:
        """Whether both grids have the same shape and every voxel centre within `tol_mm`."""
        return self.shape_kij == other.shape_kij and self.largest_distance_mm(other) <= tol_mm

    def largest_distance_mm(self, other: Grid) -> float:
        """Largest distance in mm between equal indices of two grids of the same shape (taken at the slice corners)."""
        if self.shape_kij != other.shape_kij:
            return float("inf")
        ni, nj = self.shape_kij[1] - 1, self.shape_kij[2] - 1
        worst = 0.0
        for i, j in ((0, 0), (ni, 0), (0, nj), (ni, nj)):
            mine = self.positions_lps + i * self.step_i_lps + j * self.step_j_lps
            yours = other.positions_lps + i * other.step_i_lps + j * other.step_j_lps
            worst = max(worst, float(np.linalg.norm(mine - yours, axis=1).max()))
        return worst

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of `array[box]`.

        Args:
            box: slices of k, i, j with start and stop (or None) inside the shape, and step 1.

        Raises:
            GeometryError: a slice is empty or has another step.
        """
        starts, sizes = [], []
        for s, n in zip(box, self.shape_kij, strict=True):
            start, stop, step = s.indices(n)
            if step != 1 or stop <= start:
                raise GeometryError("A crop needs non-empty slices of step 1.", found=box)
            starts.append(start)
            sizes.append(stop - start)
        k, i, j = starts
        positions = self.positions_lps[k : k + sizes[0]] + i * self.step_i_lps + j * self.step_j_lps
        return Grid(
            shape_kij=(sizes[0], sizes[1], sizes[2]),
            positions_lps=positions,
            step_i_lps=self.step_i_lps,
            step_j_lps=self.step_j_lps,
            frame_of_reference_uid=self.frame_of_reference_uid,
            slice_thickness_mm=self.spacing_mm[0],
        )

    def __repr__(self) -> str:
        k, i, j = self.spacing_mm
        return f"Grid({self.shape_kij}, spacing {k:.3f} x {i:.3f} x {j:.3f} mm (k, i, j))"
