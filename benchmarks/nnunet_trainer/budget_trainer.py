"""nnU-Net's trainer, stopped by a clock with its schedule finished; nnU-Net finds it through `nnUNet_extTrainer`.

Network, loss, augmentation, optimiser and poly schedule are nnU-Net's own. It counts in epochs of so many iterations:
here the number of epochs follows from the seconds that three iterations took, and the iterations of every epoch from
the time that is left, so that the last epoch ends with the time. Set in the environment by `against_nnunet.py`:

    BUDGET_SECONDS   of training, from the start of the trainer on
    BUDGET_THREADS   CPU threads; nnU-Net takes all processors otherwise
    BUDGET_MIRROR    all: mirroring along all axes, its default; none: as in its nnUNetTrainerNoMirroring
    BUDGET_DTYPE     bfloat16: the network in autocast and channels_last_3d on a CPU, too, which nnU-Net does not do
"""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

MOST_EPOCHS = 50
"""The learning rate falls once an epoch; more epochs would spend more of the time on pictures and checkpoints."""
ITERATIONS_AN_EPOCH = 4
"""Fewer are not worth an epoch."""
VALIDATION_SHARE = 0.05
"""Of the iterations, at least one an epoch: its pseudo-Dice decides nothing here. nnU-Net's own share is 0.2."""
FINISH_SECONDS = 3.0
"""For writing the final checkpoint."""
SAVE_SECONDS = 120.0
"""Longest time between checkpoints to go on from, about."""

if "BUDGET_THREADS" in os.environ:  # imported by nnU-Net's commands after they have set threads of their own
    torch.set_num_threads(int(os.environ["BUDGET_THREADS"]))


def _compute_in_bfloat16(network: torch.nn.Module) -> None:
    """Has the network compute as `contour-ai train` does where the CPU has units for it; its weights stay fp32."""
    forward = network.forward
    network.to(memory_format=torch.channels_last_3d)

    def in_bfloat16(image: torch.Tensor) -> list[torch.Tensor] | torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found = forward(image.contiguous(memory_format=torch.channels_last_3d))
        return [f.float() for f in found] if isinstance(found, list) else found.float()

    network.forward = in_bfloat16


class BudgetTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Ends in BUDGET_SECONDS, time of earlier processes included where it goes on from a checkpoint."""

    def __init__(
        self,
        plans: dict[str, object],
        configuration: str,
        fold: int | str,
        dataset_json: dict[str, object],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - the signature is nnU-Net's
    ) -> None:
        self._began, self._before_s = time.monotonic(), 0.0
        self._budget_s = float(os.environ["BUDGET_SECONDS"])
        self._iterations, self._iteration_s, self._overhead_s = 0, 0.0, 0.0
        self._planned = False
        super().__init__(plans, configuration, fold, dataset_json, device)

    @property
    def used_s(self) -> float:
        """Seconds of training, the breaks between processes left out."""
        return self._before_s + time.monotonic() - self._began

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(  # noqa: N802
        self,
    ) -> tuple[object, ...]:
        """Without mirroring, where that is wanted: it teaches that left is right."""
        *others, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if os.environ.get("BUDGET_MIRROR", "all") == "none":
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return (*others, mirror_axes)

    def on_train_start(self) -> None:
        """Plans epochs from the speed of this machine, unless a checkpoint has said how many."""
        super().on_train_start()
        if os.environ.get("BUDGET_DTYPE") == "bfloat16" and self.device.type == "cpu":
            _compute_in_bfloat16(self.network)
        if not self._planned:
            self._iteration_s = self._rehearse()
            iterations = (self._budget_s - self.used_s) / self._iteration_s
            self.num_epochs = int(min(max(iterations / ITERATIONS_AN_EPOCH, 1), MOST_EPOCHS))
        self.save_every = max(1, round(self.num_epochs * SAVE_SECONDS / self._budget_s))
        self.lr_scheduler = PolyLRScheduler(self.optimizer, self.initial_lr, self.num_epochs)
        self.print_to_log_file(
            f"{self._iteration_s:.2f} s an iteration: {self.num_epochs} epochs in {self._budget_s:.0f} s"
        )

    def _rehearse(self) -> float:
        """Seconds of an iteration; the network is afterwards what it was."""
        weights = copy.deepcopy(self.network.state_dict())
        self.network.train()
        seconds = []
        for _ in range(3):
            start = time.monotonic()
            self.train_step(next(self.dataloader_train))
            seconds.append(time.monotonic() - start)
        self.network.load_state_dict(weights)
        self.optimizer, _ = self.configure_optimizers()
        return sum(seconds[1:]) / 2  # the first one is slower than those to come

    def on_train_epoch_start(self) -> None:
        """Decides how many iterations this epoch has."""
        left_s = self._budget_s - FINISH_SECONDS - self.used_s
        epoch_s = left_s / (self.num_epochs - self.current_epoch)
        validation_s = VALIDATION_SHARE * self._iteration_s
        iterations = (epoch_s - self._overhead_s) / (self._iteration_s + validation_s)
        self.num_iterations_per_epoch = max(1, int(iterations))
        self.num_val_iterations_per_epoch = max(1, round(VALIDATION_SHARE * iterations))
        super().on_train_epoch_start()
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, train_outputs: list[dict[str, object]]) -> None:
        """Measures."""
        self._epoch_trained = time.monotonic()
        self._iteration_s = (self._epoch_trained - self._epoch_began) / len(train_outputs)
        self._iterations += len(train_outputs)
        super().on_train_epoch_end(train_outputs)

    def on_epoch_end(self) -> None:
        """Measures what an epoch takes besides its iterations."""
        super().on_epoch_end()
        self._overhead_s = time.monotonic() - self._epoch_trained

    def save_checkpoint(self, filename: str) -> None:
        """With a file beside it that says how much of the budget it took."""
        super().save_checkpoint(filename)
        state = {
            "epochs": self.num_epochs,
            "iterations": self._iterations,
            "iteration_s": self._iteration_s,
            "used_s": self.used_s,
            "patch": list(self.configuration_manager.patch_size),
            "batch": self.batch_size,
            "features": list(self.configuration_manager.network_arch_init_kwargs["features_per_stage"]),
        }
        Path(f"{filename}.json").write_text(json.dumps(state, indent=1), encoding="utf-8")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, object] | str) -> None:
        """Goes on with the epochs and the time of the checkpoint."""
        super().load_checkpoint(filename_or_checkpoint)
        state = json.loads(Path(f"{filename_or_checkpoint}.json").read_text(encoding="utf-8"))
        self.num_epochs, self._iterations = state["epochs"], state["iterations"]
        self._iteration_s, self._before_s = state["iteration_s"], state["used_s"]
        self._planned = True

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: every patient is for training (fold "all"), and held-back ones are predicted afterwards."""
