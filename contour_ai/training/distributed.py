"""Several processes that train together with PyTorch's engine: who they are, what they add up, what they tell.

`torchrun` and Slurm's `srun` say in the environment who a process is; without them there is one process, and
everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from contour_ai.errors import ConfigError, ContourAIError

if TYPE_CHECKING:  # who a process is can be asked without waiting for torch
    import torch
    from torch import Tensor, nn
    from torch.autograd.function import FunctionCtx
    from torch.distributed import ProcessGroup

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=24)
"""Others wait while the first process prepares an archive; that one of them died is noticed by whoever started them."""

SLURM_PORTS = (15_000, 15_000)
"""First port, and how many: jobs on the same machine get different ones."""


LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    # The step's number of tasks: that of the job also stands where a batch script runs one process.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
"""What `torchrun` and `srun` call the number of a process, of all, and the number on this machine."""


class FirstProcessError(ContourAIError):
    """The first process stopped, and has said why."""


class LostProcessError(ContourAIError):
    """Another process has ended, and this one cannot go on without it."""


LOST = re.compile(
    r"connection (was )?(closed|reset)|closed by (remote )?peer|broken pipe|socket closed", re.IGNORECASE
)
"""What gloo and NCCL say where the process at the other end is gone."""


@dataclass(frozen=True)
class Place:
    """Who this process is among those that were started together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number on this machine: of its GPU."""

    def share(self, items: list[T]) -> list[T]:
        """This process's part of a list that all have."""
        return items[self.rank :: self.size]

    def device(self, name: str) -> str:
        """The device this process computes on: its own GPU where `auto` or `cuda` was asked for."""
        if self.size == 1 or name not in ("auto", "cuda"):
            return name
        import torch

        return f"cuda:{self.local_rank}" if name == "cuda" or torch.cuda.is_available() else "cpu"


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Who this process is, by what `torchrun` or `srun` say.

    Raises:
        ConfigError: the environment contradicts itself.
    """
    for rank, size, local in LAUNCHERS:
        if rank in environment and size in environment:
            try:
                found = Place(
                    int(environment[rank]), int(environment[size]), int(environment.get(local, "0"))
                )
            except ValueError:
                found = Place(-1)
            if not 0 <= found.rank < found.size:
                raise ConfigError(
                    "The environment contradicts itself about the processes.",
                    where=f"{rank}, {size}",
                    found=f"{environment[rank]}, {environment[size]}",
                    expected="a number below the number of processes",
                )
            return found
    return Place()


def is_launched() -> bool:
    """Whether `torchrun` or `srun` started this process, alone or with others."""
    return any(rank in os.environ and size in os.environ for rank, size, _ in LAUNCHERS)


def meeting_point(environment: Mapping[str, str]) -> tuple[str, int]:
    """Address and port of the first process: as `torchrun` sets them, or from Slurm's list of machines."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    first, count = SLURM_PORTS
    job = int(environment.get("SLURM_JOB_ID", "0")) * 7 + int(environment.get("SLURM_STEP_ID", "0"))
    address = environment.get("MASTER_ADDR") or first_host(nodes) or "localhost"
    return address, int(environment.get("MASTER_PORT") or first + job % count)


def first_host(nodes: str) -> str:
    """The first machine of a list as Slurm writes it: `gpu[03-07,9]-ib,cpu1` gives `gpu03-ib`."""
    found = re.match(r"([^\[,]*)(?:\[([^\],-]+)[^\]]*\]([^\[,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else ""


@dataclass(frozen=True)
class Launch:
    """How processes that work together are started again."""

    words: tuple[str, ...] = ("contour-ai",)
    """What stands before the command and its options."""
    advice: str = ""
    """What else has to be as before, which the environment does not tell; empty where all is told."""


STANDARD_PORT = "29500"
"""Of torchrun, where --master-port does not say otherwise."""


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """How processes as many as these are started again, by what `torchrun` or `srun` say."""
    if place(environment).size == 1:
        return Launch()
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        words = ["srun", "--ntasks", environment["SLURM_STEP_NUM_TASKS"]]
        nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES", "")
        words += ["--nodes", nodes] if nodes else []
        return Launch((*words, "contour-ai"), "in a job with the same GPUs as before")
    every, here = environment["WORLD_SIZE"], environment.get("LOCAL_WORLD_SIZE", "")
    if not here:  # whatever started them is not torchrun
        return Launch(advice=f"in {every} processes, started as before")
    own = ("-m", "contour_ai")
    machines, run = environment.get("GROUP_WORLD_SIZE", "1"), environment.get("TORCHELASTIC_RUN_ID", "none")
    address, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    each = ("--nproc-per-node", here)
    if machines == "1":
        # A free port is looked for where torchrun's own settings for one machine were not the standard ones.
        meeting = () if (run, port) == ("none", STANDARD_PORT) else ("--standalone",)
        return Launch(("torchrun", *meeting, *each, *own))
    many = ("torchrun", "--nnodes", machines)
    if run == "none":
        first = ("--master-addr", address, "--master-port", port)
        told = ("--node-rank", environment.get("GROUP_RANK", "0"), *each, *first)
        return Launch((*many, *told, *own), "on this machine, and on each other one with its own --node-rank")
    return Launch((*many, *each, *own), "on each machine, with the same --rdzv options of torchrun as before")


def join(device_name: str) -> Processes:
    """Waits for the others. The device of each process is its own GPU where the device is `auto` or `cuda`.

    Raises:
        ConfigError: no such device.
    """
    import torch
    import torch.distributed as dist

    from contour_ai.inference import choose_device

    here = place()
    if here.size == 1:
        return Processes(here, choose_device(device_name))
    device = choose_device(here.device(device_name))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    address, port = meeting_point(os.environ)
    told = "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method="env://" if told else f"tcp://{address}:{port}",
        rank=here.rank,
        world_size=here.size,
        timeout=LONGEST_WAIT,
    )
    return Processes(here, device, dist.new_group(backend="gloo", timeout=LONGEST_WAIT))


class Processes:
    """Processes that train together, seen from one of them; by default there is no other.

    Args:
        place: who this one is.
        device: where it computes.
        talk: process group for what is not on the device.
    """

    def __init__(self, place: Place, device: torch.device, talk: ProcessGroup | None = None) -> None:
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.device, self._talk = device, talk

    @classmethod
    def only(cls, device: torch.device) -> Processes:
        """One process without others."""
        return cls(Place(), device)

    @property
    def is_main_process(self) -> bool:
        """Whether this one writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def run_on_main(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them.

        Raises:
            FirstProcessError: in the others, where it failed in the first.
        """
        if self.alone:
            return make()
        if self.is_main_process:
            try:
                made = make()
            except BaseException as error:
                with contextlib.suppress(RuntimeError):  # they may be gone, by the same Ctrl-C
                    self._tell(None, f"{type(error).__name__}: {error}")
                raise
            self._tell(made, None)
            return made
        told: tuple[T, str | None] = self._tell(None, None)
        made, failure = told
        if failure is not None:
            raise FirstProcessError("The first process stopped.", found=failure)
        return made

    def broadcast_from_main(self, *numbers: float) -> tuple[float, ...]:
        """The first process's numbers, in all of them."""
        if self.alone:
            return numbers
        import torch
        import torch.distributed as dist

        told = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(told, 0, group=self._talk)
        return tuple(told.tolist())

    def gather(self, value: T) -> list[T]:
        """Every process's value, in all of them."""
        if self.alone:
            return [value]
        import torch.distributed as dist

        values = cast("list[T]", [None] * self.size)
        dist.all_gather_object(values, value, group=self._talk)
        return values

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, differentiably.

        Every process computes the same loss from the sum, and gradients are averaged afterwards: so the gradient of
        each process's part is that of the loss, times the number of processes.
        """
        return tensor if self.alone else _summing()(tensor)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        if self.alone:
            return network
        from torch.nn.parallel import DistributedDataParallel

        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def with_common_norms(self, network: nn.Module) -> None:
        """Batch normalisation over the samples of all processes, on GPUs; on CPUs each normalises by its own."""
        if not self.alone and self.device.type == "cuda":
            from torch import nn

            # Replaces the layers inside.
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]

    @staticmethod
    def averaging(wrapped: nn.Module, now: bool) -> AbstractContextManager[None]:
        """In this context gradients are averaged over the processes, or stay where they are."""
        apart: Callable[[], AbstractContextManager[None]] = getattr(
            wrapped, "no_sync", contextlib.nullcontext
        )
        return contextlib.nullcontext() if now else apart()

    def copy_buffers_of_first(self, network: nn.Module) -> None:
        """Statistics that each process has gathered by itself become those of the first."""
        if self.alone:
            return
        import torch.distributed as dist

        for buffer in network.buffers():
            dist.broadcast(buffer, 0)

    @contextlib.contextmanager
    def until_done(self) -> Iterator[None]:
        """Leaves the others behind at the end, whatever happens.

        Raises:
            LostProcessError: another one has ended while this one waited for it.
        """
        try:
            yield
        except RuntimeError as error:
            if self.alone or not LOST.search(str(error)):
                raise
            raise LostProcessError(
                "Another process of this training has ended.",
                found=str(error).partition("\n")[0][:200],
                fix="look for its message; --resume starts from the last checkpoint",
            ) from error
        finally:
            if not self.alone:
                import torch.distributed as dist

                dist.destroy_process_group()

    def _tell(self, made: T | None, failure: str | None) -> tuple[T, str | None]:
        """What the first process made, or why it failed, in all of them."""
        import torch
        import torch.distributed as dist

        content = [made, failure]
        dist.broadcast_object_list(content, 0, group=self._talk, device=torch.device("cpu"))
        return cast("tuple[T, str | None]", tuple(content))


def _summing() -> Callable[[Tensor], Tensor]:
    import torch
    import torch.distributed as dist

    class SumOverProcesses(torch.autograd.Function):
        @staticmethod
        def forward(context: FunctionCtx, part: Tensor) -> Tensor:
            total = part.clone()
            dist.all_reduce(total)
            return total

        @staticmethod
        def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
            return gradient * dist.get_world_size()

    return SumOverProcesses.apply
