"""A patient of a coarse, cut-out data set as a clinic would have scanned it: full resolution, air, couch and all.

OpenKBP gives the body alone, on a 3.9 mm grid. A department's CT has 1 mm pixels, noise, a couch, a mask and a
head-rest; teeth throw streaks, the scan starts at the chin or ends at the orbit, the patient lies prone or feet
first. `scanned` makes such a CT, and the structures and the body outline that belong to it, so that a model's answer on
both can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.holes import fill_slices
from contour_ai.preprocess import axis_weights, body_mask
from contour_ai.sample.devices import DEVICES, Space, draw_devices
from contour_ai.sample.shapes import RandomDraws
from contour_ai.volume import Structures, Volume

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
Position = Literal["HFS", "HFP", "FFS", "FFP", "HFDL", "HFDR"]

COUCHES = ("none", "sheet", "sandwich", "curved", "mattress", "board", "rails")
"""What the patient lies on: a 4 mm sheet; foam between 2.5 mm carbon skins, flat or dished; a soft mattress with a
cover on a sandwich; a solid board of 12 mm; a sandwich with metal rails beside the patient."""

AIR_HU = -1000
CARBON_HU, FOAM_HU, SHEET_HU, BOARD_HU, MATTRESS_HU, COVER_HU, METAL_HU = 0, -930, -120, 60, -870, -350, 2500
MASK_HU, REST_HU, REST_SKIN_HU = -80, -940, -250
COUCH_HALF_MM = 225.0
MASK_MM = 2.5
MASK_GAP_MM = 1.5
"""A mask is stretched over the skin with a little air in between; where it clings it is skin to any threshold."""
LYING_MM2 = 4000.0
"""What of the patient is deeper than the layer of this area hangs into the couch: stray voxels of the outline."""
WHOLE_MM2 = 6000.0
"""A slice with less of the body than this shows no whole cross-section."""
COARSE_MM = 2.0
"""Distances from the skin are found in pixels of this size: enough for a mask."""

TURNS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    # Which patient axis (0 superior, 1 posterior, 2 left) slices, rows and columns run along, and in which direction.
    "HFS": ((0, 1, 2), (1, 1, 1)),
    "HFP": ((0, 1, 2), (1, -1, -1)),
    "FFS": ((0, 1, 2), (-1, 1, -1)),
    "FFP": ((0, 1, 2), (-1, -1, 1)),
    "HFDL": ((0, 2, 1), (1, 1, -1)),
    "HFDR": ((0, 2, 1), (1, -1, 1)),
}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How the patient is scanned; lengths in mm, noise in HU."""

    pixel_mm: float = 1.0
    slice_mm: float = 2.0
    matrix: int = 512
    couch: str = "sandwich"
    couch_gap_mm: float = 0.0
    """Between the lowest point of the patient and the couch."""
    mask: bool = True
    head_rest: bool = True
    noise_hu: float = 18.0
    air_hu: int = AIR_HU
    streaks_hu: float = 0.0
    """Strength of streaks from two teeth; 0 for none."""
    field_of_view_mm: float | None = None
    """Diameter of the reconstructed circle; outside it the image has `padding_hu`."""
    padding_hu: int = -1024
    below_mm: float = 0.0
    """Cut off at the feet end."""
    above_mm: float = 0.0
    """Cut off at the head end."""
    position: Position = "HFS"
    devices: tuple[str, ...] = ()
    """What lies at the patient: names of `contour_ai.sample.devices.DEVICES`."""
    device_gap_mm: float = 2.0
    """Between devices and the skin where they are closest; negative where the skin is pressed flat against them."""
    device_hu: float = 80.0
    """Of blocks, boards, supports and bolus."""


@dataclass(frozen=True, eq=False)
class Scanned:
    """The CT, its structures, and the body (k, i, j) as found without anything around it, all on one grid."""

    volume: Volume
    structures: Structures
    body: Bool


def scanned(volume: Volume, structures: Structures, scan: Scan, *, seed: int) -> Scanned:
    """The patient of `volume`, scanned as `scan` says.

    Args:
        volume: cut out of its background (one value outside the body), axes superior, posterior, left as
            `import-openkbp` writes them.
        structures: on the same grid.
        seed: of the noise, and of where the couch lies.

    Raises:
        ConfigError: unknown couch or position, or cuts that leave nothing.
    """
    _refuse_unknown(scan)
    draws = RandomDraws(np.random.RandomState(seed))
    source = _without_ends(volume, scan)
    body = volume.hu[source] > volume.hu.min()
    grid, ways = _finer(volume.grid.crop(source), body, scan)

    def finer(array: NDArray[np.generic]) -> Float32:
        return _resampled(array[source].astype(np.float32), ways)

    outline = fill_slices(finer(volume.hu > volume.hu.min()) >= 0.5)
    hu = np.where(outline, finer(np.maximum(volume.hu, scan.air_hu)), scan.air_hu).astype(np.float32)
    plain = np.where(outline, hu, AIR_HU)
    body = body_mask(Volume(np.rint(plain).astype(np.int16), grid))
    masks = {name: finer(mask) >= 0.5 for name, mask in structures.masks()}
    _paint_outside(hu, outline, grid, scan, draws)
    if scan.streaks_hu:
        hu += scan.streaks_hu * _streaks(grid, masks.get("Bone_Mandible", outline), draws)
    if scan.noise_hu:
        hu += _noise(hu.shape, scan.noise_hu, draws)
    if scan.field_of_view_mm is not None:
        hu[:, ~_circle(grid, scan.field_of_view_mm)] = scan.padding_hu
        seen = _circle(grid, scan.field_of_view_mm)
        body &= seen
        masks = {name: mask & seen for name, mask in masks.items()}
    values = np.rint(hu).clip(-1024, 3071).astype(np.int16)
    if scan.field_of_view_mm is not None:
        values[:, ~_circle(grid, scan.field_of_view_mm)] = scan.padding_hu
    turned = _turned_grid(grid, scan.position)
    return Scanned(
        Volume(_turned(values, scan.position), turned),
        Structures.from_masks(
            {name: _turned(mask, scan.position) for name, mask in masks.items()},
            turned,
            names=structures.names,
        ),
        _turned(body, scan.position),
    )


def _refuse_unknown(scan: Scan) -> None:
    unknown = [name for name in scan.devices if name not in DEVICES]
    if scan.couch not in COUCHES or scan.position not in TURNS or unknown:
        raise ConfigError(
            "There is no such way to scan.",
            found=f"couch {scan.couch}, position {scan.position}, devices {', '.join(scan.devices) or 'none'}",
            expected=f"couch {', '.join(COUCHES)}; position {', '.join(TURNS)}; devices {', '.join(DEVICES)}",
        )


# -- geometry -----------------------------------------------------------------------------------------------


def _without_ends(volume: Volume, scan: Scan) -> tuple[slice, slice, slice]:
    """The slices that show a whole cross-section (OpenKBP has some with nothing but an organ), less the cuts."""
    grid = volume.grid
    area = (
        np.count_nonzero(volume.hu > volume.hu.min(), axis=(1, 2)) * grid.spacing_mm[1] * grid.spacing_mm[2]
    )
    runs, count = ndimage.label(area > WHOLE_MM2)
    kept = np.flatnonzero(runs == np.bincount(runs)[1:].argmax() + 1) if count else np.zeros(0, int)
    heights = grid.slice_offsets_mm
    if kept.size:
        low, high = heights[kept[0]] + scan.below_mm, heights[kept[-1]] - scan.above_mm
        kept = kept[(heights[kept] >= low) & (heights[kept] <= high)]
    if kept.size < 2:
        raise ConfigError(
            "The cuts leave nothing of the scan.",
            found=f"{scan.below_mm:g} and {scan.above_mm:g} mm off {np.ptp(heights):.0f} mm",
        )
    return slice(int(kept[0]), int(kept[-1]) + 1), slice(None), slice(None)


def _finer(grid: Grid, body: Bool, scan: Scan) -> tuple[Grid, list[Float32]]:
    """The scanner's grid around the patient, and the weights that bring an array there along each axis."""
    heights = grid.slice_offsets_mm
    z = np.arange(heights[0], heights[-1] + 1e-6, scan.slice_mm)
    rows, columns = np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1)))
    origin = grid.positions_lps[0]
    spacing = grid.spacing_mm
    samples = [heights, origin[1] + spacing[1] * np.arange(grid.shape_kij[1])]
    samples.append(origin[0] + spacing[2] * np.arange(grid.shape_kij[2]))
    middle = [
        (samples[1][rows[0]] + samples[1][rows[-1]]) / 2,
        (samples[2][columns[0]] + samples[2][columns[-1]]) / 2,
    ]
    offsets = (np.arange(scan.matrix) - (scan.matrix - 1) / 2) * scan.pixel_mm
    targets = [z, middle[0] + offsets, middle[1] + offsets]
    steps = (scan.slice_mm, scan.pixel_mm, scan.pixel_mm)
    ways = [
        axis_weights(s, t, target_mm=step, sample_mm=mm, outside="zero" if axis else "edge")
        for axis, (s, t, step, mm) in enumerate(zip(samples, targets, steps, spacing, strict=True))
    ]
    shape = (len(z), scan.matrix, scan.matrix)
    corner = (float(targets[2][0]), float(targets[1][0]), float(z[0]))
    return Grid.axial(shape, steps, corner, grid.frame_of_reference_uid), ways


def _resampled(array: Float32, ways: list[Float32]) -> Float32:
    for axis, weights in enumerate(ways):
        moved = np.moveaxis(array, axis, 0)
        flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        result = sparse.csr_array(weights) @ flat
        array = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def _turned(array: NDArray[T], position: str) -> NDArray[T]:
    order, signs = TURNS[position]
    flips = tuple(slice(None, None, sign) for sign in signs)
    return np.ascontiguousarray(np.transpose(array, order)[flips])


def _turned_grid(grid: Grid, position: str) -> Grid:
    order, signs = TURNS[position]
    affine = grid.affine
    turned = affine.copy()
    for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
        turned[:, axis] = affine[:, source] * sign
        if sign < 0:
            turned[:3, 3] += affine[:3, source] * (grid.shape_kij[source] - 1)
    shape = tuple(grid.shape_kij[source] for source in order)
    return Grid.from_affine((shape[0], shape[1], shape[2]), turned, grid.frame_of_reference_uid)


# -- what is around the patient -----------------------------------------------------------------------------


def _paint_outside(hu: Float32, body: Bool, grid: Grid, scan: Scan, draws: RandomDraws) -> None:
    """Devices, couch, head-rest and mask, in place and never inside the body."""
    mm = grid.spacing_mm
    y = np.arange(grid.shape_kij[1]) * mm[1]
    x = (np.arange(grid.shape_kij[2]) - (grid.shape_kij[2] - 1) / 2) * mm[2] - draws.between(-15, 15)
    lying = {"HFP": -1, "FFP": -1}.get(scan.position, 1)
    rows = np.flatnonzero(body.sum(axis=(0, 2)) * mm[0] * mm[2] > LYING_MM2)
    lowest = rows[-1] if lying > 0 else rows[0]
    devices = Space(
        hu=hu,
        body=body,
        spacing_mm=mm,
        lying=lying,
        gap_mm=scan.device_gap_mm,
        device_hu=scan.device_hu,
    )
    under = draw_devices(devices, scan.devices)
    if under is not None and rows.size:
        lowest = max(lowest, under) if lying > 0 else min(lowest, under)
    depth: Float = lying * (y - y[lowest]) - mm[1] / 2 - scan.couch_gap_mm  # mm below the couch top, (I,)
    couch = _couch(depth[:, None], np.asarray(x, np.float64)[None, :], scan.couch)
    outside = ~body
    for k in range(grid.shape_kij[0]):
        where = outside[k] & np.isfinite(couch)
        hu[k][where] = couch[where]
    if scan.head_rest or scan.mask:
        _paint_fixation(hu, body, grid, scan, depth)


def _couch(depth: Float, x: Float, kind: str) -> Float:
    """(I, J) HU of a couch whose top is at depth 0; NaN where it is not."""
    image = np.full(np.broadcast_shapes(depth.shape, x.shape), np.nan)
    across = np.abs(x) < COUCH_HALF_MM

    def layer(top: Float | float, bottom: Float | float, value: float) -> None:
        image[(depth >= top) & (depth < bottom) & across] = value

    def sandwich(top: Float | float, thickness: float) -> None:
        layer(top, top + thickness, CARBON_HU)
        image[(depth >= top + 2.5) & (depth < top + thickness - 2.5) & (np.abs(x) < COUCH_HALF_MM - 2.5)] = (
            FOAM_HU
        )

    if kind == "sheet":
        layer(0, 4, SHEET_HU)
    elif kind in ("sandwich", "rails"):
        sandwich(0, 50)
    elif kind == "curved":
        sandwich(-25 * (x / COUCH_HALF_MM) ** 2, 30)
    elif kind == "mattress":
        layer(0, 30, MATTRESS_HU)
        layer(0, 1.5, COVER_HU)
        sandwich(30.0, 50)
    elif kind == "board":
        layer(0, 12, BOARD_HU)
    if kind == "rails":
        for side in (-1, 1):
            image[(depth >= 55) & (depth < 75) & (np.abs(x - side * 150) < 12)] = METAL_HU
    return image


def _paint_fixation(hu: Float32, body: Bool, grid: Grid, scan: Scan, depth: Float) -> None:
    """A thermoplastic mask over the front and a foam rest under the head and neck."""
    mm = grid.spacing_mm
    step = max(1, round(COARSE_MM / mm[1]))
    head = _head_slices(body, mm)
    for k in head:
        coarse = body[k, ::step, ::step]
        closed = ndimage.binary_closing(np.pad(coarse, 20), iterations=8)[
            20:-20, 20:-20
        ]  # a mask bridges hollows
        away = ndimage.distance_transform_edt(~closed) * mm[1] * step
        away = ndimage.zoom(away, step, order=1)[: body.shape[1], : body.shape[2]] if step > 1 else away
        free = ~body[k]
        if scan.head_rest:
            rest = free & (depth[:, None] < 0) & (depth[:, None] > -60) & (away > 1) & (away < 60)
            hu[k][rest & (hu[k] < REST_HU)] = REST_HU
            hu[k][rest & (away < 3) & (hu[k] < -900)] = REST_SKIN_HU
        if scan.mask:
            middle = np.flatnonzero(coarse.any(axis=1)).mean() * step if coarse.any() else 0.0
            lying = 1 if depth[-1] > depth[0] else -1
            front = lying * (np.arange(body.shape[1]) - middle)[:, None] < 20 / mm[1]
            hu[k][free & front & (away > MASK_GAP_MM) & (away < MASK_GAP_MM + MASK_MM)] = MASK_HU


def _head_slices(body: Bool, mm: tuple[float, float, float]) -> range:
    """From the top down to where the shoulders begin."""
    widths = body.any(axis=1).sum(axis=1) * mm[2]
    shoulders = np.flatnonzero(widths > 260)
    return range(int(shoulders[-1]) + 1 if shoulders.size else 0, len(widths))


def _streaks(grid: Grid, jaw: Bool, draws: RandomDraws) -> Float32:
    """Bright and dark rays, within the slices of the teeth, that fade with distance."""
    field = np.zeros(grid.shape_kij, np.float32)
    found = np.argwhere(jaw)
    if not len(found):
        return field
    top = int(np.percentile(found[:, 0], 80))
    front = found[found[:, 0] == top] if (found[:, 0] == top).any() else found
    i = np.arange(grid.shape_kij[1])[:, None]
    j = np.arange(grid.shape_kij[2])[None, :]
    for share in (0.15, 0.85):
        column = np.quantile(front[:, 2], share)
        row = np.median(front[:, 1])
        angle = np.arctan2(i - row, j - column)
        away = np.hypot((i - row) * grid.spacing_mm[1], (j - column) * grid.spacing_mm[2])
        rays = sum(np.cos(n * angle + draws.between(0, 6)) for n in (3, 7, 12, 19)) / 2
        plane = (rays / (1 + away / 40)).astype(np.float32)
        for k in range(grid.shape_kij[0]):
            field[k] += plane * np.exp(-(((k - top) * grid.spacing_mm[0] / 6) ** 2))
    return field


def _noise(shape: tuple[int, ...], sd_hu: float, draws: RandomDraws) -> Float32:
    """White noise, a little smoothed within the slice as a reconstruction kernel does, of the wanted strength."""
    noise = draws.state.standard_normal(shape).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0.7, 0.7))
    scaled: Float32 = noise * (sd_hu / float(noise[0].std()))
    return scaled


def _circle(grid: Grid, diameter_mm: float) -> Bool:
    i = (np.arange(grid.shape_kij[1]) - (grid.shape_kij[1] - 1) / 2) * grid.spacing_mm[1]
    j = (np.arange(grid.shape_kij[2]) - (grid.shape_kij[2] - 1) / 2) * grid.spacing_mm[2]
    return np.asarray(np.hypot(i[:, None], j[None, :]) <= diameter_mm / 2)
