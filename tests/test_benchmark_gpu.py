"""The benchmark of GPUs runs whole on a CPU, and goes on whatever becomes of a part."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from contour_ai.structures.roi_map import RoiMap

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"

PARTS = """
import json, os, sys, time
from pathlib import Path
settings = json.loads(sys.argv[1])
for name in sys.argv[2:]:
    if name == "tests":
        print("a line\\nSegmentation fault")
        sys.exit(3)
    if name == "predict":
        time.sleep(100)
    part = {"part": name, "state": "done", "seconds": 1.0, "rows": [{"what": "x|y", "value": "7"}]}
    if name == "answers":
        part |= {"state": "failed", "reason": "ValueError: no", "rows": []}
    if name == "steps":
        part["rows"] = [{"what": "busy", "value": "90 %", "goal": "95 %", "met": False, "note": "here"}]
    with Path(settings["results"]).open("a") as results:
        results.write(json.dumps(part) + "\\n")
"""


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with other measurements, which fail in every way."""
    module = loaded(BENCHMARK)
    (tmp_path / "gpu_parts.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def run(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str
) -> tuple[object, dict[str, Any], str]:
    """What `main` ends with, the record and the table."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), *arguments])
    with pytest.raises(SystemExit) as caught:
        benchmark.main()
        sys.exit(0)
    record = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    return caught.value.code, record["parts"], (out / "gpu.md").read_text(encoding="utf-8")


def test_a_part_that_fails_ends_or_hangs_is_named_and_the_others_go_on(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(benchmark.LIMITS_S, "predict", 1)
    code, parts, table = run(benchmark, monkeypatch, tmp_path / "out", "--minutes", "8")
    states = {name: part["state"] for name, part in parts.items()}
    wrong = ("tests", "answers", "predict")
    assert list(states) == list(benchmark.LIMITS_S)
    assert states == {name: "failed" if name in wrong else "done" for name in benchmark.LIMITS_S}
    assert code == "failed: tests, answers, predict"
    assert parts["tests"]["reason"] == "its process ended with status 3: Segmentation fault"
    assert parts["predict"]["reason"] == "stopped after 1 s"
    lines = table.splitlines()
    assert "| answers | **failed** | ValueError: no | |" in lines
    assert "| environment | x\\|y | 7 |  |" in lines
    assert "| steps | busy | 90 % (here) | 95 % **missed** |" in lines


def test_without_time_nothing_is_measured(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, parts, _ = run(
        benchmark, monkeypatch, tmp_path / "out", "--minutes", "0", "--parts", "predict,train"
    )
    assert code == 0 and list(parts) == ["predict", "train"]
    assert all(part["state"] == "not run" and "no time" in part["reason"] for part in parts.values())


def test_a_part_that_does_not_exist(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), "--parts", "tests,speed"])
    with pytest.raises(SystemExit, match="no part speed"):
        benchmark.main()


def test_synthetic_patients_of_several_processes_become_one_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rois = {"Prostate": (), "Bladder": ()}
    for number, absent in enumerate(({"p-1": ("Prostate",)}, {"p-2": ("Bladder", "Prostate")})):
        part = tmp_path / f"part-{number}"
        (part / f"p-{number + 1}" / "ct").mkdir(parents=True)
        RoiMap(rois=rois, absent=absent).save(part / "roi-map.yaml")
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    training = loaded(BENCHMARK.with_name("gpu_training.py"))
    target = training.joined([tmp_path / "part-0", tmp_path / "part-1"], tmp_path / "all")
    assert sorted(p.name for p in target.iterdir()) == ["p-1", "p-2", "roi-map.yaml"]
    merged = RoiMap.load(target / "roi-map.yaml")
    assert merged.rois == rois
    assert merged.absent == {"p-1": ("Prostate",), "p-2": ("Bladder", "Prostate")}


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_as_a_small_version(tmp_path: Path) -> None:
    """About 25 s of one core; the long time allowed is for machines that do other work."""
    command = [sys.executable, str(BENCHMARK), "--device", "cpu", "--small", "--minutes", "80"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["parts"]
    states = {name: part["state"] for name, part in parts.items()}
    has_nnunet = importlib.util.find_spec("nnunetv2") is not None
    assert states == dict.fromkeys(states, "done") | {"nnunet": "done" if has_nnunet else "not run"}
    assert all(part["rows"] for name, part in parts.items() if states[name] == "done")
    rows = {(name, row["what"]): row for name, part in parts.items() for row in part["rows"]}
    met = [row["met"] for (name, _), row in rows.items() if "met" in row and name != "predict"]
    assert len(met) == 2 and all(met)  # Dice, resampling
    assert rows["train", "steps"]["value"] == "2"
    assert (tmp_path / "training" / "bundle" / "weights.safetensors").is_file()
    assert "| environment | packages missing | none |" in done.stdout
    if not has_nnunet:
        assert "nnunetv2" in parts["nnunet"]["reason"]
