"""Compressed pixels are decoded in a process that may die: the file is named, and the next ones are decoded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import axial, compress, hu_at, write_stack

from contour_ai.dicom import pixels
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.decoder import Decoder, DecoderPool, DecodingError
from contour_ai.errors import InputError

STACK = axial()
SIZE = 12 * 10 * 2

CRASHING = """
import os, sys
from contour_ai.dicom import decoder_process
decode = decoder_process._decoded
def crash(path):
    if path.name == "CT002.dcm":
        {what}
    return decode(path)
decoder_process._decoded = crash
decoder_process.main()
"""


def compressed(folder: Path) -> list[Path]:
    paths = write_stack(folder, STACK)
    for path in paths:
        compress(path, "JPEGLosslessProcess14_1")
    return paths


def crashing(what: str) -> tuple[str, ...]:
    return sys.executable, "-c", CRASHING.format(what=what)


@pytest.mark.parametrize("what", ["os.abort()", "os._exit(3)", "os.kill(os.getpid(), 11)"])
def test_a_file_that_kills_the_decoder_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if "kill" in what and os.name == "nt":
        pytest.skip("no signals on Windows")
    bad = compressed(tmp_path / "bad")
    for path in compressed(tmp_path / "good"):
        path.rename(path.with_name(f"good-{path.name}"))
    pool = DecoderPool(2, crashing(what))
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
    decoder = Decoder(crashing("import time; time.sleep(60)"), longest_s=3.0)
    try:
        assert decoder.decode(paths[0], 1, SIZE).shape == (1, 12, 10)
        with pytest.raises(DecodingError, match="did not end within 3 s"):
            decoder.decode(paths[3], 1, SIZE)
        assert decoder.decode(paths[0], 1, SIZE).shape == (1, 12, 10)
    finally:
        decoder.close()


def test_one_process_serves_all_files_and_more_pixels_than_promised_are_refused(tmp_path: Path) -> None:
    paths = compressed(tmp_path)
    decoder = Decoder()
    try:
        decoder.decode(paths[0], 1, SIZE)
        first = decoder._process
        for path in paths:
            decoder.decode(path, 1, SIZE)
        with pytest.raises(DecodingError, match="240 bytes of pixels, expected 100"):
            decoder.decode(paths[0], 1, 100)
        assert decoder._process is first and first is not None
    finally:
        decoder.close()
    assert first.poll() is not None


def test_the_decoder_takes_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH came with Python 3.11")
    paths = compressed(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    try:
        assert decoder.decode(Path(paths[0].name), 1, SIZE).shape == (1, 12, 10)
    finally:
        decoder.close()


def test_uncompressed_files_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "shared_decoder", lambda: pytest.fail("a decoder was asked for"))
    write_stack(tmp_path, STACK)
    assert read_ct(tmp_path).volume is not None
