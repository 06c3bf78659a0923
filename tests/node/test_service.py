"""A node from a scanner's C-STORE to the planning system: complete, once, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from nodes import CALLER, config_for, peer, quick_workers, running, send, states, wait_for
from synthetic import axial, write_stack

from contour_ai.dicom.rtstruct_header import structure_set_uid
from contour_ai.files.manifest import first_stranger
from contour_ai.node.config import Caller
from contour_ai.node.database import Database
from contour_ai.node.jobs import JobBook

PHANTOM = Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01" / "ct"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_workers(monkeypatch)


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    """Ten small slices."""
    return write_stack(tmp_path / "ct", axial(10))


def test_a_series_becomes_a_structure_set_at_the_destination(tmp_path: Path) -> None:
    slices = sorted(PHANTOM.iterdir())
    with peer() as tps, running(config_for(tmp_path, tps)) as node:
        assert set(send(node, slices)) == {0}
        wait_for(lambda: states(node) == ["sent"])
        (received,) = tps.received
        job = node.database.row("SELECT * FROM jobs")
        assert job is not None and received.SOPInstanceUID == job["sop_uid"]
        assert received.SOPInstanceUID == structure_set_uid(job["uid_seed"])
        original = pydicom.dcmread(slices[0], stop_before_pixels=True)
        assert received.PatientID == original.PatientID
        assert received.StudyInstanceUID == original.StudyInstanceUID
        assert {r.ROIName for r in received.StructureSetROISequence} >= {"Brainstem", "Parotid_L"}
        # The report is made when the structure set is on its way.
        folder = node.book.results / job["folder"]
        wait_for((folder / "report.html").is_file)
        wait_for(lambda: first_stranger(folder) is None)
        # The same images again change nothing.
        assert set(send(node, slices)) == {0}
        wait_for(lambda: node.intake.quiet_for_s(str(original.SeriesInstanceUID)) > 1.0)
        assert states(node) == ["sent"] and len(tps.received) == 1


def test_a_model_that_does_not_fit_stops_the_patient_and_sends_nothing(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from contour_ai.node.config import Rule
    from contour_ai.node.web.app import Page

    with peer() as tps:
        rules = (Rule(model="phantom-pelvis", send_to=("TPS",)),)
        with running(config_for(tmp_path, tps, rules=rules)) as node:
            send(node, sorted(PHANTOM.iterdir()))
            wait_for(lambda: states(node) == ["stopped"])
            assert tps.received == [] and list(node.storage.rglob("RS.*.dcm")) == []
            (job,) = node.database.rows("SELECT verdict, message FROM jobs")
            assert job["verdict"] == "stop" and "does not show what the model knows" in job["message"]
            page = TestClient(Page(node).application()).get("/jobs/1").text
            assert "Stopped by the verdict" in page and "phantom model" in page
            assert list(node.book.results.rglob("report.html")), (
                "nothing waits for a stopped patient's report"
            )


def test_reports_wait_for_patients_and_each_is_tried_once(tmp_path: Path) -> None:
    book = JobBook(Database(tmp_path / "node.sqlite"), tmp_path / "results")
    for number in (1, 2, 3):
        (book.results / f"job-{number}").mkdir()
        book.database.execute(
            "INSERT INTO jobs (series_uid, content, rule, settings, sop_uid, uid_seed, state, created_at, folder)"
            " VALUES (?, '', '', '{}', ?, '', ?, 0, ?)",
            *(str(number), str(number), "failed" if number == 2 else "sent", f"job-{number}"),
        )
    first, second = book.take_without_report(), book.take_without_report()
    assert first is not None and second is not None and (first["id"], second["id"]) == (3, 1)
    assert book.take_without_report() is None
    (book.results / "job-1" / "report.html").write_text("made", encoding="utf-8")
    after_a_start = JobBook(book.database, book.results).take_without_report()
    assert after_a_start is not None and after_a_start["id"] == 3


@pytest.mark.usefixtures("quick")
def test_strangers_wrong_titles_and_other_objects_are_refused(tmp_path: Path, slices: list[Path]) -> None:
    callers = (Caller(ae_title=CALLER, host="127.0.0.1"), Caller(ae_title="ELSEWHERE", host="10.9.8.7"))
    with running(config_for(tmp_path, callers=callers, rules=())) as node:
        assert send(node, slices[:1], calling="STRANGER") == [-1]
        assert send(node, slices[:1], calling="ELSEWHERE") == [-1]
        assert send(node, slices[:1], called="OTHERNODE") == [-1]
        assert send(node, slices[:1]) == [0]
        log = node.audit.path.read_text(encoding="utf-8")
    assert log.count('"rejected"') == 3 and "STRANGER" in log


@pytest.mark.usefixtures("quick")
def test_an_incomplete_series_waits_and_is_taken_up_when_the_rest_arrives(
    tmp_path: Path, slices: list[Path]
) -> None:
    with peer() as tps, running(config_for(tmp_path, tps)) as node:
        send(node, [*slices[:4], *slices[7:]])
        wait_for(lambda: states(node, "series") == ["incomplete"])
        row = node.database.row("SELECT reason FROM series")
        assert row is not None and "3 slice(s) of this CT series are missing" in row["reason"]
        assert states(node) == []
        send(node, slices[4:7])
        wait_for(lambda: states(node) == ["sent"])
        assert len(tps.received) == 1


@pytest.mark.usefixtures("quick")
def test_half_a_series_of_a_connection_that_was_cut_off_is_not_contoured(
    tmp_path: Path, slices: list[Path]
) -> None:
    with running(config_for(tmp_path, quiet_s=0.2)) as node:
        send(node, slices[:6], abort=True)
        wait_for(lambda: "cut off" in node.database.rows("SELECT reason FROM series")[0]["reason"])
        assert states(node) == [] and states(node, "series") == ["receiving"]
        send(node, slices[:6], abort=True)
        wait_for(lambda: node.intake.quiet_for_s(_series(slices)) > 1.0)
        assert states(node) == []
        send(node, slices)
        wait_for(lambda: states(node) == ["done"])


@pytest.mark.usefixtures("quick")
def test_a_new_start_does_not_take_half_a_series_for_a_whole_one(tmp_path: Path, slices: list[Path]) -> None:
    config = config_for(tmp_path)
    with running(config) as node:
        node.intake.look = lambda: 0  # type: ignore[method-assign]
        send(node, slices[:6])
        # As a node that is killed leaves it: the connection was open.
        wait_for(lambda: states(node, "associations") == ["released"])
        node.database.execute("UPDATE associations SET state = 'open', last_opened = 0")
    with running(config) as node:
        wait_for(lambda: "cut off" in node.database.rows("SELECT reason FROM series")[0]["reason"])
        assert states(node) == []


@pytest.mark.usefixtures("quick")
def test_slices_that_come_late_make_a_new_structure_set_and_supersede_the_old(
    tmp_path: Path, slices: list[Path]
) -> None:
    with peer() as tps, running(config_for(tmp_path, tps)) as node:
        send(node, slices[:-2])
        wait_for(lambda: states(node) == ["sent"])
        send(node, slices[-2:])
        wait_for(lambda: states(node) == ["superseded", "sent"])
        assert len(set(tps.uids)) == 2


@pytest.mark.usefixtures("quick")
def test_a_result_is_sent_again_until_the_destination_takes_it(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contour_ai.node.jobs.FIRST_RETRY_S", 0.2)
    with peer(0xA700) as tps, running(config_for(tmp_path, tps)) as node:
        send(node, slices)
        wait_for(lambda: (node.database.row("SELECT MAX(attempts) n FROM deliveries") or {"n": 0})["n"])
        message = node.database.rows("SELECT message FROM deliveries")[0]["message"]
        assert "out of resources" in message and states(node) == ["sending"]
        tps.status = 0
        wait_for(lambda: states(node) == ["sent"])
        assert len(tps.received) == 1


@pytest.mark.usefixtures("quick")
def test_a_worker_that_dies_is_replaced_and_its_job_tried_once_more(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTOUR_AI_TEST_WORK_S", "1.0")
    with running(config_for(tmp_path)) as node:
        worker = node.workers[0]
        wait_for(lambda: worker.process_id)
        first = worker.process_id
        send(node, slices)
        wait_for(lambda: "working" in states(node))
        assert worker._process is not None
        worker._process.kill()
        wait_for(lambda: states(node) == ["done"])
        assert worker.process_id != first
        assert node.database.rows("SELECT attempts FROM jobs")[0]["attempts"] == 2


@pytest.mark.usefixtures("quick")
def test_a_job_that_kills_its_worker_twice_is_set_aside_with_a_message(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contour_ai.node.workers.Worker._ask", lambda self, order: None)
    with running(config_for(tmp_path)) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["failed"])
        (row,) = node.database.rows("SELECT attempts, message FROM jobs")
        assert row["attempts"] == 2 and "worker process ended" in row["message"]


def test_a_patient_that_cannot_be_contoured_fails_without_a_second_try(
    tmp_path: Path, slices: list[Path]
) -> None:
    from contour_ai.node.config import Rule

    with running(config_for(tmp_path, rules=(Rule(model="no-such-model"),))) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["failed"])
        (row,) = node.database.rows("SELECT id, attempts, message FROM jobs")
        assert row["attempts"] == 1 and "no-such-model" in row["message"]
        assert (node.book.results / f"job-{row['id']:06d}.log").is_file()


@pytest.mark.usefixtures("quick")
def test_another_image_of_the_same_uid_is_kept_aside_and_named(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path, rules=())) as node:
        assert send(node, slices[:1]) == [0]

        def edit(dataset: pydicom.Dataset) -> None:
            dataset.PixelData = bytes(len(dataset.PixelData))

        assert send(node, slices[:1], edit=edit) == [0xB000]
        (row,) = node.database.rows("SELECT * FROM aside")
        assert (node.storage / row["path"]).is_file() and "another image" in row["reason"]
        stored = pydicom.dcmread(node.store.paths(_series(slices))[0])
        assert stored.PixelData == pydicom.dcmread(slices[0]).PixelData


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_answered_with_out_of_resources_and_keeps_what_is_there(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config_for(tmp_path, rules=())) as node:
        assert send(node, slices[:2]) == [0, 0]
        with monkeypatch.context() as full:
            full.setattr("contour_ai.node.store.os.fsync", _no_space)
            assert send(node, slices[2:4]) == [0xA700, 0xA700]
        assert len(node.store.paths(_series(slices))) == 2
        assert list((node.storage / "incoming").iterdir()) == []
        with monkeypatch.context() as low:
            low.setattr(node.store, "free_gb", lambda: 0.1)
            assert send(node, slices[2:3]) == [0xA700]
        assert send(node, slices[2:4]) == [0, 0]


@pytest.mark.usefixtures("quick")
def test_a_second_node_on_the_same_storage_is_refused(tmp_path: Path) -> None:
    from contour_ai.errors import OutputError
    from contour_ai.node.service import Node

    config = config_for(tmp_path, rules=())
    with running(config), pytest.raises(OutputError, match="Another node uses this storage"):
        Node(config)
    with running(config):
        pass


@pytest.mark.usefixtures("quick")
def test_a_held_result_waits_for_a_confirmation(tmp_path: Path, slices: list[Path]) -> None:
    with peer() as tps, running(config_for(tmp_path, tps, hold=True)) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["held"])
        assert tps.received == []
        job = node.database.rows("SELECT id FROM jobs")[0]["id"]
        assert node.book.confirm(job, "anna") and not node.book.confirm(job, "anna")
        wait_for(lambda: states(node) == ["sent"])
        assert node.database.rows("SELECT confirmed_by FROM jobs")[0]["confirmed_by"] == "anna"


@pytest.mark.usefixtures("quick")
def test_a_structure_set_that_comes_back_is_paired_with_its_job(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path)) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["done"])
        job = node.database.rows("SELECT * FROM jobs")[0]
        path = node.book.results / job["folder"] / job["structure_set"]

        def approved(dataset: pydicom.Dataset) -> None:
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:-4]}7"
            dataset.ApprovalStatus = "APPROVED"

        assert send(node, [path], edit=approved) == [0]
        wait_for(lambda: node.database.rows("SELECT * FROM returned WHERE series_uid != ''"))
        (row,) = node.database.rows("SELECT * FROM returned")
        assert (row["job"], row["approved"], row["series_uid"]) == (job["id"], 1, job["series_uid"])
        assert states(node) == ["done"]


@pytest.mark.usefixtures("quick")
def test_files_of_a_watched_folder_are_taken_when_they_stop_growing_and_stay(
    tmp_path: Path, slices: list[Path]
) -> None:
    from contour_ai.node.config import WatchedFolder

    share = tmp_path / "share"
    (share / "export").mkdir(parents=True)
    growing = share / "export" / slices[0].name
    growing.write_bytes(slices[0].read_bytes()[:3000])
    (share / "readme.dcm").write_text("no DICOM", encoding="utf-8")
    watch = (WatchedFolder(folder=str(share), settle_s=0.4),)
    with running(config_for(tmp_path, watch=watch)) as node:
        for path in slices[1:]:
            (share / "export" / path.name).write_bytes(path.read_bytes())
        growing.write_bytes(slices[0].read_bytes())
        wait_for(
            lambda: len(node.store.paths(_series(slices))) == len(slices) and states(node)[-1:] == ["done"]
        )
        assert len(list(share.rglob("*.dcm"))) == len(slices) + 1


def test_a_wrong_configuration_keeps_the_old_one(tmp_path: Path) -> None:
    from dataclasses import replace

    from contour_ai.errors import ConfigError
    from contour_ai.node.config import Rule
    from contour_ai.node.service import Node

    config = config_for(tmp_path, rules=())
    answers = [replace(config, rules=(Rule(model="phantom-headneck"),), ae_title="NEWNAME")]

    def load() -> object:
        if not answers:
            raise ConfigError("Unknown key 'ruls'.")
        return answers.pop()

    node = Node(config, reload=load)  # type: ignore[arg-type]
    try:
        assert node.reload() == "taken up; only a new start changes ae_title"
        assert len(node.config.rules) == 1 and node.config.ae_title == "CONTOURAI"
        assert "Unknown key" in node.reload() and len(node.config.rules) == 1
        assert node.health()["problems"] == ["configuration"]
    finally:
        node.stop()


def _series(slices: list[Path]) -> str:
    return str(pydicom.dcmread(slices[0], stop_before_pixels=True).SeriesInstanceUID)


def _no_space(descriptor: int) -> None:
    import errno

    raise OSError(errno.ENOSPC, "No space left on device")
