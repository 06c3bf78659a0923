"""kill -9 of the node and its worker at random moments: nothing is lost, nothing comes twice, no file is half."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from killing import KilledNode, kill_while_sending, make_studies, send_until_taken
from nodes import Peer, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc, sends POSIX signals")


def test_nothing_is_lost_whatever_is_killed_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTOUR_AI_TEST_WORK_S", "0.3")
    tally = kill_while_sending(tmp_path, studies=6, senders=3, kills=5, pause_s=(0.2, 2.0))
    assert (tally.lost, tally.twice, tally.changed, tally.half) == (0, 0, 0, 0)
    assert tally.node_kills == 3


def test_the_running_node_reads_its_configuration_anew_on_sighup_and_ends_on_sigterm(tmp_path: Path) -> None:
    import signal

    tps = Peer()
    node = KilledNode(
        tmp_path, tps.port, (sys.executable, str(Path(__file__).with_name("killed_node.py"))), {}
    )
    try:
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
    finally:
        if node.process.poll() is None:
            node.process.kill()
        tps.close()
