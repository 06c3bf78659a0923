"""One training step, in as many pieces as the device's memory needs."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from contour_ai.errors import ConfigError, ContourAIError
from contour_ai.inference import memory_format
from contour_ai.losses import masked_loss
from contour_ai.network import ResidualUNet3d
from contour_ai.training.batches import Batch, BatchMaker
from contour_ai.training.config import TrainConfig
from contour_ai.training.distributed import Processes
from contour_ai.training.optimiser import MovingAverage, build_optimiser, clip, set_rate

logger = logging.getLogger(__name__)

COMPILER = ("torch._dynamo", "torch._inductor")
"""Modules of torch whose errors are about compiling."""


@dataclass(frozen=True, kw_only=True)
class StepperState:
    """What the next step depends on, besides the batch and random numbers."""

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    """The weights that are validated."""
    optimiser: dict[str, object]
    """As torch has it."""
    pieces: int
    """In which a batch is taken."""


class Stepper:
    """Carries out steps on a network in place.

    Where the memory of the device is not enough, a batch is taken in halves, quarters and so on, whose gradients are
    added up; Dice and volumes are then those of each piece. Several processes try this out before the first step, so
    that none waits for another that has failed.

    Args:
        network: on its device.
        config: of the run.
        batches: what each step sees.
        exclusive: (R, R) pairs of ROIs that never overlap; None where all may overlap.
        precision: what the network computes in; None for fp32.
        processes: that share the steps.
    """

    def __init__(
        self,
        network: ResidualUNet3d,
        config: TrainConfig,
        batches: BatchMaker,
        exclusive: np.ndarray | None,
        precision: torch.dtype | None,
        processes: Processes,
    ) -> None:
        self.network, self.config, self.batches = network, config, batches
        self.processes, self.device, self.precision = processes, processes.device, precision
        self._order = memory_format(self.device, precision)
        self.exclusive = None if exclusive is None else torch.from_numpy(exclusive)
        self.pieces = 1
        self.average = MovingAverage(network, config.optimiser.ema_decay)
        self.optimiser = build_optimiser(network, config.optimiser)
        self._running: torch.nn.Module | None = None

    def begin(self) -> None:
        """Before the first step, once weights are in place."""
        if not self.processes.alone and self.device.type == "cuda":
            self.rehearse()
        self.processes.with_common_norms(self.network)
        if self.config.run.compile:
            self.network.compile()
        self._running = self.processes.wrap(self.network)

    def step(self, number: int, rate: float) -> tuple[Tensor, tuple[str, ...]]:
        """Carries out step `number` with a learning rate.

        Returns:
            The loss over the samples of all processes, and whose samples they were.

        Raises:
            ContourAIError: the memory of the device is not enough for one sample.
            ConfigError: the network was to be compiled, and cannot be.
        """
        assert self._running is not None, "begin() comes first"
        self.network.train()
        set_rate(self.optimiser, rate)
        while (loss := self._tried(number, self._running)) is None:
            if not self.processes.alone:
                raise self._too_large(
                    "The memory of a device has become too small in the middle of the training."
                )
            self._make_room()
        clip(self.network, self.config.optimiser)
        self.optimiser.step()
        self.average.update(self.network, number)
        return loss, self.batches.patient_ids(number)

    def state(self) -> StepperState:
        """What the next step depends on, besides the batch and random numbers."""
        return StepperState(
            model=self.network.state_dict(),
            average=self.average.network.state_dict(),
            optimiser=self.optimiser.state_dict(),
            pieces=self.pieces,
        )

    def restore(self, state: StepperState) -> None:
        """Goes back to a `state`."""
        self.network.load_state_dict(state.model)
        self.average.network.load_state_dict(state.average)
        self.optimiser.load_state_dict(state.optimiser)
        self.pieces = min(state.pieces, self.batches.batch_size)

    def rehearse(self) -> None:
        """Finds pieces that fit the memory of every process, on a copy of the network."""
        state = (
            torch.get_rng_state(),
            torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        )
        one = Processes.only(self.device)
        double = copy.deepcopy(self.network).train()
        others, self.processes = self.processes, one
        while self._tried(0, double) is None:
            double.zero_grad(set_to_none=True)
            self._make_room()
        self.processes = others
        del double
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self.device)
            torch.cuda.empty_cache()
        self.pieces = max(self.processes.gather(self.pieces))

    def _tried(self, number: int, network: torch.nn.Module) -> Tensor | None:
        """The loss of a step, its gradients left in the network; None where the memory was not enough."""
        try:
            return self._gradients(number, network)
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            if not self.config.run.compile or not type(error).__module__.startswith(COMPILER):
                raise
            raise ConfigError(
                "torch cannot compile the network on this machine.",
                where="run.compile",
                found=str(error).strip().partition("\n")[0],
                fix="install a C++ compiler (on a GPU also Triton), or set run.compile: false; then give --resume",
            ) from error

    def _gradients(self, number: int, network: torch.nn.Module) -> Tensor:
        network.zero_grad(set_to_none=True)
        batch = self.batches.batch(number)
        pieces = batch.pieces(self.pieces)
        total = torch.zeros((), device=self.device)
        for n, piece in enumerate(pieces, start=1):
            share = len(piece.images) / len(batch.images)
            # Gradients are exchanged once a step, with those of the last piece.
            with self.processes.averaging(network, n == len(pieces)):
                loss = self._loss(network, piece) * share
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, network: torch.nn.Module, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not None):
            logits = network(batch.images.contiguous(memory_format=self._order))
        return masked_loss(
            logits,
            batch.targets,
            batch.states,
            exclusive=self.exclusive,
            usual_shares=self.batches.usual_shares,
            dice_weight=self.config.loss.dice_weight,
            bce_weight=self.config.loss.bce_weight,
            pseudo_label_weight=self.config.loss.pseudo_label_weight,
            total=None if self.processes.alone else self.processes.all_reduce_sum,
        )

    def _make_room(self) -> None:
        """Smaller pieces; after that, patients that no longer stay on the device.

        Raises:
            ContourAIError: nothing is left to be done.
        """
        self.optimiser.zero_grad(set_to_none=True)
        samples = self.batches.batch_size
        if self.pieces < samples:
            self.pieces = min(2 * self.pieces, samples)
            logger.warning(
                "The memory of %s is not enough for the step: going on with %d of its %d samples at a time, their "
                "gradients added up.",
                self.device,
                -(-samples // self.pieces),
                samples,
            )
        elif self.batches.patients.stay:
            self.batches.patients.leave()
            logger.warning("The memory of %s is not enough: patients no longer stay there.", self.device)
        else:
            raise self._too_large("The memory of the device is not enough for one sample.")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_large(self, what: str) -> ContourAIError:
        size = " x ".join(map(str, self.batches.patch_kij))
        return ContourAIError(
            what,
            where=self.device,
            found=f"{self.batches.batch_size} samples of {size} voxels, {self.network.config.base_filters} filters",
            fix="a smaller input.patch_kij, input.batch_size or network.base_filters, or other work off the device",
        )
