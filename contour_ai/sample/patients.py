"""Writes drawn phantoms as DICOM patients: a CT series and a structure set, the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import OutputError
from contour_ai.files import atomic_folder
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.sample.phantom import REGIONS, Phantom, draw_phantom

COMMITTED = (("headneck", 1), ("headneck", 2), ("pelvis", 1))
"""Region and seed of the patients in `sample_data/`."""

DRAWING_VERSION = 1
"""Part of every UID: raise it when a change of the drawing changes voxels, because a UID stands for one content."""

CT_FOLDER = "ct"
RTSTRUCT_FILE = "RS.dcm"
STUDY_DATE = "20260101"
PHANTOM_STUDY = "contour-ai phantom"
"""StudyDescription of phantoms: a model that learns from one is a phantom model."""


def write_phantoms(
    out_dir: Path,
    patients: Sequence[tuple[str, int]] = COMMITTED,
    *,
    missing: float = 0.0,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> list[Path]:
    """Draws and writes patients into `out_dir/phantom-<region>-<seed>/`; returns their folders.

    Args:
        patients: (region, seed) of each; by default those of `sample_data/`.
        missing: probability that a ROI is left out of a structure set (see `draw_phantom`).
        overwrite: replace patients that are there; otherwise nothing is written if one is.

    Raises:
        OutputError: a patient exists already, or the folder cannot be written.
    """
    out_dir = Path(out_dir)
    there = [p for p in (out_dir / phantom_name(*patient) for patient in patients) if p.exists()]
    if there and not overwrite:
        raise OutputError(
            "Sample patients exist already.",
            where=", ".join(str(p) for p in there[:3]) + (", …" if there[3:] else ""),
            fix="give --overwrite to replace them, or another folder",
        )
    folders = []
    for done, (region, seed) in enumerate(patients):
        on_progress(
            ProgressEvent(
                stage="drawing", done=done, total=len(patients), facts={"patient": phantom_name(region, seed)}
            )
        )
        folders.append(
            write_phantom(out_dir, draw_phantom(region, seed, missing=missing), overwrite=overwrite)
        )
    on_progress(ProgressEvent(stage="drawing", done=len(patients), total=len(patients)))
    return folders


def phantom_name(region: str, seed: int) -> str:
    """Folder name and PatientID."""
    return f"phantom-{region}-{seed:02d}"


def write_phantom(out_dir: Path, phantom: Phantom, *, overwrite: bool = False) -> Path:
    """Writes one patient: `ct/` and `RS.dcm`, both or nothing. Returns its folder."""
    name = phantom_name(phantom.region, phantom.seed)
    uid_seed = f"{name} drawing {DRAWING_VERSION}"
    # A structure set that lacks ROIs is another structure set of the same CT.
    rois_seed = " ".join((uid_seed, *phantom.structures.contoured()))
    patient = PatientIdentity(
        patient_id=name,
        patient_name=f"Phantom^{phantom.region}^{phantom.seed}",
        study_date=STUDY_DATE,
        sex=REGIONS[phantom.region].sex,
    )
    folder = Path(out_dir) / name
    with atomic_folder(folder, overwrite=overwrite, record="patients") as temporary:
        ct = write_ct(
            temporary / CT_FOLDER,
            phantom.volume,
            patient,
            uid_seed=uid_seed,
            study_description=PHANTOM_STUDY,
            series_description=f"Drawn {phantom.region}, seed {phantom.seed}",
            body_part=phantom.region.upper(),
        )
        write_structures(
            temporary / RTSTRUCT_FILE,
            phantom.structures,
            ct,
            Provenance(
                label="PHANTOM",
                series_description="Drawn structures",
                description=f"True structures of {name}, drawn by contour-ai. No patient.",
            ),
            uid_seed=rois_seed,
        )
    return folder
