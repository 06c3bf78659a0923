"""What the comparison with nnU-Net does besides running programs: label maps, tables, and its refusals."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "against_nnunet.py"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARK.parent))  # as where it runs as a script
    spec = importlib.util.spec_from_file_location("against_nnunet", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARK.parent))


def test_a_voxel_of_two_rois_goes_to_the_smaller_one(benchmark: ModuleType) -> None:
    large, small = np.zeros((1, 1, 6), bool), np.zeros((1, 1, 6), bool)
    large[..., :4], small[..., 3:5] = True, True
    labels, twice = sys.modules["nnunet_export"].label_map({"A": large, "B": small}, ["B", "missing", "A"])
    assert labels.dtype == np.uint8 and labels.ravel().tolist() == [3, 3, 3, 1, 1, 0]
    assert twice == 1


def test_a_roi_that_was_not_found_counts_as_zero(benchmark: ModuleType) -> None:
    def row(roi: str, status: str, dice: str) -> dict[str, str]:
        return {"roi": roi, "status": status, "dsc": dice, "surface_dsc": dice}

    rows = [
        row("Cord", "both", "0.8"),
        row("Cord", "prediction missing", "0"),
        row("Cord", "reference missing", ""),
        row("Cord", "neither", ""),
        row("Larynx", "reference missing", ""),
    ]
    found = benchmark.figures(rows, ["Cord", "Larynx", "Brainstem"])
    assert found == {"Cord": {"n": 2, "found": 1, "dice": 0.4, "surface_dice": 0.4}}


def test_the_table(benchmark: ModuleType) -> None:
    def side(dice: float) -> dict[str, object]:
        took = {"seconds": 61.0, "peak_bytes": 1.5e9}
        return {
            "rois": {"Cord": {"n": 2, "found": 1, "dice": dice, "surface_dice": 0.5}},
            "training": {"Cord": 7, "Larynx": 0},
            "patients": 9, "steps": 40, "sample": [8, 16, 24], "batch": 2, "features": 16,
            "prepare": took, "train": took, "predict": took,
        }  # fmt: skip

    result = {
        "sides": {"contour-ai": side(0.625), "nnunet-complete": side(0.25)},
        "options": {"minutes": "1.0", "mirror": "none", "plan": "small", "dtype": "float32"},
        "machine": "2 threads of a CPU",
        "nnunetv2": "2.8.1",
    }
    lines = benchmark.table(result, ["Cord", "Larynx"]).splitlines()
    assert "| Cord | 2 | 0.625 (0.500), 1/2 | 0.250 (0.500), 1/2 |" in lines
    assert "| **mean of the ROIs** | | **0.625** (0.500) | **0.250** (0.500) |" in lines
    assert (
        "| with Larynx | 0 | 0 |" in lines and "| voxels of a sample | 8 x 16 x 24 | 8 x 16 x 24 |" in lines
    )
    assert not any(line.startswith("| Larynx") for line in lines)
    assert lines[-1] == "nnU-Net 2.8.1: small plan, without mirroring, float32."


def test_half_the_features(benchmark: ModuleType, tmp_path: Path) -> None:
    architecture = {"arch_kwargs": {"features_per_stage": [32, 64, 320], "n_stages": 3}}
    plans = {"configurations": {"3d_fullres": {"patch_size": [8, 8, 8], "architecture": architecture}}}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(plans), encoding="utf-8")
    benchmark.halve_features(path)
    changed = json.loads(path.read_text(encoding="utf-8"))["configurations"]
    assert changed["3d_fullres"] == plans["configurations"]["3d_fullres"]
    narrow = changed["3d_narrow"]
    assert narrow["inherits_from"] == "3d_fullres"
    assert narrow["architecture"]["arch_kwargs"] == {"features_per_stage": [16, 32, 160], "n_stages": 3}


def test_contours_left_out(benchmark: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "archive-check.csv"
    path.write_text("patient,roi,what,left_out,reason\nP1,Cord,volume,yes,r\nP2,Cord,volume,no,r\n", "utf-8")
    assert sys.modules["nnunet_export"].wrong_contours(path) == {("P1", "Cord")}


def test_it_refuses_without_nnunet(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), str(tmp_path), "--out", str(tmp_path / "out"), "--nnunet"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert "nnUNetv2_train" in done.stderr and "pip install nnunetv2" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_a_folder_of_another_comparison_is_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "nnUNetv2_train").write_text("", encoding="utf-8")
    (tmp_path / "nnUNetv2_train").chmod(0o755)
    (tmp_path / "settings.json").write_text(json.dumps({"minutes": "1.0"}), encoding="utf-8")
    if sys.platform == "win32":
        pytest.skip("programs have a suffix there")
    command = [
        sys.executable,
        str(BENCHMARK),
        str(tmp_path),
        "--out",
        str(tmp_path),
        "--nnunet",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "holds a comparison with other options" in done.stderr
