"""The page and table of many predicted patients."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_predict import make_patient, model_dir

from contour_ai.cli.main import cli
from contour_ai.errors import OutputError
from contour_ai.grid import Grid
from contour_ai.pipeline.predicted_cohort import write_patients

__all__ = ["model_dir"]  # a fixture


def summary(folder: Path, verdict: str = "", rois: dict | None = None, **more: object) -> None:
    folder.mkdir(parents=True)
    content = {
        "patient_id": folder.name,
        "model": {"name": "m", "version": "1"},
        "rois": rois or {},
        **({"verdict": verdict} if verdict else {}),
        **more,
    }
    (folder / "summary.json").write_text(json.dumps(content), encoding="utf-8")


def roi(verdict: str, *reasons: str) -> dict:
    return {
        "name_in_file": "x",
        "verdict": verdict,
        "findings": [{"code": "x", "reason": reason} for reason in reasons],
    }


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "patients.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_worst_first_with_the_reason_of_the_worst_roi(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rois = {"A": roi("look", "small", "dark"), "B": roi("stop", "outside the body"), "C": roi("clear")}
    summary(tmp_path / "p1", "look", rois, scores={"mean_dice_of_organs": 0.91234})
    summary(tmp_path / "p2", "clear", {"A": roi("clear")})
    summary(
        tmp_path / "p3", "stop", {"A": roi("stop", "absurd")}, findings=[{"code": "x", "reason": "no head"}]
    )
    summary(tmp_path / "p <4>", "look", {"A": roi("look", "<b>long</b>"), "B": roi("look", "a", "b")})
    (tmp_path / "p3" / "report.html").write_text("x")
    (tmp_path / "p <4>" / "montage.png").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text("[1]")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "summary.json").write_text('{"patient_id": "p6", "verdikt": "clear"}')
    with caplog.at_level("WARNING"):
        page, _ = write_patients(
            tmp_path, [("p5", "The CT has a gap.\n  where: /home/ann/p5\n  found: 9 mm")]
        )
    assert "did you mean 'verdict'" in caplog.text and str(tmp_path / "odd" / "summary.json") in caplog.text
    lines = table(tmp_path)
    assert [(r["patient"], r["verdict"], r["worst_roi"], r["reason"], r["report"]) for r in lines] == [
        ("p5", "failed", "", "The CT has a gap. found: 9 mm", ""),
        ("p3", "stop", "", "no head", "p3/report.html"),
        ("p <4>", "look", "B", "a", "p%20%3C4%3E/montage.png"),
        ("p1", "look", "B", "outside the body", "p1/summary.json"),
        ("p2", "clear", "", "", "p2/summary.json"),
    ]
    assert lines[3]["mean_dice_of_organs"] == "0.9123" and lines[3]["findings"] == "3"
    text = page.read_text("utf-8")
    assert "5 patients: 1 failed, 1 stop, 2 look, 1 clear" in text
    assert '<a href="p%20%3C4%3E/montage.png">p &lt;4&gt;</a>' in text
    assert "default-src 'none'" in text and "not for clinical use without review" in text
    assert not re.search(r"https?:|<script|<b>long", text)
    write_patients(tmp_path)
    assert [r["patient"] for r in table(tmp_path)] == ["p3", "p <4>", "p1", "p2"], "written again"


def test_summaries_without_verdicts_show_their_flags(tmp_path: Path) -> None:
    flagged = {
        "A": {"name_in_file": "A", "flags": []},
        "B": {"name_in_file": "B", "flags": [{"code": "x", "reason": "too large"}]},
    }
    summary(tmp_path / "p1", "", flagged, flags=[])
    write_patients(tmp_path)
    (line,) = table(tmp_path)
    assert (line["verdict"], line["worst_roi"], line["reason"]) == ("not judged", "B", "too large")


def test_a_file_of_the_users_own_is_not_replaced(tmp_path: Path) -> None:
    summary(tmp_path / "p1", "clear")
    (tmp_path / "patients.csv").write_text("my,own,table\n", encoding="utf-8")
    with pytest.raises(OutputError, match=r"patients\.csv"):
        write_patients(tmp_path)
    assert (tmp_path / "patients.csv").read_text("utf-8") == "my,own,table\n"


def test_predict_writes_it_for_several_patients(tmp_path: Path, model_dir: Path) -> None:
    small = Grid.axial((8, 36, 45), (9.0, 4.0, 3.2), (-71.2, -60.0, -300.0))
    folders = [make_patient(tmp_path / name, patient_id=name, grid=small) for name in "ab"]
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    arguments = ["predict", *map(str, folders), str(empty), "--model", str(model_dir), "--out", str(out)]
    result = CliRunner().invoke(cli, [*arguments, "--no-overlays"], prog_name="contour-ai")
    assert result.exit_code == 3, result.output
    assert "patients.html" in result.stdout
    lines = {line["patient"]: line for line in table(out)}
    assert set(lines) == {"a", "b", "empty"}
    assert lines["empty"]["verdict"] == "failed" and lines["empty"]["reason"]
    assert (out / lines["a"]["report"]).is_file()
    single = tmp_path / "single"
    arguments = ["predict", str(folders[0]), "--model", str(model_dir), "--out", str(single), "--no-overlays"]
    assert CliRunner().invoke(cli, arguments, prog_name="contour-ai").exit_code == 0
    assert not (single / "patients.html").exists()
