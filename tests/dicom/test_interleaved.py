"""Passes half-way between each other, renumbered by position and without times: what is left of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from synthetic import axial, write_stack

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.interleaved import resembling_turns
from contour_ai.errors import GeometryError

SLICES = 12


def write(folder: Path, edit: Callable[[int, Dataset], None]) -> None:
    write_stack(folder, axial(SLICES, 1.5), edit)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("KVP", ["80", "120"]),
        ("ConvolutionKernel", ["B30f", "B70f"]),
        ("ContrastBolusAgent", ["", "Iohexol"]),
        ("SeriesDescription", ["early", "late"]),
        ("TableHeight", ["120", "125", "130"]),
    ],
)
def test_settings_that_take_turns_are_refused_and_each_pass_can_be_chosen(
    tmp_path: Path, keyword: str, values: list[str]
) -> None:
    write(tmp_path, lambda k, d: setattr(d, keyword, values[k % len(values)]))
    with pytest.raises(GeometryError, match=f"{len(values)} acquisitions lie in this CT series") as caught:
        read_ct(tmp_path)
    for number, value in enumerate(values, start=1):
        assert f"--acquisition {number}: {keyword} {value or 'none'}, {SLICES // len(values)} slices" in str(
            caught.value
        )
        ct = read_ct(tmp_path, acquisition=number)
        lowest = -50 + 1.5 * (number - 1)
        assert np.allclose(ct.grid.positions_lps[:, 2], lowest + 1.5 * len(values) * np.arange(len(ct.paths)))


@pytest.mark.parametrize("keyword", ["XRayTubeCurrent", "WindowCenter", "ContentTime"])
def test_settings_that_may_change_within_a_scan_are_a_suspicion(tmp_path: Path, keyword: str) -> None:
    values = ["101010", "111010"] if keyword == "ContentTime" else ["100", "200"]
    write(tmp_path, lambda k, d: setattr(d, keyword, values[k % 2]))
    ct = read_ct(tmp_path)
    (note,) = (text for text in ct.notes if "passes" in text)
    assert len(ct.paths) == SLICES and f"{keyword} takes turns ({'; '.join(values)})" in note


@pytest.mark.parametrize(
    "value_of",
    [
        lambda k: 100,
        lambda k: 100 + k,
        lambda k: 100 + (k >= SLICES // 2),
        lambda k: 100 + k // 2 % 2,
        lambda k: 100 + (k == 5),
        lambda k: [100, 101, 100, 100, 101, 101, 100, 101, 100, 100, 101, 100][k],
    ],
    ids=["constant", "modulated", "two halves", "pairs", "one odd", "irregular"],
)
def test_settings_of_an_ordinary_scan(tmp_path: Path, value_of: Callable[[int], int]) -> None:
    def edit(k: int, d: Dataset) -> None:
        d.KVP = d.XRayTubeCurrent = d.TableHeight = value_of(k)

    write(tmp_path, edit)
    assert read_ct(tmp_path).notes == ()


def body(
    slices: int, spacing_mm: float, shift_mm: Callable[[int], float] = lambda k: 0.0
) -> NDArray[np.int16]:
    """A body that narrows towards its end, with an organ and a bone, on pixels of 4 mm; slices may be moved."""
    rng = np.random.default_rng(0)
    i, j = (4.0 * (np.indices((64, 64)) - 32)).astype(np.float64)
    image = np.empty((slices, 64, 64))
    for k in range(slices):
        z, y = spacing_mm * k, i - shift_mm(k)
        image[k] = np.where((y / (100 - z / 3)) ** 2 + (j / (110 - z / 4)) ** 2 < 1, 20.0, -1000.0)
        image[k][((y - z / 4) / 25) ** 2 + ((j - 40) / 30) ** 2 < 1] = 70
        image[k][((y - 50) / 12) ** 2 + ((j + 20 - z / 5) / 12) ** 2 < 1] = 400
    return (image + rng.normal(0, 20, image.shape)).astype(np.int16)


@pytest.mark.parametrize(("slices", "spacing_mm"), [(12, 3.0), (24, 2.5), (40, 5.0)])
def test_images_of_passes_resemble_the_next_but_one(slices: int, spacing_mm: float) -> None:
    assert resembling_turns(body(slices, spacing_mm)) == 0
    assert resembling_turns(body(slices, spacing_mm, lambda k: 8.0 * (k % 2))) == 2
    assert resembling_turns(body(slices, spacing_mm, lambda k: 12.0 * (k % 3))) == 3


def test_images_of_other_ordinary_scans() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 20, (20, 64, 64)).astype(np.int16)
    assert resembling_turns(noise) == 0  # a phantom of water
    rows = noise + 5 * (np.arange(20) % 2)[:, None, None]
    assert resembling_turns(rows.astype(np.int16)) == 0  # detector rows that differ by 5 HU
    assert resembling_turns(np.full((20, 64, 64), -1000, np.int16)) == 0
    one_move = body(24, 3.0, lambda k: 10.0 * (k >= 12))
    assert resembling_turns(one_move) == 0
    slow = body(24, 3.0, lambda k: 4.0 * np.sin(k / 2))
    assert resembling_turns(slow) == 0
    assert resembling_turns(body(6, 3.0, lambda k: 8.0 * (k % 2))) == 0  # too few to say
    assert resembling_turns(body(12, 3.0)[:, :3, :5]) == 0


def test_a_ct_whose_images_take_turns_has_a_note(tmp_path: Path) -> None:
    image = body(16, 3.0, lambda k: 8.0 * (k % 2))

    def edit(k: int, d: Dataset) -> None:
        d.PixelData = (image[k] + 1024).clip(0).astype(np.uint16).tobytes()

    write_stack(tmp_path, axial(16, 3.0, shape_ij=(64, 64), spacing_ij_mm=(4.0, 4.0)), edit)
    (note,) = read_ct(tmp_path).notes
    assert "every second slice resembles the next more than its neighbours" in note
