"""Cache entries come back memory-mapped, and their key follows content and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from training_cases import case

from contour_ai.training.cache import ABSENT, CONTOURED, UNKNOWN, case_key, content_hash, load_case, save_case


def test_round_trip_memory_mapped(tmp_path: Path) -> None:
    one = case(3, presence=(True, False, True))
    assert load_case(tmp_path, "key") is None
    loaded = save_case(tmp_path, "key", one)
    assert isinstance(loaded.hu, np.memmap) and not loaded.hu.flags.writeable
    np.testing.assert_array_equal(loaded.hu, one.hu)
    np.testing.assert_array_equal(loaded.bits, one.bits)
    assert (loaded.patient_id, loaded.rois, loaded.presence) == (one.patient_id, one.rois, one.presence)
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


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
