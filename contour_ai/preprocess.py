"""Brings a CT to the grid a model was trained on, and the model's answer exactly back to the CT.

Every resampling is separable: one sparse weight matrix an axis, applied slice by slice. Along each axis the
samples are read as a piecewise linear function, and going to coarser voxels that function is averaged over a
box centred on the new voxel. Both steps keep a linear function as it is for any positions of the samples, so
nothing shifts by a fraction of a voxel, in unequally spaced and sheared stacks either. On the way back, where the
surface of a ROI passes, pieces are cubic instead: straight ones round off what is one or two voxels wide.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from contour_ai.errors import ConfigError, GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.settings import from_mapping, to_mapping
from contour_ai.volume import Structures, Volume

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Sparse = Any
"""A scipy.sparse.csr_array: scipy has no types."""

PATIENT_AXES_LPS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""The directions along which k, i and j of a model grid grow: superior, posterior, left."""

ALIGNED_TOL = 1e-6
"""Largest stray component of a model axis along another axis of the CT (1e-6 over 1 m is a micrometre)."""

SHEARED_MM = 1e-3
"""Slices that slide sideways by more are resampled each with weights of its own; files give positions to 0.001 mm."""

NARROW = 1e-3
"""A box narrower than this share of the sample spacing averages nothing; interpolating is exact there."""

BODY_PIXEL_MM = 2.0
"""The body is looked for in pixels of at least half this and up to this size: fine enough for its shape."""
OPENING_MM = 4.0
"""Sheets up to twice as thick are cut off the body: couch tops, masks and head-rests are 2 to 6 mm thick."""
ARM_RADIUS_MM = 15.0
"""A separate part is an arm or leg, not a couch, when a disk of this radius fits into it somewhere."""
ARM_SHARE = 0.01
"""A separate part has at least this share of the volume of the largest part."""
COUCH_SHARE = 0.6
"""What lies under or around the patient is at the same place in at least this share of the slices, ..."""
COUCH_LONG_MM = 180.0
"""... is at least so long within the slice, ..."""
COUCH_RADIUS_MM = 20.0
"""... and holds no disk of this radius; so a couch is found that is too thick for the opening, as solid boards are."""
SPECK_MM2 = 30.0
"""Smaller parts of the body within a slice are noise or bits of the couch."""


VOID_HU = -1010
VOID_SHARE = 0.95
"""An image was cut out of its background before if nearly all of what is air (below `AIR_HU`) has one value, and one
lower than real air, whose values scatter around -1000."""
AIR_HU = -900

MIXED = 1e-4
"""Least share of a voxel's neighbourhood on either side of the surface, for the surface to pass there; more than what
rounding in fp32 makes of nothing."""

MOST_THREADS = 8
"""Slices whose body is found at the same time."""

# -- settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreprocessSettings:
    """How a model wants its images; stored in the bundle and taken from nowhere else."""

    spacing_mm_kij: tuple[float, float, float] = (2.5, 2.5, 2.5)
    """Voxel size of the model's grid in mm: superior, posterior, left."""
    windows_hu: tuple[tuple[float, float], ...] = ((-160.0, 240.0),)
    """One window, [low, high] in HU, for each input channel."""
    body_threshold_hu: float = -300.0
    """Tissue is above, air below."""
    margin_mm: float = 5.0
    """Air kept around the body on every side."""
    outside_hu: int = -1024
    """What everything outside the body is set to."""

    def __post_init__(self) -> None:
        checks = (
            (
                "spacing_mm_kij",
                all(0.1 <= s <= 20 for s in self.spacing_mm_kij),
                "three sizes from 0.1 to 20 mm",
            ),
            (
                "windows_hu",
                self.windows_hu and all(low < high for low, high in self.windows_hu),
                "one or more pairs low < high",
            ),
            ("body_threshold_hu", -1000 < self.body_threshold_hu < 0, "between air and water: -1000 to 0 HU"),
            ("margin_mm", 0 <= self.margin_mm <= 200, "0 to 200 mm"),
            ("outside_hu", -32768 <= self.outside_hu <= -900, "air: -32768 to -900 HU"),
        )
        for name, fine, expected in checks:
            if not fine:
                raise ConfigError(
                    f"The preprocessing's {name} cannot be used.",
                    found=getattr(self, name),
                    expected=expected,
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: object = None) -> PreprocessSettings:
        """From a mapping as YAML gives it.

        Raises:
            ConfigError: unknown key, wrong type, or a value that makes no sense.
        """
        return from_mapping(cls, values, where=where, path="preprocess")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as YAML and JSON want them; `from_dict` takes them back."""
        values: dict[str, Any] = to_mapping(self)
        return values


@dataclass(frozen=True, eq=False)
class Prepared:
    """A CT on a model's grid: `hu` and `body` (k, i, j) on `grid`, whose axes run superior, posterior, left."""

    hu: NDArray[np.int16]
    body: Bool
    grid: Grid
    source_grid: Grid


def window(x: Any, lo_hu: float, hi_hu: float) -> Any:
    """HU to [-1, 1] within the window, clipped outside; NumPy arrays give float32, torch tensors float."""
    scale, middle = 2.0 / (hi_hu - lo_hu), (hi_hu + lo_hu) / 2
    if isinstance(x, np.ndarray):
        x = x.astype(np.float32, copy=False)
    return ((x - middle) * scale).clip(-1.0, 1.0)


def image_channels(hu: NDArray[np.generic], settings: PreprocessSettings) -> Float32:
    """(C, k, i, j) float32: one channel a window of `settings`."""
    return np.stack([window(hu, low, high) for low, high in settings.windows_hu])


# -- body ---------------------------------------------------------------------------------------------------


def body_mask(volume: Volume, threshold_hu: float = -300.0) -> Bool:
    """(k, i, j) mask of the patient on the CT's grid: couch, mask and head-rest removed, inner air filled.

    Tissue above the threshold is opened by a disk of `OPENING_MM` in each patient-axial slice, which cuts off
    sheets; the largest connected part and arm-like others are kept, grown back by the opening within the
    tissue, and holes are filled slice by slice. The shape is found in pixels of about `BODY_PIXEL_MM`, the
    surface at full resolution. Empty where nothing is above the threshold.

    An image that was cut out of its background before (one value below air everywhere outside, and no couch) keeps the
    outline that it was given, all parts of it.
    """
    order, _ = _patient_order(volume.grid)
    void = _void_hu(volume.hu)
    if void is not None:
        given = np.transpose(volume.hu, order) > void
        pixel_mm = float(np.sqrt(np.prod([volume.grid.spacing_mm[axis] for axis in order[1:]])))
        if not _couch_pixels(given, pixel_mm).any():
            _fill(given)
            return np.ascontiguousarray(np.transpose(given, np.argsort(order)))
    tissue = np.ascontiguousarray(np.transpose(volume.hu, order) > threshold_hu)
    spacing = [volume.grid.spacing_mm[axis] for axis in order]
    factors = [max(1, round(BODY_PIXEL_MM / spacing[axis])) for axis in (1, 2)]
    coarse = _majority(tissue, factors)
    pixel_mm = float(np.sqrt(spacing[1] * factors[0] * spacing[2] * factors[1]))
    core = _patient_core(coarse, pixel_mm)
    body = np.zeros_like(tissue)
    boxes = ndimage.find_objects(core.astype(np.uint8))
    if boxes:
        near = _dilate(core, 1)
        least = SPECK_MM2 / (spacing[1] * spacing[2])

        def slice_of(k: int) -> None:
            body[k] = _body_slice(tissue[k], near[k], core[k], factors, least)

        _in_threads(slice_of, range(boxes[0][0].start, boxes[0][0].stop))
    return np.ascontiguousarray(np.transpose(body, np.argsort(order)))


def _void_hu(hu: NDArray[np.generic]) -> float | None:
    """The value outside the patient of an image that was cut out of its background; None for other images."""
    sample = hu[:, ::2, ::2]
    air = sample[np.less(sample, AIR_HU)]
    if air.size == 0 or air.min() > VOID_HU:
        return None
    return float(air.min()) if np.count_nonzero(air == air.min()) >= VOID_SHARE * air.size else None


def _majority(tissue: Bool, factors: list[int]) -> Bool:
    """Pixels of `factors` original ones, True where at least half of them are; leftovers at the end join."""
    fi, fj = factors
    if fi == fj == 1:
        return tissue
    pad = [(0, 0), (0, -tissue.shape[1] % fi), (0, -tissue.shape[2] % fj)]
    padded = np.pad(tissue, pad, mode="edge").view(np.uint8)
    count = np.zeros((padded.shape[0], padded.shape[1] // fi, padded.shape[2] // fj), np.uint8)
    for di, dj in itertools.product(range(fi), range(fj)):
        count += padded[:, di::fi, dj::fj]
    return count >= (fi * fj + 1) // 2


def _patient_core(tissue: Bool, pixel_mm: float) -> Bool:
    """The patient's own parts of `tissue`, filled slice by slice."""
    tissue = tissue & ~_couch_pixels(tissue, pixel_mm)
    steps = max(1, round(OPENING_MM / pixel_mm))
    opened = _dilate(_erode(tissue, steps), steps)
    if not opened.any():
        opened = tissue
    labels, count = ndimage.label(opened)
    if count == 0:
        return np.zeros_like(tissue)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = np.zeros(count + 1, bool)
    keep[sizes.argmax()] = True
    boxes = ndimage.find_objects(labels)
    for label in np.flatnonzero((sizes >= ARM_SHARE * sizes.max()) & ~keep):
        part = labels[boxes[label - 1]] == label
        keep[label] = _erode(np.pad(part, [(0, 0), (1, 1), (1, 1)]), round(ARM_RADIUS_MM / pixel_mm)).any()
    core = keep[labels]
    for step in range(steps + 1):  # what the opening took from nose, ears and fingers
        core = _dilate(core, 1, start=step) & tissue | core
    _fill(core)
    return core


def _couch_pixels(tissue: Bool, pixel_mm: float) -> Bool:
    """(i, j) pixels of long flat things that go on through most slices at the same place: couch tops and boards.

    Where the patient rests on one through most of the slices, both are one thing and nothing is found.
    """
    always = tissue.mean(axis=0) >= COUCH_SHARE
    labels, _ = ndimage.label(always)
    couch = np.zeros_like(always)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == label
        if max(part.shape) * pixel_mm < COUCH_LONG_MM:
            continue
        if not _erode(np.pad(part, 1)[None], round(COUCH_RADIUS_MM / pixel_mm)).any():
            couch[box] |= part
    return couch


def _body_slice(tissue: Bool, near: Bool, core: Bool, factors: list[int], least: float) -> Bool:
    """One slice at full resolution: the tissue near the core, without specks, filled."""

    def fine(coarse: Bool) -> Bool:
        return coarse.repeat(factors[0], axis=0).repeat(factors[1], axis=1)[
            : tissue.shape[0], : tissue.shape[1]
        ]

    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    body = np.zeros_like(tissue)
    if rows.size == 0:
        return body
    box = np.s_[
        rows[0] * factors[0] : (rows[-1] + 1) * factors[0],
        columns[0] * factors[1] : (columns[-1] + 1) * factors[1],
    ]
    inside = fine(core)[box]
    found = _filled(tissue[box] & fine(near)[box])
    labels, count = ndimage.label(found)
    if count > 1:
        kept = np.bincount(labels[inside], minlength=count + 1) >= least
        kept[0] = False
        found = kept[labels]
    body[box] = found
    return body


def _fill(mask: Bool) -> None:
    """Fills holes, slice by slice, in place."""

    def fill(k: int) -> None:
        mask[k] = _filled(mask[k])

    _in_threads(fill, np.flatnonzero(mask.any(axis=(1, 2))).tolist())


def _in_threads(work: Callable[[int], None], slices: Iterable[int]) -> None:
    """Slices are independent, and almost all of the work is outside the interpreter's lock."""
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        deque(pool.map(work, slices), maxlen=0)


def _filled(mask_ij: Bool) -> Bool:
    """A slice with its holes filled: background that cannot be reached from the border."""
    background, count = ndimage.label(np.pad(~mask_ij, 1, constant_values=True))
    return mask_ij if count <= 1 else (background != background[0, 0])[1:-1, 1:-1]


def _erode(mask: Bool, steps: int) -> Bool:
    """Erosion in each slice by an octagon of radius `steps`; what lies beyond the border counts as inside."""
    for step in range(steps):
        source = mask
        mask = source.copy()
        mask[:, 1:] &= source[:, :-1]
        mask[:, :-1] &= source[:, 1:]
        across = mask.copy() if step % 2 else source
        mask[:, :, 1:] &= across[:, :, :-1]
        mask[:, :, :-1] &= across[:, :, 1:]
    return mask


def _dilate(mask: Bool, steps: int, start: int = 0) -> Bool:
    """Dilation in each slice by an octagon of radius `steps`: a cross and a square by turns."""
    for step in range(start, start + steps):
        source = mask
        mask = source.copy()
        mask[:, 1:] |= source[:, :-1]
        mask[:, :-1] |= source[:, 1:]
        across = mask.copy() if step % 2 else source
        mask[:, :, 1:] |= across[:, :, :-1]
        mask[:, :, :-1] |= across[:, :, 1:]
    return mask


# -- geometry -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Frame:
    """A grid in the coordinates of its own axes: mm along the normal, along i and along j.

    `slices_mm` (K, 3) is where voxel (k, 0, 0) of every slice lies; within a slice voxels are `step_mm` apart.
    """

    axes_lps: Float
    slices_mm: Float
    step_mm: tuple[float, float]
    sheared: bool

    @classmethod
    def of(cls, grid: Grid) -> _Frame:
        step_mm = (float(np.linalg.norm(grid.step_i_lps)), float(np.linalg.norm(grid.step_j_lps)))
        axes = np.stack([grid.normal, grid.step_i_lps / step_mm[0], grid.step_j_lps / step_mm[1]])
        slices = np.asarray(np.linalg.solve(axes.T, grid.positions_lps.T).T, np.float64)
        stray = np.ptp(slices[:, 1:], axis=0).max() if len(slices) else 0.0
        return cls(axes, slices, step_mm, bool(stray > SHEARED_MM))

    def pixels_mm(self, k: int, axis: int, start: int, stop: int) -> Float:
        """Coordinates of pixels start..stop of slice k along axis 1 (i) or 2 (j)."""
        return self.slices_mm[k, axis] + self.step_mm[axis - 1] * np.arange(start, stop)


def _patient_order(grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Which axis of `grid` lies nearest to superior, posterior and left, and whether along (1) or against (-1).

    Of the 24 right-handed ways the one with the largest sum of cosines.
    """
    frame = _Frame.of(grid).axes_lps
    cosines = PATIENT_AXES_LPS @ frame.T
    best: tuple[float, tuple[int, int, int], tuple[int, int, int]] | None = None
    for order in itertools.permutations(range(3)):
        parity = round(np.linalg.det(np.eye(3)[list(order)]))
        for signs in itertools.product((1, -1), repeat=3):
            if signs[0] * signs[1] * signs[2] != parity:
                continue
            score = float(sum(s * cosines[m, a] for m, (a, s) in enumerate(zip(order, signs, strict=True))))
            if best is None or score > best[0] + 1e-9:
                best = score, (order[0], order[1], order[2]), (signs[0], signs[1], signs[2])
    assert best is not None
    return best[1], best[2]


@dataclass(frozen=True, eq=False)
class _Alignment:
    """A regular model grid seen from a CT: model axis m runs along axis `order[m]` of the CT.

    `start_mm` and `step_mm` are in the CT's frame and by the CT's axes; a step is negative where the axes run
    against each other.
    """

    order: tuple[int, int, int]
    start_mm: Float
    step_mm: Float
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, model_grid: Grid, frame: _Frame) -> _Alignment:
        """Raises GeometryError where the model grid does not run along the CT's axes."""
        steps = np.asarray(
            np.linalg.solve(frame.axes_lps.T, model_grid.affine[:3, :3]).T
        )  # (model axis, CT axis)
        order = tuple(int(a) for a in np.abs(steps).argmax(axis=1))
        chosen = steps[range(3), order]
        stray = np.abs(steps - np.eye(3)[list(order)] * chosen[:, None]).max()
        if sorted(order) != [0, 1, 2] or stray > ALIGNED_TOL * np.abs(chosen).max():
            raise GeometryError(
                "The model grid does not run along the axes of the CT.",
                found=f"a stray step of {stray:.6f} mm",
                fix="take the grid that prepare() made from this CT",
            )
        back = np.argsort(order)
        start = np.asarray(np.linalg.solve(frame.axes_lps.T, model_grid.positions_lps[0]), np.float64)
        shape = tuple(model_grid.shape_kij[m] for m in back)
        step = np.asarray(chosen[back], np.float64)
        return cls((order[0], order[1], order[2]), start, step, (shape[0], shape[1], shape[2]))

    def centres_mm(self, axis: int) -> Float:
        """Coordinates of the model's voxel centres along an axis of the CT, in the order of the model."""
        return self.start_mm[axis] + self.step_mm[axis] * np.arange(self.shape[axis])


def axis_weights(
    samples_mm: Float,
    targets_mm: Float,
    *,
    target_mm: float,
    sample_mm: float,
    outside: Literal["edge", "zero"],
) -> Float32:
    """(targets, samples) weights that carry samples along one axis to target positions.

    The samples are joined by straight lines and averaged over a box of width sqrt(target_mm^2 - gap^2) around
    each target, where `gap` is the distance of the samples there: nothing is averaged on the way up, all
    samples of a target voxel count on the way down. Half a gap beyond the first and the last sample the
    function goes on with their value; farther out with the same value ("edge") or with 0 ("zero").

    Args:
        samples_mm: ascending positions of the samples, not necessarily equidistant.
        targets_mm: positions in any order.
        target_mm: distance of the targets (0 to interpolate only).
        sample_mm: what to take for the gap where there is a single sample.
        outside: see above.
    """
    gaps = np.diff(samples_mm) if len(samples_mm) > 1 else np.array([sample_mm])
    cell = np.clip(np.searchsorted(samples_mm, targets_mm, side="right") - 1, 0, len(gaps) - 1)
    width = np.sqrt(np.clip(target_mm**2 - gaps[cell] ** 2, 0, None))
    width = np.where(width > NARROW * gaps[cell], width, 0.0)
    low, high = samples_mm[0] - gaps[0] / 2, samples_mm[-1] + gaps[-1] / 2
    if outside == "edge":
        reach = width.max(initial=0.0) + 1.0
        low, high = min(low, targets_mm.min() - reach), max(high, targets_mm.max() + reach)
    weights = np.empty((len(targets_mm), len(samples_mm)))
    points = width == 0
    weights[points] = _hats(samples_mm, low, high, targets_mm[points])
    t, w = targets_mm[~points], width[~points]
    upper = _hat_integrals(samples_mm, low, high, t + w / 2)
    weights[~points] = (upper - _hat_integrals(samples_mm, low, high, t - w / 2)) / w[:, None]
    return weights.astype(np.float32)


def _hats(p: Float, low: float, high: float, x: Float) -> Float:
    """(x, p) value at x of the function that is 1 at one sample, 0 at the others; flat to low and high."""
    weights = np.zeros((len(x), len(p)))
    rows = np.arange(len(x))
    if len(p) == 1:
        weights[:, 0] = 1.0
    else:
        cell = np.clip(np.searchsorted(p, x, side="right") - 1, 0, len(p) - 2)
        t = np.clip((x - p[cell]) / (p[cell + 1] - p[cell]), 0.0, 1.0)
        weights[rows, cell] = 1 - t
        weights[rows, cell + 1] += t
    weights[(x < low) | (x > high)] = 0.0
    return weights


def _hat_integrals(p: Float, low: float, high: float, x: Float) -> Float:
    """(x, p) integral from -infinity to x of the functions of `_hats`."""
    x = x[:, None]
    total = np.empty((x.shape[0], len(p)))
    gaps = np.diff(p)
    total[:, 1:] = (np.clip(x, p[:-1], p[1:]) - p[:-1]) ** 2 / (2 * gaps)
    total[:, :1] = np.clip(x, low, p[0]) - low
    total[:, :-1] += (gaps**2 - (p[1:] - np.clip(x, p[:-1], p[1:])) ** 2) / (2 * gaps)
    total[:, -1:] += np.clip(x, p[-1], high) - p[-1]
    return total


class Resampler:
    """Carries out what the weights say; `planes` has (rows, columns) for every slice, or once where all are alike.

    On the CPU: each target takes from a few samples, so sparse is 20 times faster than dense, and wakes no BLAS
    threads.
    """

    def to_model(
        self,
        slice_of: Callable[[int], Float32],
        numbers: Sequence[int],
        planes: Sequence[tuple[Sparse, Sparse]],
        along: Sparse,
    ) -> Float32:
        """(k, i, j) from slices, each resampled within its plane, then along the stack."""
        rows, columns = planes[0]
        stack = np.empty((len(numbers), rows.shape[0], columns.shape[0]), np.float32)
        for n, k in enumerate(numbers):
            stack[n] = _both_ways(*planes[n % len(planes)], slice_of(k))
        result: Float32 = (along @ stack.reshape(len(stack), -1)).reshape(-1, *stack.shape[1:])
        return result

    def to_ct(self, field: Float32, along: Sparse, planes: Sequence[tuple[Sparse, Sparse]]) -> Float32:
        """(slice, row, column) from a (k, i, j) field, resampled along the stack, then within each plane."""
        stack = (along @ field.reshape(len(field), -1)).reshape(-1, *field.shape[1:])
        rows, columns = planes[0]
        level = np.empty((len(stack), rows.shape[0], columns.shape[0]), np.float32)
        for n, image in enumerate(stack):
            level[n] = _both_ways(*planes[n % len(planes)], image)
        return level


SPARSE = Resampler()


def _both_ways(rows: Sparse, columns: Sparse, image: Float32) -> Float32:
    """rows @ image @ columns.T"""
    across: Float32 = columns @ np.ascontiguousarray((rows @ image).T)
    return across.T


# -- there --------------------------------------------------------------------------------------------------


def prepare(
    volume: Volume,
    settings: PreprocessSettings,
    *,
    body: Bool | None = None,
    resampler: Resampler = SPARSE,
) -> Prepared:
    """The CT on the model's grid: patient axes, the model's spacing, cropped to the body, air around it.

    The model grid's axes are those of the CT in the order and direction nearest to superior, posterior, left;
    sheared stacks are straightened, through each slice's own position. The grid is centred on the body, so
    that turning the image by 90 degrees or mirroring its axes gives the same voxels.

    Args:
        body: mask on the CT's grid where it is known; `body_mask` otherwise.
        resampler: what carries out the resampling.

    Raises:
        InputError: no patient in the image.
    """
    if body is None:
        body = body_mask(volume, settings.body_threshold_hu)
    frame = _Frame.of(volume.grid)
    box = bounding_box(body)
    if box is None:
        raise InputError(
            "No patient was found in this CT.",
            found=f"{volume.hu.min()} to {volume.hu.max()} HU",
            expected=f"a body above {settings.body_threshold_hu:g} HU",
            fix="check the series and its rescale slope and intercept",
        )
    grid = _model_grid(volume.grid, frame, body, box, settings)
    align = _Alignment.of(grid, frame)
    box = _grown(box, volume.grid, np.abs(align.step_mm))
    hu, mask, outside = volume.hu, body, settings.outside_hu

    def tissue(k: int) -> Float32:
        return np.where(mask[k, box[1], box[2]], hu[k, box[1], box[2]], outside).astype(np.float32)

    def covered(k: int) -> Float32:
        return mask[k, box[1], box[2]].astype(np.float32)

    inside = _to_model(covered, box, frame, volume.grid, align, resampler, outside="zero") >= 0.5
    image = _to_model(tissue, box, frame, volume.grid, align, resampler, outside="edge")
    limits = np.iinfo(np.int16)
    values = np.rint(image).clip(limits.min, limits.max).astype(np.int16)
    values[~inside] = outside
    return Prepared(values, inside, grid, volume.grid)


def resample_structures(structures: Structures, model_grid: Grid) -> Structures:
    """Structures on the model's grid: a voxel belongs to a ROI that covers at least half of it.

    Each ROI is resampled within its own box only. ROIs that were not contoured stay so.

    Raises:
        GeometryError: the model grid does not run along the structures' axes (it must come from `prepare`).
    """
    frame = _Frame.of(structures.grid)
    align = _Alignment.of(model_grid, frame)
    bits = np.zeros(model_grid.shape_kij, structures.bits.dtype)
    for name, mask in structures.masks():
        found = bounding_box(mask)
        if found is None:
            continue
        box = _grown(found, structures.grid, np.abs(align.step_mm))

        def covered(k: int, mask: Bool = mask, box: Box = box) -> Float32:
            return mask[k, box[1], box[2]].astype(np.float32)

        part, where = _part_within(align, frame, box)
        if part is None:
            continue
        inside = _to_model(covered, box, frame, structures.grid, part, SPARSE, outside="zero") >= 0.5
        bit = bits.dtype.type(1 << structures.index(name))
        np.bitwise_or(bits[where], bit, out=bits[where], where=inside)
    return Structures(bits, model_grid, structures.names, structures.presence)


def bounding_box(mask: Bool) -> Box | None:
    """The smallest box that holds every True voxel; None where there is none."""
    k = np.flatnonzero(mask.any(axis=(1, 2)))
    if k.size == 0:
        return None
    flat = np.logical_or.reduce(mask[k[0] : k[-1] + 1], axis=0)
    i, j = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return (
        slice(int(k[0]), int(k[-1]) + 1),
        slice(int(i[0]), int(i[-1]) + 1),
        slice(int(j[0]), int(j[-1]) + 1),
    )


def _grown(box: Box, grid: Grid, target_mm: Float) -> Box:
    """The box with all voxels that a target voxel at its border is averaged from."""
    spacing = (float(grid.slice_widths_mm.min()), *grid.spacing_mm[1:])
    grown = []
    for s, n, mm, target in zip(box, grid.shape_kij, spacing, target_mm, strict=True):
        more = int(np.ceil(target / mm)) + 1
        grown.append(slice(max(0, s.start - more), min(n, s.stop + more)))
    return grown[0], grown[1], grown[2]


def _model_grid(grid: Grid, frame: _Frame, body: Bool, box: Box, settings: PreprocessSettings) -> Grid:
    """A regular grid along the CT's axes in patient order, centred on the body and with the margin around it."""
    order, signs = _patient_order(grid)
    low, high = _extent_mm(frame, grid, body, box)
    size = np.array(settings.spacing_mm_kij)
    count = np.array(
        [np.ceil((high[a] - low[a] + 2 * settings.margin_mm) / mm) for a, mm in zip(order, size, strict=True)]
    ).astype(int)
    steps = frame.axes_lps[list(order)] * (np.array(signs) * size)[:, None]  # (model axis, LPS)
    centre = frame.axes_lps.T @ ((low + high) / 2)
    affine = np.eye(4)
    affine[:3, :3] = steps.T
    affine[:3, 3] = centre - steps.T @ ((count - 1) / 2)
    shape = (int(count[0]), int(count[1]), int(count[2]))
    return Grid.from_affine(shape, affine, grid.frame_of_reference_uid)


def _extent_mm(frame: _Frame, grid: Grid, body: Bool, box: Box) -> tuple[Float, Float]:
    """Lowest and highest coordinate of the body's voxel faces along each of the CT's axes."""
    ks = np.arange(box[0].start, box[0].stop)
    widths, heights = grid.slice_widths_mm, frame.slices_mm[:, 0]
    low = [heights[ks[0]] - widths[ks[0]] / 2]
    high = [heights[ks[-1]] + widths[ks[-1]] / 2]
    for axis in (1, 2):
        step, firsts = frame.step_mm[axis - 1], frame.slices_mm[ks, axis]
        first, last = np.full(len(ks), box[axis].start), np.full(len(ks), box[axis].stop - 1)
        if frame.sheared:  # then the body's extent is not that of its box
            line: Bool = np.logical_or.reduce(body[box], axis=3 - axis)
            occupied = np.logical_or.reduce(line, axis=1)
            firsts, line = firsts[occupied], line[occupied]
            first = box[axis].start + line.argmax(axis=1)
            last = box[axis].stop - 1 - line[:, ::-1].argmax(axis=1)
        low.append(float((firsts + (first - 0.5) * step).min()))
        high.append(float((firsts + (last + 0.5) * step).max()))
    return np.array(low), np.array(high)


def _part_within(align: _Alignment, frame: _Frame, box: Box) -> tuple[_Alignment | None, Box]:
    """The model voxels (as an alignment of their own, and as a box of the model grid) whose centres lie in `box`."""
    ranges: list[tuple[int, int]] = []
    for axis in range(3):
        values = frame.slices_mm[box[0], axis]
        if axis > 0:
            first, last = (
                values + frame.step_mm[axis - 1] * (box[axis].start - 1),
                values + frame.step_mm[axis - 1] * box[axis].stop,
            )
            low, high = first.min(), last.max()
        else:
            gap = np.diff(values).max(initial=abs(align.step_mm[0]))
            low, high = values[0] - gap, values[-1] + gap
        hits = np.flatnonzero((align.centres_mm(axis) >= low) & (align.centres_mm(axis) <= high))
        ranges.append((int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, 0))
    in_model = [slice(*ranges[axis]) for axis in align.order]
    where = (in_model[0], in_model[1], in_model[2])
    if any(start == stop for start, stop in ranges):
        return None, where
    starts = np.array([r[0] for r in ranges])
    shape = tuple(stop - start for start, stop in ranges)
    part = _Alignment(
        align.order, align.start_mm + starts * align.step_mm, align.step_mm, (shape[0], shape[1], shape[2])
    )
    return part, where


def _to_model(
    slice_of: Callable[[int], Float32],
    box: Box,
    frame: _Frame,
    grid: Grid,
    align: _Alignment,
    resampler: Resampler,
    *,
    outside: Literal["edge", "zero"],
) -> Float32:
    """Resamples the CT's box, given slice by slice, to the model grid (model axis order): in the slices first."""

    def in_plane(k: int, axis: int) -> Sparse:
        weights = axis_weights(
            frame.pixels_mm(k, axis, box[axis].start, box[axis].stop),
            align.centres_mm(axis),
            target_mm=abs(align.step_mm[axis]),
            sample_mm=frame.step_mm[axis - 1],
            outside=outside,
        )
        return sparse.csr_array(weights)

    ks = range(box[0].start, box[0].stop)
    planes = [(in_plane(k, 1), in_plane(k, 2)) for k in (ks if frame.sheared else ks[:1])]
    along = axis_weights(
        frame.slices_mm[box[0], 0],
        align.centres_mm(0),
        target_mm=abs(align.step_mm[0]),
        sample_mm=grid.spacing_mm[0],
        outside=outside,
    )
    result = resampler.to_model(slice_of, ks, planes, sparse.csr_array(along))
    return np.ascontiguousarray(np.transpose(result, align.order))


# -- and back -----------------------------------------------------------------------------------------------


def restore_level(
    logit: Float32, grid: Grid, ct_grid: Grid, *, threshold: float = 0.0, resampler: Resampler = SPARSE
) -> tuple[Box, Float32] | None:
    """One ROI's logits from the model grid to the CT's own voxels, within the ROI's box only.

    The field is read at every voxel centre of the CT, sheared and unequally spaced stacks included. Among model voxels
    on both sides of the surface it is joined by cubic convolution, elsewhere by straight lines: so a voxel can be
    inside only beside a model voxel that is, and outside only beside one that is not.

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29:1153, 1981.

    Args:
        logit: (k, i, j) on `grid`.
        threshold: what counts as the surface.
        resampler: what carries out the resampling.

    Returns:
        The box of the CT grid and the level field in it, positive inside the ROI and minus `threshold`
        already taken off, with one voxel around the ROI where the image has it; None where no voxel centre
        of the CT lies inside.

    Raises:
        GeometryError: the grids' axes do not run along each other.
    """
    found = bounding_box(logit > threshold)
    if found is None:
        return None
    frame = _Frame.of(ct_grid)
    align = _Alignment.of(grid, frame)
    # A cubic between two voxels looks at the next one on either side.
    support = tuple(
        slice(max(0, s.start - 2), min(n, s.stop + 2)) for s, n in zip(found, logit.shape, strict=True)
    )
    back = np.argsort(align.order)
    field = np.transpose(logit[support], back)
    centres = [align.centres_mm(axis)[support[back[axis]]] for axis in range(3)]
    for axis in range(3):
        if align.step_mm[axis] < 0:
            field, centres[axis] = np.flip(field, axis), centres[axis][::-1]
    box = _ct_box(centres, np.abs(align.step_mm), frame, ct_grid)
    if box is None:
        return None
    field = np.array(field, np.float32, order="C")
    field -= np.float32(threshold)
    level = _from_model(field, centres, box, frame, np.abs(align.step_mm), resampler)
    tight = bounding_box(level > 0)
    if tight is None:
        return None
    inner = (tight[0], *(slice(max(0, s.start - 1), s.stop + 1) for s in tight[1:]))
    final = tuple(
        slice(b.start + s.start, min(b.start + s.stop, b.stop)) for b, s in zip(box, inner, strict=True)
    )
    return (final[0], final[1], final[2]), np.ascontiguousarray(level[inner])


def _ct_box(centres: list[Float], size_mm: Float, frame: _Frame, grid: Grid) -> Box | None:
    """The CT's voxels that lie within the model voxels around `centres`; None where there is none."""
    low = [c[0] - mm / 2 for c, mm in zip(centres, size_mm, strict=True)]
    high = [c[-1] + mm / 2 for c, mm in zip(centres, size_mm, strict=True)]
    heights = frame.slices_mm[:, 0]
    ks = np.flatnonzero((heights >= low[0]) & (heights <= high[0]))
    if ks.size == 0:
        return None
    box = [slice(int(ks[0]), int(ks[-1]) + 1)]
    for axis in (1, 2):
        firsts = frame.slices_mm[ks, axis]
        step, n = frame.step_mm[axis - 1], grid.shape_kij[axis]
        start = max(0, int(np.ceil((low[axis] - firsts.max()) / step)))
        stop = min(n, int(np.floor((high[axis] - firsts.min()) / step)) + 1)
        if stop <= start:
            return None
        box.append(slice(start, stop))
    return box[0], box[1], box[2]


def _from_model(
    field: Float32, centres: list[Float], box: Box, frame: _Frame, size_mm: Float, resampler: Resampler
) -> Float32:
    """The field (CT axis order, ascending `centres`, 0 at the surface) at the CT's voxel centres in `box`."""
    ks = range(box[0].start, box[0].stop)
    slices = ks if frame.sheared else ks[:1]
    pixels = [[frame.pixels_mm(k, axis, box[axis].start, box[axis].stop) for axis in (1, 2)] for k in slices]

    def ways(weights: Callable[[int, Float], Float32]) -> tuple[Sparse, list[tuple[Sparse, Sparse]]]:
        along = sparse.csr_array(weights(0, frame.slices_mm[box[0], 0]))
        return along, [
            (sparse.csr_array(weights(1, rows)), sparse.csr_array(weights(2, columns)))
            for rows, columns in pixels
        ]

    def straight(axis: int, targets: Float) -> Float32:
        return axis_weights(
            centres[axis], targets, target_mm=0.0, sample_mm=float(size_mm[axis]), outside="edge"
        )

    straight_ways = ways(straight)
    level = resampler.to_ct(field, *straight_ways)
    inside = resampler.to_ct((field > 0).astype(np.float32), *straight_ways)
    curved = resampler.to_ct(field, *ways(lambda axis, targets: cubic_weights(centres[axis], targets)))
    np.copyto(level, curved, where=(inside > MIXED) & (inside < 1 - MIXED))
    return level


def cubic_weights(samples_mm: Float, targets_mm: Float) -> Float32:
    """(targets, samples) weights of cubic convolution with a = -1/2, which keeps straight lines and parabolas.

    The outermost pieces go on as if the next sample lay on the straight line through the last two; beyond the last
    sample its value stays.

    Args:
        samples_mm: ascending, equidistant.
        targets_mm: positions in any order.

    Source: Keys, 1981 (see `restore_level`).
    """
    n = len(samples_mm)
    if n == 1:
        return np.ones((len(targets_mm), 1), np.float32)
    # One sample more at each end, on the straight line through the last two.
    weights = np.zeros((len(targets_mm), n + 2))
    x = np.clip((targets_mm - samples_mm[0]) / (samples_mm[1] - samples_mm[0]), 0.0, n - 1.0)
    cell = np.minimum(x.astype(int), n - 2)
    t = x - cell
    pieces = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (-(t**2) + t**3) / 2,
    )
    for place, values in enumerate(pieces):
        weights[np.arange(len(x)), cell + place] = values
    kept = weights[:, 1:-1].copy()
    kept[:, 0] += 2 * weights[:, 0]
    kept[:, 1] -= weights[:, 0]
    kept[:, -1] += 2 * weights[:, -1]
    kept[:, -2] -= weights[:, -1]
    return kept.astype(np.float32)
