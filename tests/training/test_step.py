"""A step that does not fit the memory is taken in pieces, whose gradients are those of the whole."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from test_loop import CONFIG, SETTINGS
from training_cases import ROIS, case

from contour_ai.errors import ConfigError, ContourAIError
from contour_ai.inference import memory_format
from contour_ai.network import ResidualUNet3d, build_network
from contour_ai.training import step
from contour_ai.training.batches import BatchMaker
from contour_ai.training.config import AugmentationConfig, OptimiserConfig, TrainConfig
from contour_ai.training.distributed import Processes
from contour_ai.training.plan import plan_network
from contour_ai.training.step import Stepper

CPU = torch.device("cpu")
PLAIN = replace(CONFIG, network=replace(CONFIG.network, norm="instance", dropout=0.0))


def loss_of_samples(
    logits: torch.Tensor, targets: torch.Tensor, states: torch.Tensor, **options: object
) -> torch.Tensor:
    """A loss whose mean over pieces is that of the whole; the real one looks at all samples together."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float())


def stepper(
    config: TrainConfig = PLAIN,
    size: int = 4,
    stay: bool | None = None,
    precision: torch.dtype | None = None,
) -> Stepper:
    torch.manual_seed(3)
    batches = BatchMaker(
        [case(n) for n in range(5)],
        SETTINGS,
        patch_kij=(16, 16, 16),
        batch_size=size,
        foreground_fraction=0.5,
        augmentation=AugmentationConfig(),
        mirror=(1, 0, 2),
        seed=1,
        device=CPU,
        stay=stay,
    )
    network = build_network(plan_network(config.network, SETTINGS, len(ROIS)))
    return Stepper(network, config, batches, None, precision, Processes.only(CPU))


class SmallMemory:
    """Refuses images of more than so many samples, as a GPU would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
        self.samples, self.seen = samples, []  # type: ignore[var-annotated]
        forward = ResidualUNet3d.forward

        def limited(network: ResidualUNet3d, x: torch.Tensor) -> object:
            self.seen.append(len(x))
            if network.training and len(x) > self.samples:
                raise torch.OutOfMemoryError("CUDA out of memory (injected)")
            return forward(network, x)

        monkeypatch.setattr(ResidualUNet3d, "forward", limited)


def test_out_of_memory_halves_the_batch_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(step, "masked_loss", loss_of_samples)
    config = replace(PLAIN, optimiser=OptimiserConfig(name="adamw"))  # it leaves the gradients where they are
    whole = stepper(config)
    whole.begin()
    expected, patients = whole.step(0, 1e-3)
    memory = SmallMemory(monkeypatch, 1)
    small = stepper(config)
    small.begin()
    with caplog.at_level(logging.WARNING, "contour_ai"):
        loss, whose = small.step(0, 1e-3)
    assert memory.seen == [4, 2, 1, 1, 1, 1] and small.pieces == 4
    assert "going on with 2 of its 4 samples at a time" in caplog.text
    assert "going on with 1 of its 4 samples at a time" in caplog.text
    assert whose == patients
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for (name, a), b in zip(whole.network.named_parameters(), small.network.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=name)
    small.step(1, 1e-3)
    assert memory.seen[6:] == [1, 1, 1, 1]  # it is not tried again


def test_then_patients_leave_the_device_and_then_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory = SmallMemory(monkeypatch, 0)
    small = stepper(size=1, stay=True)
    small.begin()
    with pytest.raises(ContourAIError) as caught:
        small.step(0, 1e-3)
    assert "not enough for one sample" in str(caught.value) and "16 x 16 x 16 voxels" in str(caught.value)
    assert "patients no longer stay there" in caplog.text and not small.batches.patients.stay
    assert memory.seen == [1, 1]


def test_a_rehearsal_finds_the_pieces_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    SmallMemory(monkeypatch, 2)
    tried, fresh = (stepper(replace(PLAIN, network=CONFIG.network)) for _ in range(2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tried.rehearse()
    assert torch.equal(torch.get_rng_state(), before)
    assert tried.pieces == 2
    for name, value in fresh.network.state_dict().items():
        assert torch.equal(value, tried.network.state_dict()[name]), name
    assert all(p.grad is None for p in tried.network.parameters())


def test_pieces_are_kept_by_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    SmallMemory(monkeypatch, 2)
    small = stepper()
    small.begin()
    small.step(0, 1e-3)
    again = stepper()
    again.restore(small.state())
    assert again.pieces == 2


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_images_come_in_the_order_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, precision: torch.dtype | None
) -> None:
    order = memory_format(CPU, precision)
    seen: list[bool] = []
    forward = ResidualUNet3d.forward

    def looking(network: ResidualUNet3d, x: torch.Tensor) -> object:
        seen.append(x.is_contiguous(memory_format=order))
        return forward(network, x)

    monkeypatch.setattr(ResidualUNet3d, "forward", looking)
    small = stepper(precision=precision)
    small.begin()
    small.step(0, 1e-3)
    assert seen == [True]


def test_a_compiled_network_takes_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    plain, fast = stepper(), stepper(replace(PLAIN, run=replace(PLAIN.run, compile=True)))
    plain.begin()
    assert not compiled
    fast.begin()
    assert compiled == [fast.network]
    assert fast.average.network is not fast.network


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    no_compiler = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})

    def fail(network: ResidualUNet3d, x: torch.Tensor) -> torch.Tensor:
        raise no_compiler("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    monkeypatch.setattr(ResidualUNet3d, "forward", fail)
    compiled = stepper(replace(PLAIN, run=replace(PLAIN.run, compile=True)))
    compiled.begin()
    with pytest.raises(ConfigError, match="torch cannot compile the network") as caught:
        compiled.step(0, 1e-3)
    assert "No working C++ compiler found\n" in str(caught.value) and "TORCHDYNAMO" not in str(caught.value)
    assert "run.compile: false" in str(caught.value)
    plain = stepper()
    plain.begin()
    with pytest.raises(
        no_compiler
    ):  # an error of torch's that has nothing to do with compiling stays what it is
        plain.step(0, 1e-3)
