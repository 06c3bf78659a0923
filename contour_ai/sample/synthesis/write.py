"""Writes synthetic patients as DICOM: a CT series and a structure set each, and a ROI map that says what is absent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import ConfigError, InputError, OutputError, listed
from contour_ai.files import atomic_file, atomic_folder
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.sample.synthesis.anatomy import Anatomy, anatomy_of
from contour_ai.sample.synthesis.label_maps import LabelMap
from contour_ai.sample.synthesis.patient import OUTLINE, SyntheticPatient, draw_patient
from contour_ai.sample.synthesis.recipe import SynthesisRecipe, print_recipe
from contour_ai.settings import to_mapping, to_yaml
from contour_ai.structures.roi_map import RoiMap

DRAWING_VERSION = 2
"""Part of every UID: raise it when a change of the drawing changes voxels, because a UID stands for one content."""
CT_FOLDER, RTSTRUCT_FILE = "ct", "RS.dcm"
RECIPE_FILE, MAP_FILE = "recipe.yaml", "roi-map.yaml"
STUDY_DATE = "20260101"
SYNTHETIC_STUDY = "contour-ai synthetic CT"
"""StudyDescription of synthetic patients: a model that learns from them alone never saw a patient."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written."""

    folders: tuple[Path, ...]
    """Of the new patients."""
    there_already: int
    roi_map: Path
    left_out: Mapping[str, InputError]
    """{label map: why nothing can be drawn from it}."""


def write_synthetic_patients(
    label_maps: Sequence[LabelMap],
    out_dir: Path,
    recipe: SynthesisRecipe,
    *,
    count: int,
    first_seed: int = 1,
    on_progress: OnProgress = no_progress,
) -> Written:
    """Draws patients into `out_dir/synthetic-<seed>/`; those that are there already are kept.

    The folder also gets `recipe.yaml` and `roi-map.yaml`, which `contour-ai train --roi-map` takes: it says which ROIs
    are certainly absent from which patient.

    Args:
        label_maps: at least one.
        out_dir: may hold patients of the same recipe and label maps.
        recipe: ranges.
        count: patients in all.
        first_seed: of the first; a seed always gives the same patient.
        on_progress: told of every patient.

    Raises:
        InputError: none of the label maps can be used.
        OutputError: the folder holds patients of another recipe or other maps, or cannot be written.
    """
    out_dir = Path(out_dir)
    anatomies, left_out = _usable(label_maps)
    used = [label_map for label_map in label_maps if label_map.name not in left_out]
    fingerprint = _fingerprint(used, recipe)
    _begin(out_dir, recipe, fingerprint, used)
    folders, absent, there_already = [], _absent_before(out_dir), 0
    for done, seed in enumerate(range(first_seed, first_seed + count)):
        on_progress(
            ProgressEvent(stage="drawing", done=done, total=count, facts={"patient": patient_name(seed)})
        )
        folder = out_dir / patient_name(seed)
        if folder.exists():
            there_already += 1
            continue
        patient = draw_patient(anatomies, recipe, seed)
        if patient.absent:
            absent[patient_name(seed)] = patient.absent
        # The map first: a patient without its entry would count as not contoured, without a word.
        _save_map(out_dir, recipe, absent)
        folders.append(write_synthetic_patient(out_dir, patient, fingerprint))
    _save_map(out_dir, recipe, absent)
    on_progress(ProgressEvent(stage="drawing", done=count, total=count))
    return Written(
        folders=tuple(folders),
        there_already=there_already,
        roi_map=out_dir / MAP_FILE,
        left_out=left_out,
    )


def patient_name(seed: int) -> str:
    """Folder name and PatientID."""
    return f"synthetic-{seed:05d}"


def write_synthetic_patient(out_dir: Path, patient: SyntheticPatient, fingerprint: str = "") -> Path:
    """Writes one patient: `ct/` and `RS.dcm`, both or nothing. Returns its folder."""
    name = patient_name(patient.seed)
    uid_seed = f"{name} {fingerprint} drawing {DRAWING_VERSION}"
    identity = PatientIdentity(
        patient_id=name, patient_name=f"Synthetic^{patient.seed}", study_date=STUDY_DATE, sex=patient.sex
    )
    folder = Path(out_dir) / name
    with atomic_folder(folder, record="patients") as temporary:
        ct = write_ct(
            temporary / CT_FOLDER,
            patient.volume,
            identity,
            uid_seed=uid_seed,
            study_description=SYNTHETIC_STUDY,
            series_description=f"Drawn from {patient.map_name}, seed {patient.seed}",
        )
        write_structures(
            temporary / RTSTRUCT_FILE,
            patient.structures,
            ct,
            Provenance(
                label="SYNTHETIC",
                series_description="Drawn structures",
                description=f"True structures of {name}, drawn by contour-ai. No patient.",
            ),
            uid_seed=uid_seed,
        )
    return folder


def _usable(label_maps: Sequence[LabelMap]) -> tuple[list[Anatomy], dict[str, InputError]]:
    """The anatomies of the maps that have what is needed, and why others are left out."""
    anatomies, left_out = [], {}
    for label_map in label_maps:
        try:
            anatomies.append(anatomy_of(label_map))
        except InputError as error:
            left_out[label_map.name] = error
    if not anatomies and len(left_out) == 1:
        raise next(iter(left_out.values()))
    if not anatomies:
        raise InputError(
            "None of the label maps can be used.",
            found=listed(f"{name}: {error.what}" for name, error in left_out.items()),
            expected="femora and hip bones, named as TotalSegmentator does: femur_left, hip_left, …",
        )
    return anatomies, left_out


def _fingerprint(label_maps: Sequence[LabelMap], recipe: SynthesisRecipe) -> str:
    """Of all that decides what a seed gives."""
    drawn_from = {key: value for key, value in to_mapping(recipe).items() if key != "relatives"}
    text = to_yaml(drawn_from) + " ".join(label_map.sha256 for label_map in label_maps)
    return hashlib.sha256(f"{text} {DRAWING_VERSION}".encode()).hexdigest()[:16]


def _begin(out_dir: Path, recipe: SynthesisRecipe, fingerprint: str, label_maps: Sequence[LabelMap]) -> None:
    """The folder with its recipe, or the check that it is the same."""
    path = out_dir / RECIPE_FILE
    head = f"# contour-ai synthesize, fingerprint {fingerprint}, label maps " + ", ".join(
        f"{label_map.name} (SHA-256 {label_map.sha256})" for label_map in label_maps
    )
    text = f"{head}\n{print_recipe(recipe)}"
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise OutputError(
                "This folder holds synthetic patients of another recipe or of other label maps.",
                where=path,
                fix="give another folder",
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _absent_before(out_dir: Path) -> dict[str, tuple[str, ...]]:
    path = out_dir / MAP_FILE
    if not path.is_file():
        return {}
    try:
        absent = RoiMap.load(path).absent
        # A patient that an interrupted run did not finish is drawn again.
        return {name: rois for name, rois in absent.items() if (out_dir / name).is_dir()}
    except ConfigError as error:
        raise OutputError(
            "The ROI map of these synthetic patients cannot be read.",
            where=path,
            found=error.what,
            fix="give another folder",
        ) from error


def _save_map(out_dir: Path, recipe: SynthesisRecipe, absent: dict[str, tuple[str, ...]]) -> None:
    roi_map = RoiMap(rois=dict.fromkeys((OUTLINE, *recipe.rois), ()), absent=dict(sorted(absent.items())))
    roi_map.save(out_dir / MAP_FILE, overwrite=True)
