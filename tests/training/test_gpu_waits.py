"""A training step never waits for the GPU: on torch's `meta` device, whose numbers cannot be asked for at all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_loop import CONFIG, SETTINGS
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import ROIS, case

from contour_ai.network import build_network
from contour_ai.training.augmentation import Draw, shade, view
from contour_ai.training.batches import BatchMaker
from contour_ai.training.config import AugmentationConfig, TrainConfig
from contour_ai.training.distributed import Processes
from contour_ai.training.optimiser import Muon
from contour_ai.training.plan import plan_network
from contour_ai.training.step import Stepper
from contour_ai.volume import CONTOURED

META = torch.device("meta")
SIZE = (16, 16, 16)
EVERYTHING = Draw(
    flip=True,
    rotation_deg=(5.0, 4.0, 3.0),
    scale=1.1,
    shift_mm=(1.0, 2.0, 3.0),
    cut_low=0.1,
    noise_hu=20.0,
    blur_voxels=0.7,
    low_resolution=0.6,
    brightness=1.1,
    contrast=1.1,
    gamma=1.2,
    seed=5,
    streak_hu=100.0,
)


INDEXING = ("index", "index_put", "index_put_impl")


class Waits(TorchDispatchMode):
    """Notes every copy between CPU and device for which the device would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._made: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if name == "_to_copy":
            there = kwargs.get("device") or tensors[0].device
            if there.type != tensors[0].device.type and not kwargs.get("non_blocking"):
                self.found.append(f"a copy of {tuple(tensors[0].shape)} to {there}")
        elif name == "copy_" and len({t.device.type for t in tensors}) > 1:
            if not (kwargs.get("non_blocking") or args[2:] == (True,)):
                self.found.append(f"copy_ of {tuple(tensors[1].shape)} to {tensors[0].device}")
        elif tensors and tensors[0].device == META and name.strip("_") in INDEXING:
            # A list becomes a tensor of the device without passing here: no operation has made it.
            indices = [i for i in args[1] if i is not None]
            if any(id(i) not in self._made or i.dtype == torch.bool for i in indices):
                self.found.append(f"{name} of {tuple(tensors[0].shape)} with a list or a mask")
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.device == META and not tensor.is_floating_point():
                self._made[id(tensor)] = tensor
        return result


class NoGenerator:
    """`torch.Generator` for meta, which has none."""

    def __init__(self, device: torch.device) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        return None


@pytest.fixture
def meta_can_do_what_cuda_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", NoGenerator)
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: contextlib.nullcontext())
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)


def stepper(config: TrainConfig, presence: tuple[bool, ...], device: torch.device = META) -> Stepper:
    cases = [case(n, presence=(True, True, True) if n % 2 else presence) for n in range(4)]
    exclusive = ~torch.eye(3, dtype=torch.bool).numpy()
    network = build_network(plan_network(config.network, SETTINGS, len(ROIS))).to(device)
    batches = BatchMaker(
        cases,
        SETTINGS,
        patch_kij=SIZE,
        batch_size=2,
        foreground_fraction=0.5,
        augmentation=config.augmentation,
        mirror=(1, 0, 2),
        seed=1,
        device=device,
        stay=True,
    )
    return Stepper(network, config, batches, exclusive, None, Processes.only(device))


def test_the_watch_sees_what_would_wait() -> None:
    there = torch.zeros(4, 5, device=META)
    for wait in (
        lambda: torch.zeros(3).to(META),
        lambda: there.copy_(torch.zeros(4, 5)),
        lambda: there[[0, 2]],
        lambda: there[there > 0],
        lambda: float(there.sum()),
        lambda: there.nonzero(),
    ):
        with Waits() as watch, contextlib.suppress(RuntimeError, NotImplementedError):
            wait()
            assert watch.found
    with Waits() as watch:
        torch.zeros(3).to(META, non_blocking=True)
        index = torch.zeros(2, dtype=torch.long).to(META, non_blocking=True)
        _ = there[0, 1:3], there.index_select(0, index), there[index]
    assert not watch.found


@pytest.mark.usefixtures("meta_can_do_what_cuda_can")
def test_augmentation_waits_for_nothing() -> None:
    one = case(0)
    hu, bits = torch.from_numpy(one.hu).to(META), torch.from_numpy(one.bits).to(META)
    for chosen in (EVERYTHING, replace(EVERYTHING, rotation_deg=(0.0, 0.0, 0.0), scale=1.0)):
        with Waits() as watch:
            image, masks, _ = view(
                hu,
                bits,
                (CONTOURED,) * 3,
                centre_kij=(9.0, 11.0, 13.0),
                size_kij=SIZE,
                spacing_mm_kij=SETTINGS.spacing_mm_kij,
                outside_hu=-1024,
                mirror=(1, 0, 2),
                chosen=chosen,
            )
            shaded = shade(image, SETTINGS.windows_hu, SETTINGS.spacing_mm_kij, chosen)
        assert shaded.shape == (1, *SIZE) and masks.shape == (3, *SIZE) and not watch.found


@pytest.mark.usefixtures("meta_can_do_what_cuda_can")
@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("presence", [(True, True, True), (True, False, True)], ids=["complete", "partial"])
def test_a_step_waits_for_nothing(optimiser: str, presence: tuple[bool, ...]) -> None:
    config = replace(
        CONFIG,
        network=replace(CONFIG.network, norm="instance", dropout=0.0, deep_supervision=1),
        augmentation=AugmentationConfig(),
        optimiser=replace(CONFIG.optimiser, name=optimiser, clip_norm=12.0),  # type: ignore[arg-type]
    )
    made = stepper(config, presence)
    made.begin()
    assert isinstance(made.optimiser, Muon) == (optimiser == "muon")
    for number in range(3):
        with Waits() as watch:
            loss, _ = made.step(number, 1e-3)
        assert loss.device == META and not watch.found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("presence", [(True, True, True), (True, False, True)], ids=["complete", "partial"])
def test_a_step_waits_for_nothing_on_a_gpu(presence: tuple[bool, ...]) -> None:
    """By CUDA's own account."""
    made = stepper(replace(CONFIG, augmentation=AugmentationConfig()), presence, torch.device("cuda"))
    made.begin()
    made.step(0, 1e-3)  # the first one allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [made.step(number, 1e-3)[0] for number in range(1, 6)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(losses)).all()
