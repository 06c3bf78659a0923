"""Names that would command the terminal, consoles of other code pages, and interrupts that come in threes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner, Result
from synthetic import axial, box_contours, write_stack, write_structure_set

from contour_ai.cli.main import INTERRUPTED, cli

STACK = axial(6, shape_ij=(24, 20))
HOSTILE = "\x1b]0;owned\x07A\u202eB [/red]"
ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and pipes as POSIX has them")


def patient(folder: Path, name: str, patient_id: str = "P1") -> Path:
    write_stack(folder / "ct", STACK, edit=lambda _, d: setattr(d, "PatientID", patient_id))
    write_structure_set(folder / "rs.dcm", STACK, {name: box_contours(STACK, [2, 3])})
    structure_set = pydicom.dcmread(folder / "rs.dcm")
    structure_set.PatientID = patient_id
    structure_set.SpecificCharacterSet = "ISO_IR 192"
    structure_set.save_as(folder / "rs.dcm")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="contour-ai")


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "contour_ai", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


def test_names_do_not_command_the_terminal(tmp_path: Path) -> None:
    folder = patient(tmp_path / "p", HOSTILE, "\x1b[2J[/red]")
    for arguments in (
        ["inspect", folder],
        ["rois", folder],
        ["to-masks", folder, "--out", tmp_path / "m.npz"],
        ["to-rtstruct", folder / "ct", tmp_path / "m.npz", "--out", tmp_path / "o.dcm"],
        ["check", folder / "rs.dcm"],
        ["to-masks", folder, "--out", tmp_path / "x.npz", "--rois", "\x1b[5m"],
    ):
        result = run(*arguments)
        assert result.exit_code in (0, 3), result.output
        assert "\x1b" not in result.output and "\u202e" not in result.output, arguments
    assert r"\x1b]0;owned" in run("inspect", folder).output


def test_code_pages_without_the_characters(tmp_path: Path) -> None:
    folder = patient(tmp_path / "p", "脳幹 cm³ é")
    for encoding, shown in (
        ("cp932", "脳幹"),
        ("cp1252", r"\u8133\u5e79"),
        ("ascii", r"\u8133\u5e79 cm\xb3"),
    ):
        result = process("inspect", folder, PYTHONIOENCODING=encoding)
        assert result.returncode == 0, result.stderr
        assert shown in result.stdout.decode(encoding)
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"}
    command = [sys.executable, "-X", "utf8=0", "-m", "contour_ai", "inspect", str(folder)]
    piped = subprocess.run(command, capture_output=True, env={**plain, "LC_ALL": "C"}, check=False)
    assert piped.returncode == 0, piped.stderr
    assert "脳幹 cm³ é" in piped.stdout.decode("utf-8")


@ON_POSIX
def test_a_folder_name_that_is_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"pat\xff\xe9")
    try:
        folder = patient(tmp_path / name, "A")
    except (OSError, ValueError) as error:
        pytest.skip(f"this file system has no such names: {error}")
    for arguments in (
        ["inspect", folder],
        ["rois", folder, "--out", tmp_path / "map.yaml"],
        ["to-masks", folder, "--out", folder.with_suffix(".npz")],
        ["to-rtstruct", folder / "ct", folder.with_suffix(".npz"), "--out", folder.with_suffix(".dcm")],
    ):
        result = process(*arguments)
        assert result.returncode == 0, result.stderr


def test_json_of_names_that_are_not_utf_8(tmp_path: Path) -> None:
    from contour_ai.files import write_text

    write_text(tmp_path / "a.json", json.dumps({"path": "pat\udcff"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_bytes())["path"] == "pat\udcff"


@pytest.mark.parametrize("number", [5, 300])
def test_a_path_too_long(number: int, tmp_path: Path) -> None:
    folder = patient(tmp_path / "p", "A")
    long = "x" * number if number > 255 else "/".join(["y" * 240] * 20)
    result = run("to-masks", folder, "--out", tmp_path / f"{long}.npz")
    assert result.exit_code == 2, result.output
    assert "error: " in result.output and "Traceback" not in result.output


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    folder = patient(tmp_path / "p", "A")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", full)
    for file_format in ("nrrd", "nifti"):
        result = run("to-masks", folder, "--out", tmp_path / "m", "--format", file_format)
        assert result.exit_code == 2, result.output
        assert "No space left on device" in result.output and "Traceback" not in result.output
        assert [p.name for p in tmp_path.iterdir()] == ["p"], "nothing half-written"


SLOW_TO_TIDY_UP = """
import sys, time
from pathlib import Path
import click
from contour_ai.cli.main import LazyGroup, main
from contour_ai.files import atomic_folder

@click.command("inspect")
@click.argument("out", type=click.Path(path_type=Path))
def work(out):
    with atomic_folder(out) as folder:
        try:
            (folder / "a").write_text("x")
            print("ready", flush=True)
            time.sleep(20)
        finally:
            time.sleep(1)  # tidying up takes a while

LazyGroup.get_command = lambda self, ctx, name: work
main()
"""


@ON_POSIX
def test_three_quick_interrupts_leave_nothing_half_written(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_TIDY_UP, "inspect", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for _ in range(3):
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, errors = child.communicate(timeout=240)
    assert child.returncode == INTERRUPTED, errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@ON_POSIX
def test_a_reader_that_goes_away_does_not_end_the_work(tmp_path: Path) -> None:
    folder = patient(tmp_path / "p", "A")
    command = [sys.executable, "-m", "contour_ai", "to-masks", str(folder), "--out", str(tmp_path / "m.npz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        errors = child.stderr.read()
    assert child.returncode == 0, errors
    assert (tmp_path / "m.npz").is_file()
