"""A worker begins with a series while the node waits for it to be quiet; the result is the same."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import config_for, quick_workers, running, send, states, wait_for
from pydicom import dcmread

from contour_ai.node import intake
from contour_ai.node.beginnings import Beginnings
from contour_ai.node.config import Rule
from contour_ai.node.jobs import JobSettings
from contour_ai.node.worker import Answer, Models, Order, carry_out
from contour_ai.pipeline import _predict

SETTINGS = JobSettings(
    model="m", rois=None, profile="generic", derive=None, template=None, send_to=(), hold=False
)


@pytest.fixture(name="slices", scope="module")
def _slices() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01" / "ct").iterdir())


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_workers(monkeypatch)


def order_for(images: Path, out_dir: Path, job: int = 1) -> Order:
    return Order(
        job=job,
        images=str(images),
        out_dir=str(out_dir),
        model="phantom-headneck",
        rois=("Brainstem", "SpinalCord"),
        profile="generic",
        derive=None,
        template=None,
        uids_from="seed",
    )


def begin(models: Models, order: Order) -> None:
    """Begins, and waits until that is done."""
    models.begin(order)
    assert models._coming is not None
    models._coming[1].exception()


def contours(answer: Answer) -> list[list[float]]:
    assert answer.outcome == "contoured", answer.message
    found = dcmread(answer.structure_set)
    return [list(contour.ContourData) for roi in found.ROIContourSequence for contour in roi.ContourSequence]


def test_what_was_begun_is_the_same_result_and_used_for_the_same_images_alone(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in slices:
        shutil.copy(path, images)
    opened = []
    open_patient = _predict.runs.open_patient
    monkeypatch.setattr(
        _predict.runs, "open_patient", lambda *given, **more: opened.append(1) or open_patient(*given, **more)
    )
    models = Models("cpu")
    plain = carry_out(order_for(images, tmp_path / "plain"), models)
    assert len(opened) == 1

    begin(models, order_for(images, Path(), job=0))
    time.sleep(4.5)
    begun = carry_out(order_for(images, tmp_path / "begun"), models)
    assert len(opened) == 2, "the job read and computed nothing again"
    assert contours(begun) == contours(plain)
    assert begun.seconds < plain.seconds + 4.0, "the wait is no time of the patient"
    carry_out(order_for(images, tmp_path / "once"), models)
    assert len(opened) == 3, "it is used once"

    begin(models, order_for(images, Path(), job=0))
    (images / slices[-1].name).unlink()
    changed = carry_out(order_for(images, tmp_path / "changed"), models)
    assert len(opened) == 5, "other images"
    assert contours(changed) != contours(plain)
    begin(models, order_for(images, Path(), job=0))
    carry_out(replace(order_for(images, tmp_path / "rois"), rois=("SpinalCord",)), models)
    assert len(opened) == 7, "other ROIs"
    begin(models, order_for(images, Path(), job=0))
    models.drop_begun(older_than_s=60)
    assert models._coming is not None
    models.drop_begun()
    carry_out(order_for(images, tmp_path / "dropped"), models)
    assert len(opened) == 9


def test_a_folder_that_cannot_be_contoured_is_the_jobs_fault(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    models = Models("cpu")
    order = order_for(tmp_path / "empty", tmp_path / "out")
    begin(models, order)
    assert carry_out(order, models).outcome == "failed"


@pytest.mark.usefixtures("quick")
def test_the_worker_has_begun_before_the_series_is_quiet(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[tuple[str, float]] = []
    idle: list[str] = []
    claim = Beginnings.claim

    def noted(self: Beginnings, worker: str) -> tuple[str, JobSettings] | None:
        idle.append(worker)
        found = claim(self, worker)
        if found is not None:
            claimed.append((found[0], time.monotonic()))
        return found

    monkeypatch.setattr(Beginnings, "claim", noted)
    checks = []
    check_slices = intake.check_slices
    monkeypatch.setattr(
        intake, "check_slices", lambda uid, store: checks.append(uid) or check_slices(uid, store)
    )
    config = replace(config_for(tmp_path), quiet_s=8.0)
    with running(config) as node:
        wait_for(
            lambda: idle
        )  # its process has started, which takes longer than two seconds on a busy machine
        send(node, slices)
        wait_for(lambda: claimed)
        assert states(node) == []
        wait_for(lambda: states(node) == ["done"])
        assert len(claimed) == 1 and len(checks) == 1, "what was found early holds"


@pytest.mark.usefixtures("quick")
def test_slices_that_come_after_the_early_look_are_looked_at(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[float] = []
    monkeypatch.setattr(Beginnings, "want", lambda self, uid, settings: wanted.append(time.monotonic()))
    config = replace(config_for(tmp_path), quiet_s=10.0)
    with running(config) as node:
        send(node, slices[:-3])
        wait_for(lambda: len(wanted) == 1)
        send(node, slices[-3:])
        wait_for(lambda: len(wanted) == 2)
        wait_for(lambda: states(node) == ["done"])
        send(node, [slices[0]])
        time.sleep(0.5)
        assert len(wanted) == 2


@pytest.mark.usefixtures("quick")
def test_a_sender_that_pauses_again_and_again_is_looked_at_three_times(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[str] = []
    check_slices = intake.check_slices
    monkeypatch.setattr(
        intake, "check_slices", lambda uid, store: checks.append(uid) or check_slices(uid, store)
    )
    config = replace(config_for(tmp_path), quiet_s=15.0)
    with running(config) as node:
        for end in range(6):
            send(node, slices[6 * end : 6 * end + 6] if end < 5 else slices[30:34])
            before = len(checks)
            if before < intake.EARLY_LOOKS:
                wait_for(lambda before=before: len(checks) > before)  # type: ignore[misc]
            else:
                time.sleep(0.6)
        assert len(checks) == intake.EARLY_LOOKS
        wait_for(lambda: states(node) == ["done"])


@pytest.mark.usefixtures("quick")
def test_a_rule_that_chooses_among_series_waits_for_all_of_them(
    tmp_path: Path, slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(Beginnings, "want", lambda self, uid, settings: wanted.append(uid))
    config = replace(config_for(tmp_path, rules=(Rule(several="newest"),)), quiet_s=1.0)
    with running(config) as node:
        send(node, slices)
        wait_for(lambda: states(node) == ["done"])
        assert not wanted


def test_who_has_begun_with_what() -> None:
    told = []
    beginnings = Beginnings(lambda: told.append(1))
    assert beginnings.claim("cpu") is None
    beginnings.want("1.2", SETTINGS)
    beginnings.want("1.3", SETTINGS)
    beginnings.want("1.4", SETTINGS)
    assert len(told) == 3
    beginnings.forget("1.3")
    assert beginnings.claim("cuda:0") == ("1.2", SETTINGS)
    assert beginnings.of_others("cuda:0") == () and beginnings.of_others("cuda:1") == ("1.2",)
    assert beginnings.claim("cuda:1") == ("1.4", SETTINGS)
    assert beginnings.claim("cuda:1") is None
    beginnings.free("cuda:0")
    assert beginnings.of_others("cuda:1") == ()


@pytest.mark.usefixtures("quick")
def test_a_job_is_left_to_the_worker_that_has_begun_with_it(tmp_path: Path, slices: list[Path]) -> None:
    with running(config_for(tmp_path)) as node:
        for worker in node.workers:
            worker.stop()
        uid = str(dcmread(slices[0], stop_before_pixels=True).SeriesInstanceUID)
        send(node, slices)
        wait_for(lambda: states(node) == ["waiting"])
        assert node.book.take(leave=(uid, "1.2")) is None
        assert node.book.take(leave=("1.2",)) is not None
