"""Structure sets read and written, against plastimatch and rt-utils on the same files: the same masks, how much faster.

    python benchmarks/rtstruct.py [--rounds 5] [--folder FOLDER]

rt-utils 1.2.7 comes with contour-ai. plastimatch is taken from the PATH or from CONTOUR_AI_PLASTIMATCH; it installs
into an environment of its own with

    python -m venv peers && peers/bin/pip install plastimatch==1.10.0

and what to name is its program, peers/lib/python3*/site-packages/plastimatch/bin/plastimatch, so that no start of
Python is counted. Without it its lines are left out, with the reason.

The case: 30 ROIs (a body, a shell with a hole, two separate parts, ellipsoids) on 150 slices of 512 x 512. Rounds take
turns, so that another load of the machine meets all alike; given are medians of wall clock and of processor time,
which others disturb less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rt_utils

from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
from contour_ai.dicom.rtstruct_write import RoiContours, contours_of_mask, cropped, write_structure_set
from contour_ai.grid import Grid
from contour_ai.structures import roi_info
from contour_ai.volume import Volume

GRID = Grid.axial((150, 512, 512), (3.0, 0.9765625, 0.9765625), (-250.0, -250.0, -225.0))
BENCH = Provenance(label="Benchmark")
Masks = dict[str, np.ndarray]

RT_UTILS_TO_MASKS = """
import sys, numpy as np
from rt_utils import RTStructBuilder
rs = RTStructBuilder.create_from(sys.argv[1], sys.argv[2])
np.savez(sys.argv[3], **{n: rs.get_roi_mask_by_name(n) for n in rs.get_roi_names()})
"""
RT_UTILS_TO_RTSTRUCT = """
import sys, numpy as np
from rt_utils import RTStructBuilder
rs = RTStructBuilder.create_new(sys.argv[1])
with np.load(sys.argv[2]) as masks:
    for name in masks.files:
        rs.add_roi(np.moveaxis(masks[name], 0, -1), name=name)
rs.save(sys.argv[3])
"""
MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks
from contour_ai.dicom.rtstruct_write import contours_of_mask, cropped, write_structure_set
from contour_ai.structures import roi_info
folder, direction = Path(sys.argv[1]), sys.argv[2]
ct = read_ct(folder / "ct")
if direction == "read":
    for name, mask in iter_masks(folder / "rs.dcm", ct):
        pass
else:
    kept = {}
    def contours():
        with np.load(folder / "masks.npz") as masks:
            for name in masks.files:
                kept[name] = cropped(masks[name])
                yield contours_of_mask(roi_info(name), kept[name][1], box=kept[name][0])
    write_structure_set(
        folder / "memory.dcm", contours(), ct, Provenance("Benchmark"), verify=kept.__getitem__, overwrite=True
    )
def peak():
    try:  # what getrusage says began before this program did: with the memory of the process that started it
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print((peak() - ct.volume.hu.nbytes) / 1e6)
"""


def case() -> Masks:
    rng = np.random.default_rng(0)
    k, i, j = np.ogrid[tuple(slice(n) for n in GRID.shape_kij)]

    def ellipsoid(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
        places = zip((k, i, j), centre, radii, strict=True)
        return sum(((x - c) / r) ** 2 for x, c, r in places) < 1

    middle, body = np.array((75, 256, 256)), np.array((200, 160, 220))
    masks = {"Body": ellipsoid(middle, body)}
    masks["Shell"] = masks["Body"] & ~ellipsoid(middle, body - 5) & (abs(k - 75) < 20)
    parts = [ellipsoid(np.array((75, 256, x)), np.array((25, 30, 20))) for x in (180, 330)]
    masks["Parotids"] = parts[0] | parts[1]
    for n in range(27):
        centre, radii = rng.uniform((40, 150, 150), (110, 350, 350)), rng.uniform((8, 10, 10), (40, 90, 90))
        masks[f"ROI_{n}"] = ellipsoid(centre, radii)
    return masks


def timed(task: Callable[[], object]) -> tuple[float, float]:
    """Wall clock and processor time in seconds, of this process and its children."""
    before, start = os.times(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        task()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def compare(title: str, rounds: int, tasks: dict[str, Callable[[], object]]) -> None:
    """Prints medians, and how many times as long as the first task the others take."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name].append(timed(task))
    print(f"\n{title}")
    medians = {n: [statistics.median(column) for column in zip(*f, strict=True)] for n, f in found.items()}
    first = next(iter(medians.values()))
    for name, (wall, cpu) in medians.items():
        print(
            f"  {name:58s} {wall:6.2f} s  {wall / first[0]:5.1f} x     CPU {cpu:6.2f} s  {cpu / first[1]:5.1f} x"
        )


def run(*command: object) -> None:
    subprocess.run([str(c) for c in command], check=True, capture_output=True)


def rt_utils_read(folder: Path) -> Masks:
    structure_set = rt_utils.RTStructBuilder.create_from(str(folder / "ct"), str(folder / "rs.dcm"))
    return {n: structure_set.get_roi_mask_by_name(n) for n in structure_set.get_roi_names()}


def rt_utils_writer(folder: Path, masks: Masks) -> Callable[[], None]:
    turned = {name: np.moveaxis(mask, 0, -1) for name, mask in masks.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        empty = rt_utils.RTStructBuilder.create_new(str(folder / "ct"))

    def write() -> None:
        header = rt_utils.ds_helper.create_rtstruct_dataset(empty.series_data)
        structure_set = rt_utils.RTStruct(empty.series_data, header)
        for name, mask in turned.items():
            structure_set.add_roi(mask, name=name)
        structure_set.save(str(folder / "rt_utils.dcm"))

    return write


def our_writer(folder: Path, masks: Masks, ct: CTSeries, *, verify: bool) -> Callable[[], object]:
    def write() -> None:
        kept = {}

        def contours() -> Iterator[RoiContours]:
            for name, mask in masks.items():
                kept[name] = cropped(mask)
                yield contours_of_mask(roi_info(name), kept[name][1], box=kept[name][0])

        expected = kept.__getitem__ if verify else None
        write_structure_set(folder / "rs.dcm", contours(), ct, BENCH, verify=expected, overwrite=True)

    return write


def our_reader(folder: Path) -> Callable[[], object]:
    def read() -> None:
        for _ in iter_masks(folder / "rs.dcm", read_ct(folder / "ct", with_pixels=False)):
            pass

    return read


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        measure(folder, options.rounds)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def measure(folder: Path, rounds: int) -> None:
    if not (folder / "ct").exists():
        hu = np.random.default_rng(1).integers(-1000, 1000, GRID.shape_kij, np.int16)
        patient = PatientIdentity(patient_id="P1", patient_name="Doe^Jane", study_date="20260102")
        write_ct(folder / "ct", Volume(hu, GRID), patient, uid_seed="benchmark")
    ct = read_ct(folder / "ct", with_pixels=False)
    masks = case()
    np.savez_compressed(folder / "masks.npz", **masks)
    verified = our_writer(folder, masks, ct, verify=True)
    verified()
    rois = load_structure_set(folder / "rs.dcm").rois
    size_mb = (folder / "rs.dcm").stat().st_size / 1e6
    print(f"{len(rois)} ROIs, {sum(len(r.contours) for r in rois)} contours, {size_mb:.1f} MB")
    their_reading, their_writing = plastimatch_tasks(folder)
    compare(
        "read all ROIs, CT headers among it (plastimatch: the whole process)",
        rounds,
        {"contour-ai": our_reader(folder), "rt-utils": lambda: rt_utils_read(folder), **their_reading},
    )
    compare(
        "write from masks, CT read before",
        rounds,
        {
            "contour-ai, read back and verified": verified,
            "contour-ai, not verified": our_writer(folder, masks, ct, verify=False),
            "rt-utils": rt_utils_writer(folder, masks),
        },
    )
    compare(
        "whole commands: structure set to masks",
        rounds,
        {
            "contour-ai to-masks": command(
                *("-m", "contour_ai", "to-masks", folder / "ct", "--rtstruct", folder / "rs.dcm"),
                *("--out", folder / "ours.npz", "--overwrite"),
            ),
            "rt-utils, and numpy.savez": command(
                "-c", RT_UTILS_TO_MASKS, folder / "ct", folder / "rs.dcm", folder / "theirs.npz"
            ),
            **their_reading,
        },
    )
    compare(
        "whole commands: masks to structure set",
        rounds,
        {
            "contour-ai to-rtstruct, verified": command(
                *("-m", "contour_ai", "to-rtstruct", folder / "ct", folder / "masks.npz"),
                *("--out", folder / "ours.dcm", "--overwrite"),
            ),
            "numpy.load, and rt-utils": command(
                "-c", RT_UTILS_TO_RTSTRUCT, folder / "ct", folder / "masks.npz", folder / "theirs.dcm"
            ),
            **their_writing,
        },
    )
    with np.load(folder / "ours.npz") as read:
        print(f"\nwrong voxels of contour-ai: {sum(int((read[n] != m).sum()) for n, m in masks.items())}")
    ct_mb = np.prod(GRID.shape_kij) * 2 / 1e6
    for direction in ("read", "write") if sys.platform != "win32" else ():
        streaming = [sys.executable, "-c", MEMORY, str(folder), direction]
        peak_mb = float(subprocess.run(streaming, check=True, capture_output=True, text=True).stdout)
        print(
            f"{direction}, ROI by ROI: the process has at most {peak_mb:.0f} MB beyond the {ct_mb:.0f} MB of the CT"
        )


def plastimatch_tasks(folder: Path) -> tuple[dict[str, Callable[[], None]], dict[str, Callable[[], None]]]:
    """Reading and writing by ``plastimatch convert``; nothing, and the reason printed, where it is not there."""
    program = os.environ.get("CONTOUR_AI_PLASTIMATCH") or shutil.which("plastimatch")
    if program is None:
        print("plastimatch is not on the PATH, nor in CONTOUR_AI_PLASTIMATCH: its lines are left out")
        return {}, {}
    convert = [program, "convert", "--referenced-ct", folder / "ct"]

    def to_images(suffix: str) -> None:
        out = ["--output-prefix", folder / suffix, "--prefix-format", suffix]
        run(*convert, "--input", folder / "rs.dcm", *out)

    def to_bits() -> None:
        run(*convert, "--input", folder / "rs.dcm", "--output-ss-img", folder / "bits.mha")

    def to_rtstruct() -> None:
        run(*convert, "--input-prefix", folder / "mha", "--output-dicom", folder / "plastimatch")

    reading = {
        "plastimatch convert, an image a ROI (nrrd)": lambda: to_images("nrrd"),
        "plastimatch convert, an image a ROI (mha, uncompressed)": lambda: to_images("mha"),
        "plastimatch convert, into the bits of one image": to_bits,
    }
    return reading, {"plastimatch convert, from mha": to_rtstruct}


def command(*arguments: object) -> Callable[[], None]:
    """Runs this Python with arguments."""
    return lambda: run(sys.executable, *arguments)


if __name__ == "__main__":
    main()
