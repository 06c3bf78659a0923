"""A model bundle with its network on a device, ready or being made ready."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from contour_ai.bundle import ModelBundle, default_bundle, load_bundle
from contour_ai.preprocess import SPARSE, Resampler

if TYPE_CHECKING:
    import torch

    from contour_ai.second_reading import SecondNetwork


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedModel:
    """A bundle with its network on a device, for several patients; `load_model` makes one."""

    bundle: ModelBundle
    """What the model is: names, rules, provenance."""
    network: torch.nn.Module
    """(N, windows, k, i, j) intensities on the model's grid to (N, ROIs, k, i, j) logits, calibrated."""
    device: torch.device
    """Where the network lies and runs."""
    autocast: torch.dtype | None
    """Reduced precision that the network runs in; None for float32."""
    second: SecondNetwork | None = None
    """Its second reader; None where it has none."""
    in_use: Lock = field(default_factory=Lock)
    """Held while the network runs: two patients at once would need twice the memory, and be no quicker."""

    @property
    def computes_in(self) -> str:
        """The device and its arithmetic, for the summary."""
        return f"{self.device}, {'float32' if self.autocast is None else str(self.autocast).removeprefix('torch.')}"

    @cached_property
    def resampler(self) -> Resampler:
        """What brings CTs to the model's grid and ROIs back: the GPU, where the network runs on one."""
        if self.device.type == "cpu":
            return SPARSE
        from contour_ai.device_resampling import DeviceResampler

        return DeviceResampler(self.device)

    def loaded(self) -> LoadedModel:
        """Itself: it need not be waited for."""
        return self


class LoadingModel:
    """A model that a thread of its own makes ready while the first patient is read: importing torch takes seconds."""

    def __init__(self, bundle: ModelBundle, load: Callable[[], LoadedModel]) -> None:
        self.bundle = bundle
        thread = ThreadPoolExecutor(1)
        self._loaded = thread.submit(load)
        thread.shutdown(wait=False)

    def loaded(self) -> LoadedModel:
        """The model, as soon as it is ready, or the error that it met."""
        return self._loaded.result()


def load_model(model: str | Path | ModelBundle | None = None, device: str = "auto") -> LoadedModel:
    """Builds a model's network on a device, for several patients.

    Args:
        model: name or folder of a bundle, or a bundle; None for the default model.
        device: auto, cpu, cuda or cuda:N; auto takes the GPU where there is one.

    Returns:
        The model, as `predict` and `review` take it.

    Raises:
        ConfigError: no such device.
        ModelError: no such model, or one whose weights cannot be used.
    """
    from contour_ai.inference import autocast_dtype, choose_device
    from contour_ai.second_reading import SecondNetwork

    bundle, chosen = bundle_of(model), choose_device(device)
    autocast = autocast_dtype(chosen)
    return LoadedModel(
        bundle=bundle,
        network=bundle.build_network(chosen),
        device=chosen,
        autocast=autocast,
        second=SecondNetwork.of(bundle, chosen, autocast),
    )


def bundle_of(model: str | Path | ModelBundle | None) -> ModelBundle:
    """The bundle of that name or folder, checked; a bundle itself; the default one for None.

    Raises:
        ModelError: there is no such model, or it is damaged.
    """
    if isinstance(model, ModelBundle):
        return model
    return default_bundle() if model is None else load_bundle(model)
