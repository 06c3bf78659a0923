"""What a voxel of a step takes is measured on a sample that fits."""

from __future__ import annotations

import pytest
import torch

from contour_ai.network import ResidualUNet3d
from contour_ai.network_config import preset
from contour_ai.training.step_time import PROBES_KIJ, seconds_per_voxel

NETWORK = preset("resunet3d", in_channels=1, out_channels=2, base_filters=2)
CPU = torch.device("cpu")


def test_a_sample_of_a_gpu_is_large_enough_to_be_more_than_starting_kernels() -> None:
    sizes = {name: k * i * j for name, (k, i, j) in PROBES_KIJ.items()}
    assert sizes["cuda"] > 1_000_000 > 100_000 > sizes["cpu"]


def test_a_sample_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    forward = ResidualUNet3d.forward

    def limited(network: ResidualUNet3d, x: torch.Tensor) -> object:
        seen.append(tuple(x.shape[2:]))
        if x[0, 0].numel() > 16 * 24 * 24:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return forward(network, x)

    monkeypatch.setattr(ResidualUNet3d, "forward", limited)
    assert 0 < seconds_per_voxel(NETWORK, CPU, None) < 1
    assert seen == [(32, 48, 48), *3 * [(16, 24, 24)]]
    seen.clear()
    seconds_per_voxel(NETWORK, CPU, None, (8, 24, 100))
    assert seen == 3 * [(8, 24, 48)]


def test_no_memory_for_anything_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(network: ResidualUNet3d, x: torch.Tensor) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    monkeypatch.setattr(ResidualUNet3d, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):
        seconds_per_voxel(NETWORK, CPU, None)


@pytest.mark.parametrize(("precision", "samples"), [(None, 2), (torch.bfloat16, 1)])
def test_it_is_measured_in_the_precision_of_the_training(
    precision: torch.dtype | None, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    forward = ResidualUNet3d.forward

    def recorded(network: ResidualUNet3d, x: torch.Tensor) -> object:
        seen.add((len(x), torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None))
        return forward(network, x)

    monkeypatch.setattr(ResidualUNet3d, "forward", recorded)
    seconds_per_voxel(NETWORK, CPU, precision, (8, 16, 16))
    assert seen == {(samples, precision)}
