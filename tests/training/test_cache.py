"""Cache entries come back memory-mapped, and their key follows content and settings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_cases import case

from contour_ai.grid import Grid
from contour_ai.preprocess import Prepared
from contour_ai.training.cache import (
    ABSENT,
    CONTOURED,
    UNKNOWN,
    Case,
    Digests,
    case_key,
    content_hash,
    load_case,
    load_image,
    save_case,
    save_image,
)
from contour_ai.training.roi_facts import RoiFacts


def save_patient(cache: Path) -> tuple[Case, Case]:
    """(a patient, the same from the cache), the image under "image", the ROIs under "key"."""
    one = replace(
        case(3, presence=(True, False, True)),
        facts={"Brainstem": RoiFacts(contours=4, unused_contours=1, volume_cm3=25.0)},
    )
    body = one.hu > -1024
    grid = Grid.axial(body.shape, one.spacing_mm_kij, (1.0, 2.0, 3.0))
    image = save_image(cache, "image", Prepared(hu=one.hu, body=body, grid=grid, source_grid=grid), body)  # type: ignore[arg-type]
    assert image.grid.matches(grid) and (image.body == body).all()
    return one, save_case(cache, "key", one, "image")


def test_round_trip_memory_mapped(tmp_path: Path) -> None:
    assert load_case(tmp_path, "key") is None and load_image(tmp_path, "image") is None
    one, loaded = save_patient(tmp_path)
    assert isinstance(loaded.hu, np.memmap) and not loaded.hu.flags.writeable
    np.testing.assert_array_equal(loaded.hu, one.hu)
    np.testing.assert_array_equal(loaded.bits, one.bits)
    assert (loaded.patient_id, loaded.rois, loaded.presence) == (one.patient_id, one.rois, one.presence)
    assert loaded.facts == one.facts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image", "key"]


def test_a_patient_takes_little_more_than_three_bytes_a_voxel(tmp_path: Path) -> None:
    # Half a million voxels a patient: 170 OpenKBP patients fit into half a GB.
    shape = (40, 60, 50)
    grid = Grid.axial(shape, (3.0, 3.0, 3.0))
    hu, bits = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    rois = tuple("ABCDEFG")
    body = np.ones(shape, bool)
    save_image(tmp_path, "image", Prepared(hu=hu, body=body, grid=grid, source_grid=grid), body)
    save_case(
        tmp_path,
        "key",
        Case(
            patient_id="P",
            image=hu,
            labels=bits,
            rois=rois,
            presence=(True,) * 7,
            spacing_mm_kij=(3.0, 3.0, 3.0),
        ),
        "image",
    )
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 3.5 * hu.size


def test_rois_without_their_image_are_no_patient(tmp_path: Path) -> None:
    save_patient(tmp_path)
    (tmp_path / "image" / "hu.npy").unlink()
    assert load_case(tmp_path, "key") is None


def test_a_changed_series_is_noticed_and_a_damaged_memory_does_no_harm(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_bytes(path.name.encode())
    digests = Digests(tmp_path)
    first = digests.of_series(files)
    assert first == content_hash(files)
    digests.save()
    files[1].write_bytes(b"c")
    os.utime(files[1], ns=(1, 1))
    assert Digests(tmp_path).of_series(files) == content_hash(files) != first
    (tmp_path / "digests.json").write_text("half a fi", encoding="utf-8")
    assert Digests(tmp_path).of_series(files) == content_hash(files)


def test_remembered_series_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    digests = Digests(tmp_path)
    first = digests.of_series([path])
    digests.save()
    monkeypatch.setattr(
        "contour_ai.training.cache.content_hash", lambda paths: pytest.fail("it was read again")
    )
    assert Digests(tmp_path).of_series([path]) == first


def test_key_follows_content_and_settings_not_names(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    c.write_bytes(b"one")
    assert content_hash([a, b]) == content_hash([b, c])
    assert content_hash([a, b]) != content_hash([a, a])
    keys = {case_key(content_hash([a]), {"s": s}) for s in (1.0, 2.0)} | {
        case_key(content_hash([b]), {"s": 1.0})
    }
    assert len(keys) == 3


def test_rois_can_be_chosen_and_reordered() -> None:
    one = case(3, presence=(True, False, True))
    chosen = one.select(("Brainstem", "Heart", "Parotid_L"))
    assert chosen.presence == (True, False, True)
    np.testing.assert_array_equal(chosen.bits & 1, (one.bits >> 2) & 1)
    np.testing.assert_array_equal((chosen.bits >> 2) & 1, one.bits & 1)


def test_three_states_of_a_roi() -> None:
    one = replace(case(3, presence=(True, False, False)), absent=("Parotid_R",))
    assert one.states == (CONTOURED, ABSENT, UNKNOWN)
    assert one.select(("Heart", "Parotid_R", "Parotid_L")).states == (UNKNOWN, ABSENT, CONTOURED)
