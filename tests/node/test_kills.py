"""kill -9 of the node and its worker at random moments: nothing is lost, nothing comes twice, no file is half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import kill_while_sending, killed_node, make_studies, send_until_taken
from nodes import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc, sends POSIX signals")


@pytest.mark.slow
def test_nothing_is_lost_whatever_is_killed_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTOUR_AI_TEST_WORK_S", "0.3")
    tally = kill_while_sending(tmp_path, studies=6, senders=3, kills=5, pause_s=(0.2, 2.0))
    assert (tally.lost, tally.twice, tally.changed, tally.half) == (0, 0, 0, 0)
    assert tally.node_kills == 3


def is_alive(process: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_running_node_reads_its_configuration_anew_on_sighup_and_ends_on_sigterm(tmp_path: Path) -> None:
    with killed_node(tmp_path) as (node, _):
        said = tmp_path / "node.log"
        config = tmp_path / "node.yaml"
        good = config.read_text(encoding="utf-8")
        (ct,) = make_studies(tmp_path / "cts", 1)

        config.write_text(good + "ruls: []\n", encoding="utf-8")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "did you mean 'rules'" in said.read_text(encoding="utf-8"))
        config.write_text(good.replace("- model:", "- name: renamed\n  model:"), encoding="utf-8")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration taken up" in said.read_text(encoding="utf-8"))
        send_until_taken(node.port, ct)
        wait_for(lambda: node.rows("SELECT rule FROM jobs WHERE state = 'sent'") == [("renamed",)])
        workers = node.worker_ids()
        node.end()
        assert node.process.returncode == 0 and "taken up at the next start" in said.read_text(
            encoding="utf-8"
        )
        wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_node_and_its_workers_at_once_is_no_fault_of_a_job(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends Ctrl-C to every process of its group, a service manager SIGTERM to every one of the service."""
    monkeypatch.setenv("CONTOUR_AI_TEST_WORK_S", "600")
    (ct,) = make_studies(tmp_path / "cts", 1)
    with killed_node(tmp_path) as (node, _):
        send_until_taken(node.port, ct)
        wait_for(lambda: node.rows("SELECT attempts FROM jobs WHERE state = 'working'") == [(1,)])
        (worker,) = node.worker_ids()
        os.kill(worker, number)
        time.sleep(1.0)
        assert is_alive(worker)
        os.killpg(node.process.pid, number)
        node.process.wait(60)
        assert node.process.returncode == 0
        assert "error" not in (tmp_path / "node.log").read_text(encoding="utf-8")
        assert node.rows("SELECT state, attempts FROM jobs") == [("working", 1)]  # the next start takes it up
        wait_for(lambda: not Path(f"/proc/{worker}").exists())


HANGS = """
import sys, threading
from contour_ai.cli import serve
from contour_ai.cli.main import cli
from contour_ai.node.service import Node

def hang(node):
    threading.Event().wait()

Node.stop = hang
serve.END_S = 1.0
cli(["serve", "--config", sys.argv[1]])
"""


def test_an_end_that_hangs_is_cut_short_and_says_where(tmp_path: Path) -> None:
    with killed_node(tmp_path) as (node, _):
        node.end()
        said = tmp_path / "hangs.log"
        with said.open("wb") as log:
            command = [sys.executable, "-c", HANGS, str(tmp_path / "node.yaml")]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: "listens on" in said.read_text(encoding="utf-8"), 120)
        process.terminate()
        assert process.wait(60) == 1
        assert "in hang" in said.read_text(encoding="utf-8")
