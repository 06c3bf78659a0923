"""Running networks: whole and in windows alike, mirrored with the sides swapped, the same bits every time."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contour_ai.bundle import InferenceSettings
from contour_ai.errors import ConfigError, ModelError
from contour_ai.inference import (
    Predictor,
    autocast_dtype,
    choose_device,
    memory_format,
    predict_logits,
)
from contour_ai.network import build_network
from contour_ai.preprocess import PreprocessSettings, image_channels
from contour_ai.progress import ProgressEvent

WINDOW = (16, 16, 16)


class Pointwise(nn.Module):
    """Logits that depend on one voxel alone: windows must change nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * 3 - 1, -x], dim=1)


class LeftRight(nn.Module):
    """Channel 0 answers at the lower half of J, channel 1 at the upper, channel 2 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        lower = torch.zeros_like(x)
        lower[..., : x.shape[-1] // 2] = 1
        return torch.cat([lower, 1 - lower, x], dim=1)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    network = build_network("resunet3d", in_channels=1, out_channels=3, base_filters=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def image(*shape: int) -> Tensor:
    return torch.rand((1, *shape), generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.mark.parametrize("shape", [(40, 33, 18), (16, 50, 16), (7, 5, 60)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_windows_join_without_a_seam(shape: tuple[int, int, int], overlap: float) -> None:
    x = image(*shape)
    logits = predict_logits(
        Pointwise(), x, InferenceSettings(window_kij=WINDOW, overlap=overlap, max_voxels=1)
    )
    assert logits.shape == (2, *shape) and logits.dtype == torch.float32
    assert torch.allclose(logits[0], x[0] * 3 - 1, atol=1e-5)
    assert torch.allclose(logits[1], -x[0], atol=1e-5)


def test_windows_tell_how_far_they_are() -> None:
    events: list[ProgressEvent] = []
    predict_logits(
        Pointwise(),
        image(32, 16, 16),
        InferenceSettings(window_kij=WINDOW, max_voxels=1),
        on_progress=events.append,
    )
    assert [(e.stage, e.done, e.total) for e in events] == [("network", n, 3) for n in range(4)]


def test_a_volume_that_fits_goes_in_one_piece() -> None:
    network = tiny()
    x = image(20, 24, 28)
    whole = predict_logits(network, x, InferenceSettings(window_kij=WINDOW, max_voxels=20 * 24 * 28))
    with torch.inference_mode():
        assert torch.equal(whole, network.eval()(x[None])[0])
    windows = predict_logits(network, x, InferenceSettings(window_kij=WINDOW, max_voxels=100))
    assert windows.shape == whole.shape and not torch.equal(windows, whole)


class SmallMemory(Pointwise):
    """Refuses pieces of more than so many voxels, as a GPU does."""

    def __init__(self, voxels: int) -> None:
        super().__init__()
        self.voxels, self.seen = voxels, []  # type: ignore[var-annotated]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x[0, 0].numel())
        if self.seen[-1] > self.voxels:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return super().forward(x)


def test_without_memory_for_the_whole_it_goes_on_in_windows_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network, x = SmallMemory(16**3), image(24, 24, 24)
    with caplog.at_level(logging.WARNING, "contour_ai"):
        logits = predict_logits(network, x, InferenceSettings(window_kij=WINDOW))
    assert network.seen == [24**3] + 8 * [16**3] and "going on in windows" in caplog.text
    assert torch.allclose(logits[0], x[0] * 3 - 1, atol=1e-5)


def test_without_memory_for_a_window_it_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="not enough for one window") as caught:
        predict_logits(SmallMemory(100), image(24, 24, 24), InferenceSettings(window_kij=WINDOW))
    assert "16 x 16 x 16 voxels" in str(caught.value) and "--device cpu" in str(caught.value)


def test_dropout_is_off_and_the_same_input_gives_the_same_bits() -> None:
    network = tiny().train()
    x = image(18, 20, 22)
    for autocast in (None, torch.bfloat16):
        first = predict_logits(network, x, InferenceSettings(window_kij=WINDOW), autocast=autocast)
        assert torch.equal(
            first, predict_logits(network, x, InferenceSettings(window_kij=WINDOW), autocast=autocast)
        )
        assert first.dtype == torch.float32


def test_bfloat16_is_close_to_float32() -> None:
    network, x = tiny(), image(24, 24, 24)
    full = predict_logits(network, x, InferenceSettings(window_kij=WINDOW))
    half = predict_logits(network, x, InferenceSettings(window_kij=WINDOW), autocast=torch.bfloat16)
    assert (full - half).abs().max() < 0.05 * full.abs().max() + 0.02
    assert not torch.equal(full, half)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("max_voxels", [10**6, 1], ids=["in one piece", "in windows"])
def test_a_gpu_gives_what_the_cpu_gives(max_voxels: int) -> None:
    network, x = tiny(), image(24, 24, 24)
    settings = InferenceSettings(window_kij=WINDOW, max_voxels=max_voxels)
    here = predict_logits(network, x, settings, mirror_channels=(1, 0, 2))
    for autocast in (None, torch.bfloat16):
        there = predict_logits(
            network, x, settings, device="cuda", autocast=autocast, mirror_channels=(1, 0, 2)
        )
        assert there.device.type == "cpu" and there.dtype == torch.float32
        # TF32 has the mantissa of ten bits, bfloat16 one of seven.
        assert (here - there).abs().max() < 0.05 * here.abs().max() + 0.02


def test_mirroring_swaps_the_sides() -> None:
    x = image(4, 6, 10)
    logits = predict_logits(LeftRight(), x, InferenceSettings(window_kij=WINDOW), mirror_channels=(1, 0, 2))
    assert torch.equal(logits[0, ..., :5], torch.ones(4, 6, 5)) and not logits[0, ..., 5:].any()
    assert torch.equal(logits[1], 1 - logits[0])
    assert torch.allclose(logits[2], x[0])
    wrong = predict_logits(LeftRight(), x, InferenceSettings(window_kij=WINDOW), mirror_channels=(0, 1, 2))
    assert torch.equal(wrong[0], torch.full((4, 6, 10), 0.5))


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "cuda:"):
        with pytest.raises(ConfigError) as caught:
            choose_device(name)
        assert "auto, cpu, cuda or cuda:N" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda:99")
    assert "--device cpu" in str(caught.value)
    assert autocast_dtype(torch.device("cpu")) in (None, torch.bfloat16)
    assert autocast_dtype(torch.device("meta")) is None


def test_the_order_in_memory_follows_device_and_arithmetic() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert memory_format(cpu, None) is torch.contiguous_format
    orders = {
        memory_format(cpu, torch.bfloat16),
        memory_format(cuda, torch.bfloat16),
        memory_format(cuda, None),
    }
    assert orders == {torch.channels_last_3d}


def test_the_predictor_runs_as_the_bundle_says() -> None:
    hu = np.random.default_rng(0).integers(-200, 300, (9, 10, 12)).astype(np.int16)
    settings = PreprocessSettings(windows_hu=((-160.0, 240.0),))
    plain = Predictor(
        network=LeftRight(),
        preprocess=settings,
        inference=InferenceSettings(window_kij=WINDOW),
        device=torch.device("cpu"),
        autocast=None,
    )
    logits = plain.logits(hu)
    assert logits.shape == (3, 9, 10, 12) and logits.dtype == np.float32
    np.testing.assert_array_equal(logits[2], image_channels(hu, settings)[0])
    averaged = replace(plain, mirror_channels=(0, 1, 2)).logits(hu)
    np.testing.assert_array_equal(averaged[0], 0.5)


def test_images_in_several_windows_cost_more() -> None:
    settings = InferenceSettings(window_kij=(8, 8, 8), overlap=0.5, max_voxels=1000)
    assert settings.voxels_through_network((10, 10, 10)) == 1000
    assert settings.voxels_through_network((10, 10, 11)) == 8 * 1100
