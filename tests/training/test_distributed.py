"""Who a process is, where the first one listens, and what one process alone does without any other."""

from __future__ import annotations

import pytest
import torch

from contour_ai.errors import ConfigError
from contour_ai.training.distributed import Place, Processes, first_host, meeting_point, place


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
    assert alone.alone and alone.is_first
    assert alone.from_first(lambda: 5) == 5 and alone.decide(1.0, 2.0) == (1.0, 2.0)
    assert alone.gather("x") == ["x"]
    part = torch.ones(3, requires_grad=True)
    assert alone.total(part) is part
    network = torch.nn.Linear(1, 1)
    assert alone.wrap(network) is network
    with alone.until_done(), alone.averaging(network, False):
        pass
