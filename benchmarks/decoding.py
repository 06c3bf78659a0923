"""What decoding in a process of its own costs over decoding in the program, in processor time, once it is warm.

    python benchmarks/decoding.py [--slices 60] [--rounds 5]

Slices of 512 x 512 pixels with a scanner's noise, compressed as archives do. Rounds of both sides alternate; the ratio
of each round counts, so that other work on the machine weighs on both sides. Needs Linux, which tells a process's time
in nanoseconds, and gdcm to compress.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY)]

from synthetic import axial, compress, write_stack  # noqa: E402

from contour_ai.dicom import decoder_process, pixels  # noqa: E402
from contour_ai.dicom.decoder import Decoder, Encapsulated  # noqa: E402

SYNTAXES = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless")


def write_slices(folder: Path, count: int, syntax: str) -> list[Path]:
    """Compressed slices of a disc of water in air with noise of 25 HU."""
    rng = np.random.default_rng(0)
    i, j = np.ogrid[:512, :512]
    disc = np.where((i - 256) ** 2 + (j - 256) ** 2 < 200**2, 1024, 24)

    def draw(_k: int, data_set: object) -> None:
        stored = disc + rng.normal(0, 25, disc.shape)
        data_set.PixelData = np.clip(stored, 0, 4095).astype("<u2").tobytes()  # type: ignore[attr-defined]

    paths = write_stack(folder, axial(count, shape_ij=(512, 512)), draw)
    for path in paths:
        compress(path, syntax)
    return paths


class InTheProgram:
    """Decodes as the other process would, without one."""

    def decode(self, compressed: Encapsulated) -> np.ndarray:
        pixels_of = decoder_process._decoded(compressed.syntax, compressed.data, dict(compressed.options))
        return pixels_of.reshape(compressed.frames, *pixels_of.shape[-2:])


def cpu_s(pid: int) -> float:
    """Seconds of the processor that a process has taken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(paths: list[Path], rounds: int) -> tuple[float, float, float]:
    """Milliseconds a slice in the program and in a process of its own, and the median ratio of the rounds."""
    outside, inside = Decoder(), InTheProgram()

    def read(path: Path, decoder: Decoder | InTheProgram) -> np.ndarray:
        pixels.shared_decoder = lambda: decoder  # type: ignore[assignment, return-value]
        return pixels.stored_frames(path, compressed=True)

    try:
        for path in paths[:5]:
            assert np.array_equal(read(path, outside), read(path, inside))
        process = outside._process
        assert process is not None
        seconds: dict[str, list[float]] = {"inside": [], "outside": []}
        for _ in range(rounds):
            started = time.thread_time()
            for path in paths:
                read(path, inside)
            seconds["inside"].append(time.thread_time() - started)
            started = time.thread_time() + cpu_s(process.pid)
            for path in paths:
                read(path, outside)
            seconds["outside"].append(time.thread_time() + cpu_s(process.pid) - started)
    finally:
        outside.close()
    pairs = zip(seconds["outside"], seconds["inside"], strict=True)
    ratio = statistics.median(o / i for o, i in pairs)
    each = 1000 / len(paths)
    return statistics.median(seconds["inside"]) * each, statistics.median(seconds["outside"]) * each, ratio


def main() -> None:
    """Prints a line for every way to compress."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| compressed as | in the program | in a process of its own | ratio |\n|---|---|---|---|")
    for syntax in SYNTAXES:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_slices(Path(folder), options.slices, syntax)
            inside, outside, ratio = measure(paths, options.rounds)
        print(f"| {syntax} | {inside:.2f} ms | {outside:.2f} ms | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
