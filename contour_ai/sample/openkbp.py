"""Turns the public OpenKBP dataset's layout into DICOM patients, and proves each by reading it back.

OpenKBP (Babier et al., Med Phys 48:5549, 2021; github.com/ababier/open-kbp) stores a patient as sparse CSV files on a
128 x 128 x 128 grid: `ct.csv`, `voxel_dimensions.csv`, and one file an organ. The first column is the flat index in C
order of (row, column, slice), where row runs from front to back, column from the patient's right to left, and slice
from head to foot. CT values are HU + 1024, and 0 for all outside the patient.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import ContourAIError, InputError, VerificationError, listed
from contour_ai.faults import as_known
from contour_ai.files import atomic_folder
from contour_ai.grid import Grid
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.volume import Structures, Volume

log = logging.getLogger(__name__)

OPENKBP_SHAPE = (128, 128, 128)
"""Rows, columns and slices of every OpenKBP patient."""

ROI_FILES = {
    "Brainstem": "Brainstem",
    "SpinalCord": "SpinalCord",
    "RightParotid": "Parotid_R",
    "LeftParotid": "Parotid_L",
    "Esophagus": "Esophagus",
    "Larynx": "Larynx",
    "Mandible": "Bone_Mandible",
}
"""Organ file (without .csv): TG-263 name. Targets and doses of the dataset are not imported."""

STORED_OFFSET_HU = -1024
CT_FOLDER = "ct"
RTSTRUCT_FILE = "RS.dcm"
STUDY_DATE = "20210101"
"""The dataset has no dates; a structure set needs one."""

DEEPEST_FOLDER = 3
"""SRC may be a patient's folder, train-pats, provided-data or the folder above it."""


@dataclass(frozen=True, eq=False)
class OpenKBPPatient:
    """A patient as the CSV files give it, turned to (k, i, j) with k towards the head."""

    name: str
    volume: Volume
    structures: Structures


@dataclass(frozen=True)
class ImportReport:
    """What an import did: patient names, and the error of each patient that failed."""

    imported: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, ContourAIError]


def find_openkbp_patients(source: Path) -> dict[str, Path]:
    """{patient name: folder} of every `pt_N` folder with a `ct.csv` at or below `source`, in order of N.

    Raises:
        InputError: there is none.
    """
    source = Path(source)
    patterns = ["/".join(["*"] * depth + ["ct.csv"]) for depth in range(DEEPEST_FOLDER + 1)]
    folders = {p.parent.resolve() for pattern in patterns for p in source.glob(pattern)}
    found = {f.name: f for f in folders if re.fullmatch(r"pt_\d+", f.name)}
    if not found:
        raise InputError(
            "No OpenKBP patients here.",
            where=source,
            expected="folders pt_1, pt_2, … with ct.csv, as in provided-data/train-pats",
            fix="give the folder provided-data of the dataset (github.com/ababier/open-kbp)",
        )
    return {name: found[name] for name in sorted(found, key=lambda n: int(n[3:]))}


def import_openkbp(
    source: Path,
    out_dir: Path,
    *,
    patients: Sequence[str] | None = None,
    limit: int | None = None,
    workers: int = 2,
    on_progress: OnProgress = no_progress,
) -> ImportReport:
    """Writes `out_dir/<patient>/ct/` and `RS.dcm` for every OpenKBP patient; those already there are skipped.

    A patient's folder appears whole, after it was read back without one wrong voxel, or not at all; so an interrupted
    import goes on where it stopped. One patient's error does not stop the others.

    Args:
        source: the dataset's folder, or one above or below it.
        patients: names such as `pt_1`; by default all.
        limit: only the first so many.
        workers: processes.

    Raises:
        InputError: no patients, or one asked for is not there.
    """
    found = find_openkbp_patients(source)
    unknown = [name for name in patients or () if name not in found]
    if unknown:
        raise InputError("No such OpenKBP patients.", where=source, found=listed(unknown, between=", "))
    names = [name for name in found if patients is None or name in patients][:limit]
    skipped = tuple(name for name in names if (Path(out_dir) / name).exists())
    jobs = {name: found[name] for name in names if name not in skipped}
    failed = _convert_all(jobs, Path(out_dir), workers, on_progress)
    return ImportReport(tuple(name for name in jobs if name not in failed), skipped, failed)


def convert_patient(folder: Path, out_dir: Path) -> Path:
    """Writes one patient as `out_dir/<name>/`, verified; returns the folder.

    Raises:
        InputError: a file is missing or holds something else than the layout says.
        VerificationError: what was written does not read back as the same voxels; nothing is left behind.
    """
    patient = read_openkbp(folder)
    uid_seed = f"OpenKBP {patient.name}"
    with atomic_folder(Path(out_dir) / patient.name, record="patients") as temporary:
        ct = write_ct(
            temporary / CT_FOLDER,
            patient.volume,
            PatientIdentity(
                patient_id=f"OpenKBP-{patient.name}",
                patient_name=f"OpenKBP^{patient.name}",
                study_date=STUDY_DATE,
            ),
            uid_seed=uid_seed,
            study_description="OpenKBP head and neck",
            series_description="CT on the OpenKBP grid, outside of the patient set to air",
            body_part="HEADNECK",
        )
        if patient.structures.contoured():
            write_structures(
                temporary / RTSTRUCT_FILE,
                patient.structures,
                ct,
                Provenance(
                    label="OpenKBP",
                    series_description="OpenKBP clinical contours",
                    description="Clinical contours of the OpenKBP dataset (Med Phys 48:5549), from its voxel lists.",
                ),
                uid_seed=uid_seed,
            )
        verify_patient(temporary, folder)
    return Path(out_dir) / patient.name


def read_openkbp(folder: Path) -> OpenKBPPatient:
    """Reads one `pt_N` folder.

    Raises:
        InputError: a file is missing or holds something else than the layout says.
    """
    folder = Path(folder)
    ct = np.zeros(OPENKBP_SHAPE, np.float64)
    index, values = _read_csv(folder / "ct.csv", values=True)
    ct.flat[index] = np.rint(values)
    if ct.min() < 0 or ct.max() > np.iinfo(np.int16).max:
        raise InputError(
            "CT values must be HU + 1024.", where=folder / "ct.csv", found=f"{ct.min():g} to {ct.max():g}"
        )
    hu = _upright(ct + STORED_OFFSET_HU).astype(np.int16)
    grid = _grid(_read_spacing(folder / "voxel_dimensions.csv"))
    masks = {}
    for file, roi in ROI_FILES.items():
        path = folder / f"{file}.csv"
        if path.exists() and (index := _read_csv(path)[0]).size:
            mask = np.zeros(OPENKBP_SHAPE, bool)
            mask.flat[index] = True
            masks[roi] = _upright(mask)
    return OpenKBPPatient(folder.name, Volume(hu, grid), Structures.from_masks(masks, grid))


def verify_patient(written: Path, folder: Path) -> int:
    """Reads a written patient back and compares it with the CSV files, voxel list by voxel list.

    The way from a CSV index to a place in the patient is taken anew, through millimetres, so that a flip or shift
    on the way out cannot cancel on the way in. Returns the number of voxels compared.

    Raises:
        VerificationError: a voxel differs.
    """
    ct = read_ct(written / CT_FOLDER)
    if ct.volume is None or ct.grid.shape_kij != (OPENKBP_SHAPE[2], OPENKBP_SHAPE[0], OPENKBP_SHAPE[1]):
        raise VerificationError("The written CT has lost slices.", where=written, found=ct.grid.shape_kij)
    hu = ct.volume.hu
    index, values = _read_csv(folder / "ct.csv", values=True)
    at = _indices_in(ct.grid, index, folder)
    expected = np.full(hu.shape, STORED_OFFSET_HU, np.int32)
    expected[at] = np.rint(values).astype(np.int32) + STORED_OFFSET_HU
    _require_equal(hu, expected, "CT", written)
    contoured = {}
    for file, roi in ROI_FILES.items():
        path = folder / f"{file}.csv"
        if path.exists() and (index := _read_csv(path)[0]).size:
            contoured[roi] = index
    if not contoured:
        return int(hu.size)
    read = read_structures(written / RTSTRUCT_FILE, ct)
    if set(read.contoured()) != set(contoured):
        raise VerificationError(
            "The structure set does not hold the patient's ROIs.",
            where=written,
            found=", ".join(read.contoured()),
            expected=", ".join(contoured),
        )
    for roi, index in contoured.items():
        mask = np.zeros(hu.shape, bool)
        mask[_indices_in(ct.grid, index, folder)] = True
        _require_equal(read.mask(roi), mask, roi, written)
    return int(hu.size) * (1 + len(contoured))


def _convert_all(
    jobs: dict[str, Path], out_dir: Path, workers: int, on_progress: OnProgress
) -> dict[str, ContourAIError]:
    """Converts in `workers` processes; returns the errors by patient."""
    failed: dict[str, ContourAIError] = {}
    on_progress(ProgressEvent(stage="importing", done=0, total=len(jobs)))
    # Spawn, because forking a process with threads is unsafe and Windows has no fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(jobs))), mp_context=context)
    try:
        futures: dict[Future[Path], str] = {
            pool.submit(convert_patient, folder, out_dir): name for name, folder in jobs.items()
        }
        for done, future in enumerate(as_completed(futures), start=1):
            name = futures[future]
            error = future.exception()
            if isinstance(error, Exception):
                failed[name] = as_known(error, f"importing {name}")
            elif error is not None:
                raise error
            facts = {"patient": name} | ({"failed": len(failed)} if failed else {})
            on_progress(ProgressEvent(stage="importing", done=done, total=len(jobs), facts=facts))
    finally:
        pool.shutdown(cancel_futures=True)
    return {name: failed[name] for name in jobs if name in failed}


def _upright(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """(row, column, slice from head to foot) to (k, i, j) with k towards the head."""
    return np.ascontiguousarray(np.moveaxis(array, 2, 0)[::-1])


def _grid(spacing_mm: tuple[float, float, float]) -> Grid:
    """The grid for (row, column, slice) spacing, with its middle at the origin: the dataset has no positions."""
    row, column, between = spacing_mm
    origin = [-(n - 1) / 2 * s for n, s in zip(OPENKBP_SHAPE, spacing_mm, strict=True)]
    return Grid.axial(
        (OPENKBP_SHAPE[2], OPENKBP_SHAPE[0], OPENKBP_SHAPE[1]),
        (between, row, column),
        (origin[1], origin[0], origin[2]),
    )


def _indices_in(
    grid: Grid, flat_index: NDArray[np.int64], folder: Path
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Where the voxels of a CSV file lie on a CT's grid, by their place in the patient in mm."""
    spacing = np.array(_read_spacing(folder / "voxel_dimensions.csv"))
    row, column, below_top = (
        np.stack(np.unravel_index(flat_index, OPENKBP_SHAPE), -1) - (np.array(OPENKBP_SHAPE) - 1) / 2
    ).T * spacing[:, None]
    index = grid.lps_to_index(np.stack([column, row, -below_top], axis=-1))
    nearest = np.rint(index)
    if np.abs(index - nearest).max(initial=0) > 0.01:
        raise VerificationError(
            "The written CT does not lie where the patient does.",
            where=folder,
            found=f"voxels {np.abs(index - nearest).max():.3f} off their centres",
        )
    k, i, j = nearest.astype(np.intp).T
    return k, i, j


def _require_equal(
    found: NDArray[np.generic], expected: NDArray[np.generic], what: str, written: Path
) -> None:
    wrong = int((found != expected).sum())
    if wrong:
        raise VerificationError(
            "The written patient does not read back as the same voxels.",
            where=f"{what} of {written.name}",
            found=f"{wrong} voxels wrong",
            expected="0",
        )


def _read_spacing(path: Path) -> tuple[float, float, float]:
    """(row, column, slice) spacing in mm."""
    try:
        row, column, between = np.loadtxt(path, dtype=np.float64, ndmin=1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, "three numbers, one a line") from error
    if not min(row, column, between) > 0:
        raise _unreadable(path, "three positive numbers")
    return float(row), float(column), float(between)


def _read_csv(path: Path, *, values: bool = False) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat indices, and the values beside them where asked for (organ files have none).

    `np.loadtxt` parses in C, at a few hundred thousand lines a second.
    """
    expected = f"lines 'index,{'value' if values else ''}' after a header line"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        if not lines:
            return np.empty(0, np.int64), np.empty(0)
        table = np.loadtxt(lines, delimiter=",", usecols=(0, 1) if values else (0,), ndmin=2)
    except (OSError, ValueError) as error:
        raise _unreadable(path, expected) from error
    index = table[:, 0].astype(np.int64)
    if index.size and (
        index.min() < 0 or index.max() >= np.prod(OPENKBP_SHAPE) or np.unique(index).size < index.size
    ):
        raise _unreadable(path, f"each index once, from 0 to {int(np.prod(OPENKBP_SHAPE)) - 1}")
    return index, table[:, -1]


def _unreadable(path: Path, expected: str) -> InputError:
    return InputError(
        "This is not a file of the OpenKBP layout.",
        where=path,
        expected=expected,
        fix="unpack the dataset again",
    )
