"""Runs a network over a patient: in one piece where it fits, in overlapping windows where it does not."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contour_ai.bundle import InferenceSettings, ModelBundle
from contour_ai.errors import ConfigError, ModelError
from contour_ai.preprocess import PreprocessSettings, image_channels
from contour_ai.progress import OnProgress, ProgressEvent, no_progress

logger = logging.getLogger(__name__)

Triple = tuple[int, int, int]

GAUSSIAN_SIGMA = 1 / 8
"""Width of a window's weight as a share of its size, as in nnU-Net: windows know little at their borders."""
SMALLEST_WINDOW_WEIGHT = 1e-3
"""Corners of the volume are covered by one window's corner only: its weight must not vanish in fp32."""


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: `auto` takes CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    index = name.removeprefix("cuda:")
    if name not in ("cpu", "cuda") and not (name.startswith("cuda:") and index.isdigit()):
        raise ConfigError("There is no such device.", found=name, expected="auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and (int(index) if index.isdigit() else 0) >= count:
        raise ConfigError(
            "This CUDA device is not available.",
            found=f"{name}; {count} CUDA devices, torch {torch.__version__}",
            fix="use --device cpu, or install torch for CUDA and the driver",
        )
    return torch.device(name)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device computes in it faster than in fp32; None for fp32.

    That is CUDA from Ampere on and CPUs with AMX or AVX512-BF16 units; other CPUs emulate it slowly.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    # The first two say what the CPU has, the third what oneDNN was told to use (ONEDNN_MAX_CPU_ISA).
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    has_units = any(getattr(torch.cpu, name, lambda: False)() for name in names)
    return torch.bfloat16 if has_units and torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def memory_format(device: torch.device, autocast: torch.dtype | None) -> torch.memory_format:
    """The order of a network's numbers in memory that is fastest there: channels_last_3d, but for fp32 on CPUs.

    One thread, torch 2.13, a sample of 80 x 64 x 96 voxels, 16 filters: in fp32, a step took 1.1 (AVX2) to 1.25 times
    (AVX-512) as long in channels_last_3d, inference 1.1 to 1.2 times; with a third of the voxels neither was faster.
    """
    plain = device.type == "cpu" and autocast is None
    return torch.contiguous_format if plain else torch.channels_last_3d


@torch.inference_mode()
def predict_logits(
    network: nn.Module,
    image: Tensor,
    settings: InferenceSettings,
    *,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    mirror_channels: Sequence[int] | None = None,
    on_progress: OnProgress = no_progress,
) -> Tensor:
    """(R, K, I, J) float32 logits on the CPU for an image (C, K, I, J).

    The same input gives the same bits on the same machine with the same number of threads.

    Args:
        network: (N, C, K, I, J) to (N, R, K, I, J), for any K, I, J; put into evaluation mode.
        settings: in one piece or in windows, and how far these overlap.
        autocast: what `autocast_dtype` gives; None for fp32.
        mirror_channels: channel that each channel becomes in a left-right mirror (axis J); given, the mean of
            the image's and its mirror's logits is returned.
        on_progress: stage "network", one step a window.

    Raises:
        ModelError: the memory of the GPU is not enough for one window.
    """
    device = torch.device(device)
    order = memory_format(device, autocast)
    network = network.eval().to(device=device, memory_format=order)  # type: ignore[call-overload]
    run = _Run(network, device, autocast, None if mirror_channels is None else list(mirror_channels))
    size = tuple(image.shape[1:])
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        in_one_window = all(n <= w for n, w in zip(size, settings.window_kij, strict=True))
        if image[0].numel() <= settings.max_voxels or in_one_window:
            on_progress(ProgressEvent(stage="network", done=0, total=1))
            logits = _where_it_fits(partial(run, image))
            if logits is not None:
                on_progress(ProgressEvent(stage="network", done=1, total=1))
                return logits.cpu().contiguous()
            logger.warning("The whole volume does not fit the GPU's memory: going on in windows.")
        # Added up on the device, or on the CPU where the sums do not fit beside a window.
        for place in dict.fromkeys((device, torch.device("cpu"))):
            logits = _where_it_fits(partial(_in_windows, run, image, place, settings, on_progress))
            if logits is not None:
                return logits.cpu()
    raise ModelError(
        "The memory of the GPU is not enough for one window of the network.",
        where=device,
        found=f"windows of {' x '.join(map(str, settings.window_kij))} voxels",
        fix="use --device cpu, or keep other programs off this GPU",
    )


def _where_it_fits(compute: Callable[[], Tensor]) -> Tensor | None:
    """What `compute` gives; None, and the memory free again, where that of the GPU was not enough."""
    try:
        return compute()
    except torch.OutOfMemoryError:
        pass
    # Not within the handler: the error keeps what was computed so far alive.
    torch.cuda.empty_cache()
    return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictor:
    """A network with all that decides its logits: the one way it is run, in validation, tuning and prediction."""

    network: nn.Module
    preprocess: PreprocessSettings
    inference: InferenceSettings
    device: torch.device
    autocast: torch.dtype | None
    """What `autocast_dtype` gives; None for fp32."""
    mirror_channels: tuple[int, ...] | None = None
    """Channel that each channel becomes in a left-right mirror, where the mirror image is averaged."""

    @classmethod
    def of(
        cls,
        bundle: ModelBundle,
        network: nn.Module,
        device: torch.device,
        autocast: torch.dtype | None,
        *,
        tta: bool | None = None,
    ) -> Predictor:
        """A bundle's network, run with the bundle's settings.

        Args:
            tta: whether to average with the mirror image. None: the model's setting.
        """
        return cls(
            network=network,
            preprocess=bundle.preprocess,
            inference=bundle.inference,
            device=device,
            autocast=autocast,
            mirror_channels=bundle.mirror_channels if bundle.uses_mirror_tta(tta) else None,
        )

    def logits(self, hu: NDArray[np.generic], on_progress: OnProgress = no_progress) -> NDArray[np.float32]:
        """Logits (R, k, i, j) of an image (k, i, j) in HU on the model's grid."""
        found = predict_logits(
            self.network,
            torch.from_numpy(image_channels(np.asarray(hu), self.preprocess)),
            self.inference,
            device=self.device,
            autocast=self.autocast,
            mirror_channels=self.mirror_channels,
            on_progress=on_progress,
        )
        array: NDArray[np.float32] = found.numpy()
        return array


class Average(nn.Module):
    """Several networks as one, whose logit is that of their mean probability.

    Args:
        networks: of the same input channels.
        channels: for each network the channel of every ROI, in the order of the average's ROIs.
    """

    def __init__(self, networks: Sequence[nn.Module], channels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.channels = [list(of_network) for of_network in channels]

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, K, I, J) to (N, R, K, I, J)."""
        inside: Tensor | None = None  # log of the sum of probabilities, and of those of the opposite
        outside: Tensor | None = None
        for network, channels in zip(self.networks, self.channels, strict=True):
            logits = network(image).float()[:, channels]  # (N, R, K, I, J)
            yes, no = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
            inside = yes if inside is None else torch.logaddexp(inside, yes)
            outside = no if outside is None else torch.logaddexp(outside, no)
        assert inside is not None and outside is not None
        return inside - outside


class _Run:
    """The network applied to one piece of an image: (C, K, I, J) to (R, K, I, J) float32 on the device."""

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        autocast: torch.dtype | None,
        mirror_channels: list[int] | None,
    ) -> None:
        self.network, self.device, self.autocast = network, device, autocast
        self.mirror_channels = mirror_channels

    def __call__(self, image: Tensor) -> Tensor:
        logits = self._forward(image)
        if self.mirror_channels is not None:
            mirrored = self._forward(image.flip(-1)).flip(-1)  # (R, K, I, J)
            logits = (logits + mirrored[self.mirror_channels]) / 2
        return logits

    def _forward(self, image: Tensor) -> Tensor:
        x = image[None].to(self.device, torch.float32)  # (1, C, K, I, J)
        x = x.contiguous(memory_format=memory_format(self.device, self.autocast))
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits: Tensor = self.network(x)
        return logits[0].float().contiguous()  # (R, K, I, J)


def _in_windows(
    run: _Run, image: Tensor, place: torch.device, settings: InferenceSettings, on_progress: OnProgress
) -> Tensor:
    """Gaussian-weighted mean of the windows' logits, added up on the device `place`."""
    image = image.to(place)
    size = tuple(image.shape[1:])
    window = tuple(min(w, n) for w, n in zip(settings.window_kij, size, strict=True))
    starts_of = (_starts(n, w, settings.overlap) for n, w in zip(size, window, strict=True))
    boxes = list(itertools.product(*starts_of))
    weight = _gaussian(window).to(place)
    total: Tensor | None = None
    weights = torch.zeros(size, device=place)
    for done, starts in enumerate(boxes):
        on_progress(ProgressEvent(stage="network", done=done, total=len(boxes)))
        box = tuple(slice(s, s + w) for s, w in zip(starts, window, strict=True))
        logits = run(image[(slice(None), *box)]).to(place)
        if total is None:
            total = torch.zeros((logits.shape[0], *size), device=place)
        total[(slice(None), *box)] += logits * weight
        weights[box] += weight
    assert total is not None
    on_progress(ProgressEvent(stage="network", done=len(boxes), total=len(boxes)))
    return total.div_(weights)


def _starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows start along one axis: evenly, from end to end, overlapping by at least `overlap`."""
    step = max(1.0, window * (1 - overlap))
    count = int(np.ceil((size - window) / step)) + 1
    return [int(s) for s in np.linspace(0, size - window, count).round()]


def _gaussian(window: tuple[int, ...]) -> Tensor:
    """Weight of a window's voxels, 1 in the middle."""
    weight = torch.ones(())
    for n in window:
        x = (torch.arange(n) - (n - 1) / 2) / (GAUSSIAN_SIGMA * n)
        weight = weight[..., None] * torch.exp(-0.5 * x**2)
    return weight.clamp_(min=SMALLEST_WINDOW_WEIGHT)
