"""Who a process is, where the first one listens, and what one process alone does without any other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from contour_ai.errors import ConfigError
from contour_ai.training.distributed import Launch, Place, Processes, first_host, launch, meeting_point, place


def test_alone_where_nobody_says_otherwise() -> None:
    assert place({}) == Place(0, 1, 0)


def test_torchrun_and_srun_say_who_is_who() -> None:
    assert place({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Place(3, 8, 1)
    assert place({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0"}) == Place(2, 4, 0)
    # A batch script that runs one process in a job of four tasks.
    assert place({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == Place()
    with pytest.raises(ConfigError, match="contradicts itself about the processes"):
        place({"RANK": "4", "WORLD_SIZE": "4"})
    with pytest.raises(ConfigError, match="found: x, 4"):
        place({"RANK": "x", "WORLD_SIZE": "4"})


def test_the_command_that_starts_as_many_processes_again() -> None:
    assert launch({}) == Launch(("contour-ai",))
    assert launch({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == Launch()
    one = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"}
    one |= {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    own = ("--nproc-per-node", "4", "-m", "contour_ai")
    assert launch(one) == Launch(("torchrun", *own))
    assert launch({**one, "MASTER_PORT": "41234", "TORCHELASTIC_RUN_ID": "6ad"}) == Launch(
        ("torchrun", "--standalone", *own)
    )
    assert launch({**one, "MASTER_PORT": "29501"}) == Launch(("torchrun", "--standalone", *own))
    two = {**one, "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "GROUP_RANK": "0", "MASTER_ADDR": "gpu1"}
    again = launch(two)
    assert " ".join(again.words) == (
        "torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4 --master-addr gpu1 --master-port 29500 -m contour_ai"
    )
    assert "--node-rank" in again.advice
    again = launch({**two, "TORCHELASTIC_RUN_ID": "job7"})
    assert again.words == ("torchrun", "--nnodes", "2", *own) and "--rdzv" in again.advice
    slurm = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}
    again = launch(slurm)
    assert again.words == ("srun", "--ntasks", "4", "--nodes", "2", "contour-ai") and "GPUs" in again.advice
    again = launch({"RANK": "0", "WORLD_SIZE": "2"})
    assert again.words == ("contour-ai",) and "in 2 processes" in again.advice


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[03-07,9]-ib,cpu1", "gpu03-ib"),
        ("node[12,14]", "node12"),
        ("a.b.c[1-2].d", "a.b.c1.d"),
        ("", ""),
    ],
)
def test_first_machine_of_a_slurm_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_the_meeting_point_is_the_same_for_all_and_differs_between_jobs() -> None:
    job = {"SLURM_STEP_NODELIST": "gpu[1-2]", "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "0"}
    assert meeting_point(job) == meeting_point({**job, "SLURM_PROCID": "1"})
    assert meeting_point(job)[0] == "gpu1"
    assert meeting_point(job)[1] != meeting_point({**job, "SLURM_JOB_ID": "42"})[1]
    assert meeting_point({"MASTER_ADDR": "here", "MASTER_PORT": "1234"}) == ("here", 1234)


def test_everyone_gets_a_share_and_nothing_is_lost() -> None:
    shares = [Place(rank, 3).share(list(range(8))) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_one_process_alone_waits_for_nobody() -> None:
    alone = Processes.only(torch.device("cpu"))
    assert alone.alone and alone.is_main_process
    assert alone.run_on_main(lambda: 5) == 5 and alone.broadcast_from_main(1.0, 2.0) == (1.0, 2.0)
    assert alone.gather("x") == ["x"]
    part = torch.ones(3, requires_grad=True)
    assert alone.all_reduce_sum(part) is part
    network = torch.nn.Linear(1, 1)
    assert alone.wrap(network) is network
    with alone.until_done(), alone.averaging(network, False):
        pass


PROGRAM = """
import torch
from contour_ai.errors import InputError
from contour_ai.training.distributed import FirstProcessError, join

torch.set_num_threads(1)
processes = join("auto" if not torch.cuda.is_available() else "cpu")
with processes.until_done():
    rank = processes.rank
    assert processes.size == 2 and not processes.alone and processes.is_main_process == (rank == 0)
    assert processes.run_on_main(lambda: {"made by": rank}) == {"made by": 0}
    assert processes.broadcast_from_main(float(rank), 2.0) == (0.0, 2.0)
    assert processes.gather("ab"[rank]) == ["a", "b"]

    # A loss that is no sum over samples: the square of the sum. Its gradient is that of one process with both samples.
    network = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(network.weight, 0.5)
    wrapped, sample = processes.wrap(network), torch.tensor([[1.0 + rank, 3.0]])
    for now in (False, True):
        with processes.averaging(wrapped, now):
            (processes.all_reduce_sum(wrapped(sample).sum()) ** 2 / 2).backward()
    total = 0.5 * (1 + 3) + 0.5 * (2 + 3)
    torch.testing.assert_close(network.weight.grad, 2 * total * torch.tensor([[3.0, 6.0]]))

    norm = torch.nn.BatchNorm1d(1)
    norm.running_mean.fill_(rank + 1.0)
    processes.copy_buffers_of_first(norm)
    assert norm.running_mean.item() == 1.0

    def fail():
        raise InputError("Nothing is there.", where="nowhere")

    try:
        processes.run_on_main(fail)
    except FirstProcessError as error:
        assert rank == 1 and "InputError: Nothing is there." in str(error)
    except InputError:
        assert rank == 0
    else:
        raise AssertionError("the failure of the first process was not told")
print("done")
"""


def two_processes(program: str) -> list[tuple[int, str]]:
    """Exit status and output of two processes, as srun starts them."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MASTER_", "SLURM_"))
    }
    environment |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_ID": "0"}
    environment |= {"SLURM_JOB_ID": str(os.getpid()), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**environment, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=600)[0] for process in both]
    return [(process.returncode, text) for process, text in zip(both, said, strict=True)]


def test_two_processes_as_srun_starts_them() -> None:
    for status, said in two_processes(PROGRAM):
        assert status == 0 and said.strip().endswith("done"), said


GONE = """
import os
from contour_ai.training.distributed import LostProcessError, join

processes = join("cpu")
try:
    with processes.until_done():
        processes.gather(1)
        if processes.rank == 1:
            os._exit(9)

        def interrupted():
            raise KeyboardInterrupt

        try:
            processes.run_on_main(interrupted)  # by the same Ctrl-C as the other one
        except KeyboardInterrupt:
            print("interrupted")
        processes.gather(1)
except LostProcessError as error:
    print("Another process" in str(error) and "--resume" in str(error))
"""


def test_a_process_that_is_gone_is_no_fault_of_this_one() -> None:
    (first, said), (second, _) = two_processes(GONE)
    assert first == 0 and second == 9
    assert said.split() == ["interrupted", "True"], said
