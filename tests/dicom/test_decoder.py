"""Compressed pixels are decoded in a process that may die: the file is named, and the next ones are decoded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from synthetic import axial, compress, hu_at, write_stack

from contour_ai.dicom import pixels, shared_buffer
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.decoder import (
    LONGEST_S,
    PLACE,
    START,
    Decoder,
    DecoderPool,
    DecodingError,
    Encapsulated,
)
from contour_ai.dicom.header import read_data_set
from contour_ai.errors import InputError

STACK = axial()

CRASHING = """
import hashlib, os, sys, time
from contour_ai.dicom import decoder_process
decode = decoder_process._decoded
def crash(syntax, data, options):
    if hashlib.sha256(data).hexdigest() == "{digest}":
        {what}
    return decode(syntax, data, options)
decoder_process._decoded = crash
decoder_process.main()
"""


def compressed(folder: Path) -> list[Path]:
    paths = write_stack(folder, STACK)
    for path in paths:
        compress(path, "JPEGLosslessProcess14_1")
    return paths


def encapsulated(path: Path, **changes: object) -> Encapsulated:
    found = pixels._encapsulated(read_data_set(path, pixels.KEYWORDS))
    return replace(found, **changes)  # type: ignore[arg-type]


def crashing(what: str, path: Path) -> tuple[str, ...]:
    digest = hashlib.sha256(encapsulated(path).data).hexdigest()
    return sys.executable, "-c", CRASHING.format(what=what, digest=digest)


@pytest.mark.parametrize("what", ["os.abort()", "os._exit(3)", "os.kill(os.getpid(), 11)"])
def test_a_file_that_kills_the_decoder_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if "kill" in what and os.name == "nt":
        pytest.skip("no signals on Windows")
    bad = compressed(tmp_path / "bad")
    for path in compressed(tmp_path / "good"):
        path.rename(path.with_name(f"good-{path.name}"))
    data_set = pydicom.dcmread(bad[3])
    data_set.PixelData = data_set.PixelData + bytes(2)  # what the good file of the same slice has not
    data_set.save_as(bad[3])
    pool = DecoderPool(2, crashing(what, bad[3]))
    monkeypatch.setattr(pixels, "shared_decoder", lambda: pool)
    try:
        with pytest.raises(InputError, match="cannot be decoded") as caught:
            read_ct(tmp_path / "bad")
        assert caught.value.where == str(bad[3]) and bad[3].name == "CT002.dcm"
        assert "the decoder crashed on it" in str(caught.value)
        ct = read_ct(tmp_path / "good")
    finally:
        pool.close()
    assert ct.volume is not None
    assert np.array_equal(ct.volume.hu, [hu_at(STACK.points_lps(k)) for k in range(5)])


def test_a_decoder_that_does_not_end_is_ended(tmp_path: Path) -> None:
    paths = compressed(tmp_path)
    decoder = Decoder(crashing("time.sleep(60)", paths[3]))
    try:
        assert decoder.decode(encapsulated(paths[0])).shape == (1, 12, 10)
        decoder._longest_s = 3.0
        with pytest.raises(DecodingError, match="did not end within 3 s"):
            decoder.decode(encapsulated(paths[3]))
        decoder._longest_s = LONGEST_S
        assert decoder.decode(encapsulated(paths[0])).shape == (1, 12, 10)
    finally:
        decoder.close()


def test_one_process_serves_all_files_and_more_pixels_than_promised_are_refused(tmp_path: Path) -> None:
    paths = compressed(tmp_path)
    decoder = Decoder()
    try:
        decoder.decode(encapsulated(paths[0]))
        first = decoder._process
        for path in paths:
            decoder.decode(encapsulated(path))
        with pytest.raises(DecodingError, match="240 bytes of pixels, expected 100"):
            decoder.decode(encapsulated(paths[0], size_bytes=100))
        assert decoder._process is first and first is not None
    finally:
        decoder.close()
    assert first.poll() is not None


def test_the_decoder_takes_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = compressed(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    try:
        assert decoder.decode(encapsulated(paths[0])).shape == (1, 12, 10)
    finally:
        decoder.close()


def test_uncompressed_files_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "shared_decoder", lambda: pytest.fail("a decoder was asked for"))
    write_stack(tmp_path, STACK)
    assert read_ct(tmp_path).volume is not None


def no_memory(*_: object) -> None:
    raise OSError("no memory")


@pytest.mark.parametrize("missing", ["", "the file", "room", "the system's anonymous file"])
def test_pixels_are_the_same_in_shared_memory_and_over_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if os.name == "nt" and missing not in ("", "room"):
        pytest.skip("shared memory is no file on Windows")
    if missing == "the file":
        monkeypatch.setattr(shared_buffer, "_file_without_name", no_memory)
    elif missing == "room":
        monkeypatch.setattr(shared_buffer.SharedBuffer, "reserve", no_memory)
    elif missing:
        for name in ("memfd_create", "posix_fallocate"):  # as on macOS
            monkeypatch.delattr(os, name, raising=False)
    paths = compressed(tmp_path)
    decoder = Decoder()
    try:
        for k, path in enumerate(reversed(paths)):
            expected = pydicom.dcmread(path).pixel_array
            assert np.array_equal(decoder.decode(encapsulated(path))[0], expected), k
        assert (decoder._buffer is None) == (missing in ("the file", "room"))
    finally:
        decoder.close()


def test_shared_memory_grows_with_the_slices_and_a_new_process_finds_it(tmp_path: Path) -> None:
    small = compressed(tmp_path / "small")
    large = write_stack(tmp_path / "large", axial(1, shape_ij=(1024, 900)))
    compress(large[0], "RLELossless")
    decoder = Decoder()
    try:
        for path in (small[0], large[0], small[1]):
            assert np.array_equal(decoder.decode(encapsulated(path))[0], pydicom.dcmread(path).pixel_array)
        assert decoder._process is not None
        decoder._process.kill()
        decoder._process.wait()
        assert decoder.decode(encapsulated(large[0])).shape == (1, 1024, 900)
    finally:
        decoder.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what is open is seen in /proc")
def test_nothing_is_left_of_shared_memory_and_nothing_is_said(tmp_path: Path) -> None:
    paths = compressed(tmp_path)
    before = {*Path("/dev/shm").iterdir()} if Path("/dev/shm").exists() else set()
    code = (
        "import os, sys; from contour_ai.dicom.pixels import stored_frames; from pathlib import Path\n"
        "stored_frames(Path(sys.argv[1]), compressed=True)\n"
        "os.kill(os.getpid(), 9) if sys.argv[2] == 'kill' else None"
    )
    for how, status in (("end", 0), ("kill", -9)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(paths[0]), how],
            capture_output=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")
    assert set(tmp_path.iterdir()) == set(paths)
    if before:
        assert {*Path("/dev/shm").iterdir()} <= before


@pytest.mark.parametrize("installed", [True, False])
def test_the_process_finds_the_standard_library_before_installed_packages(
    tmp_path: Path, installed: bool
) -> None:
    """rt-utils brings a package `dataclasses` of Python 3.6: an installed contour-ai lies beside it."""
    place = sysconfig.get_path("purelib") if installed else str(tmp_path)
    code = START.split("from contour_ai")[0] + "import dataclasses, json; print(json.dumps(sys.path))"
    run = subprocess.run(
        [sys.executable, "-c", code, place], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = json.loads(run.stdout)
    assert "" not in found and place in found
    assert found.index(place) > found.index(sysconfig.get_path("stdlib"))
    packages = next(n for n, entry in enumerate(found) if entry.endswith(("site-packages", "dist-packages")))
    assert found.index(place) <= packages
    assert Path(PLACE, "contour_ai", "__init__.py").is_file()
