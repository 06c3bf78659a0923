"""``predict --surfaces``: a file per ROI, with the volume that the summary says."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_predict import make_patient, model_dir

from contour_ai.cli.main import cli

__all__ = ["model_dir"]  # a fixture


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


def stl_volume_cm3(path: Path) -> float:
    content = path.read_bytes()
    (count,) = struct.unpack_from("<I", content, 80)
    numbers = np.frombuffer(
        content[84:], np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]), count
    )
    a, b, c = np.moveaxis(numbers["v"].astype(float) - numbers["v"].mean(axis=(0, 1)), 1, 0)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6000


def test_prediction_with_surfaces(tmp_path: Path, model_dir: Path) -> None:
    source = make_patient(tmp_path / "patient", patient_id="p")
    arguments = ("predict", source, "--model", model_dir, "--out", tmp_path / "out", "--no-overlays")
    result = run(*arguments, "--surfaces", "stl")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out" / "p"
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    found = {name: facts for name, facts in summary["rois"].items() if facts["volume_cm3"]}
    assert {path.stem for path in (folder / "surfaces").glob("*.stl")} == set(found)
    for name, facts in found.items():
        volume = stl_volume_cm3(folder / "surfaces" / f"{name}.stl")
        assert volume == pytest.approx(facts["volume_cm3"], rel=0.01), name
    done = run(*arguments, "--surfaces", "stl", "--skip-done")
    assert "1 patients skipped, already predicted" in done.stderr
    (folder / "surfaces" / f"{next(iter(found))}.stl").unlink()
    assert run(*arguments, "--surfaces", "stl", "--skip-done", "--overwrite").exit_code == 0
    assert (folder / "surfaces" / f"{next(iter(found))}.stl").exists()
