"""What an archive costs before a training: finding files, ``rois`` and ``train --check``, in time and memory.

    python benchmarks/archive.py [--patients 50 100] [--folder FOLDER] [--keep]

For each number of patients an archive is made, measured and removed: CTs of 512 x 512 x 120 voxels with 60 ROIs each.
Every patient is a copy of one of four drawn ones with UIDs, patient ID and some pixels of its own. Air is written as
a hole, which takes no space on a file system with sparse files: 400 patients are 25 GB to read, and less on disk.
Each command runs in a process of its own; its peak memory is that of the process (on Linux and macOS).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHAPE = (120, 512, 512)
SPACING_MM = (3.0, 0.9766, 0.9766)
AIR_HU = -1024
NOISE_HU = 20
DRAWN = 4
"""Patients that are drawn; the others are copies."""
UID_OF_DRAWN, ID_OF_DRAWN = b"7700099999", b"ARCHIVE-99999"
BLOCK = 4096
"""Bytes of zeros that are left out of a file at once."""

ORGANS = tuple(
    """
    Brain Brainstem OpticChiasm Pituitary Eye_L Eye_R Lens_L Lens_R OpticNrv_L OpticNrv_R Cochlea_L Cochlea_R
    Hippocampus_L Hippocampus_R Lobe_Temporal_L Lobe_Temporal_R Parotid_L Parotid_R Glnd_Submand_L Glnd_Submand_R
    Glnd_Thyroid Glnd_Lacrimal_L Glnd_Lacrimal_R Bone_Mandible Cavity_Oral Larynx Pharynx Esophagus Trachea SpinalCord
    SpinalCanal BrachialPlex_L BrachialPlex_R Lung_L Lung_R Heart Breast_L Breast_R Liver Spleen Stomach Pancreas
    Duodenum Gallbladder Kidney_L Kidney_R Bowel_Small Colon_Sigmoid Bladder Rectum Prostate SeminalVes PenileBulb
    Femur_Head_L Femur_Head_R Canal_Anal Skin Sternum
    """.split()  # noqa: SIM905 - a list of so many strings is harder to read
)
OTHERS = ("Body", "PTV_7000")
ROIS = (*OTHERS, *ORGANS)


@dataclass(frozen=True)
class Run:
    """One command that was measured."""

    what: str
    seconds: float
    cpu_s: float
    peak_mb: float

    def line(self, patients: int) -> str:
        each = 1000 * self.seconds / patients
        return (
            f"{self.what:34}{self.seconds:8.1f} s {each:8.0f} ms a patient "
            f"{self.cpu_s:8.1f} s processor {self.peak_mb:7.0f} MB"
        )


# -- the archive -----------------------------------------------------------------------------------------------


def drawn_masks(n: int) -> dict[str, tuple[tuple[slice, slice, slice], NDArray[np.bool_]]]:
    """{ROI: (box, mask in the box)} of one of the drawn patients: ellipsoids in an elliptical body."""
    dice = np.random.default_rng(n)
    masks = {
        "Body": _ellipsoid((60, 256, 256), (900, 118, 190)),
        "PTV_7000": _ellipsoid((60, 250, 250), (20, 60, 70)),
    }
    for r, name in enumerate(ORGANS):
        ring, turn = divmod(r, 20)
        angle = 2 * np.pi * turn / 20
        left = -1 if name.endswith("_R") else 1
        centre = (
            20 + 80 * turn / 20,
            256 + 70 * np.cos(angle),
            256 + left * (30 + 110 * abs(np.sin(angle))),
        )
        size = (6 + 6 * ring) * (1 + 0.08 * dice.standard_normal())
        masks[name] = _ellipsoid(centre, (size, size * 1.3, size * 1.3))
    return masks


def _ellipsoid(
    centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
    starts = [max(0, int(c - r)) for c, r in zip(centre, radii, strict=True)]
    stops = [min(n, int(c + r) + 2) for c, r, n in zip(centre, radii, SHAPE, strict=True)]
    box = (slice(starts[0], stops[0]), slice(starts[1], stops[1]), slice(starts[2], stops[2]))
    axes = np.ogrid[box]
    return box, sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) < 1


def draw(folder: Path, n: int) -> None:
    """Writes one of the patients that the others are copies of."""
    from pydicom import dcmread
    from pydicom.uid import UID

    from contour_ai.dicom.ct import read_ct
    from contour_ai.dicom.ct_write import PatientIdentity, write_ct
    from contour_ai.dicom.rtstruct_header import Provenance
    from contour_ai.dicom.rtstruct_write import contours_of_mask, write_structure_set
    from contour_ai.grid import Grid
    from contour_ai.structures import roi_info
    from contour_ai.volume import Volume

    masks = drawn_masks(n)
    noise = np.random.default_rng(n).standard_normal(SHAPE, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0.8, 0.8))
    hu = np.full(SHAPE, AIR_HU, np.int16)
    body, inside = masks["Body"]
    hu[body][inside] = np.rint(noise[body] * (NOISE_HU / noise.std()))[inside]
    for r, name in enumerate(ORGANS):
        box, inside = masks[name]
        hu[box][inside] += np.int16(10 + r)
    id_text, number = ID_OF_DRAWN.decode(), UID_OF_DRAWN.decode()
    who = PatientIdentity(patient_id=id_text, patient_name=f"Archive^{id_text}", study_date="20260101")
    write_ct(
        folder / "ct",
        Volume(hu, Grid.axial(SHAPE, SPACING_MM)),
        who,
        uid_seed="archive",
        series_description="Drawn",
    )
    for k, path in enumerate(sorted((folder / "ct").iterdir())):
        header = dcmread(path)
        for m, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")):
            setattr(header, keyword, UID(f"2.25.{number}.{m + 1}"))
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}.4.{k + 1}")
        header.save_as(path)
    ct = read_ct(folder / "ct")
    rois = (contours_of_mask(roi_info(name), masks[name][1], box=masks[name][0]) for name in ROIS)
    provenance = Provenance(label="ARCHIVE", series_description="Drawn", description="Drawn. No patient.")
    path = folder / "RS.dcm"
    write_structure_set(path, rois, ct, provenance, uid_seed="archive")
    header = dcmread(path)
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}.5")
    header.SeriesInstanceUID = UID(f"2.25.{number}.6")
    header.save_as(path)


@dataclass(frozen=True)
class DrawnFile:
    """A file of a drawn patient: its bytes, and where its pixels begin (the file's length where it has none)."""

    name: str
    content: bytes
    pixels: int


def drawn_files(folder: Path) -> list[DrawnFile]:
    found = []
    for path in sorted(folder.rglob("*.dcm")):
        content = path.read_bytes()
        is_slice = path.parent.name == "ct"
        pixels = len(content) - 2 * SHAPE[1] * SHAPE[2] if is_slice else len(content)
        found.append(DrawnFile(path.name, content, pixels))
    return found


def copy_patient(folder: Path, files: Sequence[DrawnFile], number: int) -> None:
    """A patient with UIDs, ID and a block of pixels of its own."""
    folder.mkdir(parents=True)
    uid, patient_id = b"77%08d" % number, b"ARCHIVE-%05d" % number
    middle = len(files) // 2
    for n, one in enumerate(files):
        head = one.content[: one.pixels].replace(UID_OF_DRAWN, uid).replace(ID_OF_DRAWN, patient_id)
        pixels = one.content[one.pixels :]
        if abs(n - middle) < 12 and pixels:
            image = np.frombuffer(pixels, "<i2").reshape(SHAPE[1:]).copy()
            image[236:276, 236:276] = 1024 + 40 + number % 97
            pixels = image.tobytes()
        with (folder / one.name).open("wb") as file:
            file.write(head)
            _write_sparse(file, pixels)


def _write_sparse(file: BinaryIO, content: bytes) -> None:
    """Whole blocks of zeros are skipped, but for the last."""
    first = -file.tell() % BLOCK
    for low in (0, *range(first or BLOCK, len(content), BLOCK)):
        block = content[low : low + BLOCK] if low else content[: first or BLOCK]
        if block.count(0) < len(block) or low + BLOCK >= len(content):
            file.write(block)
        else:
            file.seek(len(block), os.SEEK_CUR)


def make_archive(folder: Path, patients: int) -> None:
    with TemporaryDirectory() as temporary:
        drawn = []
        for n in range(min(DRAWN, patients)):
            draw(Path(temporary) / str(n), n)
            drawn.append(drawn_files(Path(temporary) / str(n)))
    for number in range(patients):
        copy_patient(folder / f"p{number:05d}", drawn[number % len(drawn)], number)


def gigabytes(folder: Path) -> tuple[float, float]:
    """To read, and on the disk."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(s.st_size for s in stats) / 1e9, sum(getattr(s, "st_blocks", 0) * 512 for s in stats) / 1e9


# -- measuring -------------------------------------------------------------------------------------------------

FIND = """
import sys
from pathlib import Path
from contour_ai.dicom.file_index import FileIndex
from contour_ai.dicom.scan import find_patients
index = FileIndex(Path(sys.argv[2]))
print(len(find_patients(Path(sys.argv[1]), index=index)))
index.save()
"""


def measured(what: str, *words: str, log: Path) -> Run:
    """Runs a command of Python's, and measures the process."""
    start = time.perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file)
        if hasattr(os, "wait4"):
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_s = used.ru_utime + used.ru_stime
            peak_mb = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        else:
            process.wait()
            cpu_s = peak_mb = float("nan")
    if process.returncode:
        raise SystemExit(f"{what} ended with status {process.returncode}; see {log}")
    return Run(what, time.perf_counter() - start, cpu_s, peak_mb)


def measure(archive: Path, work: Path) -> list[Run]:
    log, run = work / "log.txt", work / "run"
    command = ("-m", "contour_ai")
    check = (*command, "train", str(archive), "--out", str(run), "--check", "--report")
    find = ("-c", FIND, str(archive), str(work / "files.json"))
    return [
        measured("finding files", *find, log=log),
        measured("finding files again (index)", *find, log=log),
        measured("rois --no-volumes", *command, "rois", str(archive), "--no-volumes", log=log),
        measured("rois", *command, "rois", str(archive), log=log),
        measured("train --check --report", *check, log=log),
        measured("train --check --report again (cache)", *check, log=log),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[50, 100])
    parser.add_argument(
        "--folder", type=Path, help="where archives are made (default: the system's temporary folder)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the archives, and use those that are there"
    )
    parser.add_argument("--make", nargs=2, metavar=("FOLDER", "PATIENTS"), help="only make an archive")
    arguments = parser.parse_args()
    if arguments.make:
        make_archive(Path(arguments.make[0]), int(arguments.make[1]))
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    for patients in arguments.patients:
        with TemporaryDirectory(dir=arguments.folder, ignore_cleanup_errors=True) as temporary:
            archive = Path(temporary) / "archive"
            if arguments.keep:
                archive = (arguments.folder or Path.cwd()) / f"archive-{patients}"
            if not archive.exists():
                # In a process of its own: a process counts the memory of the one that started it as its own peak.
                subprocess.run([sys.executable, __file__, "--make", str(archive), str(patients)], check=True)
            read, disk = gigabytes(archive)
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
            print(
                f"\n{patients} patients, {read:.1f} GB ({disk:.1f} GB on the disk), load {load:.1f}",
                flush=True,
            )
            runs = measure(archive, Path(temporary))
            for one in runs:
                print("  " + one.line(patients), flush=True)
            page = (Path(temporary) / "run" / "archive-check.html").stat().st_size
            print(f"  page {page / 1e6:.1f} MB")
            cache = sum(p.stat().st_size for p in (Path(temporary) / "run").rglob("*") if p.is_file())
            print(f"  cache {cache / 1e6 / patients:.1f} MB a patient")
            print(json.dumps([vars(one) for one in runs]), file=sys.stderr)
            if not arguments.keep:
                shutil.rmtree(archive)


if __name__ == "__main__":
    main()
