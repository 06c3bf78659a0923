"""Plans follow the data, and the configuration where it is fixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_cases import case

from contour_ai.errors import ConfigError
from contour_ai.grid import Grid
from contour_ai.training.config import DataConfig, InputConfig, NetworkChoice, PreprocessConfig, TrainConfig
from contour_ai.training.memory import free_bytes
from contour_ai.training.plan import patient_spacing_mm, plan_input, plan_network, plan_settings, plan_windows


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
    fp32 = plan_input(config, rois, settings, network, [(60, 60, 60)] * 3, "cpu", 10**9, fewest=2)
    assert (
        fp32.batch_size == 2
        and plan_input(config, rois, settings, network, [(60, 100, 110)], "cpu", fewest=2).batch_size == 1
    )
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
    assert "Parotid_L/Parotid_R" in small.facts()["left-right pairs"]


def test_thick_slices_are_kept_until_voxels_are_cubes() -> None:
    settings = plan_settings(TrainConfig(preprocess=PreprocessConfig(spacing_mm_kij=(5.0, 2.0, 2.0))), [])
    assert plan_network(NetworkChoice(), settings, 1).level_strides == ((1, 2, 2), (2, 2, 2), (2, 2, 2))


def test_large_samples_get_a_deeper_network() -> None:
    config, grids = TrainConfig(), [Grid.axial((10, 10, 10), (3.0, 3.0, 3.0))]
    settings = plan_settings(config, grids)
    network = plan_network(config.network, settings, 1)
    shapes = [(150, 140, 190)]
    assert plan_input(config, ("A",), settings, network, shapes, "cpu").network.levels == 4
    large = plan_input(config, ("A",), settings, network, shapes, "cuda")
    assert (large.network.name, large.network.levels) == ("deeper_resunet3d", 5)
    assert all(n % 16 == 0 for n in large.patch_kij)
    assert "deeper_resunet3d, 5 levels" in large.facts()["network"]
    fixed = TrainConfig(network=NetworkChoice(name="resunet3d"))
    assert plan_input(fixed, ("A",), settings, network, shapes, "cuda").network.levels == 4
    by_hand = TrainConfig(input=InputConfig(patch_kij=(96, 96, 96)))
    assert plan_input(by_hand, ("A",), settings, network, shapes, "cpu").network.levels == 5


def test_windows_hold_what_the_rois_hold() -> None:
    soft, wide = plan_windows([case(n) for n in range(3)])
    assert (soft, wide) == ((-160.0, 240.0), (-500.0, 1000.0))
    metal, lung = case(3), case(4, presence=(False, True, True))
    metal.hu[metal.bits == 1] = 1730
    lung.hu[lung.bits == 2] = -870
    lung.hu[0, 0, 0] = 9000  # of no ROI
    assert plan_windows([case(1), metal, lung])[1] == (-900.0, 1750.0)
    metal.hu[metal.bits == 1] = 20000
    assert plan_windows([metal])[1] == (-500.0, 3000.0)
    # A ROI that is not contoured in a patient says nothing.
    hidden = replace(lung, presence=(False, False, True))
    assert plan_windows([hidden])[1] == (-500.0, 1000.0)


def test_memory_of_the_machine_limits_the_batch() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or 10**7 < free < 10**14
    config, grids = TrainConfig(), [Grid.axial((10, 10, 10), (3.0, 3.0, 3.0))]
    settings = plan_settings(config, grids)
    network = plan_network(config.network, settings, 1)
    sizes = [
        plan_input(config, ("A",), settings, network, [(40, 40, 40)], "cpu", memory).batch_size
        for memory in (None, 2 * 10**8, 5 * 10**8)
    ]
    assert sizes == [4, 1, 3]


def test_pairs_follow_the_names_unless_they_are_fixed() -> None:
    rois = ("Parotid_L", "Parotid_R", "Ear A", "Ear B")
    settings = plan_settings(TrainConfig(), [Grid.axial((10, 10, 10), (3.0, 3.0, 3.0))])
    network = plan_network(NetworkChoice(), settings, 4)

    def planned(pairs: tuple[tuple[str, str], ...] | None) -> tuple[int, ...]:
        config = TrainConfig(data=DataConfig(flip_pairs=pairs))
        return plan_input(config, rois, settings, network, [(40, 40, 40)], "cpu").mirror

    assert planned(None) == (1, 0, 2, 3)
    assert planned((("Ear A", "Ear B"), ("Parotid_R", "Parotid_L"))) == (1, 0, 3, 2)
    assert planned(()) == (0, 1, 2, 3)
    for wrong in ((("Ear A", "Eye"),), (("Ear A", "Ear B"), ("Ear B", "Parotid_L")), (("Ear A", "Ear A"),)):
        with pytest.raises(ConfigError, match=r"data\.flip_pairs does not fit the ROIs"):
            planned(wrong)
