"""The node with other people's programs: dcmtk's tools and Orthanc send to it and receive from it."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from certificates import Authority
from nodes import CALLER, config_for, quick_workers, running, send, states, wait_for
from programs import dcmtk, free_port, orthanc, storescp
from pydicom.uid import UID
from synthetic import axial, compress, write_stack

from contour_ai.node.config import Caller, Destination, NodeConfig
from contour_ai.node.sending import echo, send_files

pytestmark = pytest.mark.interop
STACK = axial(6, patient_id="PEER1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_workers(monkeypatch)


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_stack(tmp_path / "ct", STACK)


def sends_to(tmp_path: Path, title: str, at_port: int, **changes: object) -> NodeConfig:
    """A node's configuration that sends every result to a peer."""
    from contour_ai.node.config import Rule

    return config_for(
        tmp_path,
        destinations={"TPS": Destination(ae_title=title, host="127.0.0.1", port=at_port)},
        rules=(Rule(model="phantom-headneck", send_to=("TPS",)),),
        **changes,
    )


def content(path: Path) -> dict[int, object]:
    """The values of a data set by tag, without file meta information."""
    return {int(element.tag): element.value for element in pydicom.dcmread(path)}


def test_storescu_to_node_to_storescp(tmp_path: Path, slices: list[Path]) -> None:
    port, inbox = free_port(), tmp_path / "inbox"
    with storescp(inbox, port), running(sends_to(tmp_path, "TPS", port)) as node:
        call = ("-aet", CALLER, "-aec", "CONTOURAI", "127.0.0.1", node.port)
        assert dcmtk("echoscu", *call).returncode == 0
        sent = dcmtk("storescu", *call, *slices)
        assert sent.returncode == 0, sent.stderr
        wait_for(lambda: states(node) == ["sent"])
        (received,) = inbox.iterdir()
        job = node.database.rows("SELECT * FROM jobs")[0]
        assert content(received) == content(node.book.results / job["folder"] / job["structure_set"])


def test_strangers_wrong_titles_and_queries_are_refused_in_words(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path, rules=())) as node:
        at = ("127.0.0.1", node.port)
        stranger = dcmtk("storescu", "-aet", "STRANGER", "-aec", "CONTOURAI", *at, slices[0])
        assert stranger.returncode != 0 and "Calling AE Title Not Recognized" in stranger.stderr
        wrong = dcmtk("echoscu", "-aet", CALLER, "-aec", "OTHER", *at)
        assert wrong.returncode != 0 and "Called AE Title Not Recognized" in wrong.stderr
        query = dcmtk("findscu", "-P", "-k", "PatientID=*", "-aet", CALLER, "-aec", "CONTOURAI", *at)
        assert query.returncode != 0 and "No Acceptable Presentation Contexts" in query.stderr
        assert states(node, "series") == []
        assert dcmtk("echoscu", "-aet", CALLER, "-aec", "CONTOURAI", *at).returncode == 0


@pytest.mark.parametrize("syntax, option", [("JPEG2000Lossless", "-xv"), ("JPEGLosslessProcess14_1", "-xs")])
def test_compressed_slices_are_taken_as_they_are(
    tmp_path: Path, slices: list[Path], syntax: str, option: str
) -> None:
    before = [pydicom.dcmread(p).pixel_array for p in slices]
    for path in slices:
        compress(path, syntax)
    with running(config_for(tmp_path)) as node:
        sent = dcmtk("storescu", option, "-aet", CALLER, "-aec", "CONTOURAI", "127.0.0.1", node.port, *slices)
        assert sent.returncode == 0, sent.stderr
        wait_for(lambda: states(node) == ["done"])
        stored = {pydicom.dcmread(p).SOPInstanceUID: p for p in node.store.paths(node_series(node))}
        assert len(stored) == len(slices)
        for path, pixels in zip(slices, before, strict=True):
            one = pydicom.dcmread(stored[pydicom.dcmread(path).SOPInstanceUID])
            assert UID(one.file_meta.TransferSyntaxUID).is_compressed
            assert np.array_equal(one.pixel_array, pixels)


def node_series(node: object) -> str:
    return str(node.database.rows("SELECT series_uid FROM series")[0]["series_uid"])  # type: ignore[attr-defined]


def test_orthanc_sends_and_receives(tmp_path: Path, slices: list[Path]) -> None:
    node_port = free_port()
    peers = {"node": ["CONTOURAI", "127.0.0.1", node_port]}
    with orthanc(tmp_path / "orthanc", peers) as archive:
        callers = (Caller(ae_title="ORTHANC", host="127.0.0.1"),)
        config = sends_to(tmp_path, "ORTHANC", archive.port, port=node_port, callers=callers)
        with running(config) as node:
            for path in slices:
                archive.post("/instances", path.read_bytes())
            (study,) = archive.get("/studies")
            archive.post("/modalities/node/store", study)
            wait_for(lambda: states(node) == ["sent"])
            (number,) = archive.instances("RTSTRUCT")
            theirs = tmp_path / "theirs.dcm"
            theirs.write_bytes(archive.bytes(f"/instances/{number}/file"))
            job = node.database.rows("SELECT * FROM jobs")[0]
            ours = node.book.results / job["folder"] / job["structure_set"]
            assert content(theirs) == content(ours)
            assert archive.get("/studies") == [study]
            # What the archive sends back is known as the node's own, and its images as those that are there.
            archive.post("/modalities/node/store", study)
            wait_for(lambda: node.database.rows("SELECT * FROM returned WHERE series_uid != ''"))
            (row,) = node.database.rows("SELECT * FROM returned")
            assert (row["job"], row["sop_uid"]) == (job["id"], job["sop_uid"])
            assert node.database.rows("SELECT * FROM aside") == [] and states(node) == ["sent"]


def test_orthanc_commits_to_what_it_stores_over_a_connection_of_its_own(
    tmp_path: Path, slices: list[Path]
) -> None:
    node_port = free_port()
    with orthanc(tmp_path / "orthanc", {"node": ["CONTOURAI", "127.0.0.1", node_port]}) as archive:
        config = sends_to(tmp_path, "ORTHANC", archive.port, port=node_port)
        to = replace(config.destinations["TPS"], commitment=True)
        with running(replace(config, destinations={"TPS": to})) as node:
            send(node, slices)
            wait_for(lambda: states(node) == ["sent"])
            (job,) = node.database.rows("SELECT sop_uid FROM jobs")
            (row,) = node.database.rows("SELECT * FROM commitments")
            assert (row["sop_uid"], row["ae_title"]) == (job["sop_uid"], "ORTHANC")
            assert '"stored and committed"' in node.audit.path.read_text(encoding="utf-8")
            # It may report, and nothing else.
            assert send(node, slices[:1], calling="ORTHANC") == [0x0124]


def test_orthanc_stores_a_seg(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.seg_write import write_masks

    write_stack(tmp_path / "ct", STACK)
    ct = read_ct(tmp_path / "ct")
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[1:4, 3:8, 2:6] = True
    path = tmp_path / "SEG.dcm"
    write_masks(path, [("Organ", mask)], ct)
    with orthanc(tmp_path / "orthanc", {}) as archive:
        to = Destination(ae_title="ORTHANC", host="127.0.0.1", port=archive.port)
        (sent,) = send_files([path], to, "CONTOURAI")
        assert sent.stored, sent.message
        (number,) = archive.instances("SEG")
        theirs = tmp_path / "theirs.dcm"
        theirs.write_bytes(archive.bytes(f"/instances/{number}/file"))
        assert content(theirs) == content(path)


def test_tls_takes_the_right_certificate_and_nothing_else(tmp_path: Path, slices: list[Path]) -> None:
    ours, others = Authority(tmp_path, "hospital"), Authority(tmp_path, "elsewhere")
    config = config_for(tmp_path, tls=ours.tls("node"), rules=())
    with running(config) as node:
        at = ("-aet", CALLER, "-aec", "CONTOURAI", "127.0.0.1", node.port)

        def scu(tls: object) -> int:
            files = ("+tls", tls.key, tls.certificate, "+cf", tls.ca)  # type: ignore[attr-defined]
            return dcmtk("storescu", *files, *at, slices[0]).returncode

        with socket.create_connection(
            ("127.0.0.1", node.port)
        ):  # connects and says nothing: nobody waits for it
            assert scu(ours.tls("scanner")) == 0
        assert scu(others.tls("stranger", trusted=ours.certificate)) != 0
        assert scu(ours.tls("careful", trusted=others.certificate)) != 0
        assert dcmtk("storescu", *at, slices[1]).returncode != 0
        assert dcmtk("storescu", "+tla", "+cf", ours.certificate, *at, slices[1]).returncode != 0
        assert len(node.store.paths(node_series(node))) == 1
        # An administrator who is told that nothing arrives finds every refused handshake with its reason. Where the
        # peer does not trust the node (TLS 1.3), it may hang up before the node knows.
        log = node.audit.path.read_text(encoding="utf-8").splitlines()
        refused = [line for line in log if '"rejected", "reason": "TLS: ' in line and '"127.0.0.1"' in line]
        assert len(refused) >= 3, log


def test_results_go_out_over_tls(tmp_path: Path, slices: list[Path]) -> None:
    ours, others = Authority(tmp_path, "hospital"), Authority(tmp_path, "elsewhere")
    port, tps = free_port(), ours.tls("tps")
    options = ("+tls", tps.key, tps.certificate, "+cf", tps.ca)
    right = Destination(ae_title="TPS", host="127.0.0.1", port=port, tls=ours.tls("node"))
    wrong = Destination(ae_title="TPS", host="127.0.0.1", port=port, tls=others.tls("stranger"))
    plain = Destination(ae_title="TPS", host="127.0.0.1", port=port)
    with storescp(tmp_path / "inbox", port, *options):
        for bad in (wrong, plain):
            (sent,) = send_files(slices[:1], bad, "CONTOURAI")
            assert not sent.stored and str(port) in sent.message
        assert echo(right, "CONTOURAI") is None
        (sent,) = send_files(slices[:1], right, "CONTOURAI")
        assert sent.stored, sent.message
    assert len(list((tmp_path / "inbox").iterdir())) == 1


def test_associations_that_are_opened_and_dropped_leave_the_node_alive(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetdicom import AE

    monkeypatch.setattr("contour_ai.node.receiver.ACSE_TIMEOUT_S", 600)  # nothing is freed by a timeout
    with running(config_for(tmp_path, rules=(), max_associations=5)) as node:
        for number in range(100):
            if number % 2:
                socket.create_connection(("127.0.0.1", node.port)).close()
                continue
            ae = AE(ae_title=CALLER)
            ae.add_requested_context("1.2.840.10008.1.1")
            ae.associate("127.0.0.1", node.port, ae_title="CONTOURAI").abort()
        wait_for(lambda: send(node, slices[:1]) == [0])
        assert node.database.rows("SELECT id FROM associations WHERE state = 'open' AND id < 10") == []
