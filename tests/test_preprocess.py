"""Preprocessing: nothing shifts, whatever the orientation, spacing or shear; and the way back is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from contour_ai.errors import ConfigError, GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.preprocess import (
    PreprocessSettings,
    axis_weights,
    body_mask,
    cubic_weights,
    image_channels,
    prepare,
    resample_logits_to_ct,
    resample_structures,
    window,
)
from contour_ai.volume import Structures, Volume

SETTINGS = PreprocessSettings(spacing_mm_kij=(3.0, 2.6, 2.2), margin_mm=4.0)
ANISOTROPIC = Grid.axial((40, 56, 70), (2.5, 1.7, 1.3), (-44.0, -50.0, 20.0))


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def turned(grid: Grid, matrix: NDArray[np.float64]) -> Grid:
    """The grid turned about the patient's origin: the scanner saw the patient from elsewhere."""
    return Grid(
        shape_kij=grid.shape_kij,
        positions_lps=grid.positions_lps @ matrix.T,
        step_i_lps=matrix @ grid.step_i_lps,
        step_j_lps=matrix @ grid.step_j_lps,
    )


def sheared(grid: Grid, di_mm: float, dj_mm: float) -> Grid:
    """Slices slide along i and j by the given mm a slice: gantry tilt, and a table that drifts."""
    n = np.arange(grid.shape_kij[0])[:, None]
    unit_i = grid.step_i_lps / np.linalg.norm(grid.step_i_lps)
    unit_j = grid.step_j_lps / np.linalg.norm(grid.step_j_lps)
    moved = grid.positions_lps + n * (di_mm * unit_i + dj_mm * unit_j)
    return Grid(
        shape_kij=grid.shape_kij, positions_lps=moved, step_i_lps=grid.step_i_lps, step_j_lps=grid.step_j_lps
    )


def unequal(grid: Grid) -> Grid:
    """Every third slice distance is half as long again."""
    gaps = np.where(np.arange(grid.shape_kij[0] - 1) % 3 == 0, 1.5, 1.0) * grid.spacing_mm[0]
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    positions = grid.positions_lps[0] + heights[:, None] * grid.normal
    return Grid(
        shape_kij=grid.shape_kij,
        positions_lps=positions,
        step_i_lps=grid.step_i_lps,
        step_j_lps=grid.step_j_lps,
    )


ORIENTATIONS = {
    "head first supine": np.eye(3),
    "prone": rotation(2, 180),
    "feet first": rotation(1, 180),
    "feet first prone": rotation(0, 180),
    "decubitus left": rotation(2, 90),
    "decubitus right": rotation(2, -90),
    "coronal": rotation(0, 90),
    "sagittal": rotation(1, 90) @ rotation(2, 90),
}
GRIDS = {name: turned(ANISOTROPIC, matrix) for name, matrix in ORIENTATIONS.items()} | {
    "oblique": turned(ANISOTROPIC, rotation(0, 12) @ rotation(2, -20)),
    "sheared": sheared(ANISOTROPIC, 0.4, -0.25),
    "unequal": unequal(ANISOTROPIC),
    "unequal, sheared, prone": turned(sheared(unequal(ANISOTROPIC), 0.3, 0.2), rotation(2, 180)),
}
EVERY_GRID = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def points(grid: Grid) -> NDArray[np.float64]:
    """(k, i, j, 3) LPS mm of every voxel centre."""
    return grid.index_to_lps(np.stack(np.meshgrid(*map(np.arange, grid.shape_kij), indexing="ij"), axis=-1))


def centre(grid: Grid) -> NDArray[np.float64]:
    return grid.index_to_lps((np.array(grid.shape_kij) - 1) / 2)


def offset(grid: Grid, mm_lps: list[float]) -> NDArray[np.float64]:
    return centre(grid) + np.array(mm_lps)


def centroid(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """LPS mm, every voxel weighted with its own volume."""
    weight = np.broadcast_to(grid.voxel_volumes_cm3[:, None, None], mask.shape)[mask]
    return (points(grid)[mask] * weight[:, None]).sum(axis=0) / weight.sum()


def ball(grid: Grid, at_lps: NDArray[np.float64], radius_mm: float) -> NDArray[np.bool_]:
    return np.linalg.norm(points(grid) - at_lps, axis=-1) <= radius_mm


def everything(grid: Grid) -> NDArray[np.bool_]:
    return np.ones(grid.shape_kij, bool)


# -- settings -----------------------------------------------------------------------------------------------


def test_settings_come_back_from_plain_values() -> None:
    settings = PreprocessSettings(
        spacing_mm_kij=(2.5, 3.0, 3.5),
        windows_hu=((-160, 240), (-500.0, 1500.0)),
        body_threshold_hu=-250,
        margin_mm=8,
        outside_hu=-1000,
    )
    assert PreprocessSettings.from_dict(settings.to_dict()) == settings
    assert settings.to_dict()["windows_hu"] == [[-160, 240], [-500.0, 1500.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spacing": [1, 1, 1]}, "spacing_mm_kij"),
        ({"spacing_mm_kij": [1, 1]}, "3 values"),
        ({"spacing_mm_kij": [1, 0, 1]}, "0.1 to 20 mm"),
        ({"windows_hu": [[240, -160]]}, "low < high"),
        ({"windows_hu": []}, "low < high"),
        ({"body_threshold_hu": 100}, "between air and water"),
        ({"margin_mm": -1}, "0 to 200 mm"),
        ({"outside_hu": 0}, "air"),
        ({"margin_mm": "wide"}, "a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PreprocessSettings.from_dict(values)
    assert message in str(caught.value)


def test_window_scales_numpy_and_torch_alike() -> None:
    torch = pytest.importorskip("torch")
    hu = np.array([-1024, -160, 40, 240, 3000], np.int16)
    expected = [-1, -1, 0, 1, 1]
    assert window(hu, -160, 240).tolist() == expected
    assert window(hu, -160, 240).dtype == np.float32
    assert window(torch.from_numpy(hu), -160, 240).tolist() == expected
    channels = image_channels(hu[None, None], PreprocessSettings(windows_hu=((-160, 240), (0, 80))))
    assert channels.shape == (2, 1, 1, 5) and channels[1, 0, 0].tolist() == [-1, -1, 0, 1, 1]


# -- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target_mm", [0.0, 0.7, 1.0, 2.3, 4.0])
def test_weights_keep_straight_lines_for_unequal_samples(target_mm: float) -> None:
    rng = np.random.default_rng(3)
    samples = np.cumsum(rng.uniform(0.5, 1.5, 60))
    targets = rng.uniform(samples[0] + 3, samples[-1] - 3, 40)
    weights = axis_weights(samples, targets, target_mm=target_mm, sample_mm=1.0, outside="edge")
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.abs(weights @ samples - targets).max() < 1e-4
    assert weights.min() >= -1e-6


def test_weights_average_what_the_target_covers() -> None:
    # Box of width sqrt(4^2 - 1^2) over samples 1 mm apart that are joined linearly.
    targets = np.array([3.5, 7.5])
    weights = axis_weights(np.arange(12.0), targets, target_mm=4.0, sample_mm=1.0, outside="zero")
    width = np.sqrt(15)
    assert np.allclose(weights[0, 3:5], 1 / width, atol=1e-6)
    assert np.allclose(weights[0, :8], weights[0, 7::-1], atol=1e-6)
    assert np.allclose(weights[1, 4:], weights[0, :8], atol=1e-6)
    assert weights[0, 2] == pytest.approx((1 - 0.5 * (2.5 - width / 2) ** 2) / width, abs=1e-6)
    assert weights[0].sum() == pytest.approx(1, abs=1e-6) and weights[0, 8] == 0


def test_weights_outside_the_samples() -> None:
    targets = np.array([-0.6, -0.4, 0.0, 2.4, 2.6])
    zero = axis_weights(np.arange(3.0), targets, target_mm=0, sample_mm=1, outside="zero")
    edge = axis_weights(np.arange(3.0), targets, target_mm=0, sample_mm=1, outside="edge")
    assert zero.sum(axis=1).tolist() == [0, 1, 1, 1, 0]
    assert edge.sum(axis=1).tolist() == [1] * 5
    single = axis_weights(np.zeros(1), np.array([-2.0, -1.4, 1.4]), target_mm=0, sample_mm=3, outside="zero")
    assert single[:, 0].tolist() == [0, 1, 1]


# -- there --------------------------------------------------------------------------------------------------


@EVERY_GRID
def test_a_ramp_has_its_exact_value_at_every_model_voxel(grid: Grid) -> None:
    slope = np.array([21.0, -17.0, 13.0])
    ramp = (points(grid) - centre(grid)) @ slope
    whole = prepare(Volume(ramp.astype(np.float32), grid), SETTINGS, body=everything(grid))
    expected = (points(whole.grid) - centre(grid)) @ slope
    index = grid.lps_to_index(points(whole.grid))
    inner = ((index > 3) & (index < np.array(grid.shape_kij) - 4)).all(axis=-1)
    assert inner.sum() > 5000
    assert np.abs(whole.hu - expected)[inner].max() <= 0.5 + 0.02  # rounding to whole HU


@EVERY_GRID
def test_model_axes_are_the_patients(grid: Grid) -> None:
    prepared = prepare(Volume(np.zeros(grid.shape_kij, np.int16), grid), SETTINGS, body=everything(grid))
    steps = prepared.grid.affine[:3, :3]
    for axis, direction in enumerate(([0, 0, 1], [0, 1, 0], [1, 0, 0])):
        cosine = steps[:, axis] @ direction / np.linalg.norm(steps[:, axis])
        assert cosine > 0.8, f"model axis {axis}"
    assert prepared.grid.spacing_mm == pytest.approx(SETTINGS.spacing_mm_kij)


def test_every_way_to_lay_the_axes_gives_the_same_voxels() -> None:
    rng = np.random.default_rng(5)
    grid = Grid.axial((20, 24, 30), (2.0, 1.5, 1.2), (-20, -15, -10))
    hu = rng.integers(-200, 200, grid.shape_kij).astype(np.int16)
    body = ball(grid, offset(grid, [1.0, 2.0, -1.5]), 14.0)
    reference = prepare(Volume(hu, grid), SETTINGS, body=body)
    left = ball(grid, offset(grid, [7.0, 0, 0]), 4.0)
    affine = grid.affine
    count = 0
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turned_affine = np.eye(4)
            turned_affine[:3, 3] = affine[:3, 3]
            for m, (axis, sign) in enumerate(zip(order, signs, strict=True)):
                turned_affine[:3, m] = sign * affine[:3, axis]
                if sign < 0:
                    turned_affine[:3, 3] += (grid.shape_kij[axis] - 1) * affine[:3, axis]
            if np.linalg.det(turned_affine[:3, :3]) * np.linalg.det(affine[:3, :3]) < 0:
                continue  # k ascends along the slice normal: left-handed stacks do not exist
            count += 1

            def laid(array: NDArray[np.generic], order=order, signs=signs) -> NDArray[np.generic]:  # type: ignore[no-untyped-def]
                flipped = np.transpose(array, order)
                return np.ascontiguousarray(flipped[tuple(slice(None, None, s) for s in signs)])

            shape = tuple(grid.shape_kij[a] for a in order)
            other = Grid.from_affine(shape, turned_affine)
            prepared = prepare(Volume(laid(hu), other), SETTINGS, body=laid(body))
            assert prepared.grid.matches(reference.grid, 1e-6)
            assert np.abs(prepared.hu.astype(int) - reference.hu).max() <= 1  # rounding of ties
            assert (prepared.body == reference.body).all()
            on_model = resample_structures(Structures.from_masks({"left": laid(left)}, other), prepared.grid)
            found = prepared.grid.index_to_lps(np.argwhere(on_model.mask("left")).mean(axis=0))
            assert found[0] - centre(grid)[0] == pytest.approx(7.0, abs=0.3)
    assert count == 24


def test_outside_the_body_is_air() -> None:
    grid = ANISOTROPIC
    body = ball(grid, centre(grid), 25.0)
    hu = np.where(body, 50, 700).astype(np.int16)  # a couch of lead outside
    prepared = prepare(Volume(hu, grid), SETTINGS, body=body)
    assert (prepared.hu[~prepared.body] == -1024).all()
    assert prepared.hu.max() <= 50
    assert prepared.body.mean() == pytest.approx(
        body.mean() * body.size * 2.5 * 1.7 * 1.3 / prepared.body.size / (3 * 2.6 * 2.2), rel=0.02
    )
    radius = 25.0 + SETTINGS.margin_mm
    assert np.array(prepared.grid.shape_kij) == pytest.approx(
        2 * radius / np.array(SETTINGS.spacing_mm_kij), abs=2
    )


def test_a_single_slice_and_a_body_at_the_border() -> None:
    grid = Grid.axial((1, 30, 30), (5.0, 2.0, 2.0))
    prepared = prepare(
        Volume(np.full((1, 30, 30), 40, np.int16), grid),
        PreprocessSettings(spacing_mm_kij=(5.0, 2.0, 2.0), margin_mm=0),
    )
    assert prepared.hu.shape == (1, 30, 30) and (prepared.hu == 40).all() and prepared.body.all()


def test_an_image_without_a_patient_is_refused() -> None:
    grid = Grid.axial((3, 8, 8), (2.0, 2.0, 2.0))
    with pytest.raises(InputError) as caught:
        prepare(Volume(np.full((3, 8, 8), -1000, np.int16), grid), SETTINGS)
    assert "No patient was found" in str(caught.value) and "-1000 to -1000 HU" in str(caught.value)


# -- there and back -----------------------------------------------------------------------------------------


@EVERY_GRID
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (5.3, -4.1, 2.7)])
def test_a_ball_comes_back_where_it_was(grid: Grid, shift: tuple[float, float, float]) -> None:
    at = centre(grid) + shift
    prepared = prepare(Volume(np.zeros(grid.shape_kij, np.int16), grid), SETTINGS, body=everything(grid))
    mask = ball(grid, at, 20.0)
    on_model = resample_structures(Structures.from_masks({"ball": mask}, grid), prepared.grid)
    drawn = ball(prepared.grid, at, 20.0)
    assert dice(on_model.mask("ball"), drawn) > 0.96
    distance = 20.0 - np.linalg.norm(points(prepared.grid) - at, axis=-1)
    binary = np.where(on_model.mask("ball"), 1.0, -1.0)
    for logit, centroid_mm, overlap in ((distance, 0.05, 0.985), (binary, 0.2, 0.96)):  # voxels of 2 to 3 mm
        restored = resample_logits_to_ct(logit.astype(np.float32), prepared.grid, grid)
        assert restored is not None
        box, level = restored
        back = np.zeros(grid.shape_kij, bool)
        back[box] = level > 0
        assert np.linalg.norm(centroid(back, grid) - centroid(mask, grid)) < centroid_mm
        assert dice(mask, back) > overlap
    box, level = resample_logits_to_ct(distance.astype(np.float32), prepared.grid, grid)
    exact = 20.0 - np.linalg.norm(points(grid)[box] - at, axis=-1)
    near = np.abs(exact) < 3
    assert abs((level - exact)[near].mean()) < 0.1  # chords of a ball lie inside it, by about d^2 / 8r


@EVERY_GRID
def test_a_plane_comes_back_exactly(grid: Grid) -> None:
    prepared = prepare(Volume(np.zeros(grid.shape_kij, np.int16), grid), SETTINGS, body=everything(grid))
    direction = np.array([0.6, -0.7, 0.39])
    logit = ((points(prepared.grid) - centre(grid)) @ direction + 3.0).astype(np.float32)
    restored = resample_logits_to_ct(logit, prepared.grid, grid, threshold=1.0)
    assert restored is not None
    box, level = restored
    expected = (points(grid)[box] - centre(grid)) @ direction + 2.0
    assert np.abs(level - expected).max() < 1e-3
    everywhere = (points(grid) - centre(grid)) @ direction + 2.0 > 1e-3
    inside = np.zeros(grid.shape_kij, bool)
    inside[box] = True
    assert not (everywhere & ~inside).any(), "the box cuts the ROI"


def test_the_box_is_the_rois_own() -> None:
    grid = ANISOTROPIC
    prepared = prepare(Volume(np.zeros(grid.shape_kij, np.int16), grid), SETTINGS, body=everything(grid))
    at = offset(grid, [10.0, -8.0, 6.0])
    distance = (9.0 - np.linalg.norm(points(prepared.grid) - at, axis=-1)).astype(np.float32)
    restored = resample_logits_to_ct(distance, prepared.grid, grid)
    assert restored is not None
    box, level = restored
    assert level.shape == tuple(s.stop - s.start for s in box)
    assert level.size < 0.02 * np.prod(grid.shape_kij)
    assert (level[:, 0] <= 0).all() and (level[:, -1] <= 0).all()
    assert (level[:, :, 0] <= 0).all() and (level[:, :, -1] <= 0).all()


def test_cubic_weights_keep_lines_and_parabolas_and_end_flat() -> None:
    samples = np.arange(7) * 3.0 + 1.0
    inner = np.linspace(4.0, 16.0, 23)  # a parabola needs a sample on either side of its piece
    for curve in (lambda x: 2.0 * x - 5.0, lambda x: 0.3 * x**2 - x):
        np.testing.assert_allclose(cubic_weights(samples, inner) @ curve(samples), curve(inner), atol=1e-4)
    ends = np.array([1.0, 1.7, 2.9, 17.0, 19.0])
    np.testing.assert_allclose(cubic_weights(samples, ends) @ samples, ends, atol=1e-4)
    np.testing.assert_allclose(
        cubic_weights(samples, np.array([-9.0, 40.0])) @ samples, [1.0, 19.0], atol=1e-4
    )
    assert cubic_weights(np.array([5.0]), np.array([3.0, 8.0])).tolist() == [[1.0], [1.0]]
    np.testing.assert_allclose(cubic_weights(samples[:2], np.array([2.0])) @ samples[:2], [2.0], atol=1e-6)


def test_a_surface_keeps_its_place_between_voxels() -> None:
    """Ridges as wide as 2.5 voxels, read half-way between them: straight lines would be off by 0.35 at the surface."""
    model = Grid.axial((12, 12, 30), (2.0, 2.0, 2.0))
    ct = Grid.axial((12, 12, 30), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0))

    def ridges(grid: Grid) -> NDArray[np.float32]:
        return (6.0 * np.cos(2 * np.pi * (points(grid)[..., 0] - 31.0) / 10.0)).astype(np.float32)

    restored = resample_logits_to_ct(ridges(model), model, ct)
    assert restored is not None
    box, level = restored
    exact = ridges(ct)[box]
    near = (np.abs(exact) < 3.0)[:, :, 2:-2]
    assert near.any() and np.abs(level - exact)[:, :, 2:-2][near].max() < 0.12


def test_no_voxel_is_inside_among_voxels_that_are_not_nor_outside_among_those_that_are() -> None:
    """A cubic through -12, -1, -1, -12 passes zero between the two -1."""
    model, ct = (
        Grid.axial((3, 3, 14), (2.0, 2.0, 2.0)),
        Grid.axial((3, 3, 14), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0)),
    )
    row = np.array([12, 1, 1, 12, 12, -3, -12, -1, -1, -12, -3, 5, 5, 5], np.float32)
    logit = np.broadcast_to(row, model.shape_kij).copy()
    assert cubic_weights(np.arange(4.0), np.array([1.5])) @ row[6:10] > 0
    assert cubic_weights(np.arange(4.0), np.array([1.5])) @ row[:4] < 0
    restored = resample_logits_to_ct(logit, model, ct)
    assert restored is not None
    box, level = restored
    inside = np.zeros(ct.shape_kij, bool)
    inside[box] = level > 0
    assert inside[1, 1].tolist() == [True] * 5 + [False] * 5 + [True] * 4


def test_a_level_is_the_same_however_much_of_the_field_is_looked_at() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(-6, 1, (16, 18, 20)).astype(np.float32)
    logit[5:10, 6:11, 7:13] = rng.normal(0.5, 3, (5, 5, 6))
    model = Grid.axial((16, 18, 20), (3.0, 2.6, 2.2))
    ct = Grid.axial((40, 60, 60), (1.1, 0.8, 0.7), (1.3, 0.9, 2.0))
    small = resample_logits_to_ct(logit, model, ct)
    logit[0, 0, 0] = logit[-1, -1, -1] = 5.0  # now the box is the whole grid
    whole = resample_logits_to_ct(logit, model, ct)
    assert small is not None and whole is not None
    (box, level), (wide_box, wide) = small, whole
    offset_kij = [a.start - b.start for a, b in zip(box, wide_box, strict=True)]
    assert min(offset_kij) >= 0 and wide.size > 5 * level.size
    part = wide[tuple(slice(o, o + n) for o, n in zip(offset_kij, level.shape, strict=True))]
    np.testing.assert_allclose(part, level, atol=1e-4)


def test_nothing_and_less_than_a_voxel_centre_come_back_as_none() -> None:
    grid = Grid.axial((4, 6, 6), (9.0, 9.0, 9.0))
    model = Grid.axial((21, 31, 31), (2.0, 2.0, 2.0), (-3.0, -3.0, -3.0))
    logit = np.full(model.shape_kij, -5.0, np.float32)
    assert resample_logits_to_ct(logit, model, grid) is None
    logit[3, 4, 4] = 5.0  # between the centres of the coarse CT
    assert resample_logits_to_ct(logit, model, grid) is None


def test_a_model_grid_of_another_ct_is_refused() -> None:
    other = turned(ANISOTROPIC, rotation(0, 10))
    with pytest.raises(GeometryError) as caught:
        resample_logits_to_ct(np.ones(other.shape_kij, np.float32), other, ANISOTROPIC)
    assert "does not run along the axes of the CT" in str(caught.value)


def test_structures_keep_presence_and_overlaps() -> None:
    grid = ANISOTROPIC
    prepared = prepare(Volume(np.zeros(grid.shape_kij, np.int16), grid), SETTINGS, body=everything(grid))
    big, small = ball(grid, centre(grid), 15), ball(grid, offset(grid, [4, 0, 0]), 8)
    structures = Structures.from_masks(
        {"big": big, "small": small, "nothing": np.zeros(grid.shape_kij, bool)},
        grid,
        ["small", "missing", "big", "nothing"],
    )
    on_model = resample_structures(structures, prepared.grid)
    assert on_model.names == structures.names and on_model.presence == (True, False, True, True)
    assert not on_model.mask("missing").any() and not on_model.mask("nothing").any()
    assert (on_model.mask("big") | ~on_model.mask("small")).all() and on_model.mask("small").any()


# -- body ---------------------------------------------------------------------------------------------------


def patient(grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.int16]]:
    """An ellipse with a lung, an open airway and a bone, without and with noise."""
    p = points(grid) - centre(grid)
    body = (p[..., 0] / 85) ** 2 + (p[..., 1] / 55) ** 2 < 1
    hu = np.where(body, 30, -1000)
    hu[((p[..., 0] - 35) / 25) ** 2 + (p[..., 1] / 30) ** 2 < 1] = -850
    hu[(p[..., 0] + 30) ** 2 + (p[..., 1] - 25) ** 2 < 100] = 900
    return body, hu.astype(np.int16)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("couch", ["none", "sheet in touch", "curved", "hollow box", "thick, apart"])
@pytest.mark.parametrize("pixel_mm", [0.9, 1.37, 3.9])
def test_body_without_couch(couch: str, pixel_mm: float) -> None:
    n = round(240 / pixel_mm)
    grid = Grid.axial((7, n, n), (3.0, pixel_mm, pixel_mm))
    body, hu = patient(grid)
    x, y = np.moveaxis((points(grid) - centre(grid))[..., :2], -1, 0)
    wide = np.abs(x) < 110
    shell = max(3.0, pixel_mm)
    drawn = {
        "none": np.zeros_like(body),
        "sheet in touch": wide & (y >= 53) & (y < 53 + shell),
        "curved": wide & (np.abs(y - 62 + (x / 60) ** 2 * 4) < shell / 2),
        "hollow box": wide
        & (y > 60)
        & (y < 100)
        & ~((y > 60 + shell) & (y < 100 - shell) & (np.abs(x) < 107)),
        "thick, apart": wide & (y > 75) & (y < 90),
    }[couch]
    hu = np.where(drawn & ~body, 150, hu)
    hu = (hu + np.random.default_rng(1).normal(0, 20, hu.shape)).astype(np.int16)
    assert dice(body_mask(Volume(hu, grid)), body) > 0.985


@pytest.mark.parametrize("background", [-1000, -1024])
@pytest.mark.parametrize("couch", ["board in touch", "hollow, in touch", "sheet, apart"])
def test_body_on_a_couch_that_goes_through_all_slices(couch: str, background: int) -> None:
    """A solid board in touch with the back is too thick to be opened away; phantoms have no noise."""
    grid = Grid.axial((20, 200, 240), (3.0, 1.2, 1.2))
    body, hu = patient(grid)
    body = body & (np.arange(20)[:, None, None] < 18)  # the couch goes on where the patient ends
    hu = np.where(body, hu, background)
    x, y = np.moveaxis((points(grid) - centre(grid))[..., :2], -1, 0)
    neck = (np.arange(20) >= 8)[:, None, None]
    body = body & ~(neck & (y > 42))
    hu = np.where(body, hu, background)
    lowest = y[body].max()
    wide = np.abs(x) < 130
    drawn = {
        "board in touch": wide & (y > lowest) & (y < lowest + 15),
        "hollow, in touch": wide & (y > lowest) & (y < lowest + 40) & ~((y > lowest + 3) & (y < lowest + 37)),
        "sheet, apart": wide & (y > lowest + 12) & (y < lowest + 16),
    }[couch]
    hu = np.where(drawn, 80, hu).astype(np.int16)
    assert dice(body_mask(Volume(hu, grid)), body) > 0.985


def test_an_image_cut_out_before_keeps_its_outline() -> None:
    """As in OpenKBP: below the irradiated part only the organs themselves are left, and some have air around."""
    grid = Grid.axial((12, 64, 64), (2.5, 3.9, 3.9))
    body, hu = patient(grid)
    body = ndimage.binary_dilation(body, np.ones((1, 3, 3)))
    body[:5] = False
    body[:5, 30:33, 20:23] = True
    hu[~body] = -1024
    hu[:5, 30:33, 20:23] = 40
    hu[:5, 31, 21] = -1024
    assert (body_mask(Volume(hu, grid)) == body).all()


def test_body_where_outside_is_already_air() -> None:
    grid = Grid.axial((12, 64, 64), (2.5, 3.9, 3.9))
    body, hu = patient(grid)
    hu[~body] = -1024
    found = body_mask(Volume(hu, grid))
    assert (found == body).all()
    for orientation in (rotation(2, 180), rotation(2, 90), rotation(1, 180)):
        turned_found = body_mask(Volume(hu, turned(grid, orientation)))
        assert dice(turned_found, body) > 0.98


def test_body_keeps_arms_and_ears() -> None:
    grid = Grid.axial((9, 260, 300), (3.0, 1.0, 1.0))
    p = points(grid) - centre(grid)
    trunk = (p[..., 0] / 70) ** 2 + (p[..., 1] / 55) ** 2 < 1
    arm = (p[..., 0] - 115) ** 2 + p[..., 1] ** 2 < 25**2
    ear = (np.abs(p[..., 0] + 71) < 5) & (np.abs(p[..., 1]) < 2)
    drip = (np.abs(p[..., 0] + 120) < 3) & (np.abs(p[..., 1] + 60) < 3)
    hu = np.where(trunk | arm | ear | drip, 20, -1000).astype(np.int16)
    hu[(p[..., 0] - 115) ** 2 + p[..., 1] ** 2 < 8**2] = 700  # a bone, which no device has
    found = body_mask(Volume(hu, grid))
    assert found[arm].all() and found[ear].all()
    assert not found[drip & ~trunk].any()


def test_body_of_nothing_is_empty_and_of_a_dot_is_the_dot() -> None:
    grid = Grid.axial((3, 20, 20), (2.0, 2.0, 2.0))
    hu = np.full(grid.shape_kij, -1000, np.int16)
    assert not body_mask(Volume(hu, grid)).any()
    hu[1, 8:12, 8:12] = 0
    assert body_mask(Volume(hu, grid)).sum() == 16
