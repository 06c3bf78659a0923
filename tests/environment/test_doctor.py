"""`contour-ai doctor`: what works is said, what does not is a problem with a way out, and nothing is raised."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.environment import decoders, report
from contour_ai.environment.report import EnvironmentCheck, EnvironmentReport, examine_environment

TOPICS = ["software", "packages", "processor", "GPU", "decoders", "models", "folders"]


def found(examined: EnvironmentReport, topic: str) -> dict[str, EnvironmentCheck]:
    return {check.name: check for check in examined.checks if check.topic == topic}


def test_a_sound_installation_has_no_problem(tmp_path: Path) -> None:
    examined = examine_environment(tmp_path)
    assert list(dict.fromkeys(check.topic for check in examined.checks)) == TOPICS
    assert examined.problems == () and examined.exit_status == 0
    assert found(examined, "models")["headneck-openkbp"].found.startswith("0.")
    assert len(found(examined, "decoders")) == 5


def test_a_decoder_that_gives_other_values_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    good = decoders.compressed_samples()[0]
    assert decoders.decoding_error(good) is None
    monkeypatch.setattr(decoders, "_expected_hu", lambda: np.zeros((3, 16, 16), np.int16))
    assert decoders.decoding_error(good) == "decoded to other values than were compressed"


def test_damaged_pixels_are_a_problem_and_no_traceback() -> None:
    good = decoders.compressed_samples()[3]
    error = decoders.decoding_error(replace(good, frame=good.frame[:40]))
    assert error is not None and "decoded" in error


def test_a_damaged_model_and_a_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "model.yaml").write_text("format: [", encoding="utf-8")
    monkeypatch.setenv("CONTOUR_AI_MODELS", str(tmp_path / "models"))
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    examined = examine_environment(file)
    problems = {check.name: check for check in examined.problems}
    assert set(problems) == {"broken", "results"}
    assert problems["broken"].exit_status == 4 and problems["broken"].fix
    assert problems["results"].exit_status == 2
    assert examined.exit_status == 4


def test_a_check_that_fails_becomes_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> object:
        raise RuntimeError("libgdcm.so is missing")

    monkeypatch.setattr(report, "_decoders", fail)
    examined = examine_environment()
    (problem,) = examined.problems
    assert problem.topic == "decoders" and "libgdcm.so is missing" in problem.found


def test_the_command_prints_the_page_or_json_and_gives_the_status(tmp_path: Path) -> None:
    page = CliRunner().invoke(cli, ["doctor", "--out", str(tmp_path)])
    assert page.exit_code == 0 and "nothing is wrong" in page.output
    answer = CliRunner().invoke(cli, ["doctor", "--json", "--out", str(tmp_path / "missing")])
    content = json.loads(answer.stdout)
    assert answer.exit_code == 2 and content["status"] == 2
    (problem,) = [check for check in content["checks"] if check["outcome"] == "problem"]
    assert problem["name"] == "results" and problem["fix"]


def test_what_doctor_asks_for_is_what_the_installation_brings() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    required, extras = project.split("dependencies = [", 1)[1].split("[project.optional-dependencies]")
    names = {name.lower() for name in re.findall(r'^  "([\w-]+)', required, flags=re.MULTILINE)}
    assert {name.lower() for name in report.PACKAGES} <= names
    for extra, packages in report.EXTRAS.items():
        (line,) = re.findall(rf"^{extra} = \[(.*)\]$", extras, flags=re.MULTILINE)
        assert set(packages) <= set(re.findall(r'"([\w-]+)', line))
