"""What goes wrong in hospitals: clocks, locks, peers that are away, retention, alerts; and the command's own checks."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from click.testing import CliRunner
from nodes import config_for, peer, quick_workers, running, send, states, wait_for
from synthetic import axial, write_stack

from contour_ai.cli.main import cli
from contour_ai.errors import ConfigError
from contour_ai.node import backup, worker
from contour_ai.node.alerts import alert
from contour_ai.node.config import Alerts, NodeConfig, Retention, Rule, Smtp, load_node_config
from contour_ai.node.equal_instances import same_instance
from contour_ai.node.example import ITEMS
from contour_ai.node.retention import delete_old
from contour_ai.settings import to_mapping, to_yaml
from contour_ai.yaml_files import parse_yaml

DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_workers(monkeypatch)


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_stack(tmp_path / "ct", axial(5))


def test_a_database_locked_by_a_backup_holds_up_and_loses_nothing(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path)) as node:
        other = sqlite3.connect(node.storage / "node.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        found: list[list[int]] = []
        sender = threading.Thread(target=lambda: found.append(send(node, slices)))
        sender.start()
        time.sleep(0.7)
        assert not found
        other.execute("COMMIT")
        other.close()
        sender.join(60)
        assert found == [[0] * len(slices)]
        wait_for(lambda: states(node) == ["done"])


def test_a_backup_of_a_running_node_is_brought_back_and_goes_on(tmp_path: Path, slices: list[Path]) -> None:
    with peer() as tps, running(config_for(tmp_path, tps)) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["sent"])
        backup.back_up(node.storage, tmp_path / "saved")
    config = config_for(tmp_path, storage=str(tmp_path / "again"))
    backup.bring_back(tmp_path / "saved", tmp_path / "again")
    with running(config) as node:
        assert states(node) == ["sent"] and len(node.store.paths(series_of(slices))) == len(slices)
        assert set(send(node, slices)) == {0}
        wait_for(lambda: states(node, "associations")[-1] == "released")
        assert states(node) == ["sent"]


def test_a_clock_that_jumps_back_holds_up_no_delivery(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer(0xA700) as tps, running(config_for(tmp_path, tps)) as node:
        send(node, slices)
        wait_for(lambda: node.database.rows("SELECT id FROM deliveries WHERE attempts > 0"))
        tps.status = 0
        monkeypatch.setattr("contour_ai.node.jobs.now", lambda: time.time() - 30 * DAY_S)
        wait_for(lambda: states(node) == ["sent"])


def test_a_destination_that_is_away_for_a_day_gets_the_result_once(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer() as tps:
        config = config_for(tmp_path, tps)
        tps.close()
        waits = []
        with running(config) as node:
            send(node, slices)
            wait_for(lambda: node.database.rows("SELECT id FROM deliveries WHERE attempts = 1"))
            for hour in range(1, 25):  # as the sender's thread would, each time its time has come
                (row,) = node.database.rows("SELECT * FROM deliveries")
                waits.append(row["next_at"] - time.time())
                node.book.not_delivered(row["id"], f"no connection, try {hour}")
            assert waits[0] < 30 and 3500 < waits[-1] <= 3600
            assert states(node) == ["sending"]
            delete_old(
                Retention(images_days=0, results_days=0), node.database, node.store, node.book, node.audit
            )
            assert node.store.paths(series_of(slices))
            with peer() as back:
                to = node.config.destinations["TPS"]
                node.config = replaced(node.config, destinations={"TPS": replaced(to, port=back.port)})
                monkeypatch.setattr("contour_ai.node.jobs.now", lambda: time.time() + DAY_S)
                wait_for(lambda: states(node) == ["sent"])
                assert len(back.received) == 1


def test_images_and_results_go_after_their_days(tmp_path: Path, slices: list[Path]) -> None:
    with peer() as tps, running(config_for(tmp_path, tps)) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["sent"])
        job = node.database.rows("SELECT * FROM jobs")[0]
        keep = Retention(images_days=7, results_days=30)

        def after(days: float) -> int:
            node.database.execute("UPDATE series SET last_at = ?", time.time() - days * DAY_S)
            node.database.execute(
                "UPDATE jobs SET finished_at = ?1, sent_at = ?1", time.time() - days * DAY_S
            )
            return delete_old(keep, node.database, node.store, node.book, node.audit)

        assert after(6) == 0
        assert after(8) == 1 and node.store.paths(series_of(slices)) == []
        assert (node.book.results / job["folder"]).is_dir()
        assert after(31) == 1 and not (node.book.results / job["folder"]).exists()
        assert states(node) == ["sent"]


def test_alerts_are_given_once_by_command_and_by_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = []

    class Server:
        def __init__(self, host: str, port: int, timeout: float) -> None:
            self.where = (host, port)

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *error: object) -> None: ...

        def send_message(self, message: object) -> None:
            mails.append((self.where, message))

    monkeypatch.setattr("contour_ai.node.alerts.smtplib.SMTP", Server)
    out = tmp_path / "alerts.txt"
    script = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read())"
    settings = Alerts(
        command=(sys.executable, "-c", script), mail=Smtp(host="mail", sender="node@h", to=("a@h", "b@h"))
    )
    with running(config_for(tmp_path, rules=())) as node:
        assert alert(settings, node.database, "the disk is filling up", "1 GB free")
        assert not alert(settings, node.database, "the disk is filling up", "1 GB free")
        assert not alert(Alerts(), node.database, "nobody to tell", "")
        broken = Alerts(command=("/no/such/program",))
        assert alert(broken, node.database, "another", "")
    assert out.read_text(encoding="utf-8") == "the disk is filling up\n\n1 GB free\n"
    (((host, port), mail),) = mails
    assert (host, port) == ("mail", 25) and mail["To"] == "a@h, b@h"
    assert mail["Subject"] == "contour-ai: the disk is filling up"


def test_the_same_instance_in_another_encoding_is_the_same(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path, rules=())) as node:
        assert send(node, slices[:1]) == [0]
        data_set = pydicom.dcmread(slices[0])
        for syntax, implicit, little in (
            ("1.2.840.10008.1.2", True, True),
            ("1.2.840.10008.1.2.2", False, False),
        ):
            data_set.file_meta.TransferSyntaxUID = syntax
            other = tmp_path / f"{syntax}.dcm"
            if not little:
                data_set.PixelData = swapped(data_set.PixelData)
            pydicom.dcmwrite(other, data_set, implicit_vr=implicit, little_endian=little, force_encoding=True)
            assert same_instance(other.read_bytes(), slices[0].read_bytes())
        assert not same_instance(slices[0].read_bytes(), slices[1].read_bytes())
        assert not same_instance(slices[0].read_bytes(), b"no DICOM")
        assert node.database.rows("SELECT * FROM aside") == []


def test_a_copy_that_was_compressed_without_loss_is_the_same_and_one_with_another_pixel_is_not(
    tmp_path: Path, slices: list[Path]
) -> None:
    from pydicom.uid import RLELossless

    from contour_ai.node.store import Arrival, Stored

    def compressed(name: str, *, edit: bool = False, **elements: str) -> bytes:
        data_set = pydicom.dcmread(slices[0])
        if edit:
            data_set.PixelData = bytes([data_set.PixelData[0] ^ 1]) + data_set.PixelData[1:]
        data_set.compress(RLELossless, generate_instance_uid=False)
        for keyword, value in elements.items():
            setattr(data_set, keyword, value)
        data_set.save_as(tmp_path / name)
        return (tmp_path / name).read_bytes()

    note = {"DerivationDescription": "Lossless compression", "LossyImageCompression": "00"}
    arrival = Arrival(association=None, calling_ae="FOLDER", called_ae="CONTOURAI")
    with running(config_for(tmp_path, rules=())) as node:
        assert send(node, slices[:1]) == [0]
        for content, outcome in (
            (compressed("copy.dcm"), Stored.KNOWN),
            (compressed("noted.dcm", **note), Stored.KNOWN),
            (compressed("pixel.dcm", edit=True), Stored.ASIDE),
            (compressed("moved.dcm", ImagePositionPatient=[0, 0, 999]), Stored.ASIDE),  # type: ignore[arg-type]
            (compressed("cut.dcm")[:-300], Stored.ASIDE),
        ):
            assert node.store.add(content, arrival).outcome is outcome
        assert len(node.database.rows("SELECT * FROM aside")) == 3
        assert list((node.storage / "incoming").iterdir()) == []


def test_localisers_are_set_aside_and_wait_for_nobody(tmp_path: Path) -> None:
    def localiser(k: int, data_set: pydicom.Dataset) -> None:
        data_set.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    paths = write_stack(tmp_path / "ct", axial(1), localiser)
    with running(config_for(tmp_path)) as node:
        send(node, paths)
        wait_for(lambda: states(node, "series") == ["set aside"])
        assert "localiser" in node.database.rows("SELECT reason FROM series")[0]["reason"]


def test_a_stopped_patient_is_stopped_with_its_reasons_and_has_no_structure_set(tmp_path: Path) -> None:
    order = SimpleNamespace(job=3, uids_from="seed")
    folder = tmp_path / "P1"
    folder.mkdir()
    summary = {
        "verdict": "stop",
        "findings": [
            {"code": "x", "reason": "the scan shows no head"},
            {"code": "y", "reason": "2 ROIs are far from their place"},
        ],
        "structure_set": {"file": "", "sop_instance_uid": ""},
        "rois": {},
        "timings_s": {"total": 4.0},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    answer = worker._result(tmp_path, order)  # type: ignore[arg-type]
    assert answer is not None and (answer.outcome, answer.verdict) == ("stopped", "stop")
    assert answer.message == "the scan shows no head; 2 ROIs are far from their place"


# -- the command ------------------------------------------------------------------------------------------------


def test_a_path_of_windows_whose_backslashes_are_escapes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text('storage: "C:\\temp\\new"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"control characters(.|\n)*without quotes"):
        load_node_config(path)
    for quoted in ("C:\\temp\\new", "'C:\\temp\\new'"):
        path.write_text(f"storage: {quoted}\n", encoding="utf-8")
        assert load_node_config(path).storage.endswith("C:\\temp\\new")


def test_what_print_config_prints_is_a_configuration(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["serve", "--print-config"])
    assert printed.exit_code == 0
    path = tmp_path / "node.yaml"
    path.write_text(printed.output, encoding="utf-8")
    loaded = load_node_config(path)
    assert loaded == replaced(NodeConfig(), storage=str(tmp_path / "contour-ai-node"))
    for key in ("quiet_s", "called_ae_title", "several", "commitment", "repeat_h"):
        assert key in printed.output
    examples = {key: parse_yaml(example) for key, (_, example) in ITEMS.items()}
    path.write_text(to_yaml(examples), encoding="utf-8")
    filled = load_node_config(path)
    assert filled.callers[0].host == "10.1.2.3" and filled.rules[0].send_to == ("TPS",)
    assert filled.destinations["TPS"].port == 104 and filled.watch[0].pattern == "**/*.dcm"


def test_check_tries_destinations_models_and_storage(tmp_path: Path) -> None:
    with peer() as tps:
        good = config_for(tmp_path, tps)
        fine = serve(tmp_path, good, "--check")
        assert fine.exit_code == 0 and "destination TPS (TPS@127.0.0.1" in fine.output
        assert "answers to C-ECHO" in fine.output and "a phantom model" in fine.output
    away = serve(tmp_path, good, "--check")
    assert away.exit_code == 2 and "problem: destination TPS" in away.output
    wrong = replaced(
        good, rules=(Rule(model="no-such-model"), Rule(name="b", model="phantom-headneck", rois=("X",)))
    )
    bad = serve(tmp_path, wrong, "--check")
    assert bad.exit_code == 4 and "no-such-model" in bad.output and "has no ROI X" in bad.output


def test_explain_says_which_rule_and_why_not_the_others(tmp_path: Path, slices: list[Path]) -> None:
    from contour_ai.node.config import When

    rules = (
        Rule(name="pelvis", when=When(series_description="*pelvis*"), model="phantom-pelvis"),
        Rule(name="rest", model="phantom-headneck"),
    )
    told = serve(tmp_path, config_for(tmp_path, rules=rules), "--explain", str(slices[0].parent))
    assert told.exit_code == 0, told.output
    assert (
        "not pelvis: series_description is" in told.output and "rest: model phantom-headneck" in told.output
    )
    slices[2].unlink()
    gap = serve(tmp_path, config_for(tmp_path, rules=rules), "--explain", str(slices[0].parent))
    assert "it would wait: 1 slice(s) of this CT series are missing" in gap.output


def serve(tmp_path: Path, config: NodeConfig, *options: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "node.yaml"
    path.write_text(to_yaml(to_mapping(config)), encoding="utf-8")
    return CliRunner().invoke(cli, ["serve", "--config", str(path), *options], env={"COLUMNS": "300"})


def replaced(value, **changes):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(value, **changes)


def series_of(slices: list[Path]) -> str:
    return str(pydicom.dcmread(slices[0], stop_before_pixels=True).SeriesInstanceUID)


def swapped(words: bytes) -> bytes:
    import numpy as np

    return np.frombuffer(words, "<u2").astype(">u2").tobytes()


def test_a_destination_that_does_not_run_is_told_from_one_that_refuses() -> None:
    from programs import free_port

    from contour_ai.node.config import Destination
    from contour_ai.node.sending import echo

    port = free_port()
    answer = echo(Destination(ae_title="TPS", host="127.0.0.1", port=port), "CONTOURAI")
    assert answer == f"nothing answers at 127.0.0.1:{port} (not running, another port, or a firewall)"
