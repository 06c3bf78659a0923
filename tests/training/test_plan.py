"""Plans follow the data, and the configuration where it is fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contour_ai.grid import Grid
from contour_ai.training.config import InputConfig, NetworkChoice, PreprocessConfig, TrainConfig
from contour_ai.training.plan import patient_spacing_mm, plan_input, plan_network, plan_settings


def test_voxel_size_is_the_median_but_not_too_fine() -> None:
    grids = [Grid.axial((10, 10, 10), (3.0, s, s)) for s in (0.9, 1.0, 4.0)]
    assert plan_settings(TrainConfig(), grids).spacing_mm_kij == (3.0, 2.0, 2.0)
    finest = TrainConfig(preprocess=PreprocessConfig(finest_mm=0.5))
    assert plan_settings(finest, grids).spacing_mm_kij == (3.0, 1.0, 1.0)
    fixed = TrainConfig(preprocess=PreprocessConfig(spacing_mm_kij=(5.0, 4.0, 3.0)))
    assert plan_settings(fixed, grids).spacing_mm_kij == (5.0, 4.0, 3.0)


def test_voxel_size_is_by_patient_axes() -> None:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 2, 0), (0, 0, -3), (1, 0, 0)  # coronal slices
    assert patient_spacing_mm(Grid.from_affine((4, 5, 6), affine)) == pytest.approx((3.0, 2.0, 1.0))


def test_small_bodies_are_one_sample_and_large_ones_are_cut() -> None:
    config = TrainConfig()
    grids = [Grid.axial((60, 100, 110), (3.0, 3.0, 3.0))]
    settings = plan_settings(config, grids)
    network = plan_network(config.network, settings, 2)
    rois = ("Parotid_L", "Parotid_R")
    small = plan_input(config, rois, settings, network, [(60, 100, 110)] * 3, "cpu")
    assert (small.patch_kij, small.batch_size, small.whole_body) == ((64, 104, 112), 1, True)
    assert small.mirror == (1, 0)
    large = plan_input(config, rois, settings, network, [(300, 250, 250)], "cpu")
    assert not large.whole_body and np.prod(large.patch_kij) <= 500_000
    assert all(n % 8 == 0 for n in large.patch_kij)
    assert plan_input(config, rois, settings, network, [(60, 100, 110)], "cuda", 10**9).batch_size == 1
    assert plan_input(config, rois, settings, network, [(60, 100, 110)], "cuda", 10**11).batch_size == 4
    assert (small.network.norm, "instance norm" in small.facts()["network"]) == ("instance", True)
    gpu = plan_input(config, rois, settings, network, [(60, 100, 110)], "cuda", 10**11)
    assert (gpu.network.norm, "batch norm" in gpu.facts()["network"]) == ("batch", True)
    asked = replace(config, network=NetworkChoice(norm="batch"))
    assert plan_network(asked.network, settings, 2).norm == "batch"
    fixed = TrainConfig(input=InputConfig(patch_kij=(32, 32, 32), batch_size=3))
    assert plan_input(fixed, rois, settings, network, [(60, 100, 110)], "cpu").batch_size == 3
    assert "Parotid_L/Parotid_R" in small.facts()["swapped in a mirror"]


def test_thick_slices_are_kept_until_voxels_are_cubes() -> None:
    settings = plan_settings(TrainConfig(preprocess=PreprocessConfig(spacing_mm_kij=(5.0, 2.0, 2.0))), [])
    assert plan_network(NetworkChoice(), settings, 1).level_strides == ((1, 2, 2), (2, 2, 2), (2, 2, 2))
