"""What nobody foresaw in one patient is logged, named and counted, and the other patients go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from test_evaluate import CORD, CORD_PREDICTED, GLAND, write_patient

from contour_ai import faults
from contour_ai.cli.main import cli
from contour_ai.errors import InputError, OutputError, UnforeseenError
from contour_ai.faults import patient_boundary


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three patients; what is logged goes to `logs`."""
    monkeypatch.setenv(faults.LOGS_VARIABLE, str(tmp_path / "logs"))
    faults._log_path.cache_clear()
    for name in ("A", "B", "C"):
        masks = {"SpinalCord": CORD, "Parotid_L": GLAND}
        write_patient(tmp_path, name, masks, {**masks, "SpinalCord": CORD_PREDICTED})
    return tmp_path


def failing_for_b(real: Callable[..., object]) -> Callable[..., object]:
    def failing(*arguments: object, **options: object) -> object:
        if re.search(r"[/\\\\]B[/\\\\]", repr(arguments[:1])):  # the CT names its neighbours
            raise OverflowError("1e308")
        return real(*arguments, **options)

    return failing


def logged(root: Path) -> str:
    (path,) = (root / "logs").iterdir()
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "name", "command", "status"),
    [
        ("contour_ai.dicom.census", "load_structure_set", "rois", 0),
        ("contour_ai.dicom.inspection", "load_structure_set", "inspect", 0),
        ("contour_ai.dicom.inspection", "read_ct", "inspect", 0),
        ("contour_ai.pipeline._evaluate", "load_structure_set", "evaluate", 1),
        ("contour_ai.pipeline.prepared_case", "read_ct", "train", 0),
        ("contour_ai.pipeline.prepared_case", "iter_placed", "train", 0),
    ],
)
def test_one_patient_never_ends_a_command(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, command: str, status: int
) -> None:
    import importlib

    place = importlib.import_module(module)
    monkeypatch.setattr(place, name, failing_for_b(getattr(place, name)))
    arguments: dict[str, list[object]] = {
        "rois": [root / "data"],
        "inspect": [root / "data"],
        "evaluate": [root / "out", root / "data", "--out", root / "scores"],
        "train": [root / "data", "--out", root / "run", "--check"],
    }
    result = run(command, *arguments[command])
    assert result.exit_code == status, result.output
    (log,) = (root / "logs").iterdir()
    text = "".join((result.stdout + result.stderr).split())  # tables break lines
    assert "OverflowError:1e308" in text and log.name in text, result.output
    assert "Traceback" not in result.output and "Traceback" in logged(root)
    if command == "evaluate":
        assert {"A", "C"} <= {
            line.split(",")[0] for line in (root / "scores" / "metrics.csv").read_text().split()
        }


def test_a_page_that_cannot_be_made_takes_nothing_else_away(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contour_ai.pipeline import report

    monkeypatch.setattr(report, "read_ct", failing_for_b(report.read_ct))
    result = run("evaluate", root / "out", root / "data", "--out", root / "scores", "--report")
    assert result.exit_code == 0, result.output
    pages = {p.name: p.read_text(encoding="utf-8") for p in (root / "scores" / "patients").iterdir()}
    assert sorted(pages) == ["A.html", "B.html", "C.html"] and "OverflowError: 1e308" in pages["B.html"]


def test_errors_on_purpose_pass_and_the_system_is_no_fault_of_ours(root: Path) -> None:
    with pytest.raises(InputError, match=r"^mine$"), patient_boundary("x"):
        raise InputError("mine")
    with pytest.raises(OutputError, match="No space left"), patient_boundary("x"):
        raise OSError(28, "No space left on device", "file")
    with pytest.raises(KeyboardInterrupt), patient_boundary("x"):
        raise KeyboardInterrupt
    assert not (root / "logs").exists()
    for number in range(2):
        with (
            pytest.raises(
                UnforeseenError, match=r"(?s)patient \udcff.*ValueError: odd.*Please report it, with .*log"
            ),
            patient_boundary(f"patient \udcff{number}"),
        ):
            raise ValueError("odd")
    assert logged(root).count("ValueError: odd") == 2
