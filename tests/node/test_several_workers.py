"""Several workers at once: on the processor `auto` is two, each with its own name, log and share of the cores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from nodes import config_for, peer, quick_workers, running, send, states, wait_for
from pydicom.uid import generate_uid
from synthetic import axial, write_stack

from contour_ai.node import service


def test_auto_on_the_processor_is_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contour_ai.node.service.available_cores", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with running(config_for(tmp_path, devices=("auto",))) as node:
        wait_for(lambda: len(node.workers) == 2)
        wait_for(lambda: all(worker.process_id is not None for worker in node.workers))
        first, second = node.workers
        assert [first.title, second.title] == ["auto", "auto 2"]
        assert first.log_path != second.log_path
        assert [worker["device"] for worker in node.health()["workers"]] == ["auto", "auto 2"]
        # A process that ends is replaced; it starts no third worker.
        first._end_process()
        wait_for(lambda: first.process_id is not None and not first.book.database.row("SELECT 1 FROM jobs"))
        assert len(node.workers) == 2


@pytest.mark.parametrize("devices", [("cpu",), ("auto", "auto")])
def test_a_named_number_of_workers_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...]
) -> None:
    monkeypatch.setattr("contour_ai.node.service.available_cores", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told: list[str] = []
    heard = service.Node._second_on_processor
    monkeypatch.setattr(
        service.Node,
        "_second_on_processor",
        lambda node, *said: (heard(node, *said), told.append(said[1])),
    )
    with running(config_for(tmp_path, devices=devices)) as node:
        wait_for(lambda: told == ["cpu"] * len(devices))
        assert len(node.workers) == len(devices)


def test_workers_of_one_device_share_the_jobs_and_never_a_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_workers(monkeypatch)
    slices = write_stack(tmp_path / "ct", axial(10))
    with peer() as tps, running(config_for(tmp_path, tps, devices=("cpu", "cpu"))) as node:
        for number in range(6):
            uid = generate_uid()
            folder = tmp_path / str(number)
            folder.mkdir()
            for path in slices:
                data_set = pydicom.dcmread(path)
                data_set.SeriesInstanceUID, data_set.StudyInstanceUID = uid, generate_uid()
                data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
                data_set.PatientID = f"P{number}"
                data_set.save_as(folder / path.name)
            assert set(send(node, sorted(folder.iterdir()))) == {0}
            shutil.rmtree(folder)
        wait_for(lambda: states(node) == ["sent"] * 6)
        assert sorted(str(received.PatientID) for received in tps.received) == [f"P{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("devices", "threads"),
    [
        (("auto",), None),
        (("cpu", "cpu"), None),
        (("cpu",) * 4, 4),
        (("cuda:0", "cuda:1"), 4),
        (("cuda:0", "cpu"), 4),
    ],
)
def test_cores_are_shared(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], threads: int | None
) -> None:
    monkeypatch.setattr("contour_ai.node.service.available_cores", lambda: 8)
    assert service._threads_each(devices) == threads
