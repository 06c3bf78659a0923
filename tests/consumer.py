"""A program that uses the public API, as a department would write it: checked by `mypy --strict`, run by a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import contour_ai
from contour_ai import (
    CommissionOptions,
    ContourAIError,
    Grid,
    Limit,
    Limits,
    OnProgress,
    PredictOptions,
    Profile,
    ProgressEvent,
    Provenance,
    RoiInfo,
    RoiLimits,
    RoiMap,
    Structures,
    Tolerances,
    ToleranceSource,
    TrainConfig,
    TrainOptions,
    Volume,
    commission,
    evaluate,
    load_model,
    predict,
    read_ct,
    read_structures,
    train,
    write_structures,
)


def volumes_of(patient_dir: str, model: str) -> dict[str, float]:
    """cm3 of every ROI that a model finds; nothing is written."""
    found = contour_ai.predict(patient_dir, model, options=PredictOptions(device="cpu"))
    assert found.path is None and found.verdict in (None, "clear", "look", "stop")
    voxels_cm3 = found.ct.grid.voxel_volumes_cm3  # (k,)
    return {name: float(mask.sum(axis=(1, 2)) @ voxels_cm3) for name, mask in found.masks.items()}


def worst_roi(patient_dir: str, model: str) -> tuple[str, float]:
    """The ROI that agrees least with the contours beside the CT, and its Dice."""
    found = predict(patient_dir, model, options=PredictOptions(device="cpu"))
    return min(found.dice.items(), key=lambda item: item[1])


def contour_all(patient_dirs: list[Path], model: str, out_dir: Path) -> list[Path]:
    """The structure sets of several patients, with a model that is loaded once."""
    ready = load_model(model, "cpu")
    written: list[Path] = []
    for patient_dir in patient_dirs:
        try:
            found = predict(patient_dir, ready, out_dir, PredictOptions(overlays=False))
        except ContourAIError as error:
            print(f"{patient_dir}: {error}")
            continue
        if found.path is not None:
            written.append(found.path)
    return written


def table(predicted: Path, reference: Path) -> dict[tuple[str, str], float]:
    """{(patient, ROI): DSC}."""
    return {(row.patient, row.roi): row.dsc for row in evaluate(predicted, reference).rows}


def copy_structures(ct_dir: str, rtstruct: str, out: str) -> Structures:
    """Reads a structure set and writes it anew; what was written."""
    ct = read_ct(ct_dir)
    structures = read_structures(rtstruct, ct)
    write_structures(out, structures, ct, Provenance(label="copy"))
    grid: Grid = ct.grid
    image: Volume | None = ct.volume
    assert image is not None and image.grid is grid and np.array_equal(ct.hu, image.hu)
    return structures


def train_and_check(archive: Path, run_dir: Path, config: Path, limits: Path, out_dir: Path) -> bool:
    """Trains on an archive, and whether the model keeps the department's limits on it, although it has seen it."""
    bundle = train(archive, run_dir, config, TrainOptions(device="cpu"))
    return commission(
        archive, bundle, limits, out_dir, CommissionOptions(device="cpu", keep_trained_on=True)
    ).passed


def stages_of(patient_dir: str, model: str) -> list[str]:
    """What a bar would show while a patient is contoured."""
    seen: list[str] = []

    def told(event: ProgressEvent) -> None:
        seen.append(f"{event.stage} {event.done:g} of {event.total} {event.facts.get('now', '')}")

    watch: OnProgress = told
    predict(patient_dir, model, options=PredictOptions(device="cpu"), on_progress=watch)
    return seen


def surface_dsc(predicted: Path, reference: Path, default_mm: float) -> dict[str, float]:
    """{ROI: surface DSC} with a tolerance of the department's own for one ROI."""
    own = ToleranceSource("our observers, 2026", {"SpinalCord": 1.5})
    tau = Tolerances(default_mm=default_mm, sources=(own,))
    return {row.roi: row.surface_dsc for row in evaluate(predicted, reference, tau=tau).rows}


def write_bone(ct_dir: str, out: Path) -> str:
    """Writes bone for an importer of short names; its name in the file."""
    ct = read_ct(ct_dir)
    hu = np.asarray(ct.hu, dtype=np.float32)
    bone = Structures.from_masks({"Bone": ct.hu > 300}, ct.grid)
    assert bone.names == ("Bone",)
    structures = Structures.from_masks({"Bone and marrow": hu > 300}, ct.grid)
    written = write_structures(
        out,
        structures,
        ct,
        Provenance(label="bone"),
        roi_info=lambda name: RoiInfo(name=name, color=(255, 255, 0)),
        profile=Profile(roi_name_characters=10, roi_name_pattern="[A-Za-z0-9_]"),
    )
    return written.names["Bone and marrow"]


def department_limits() -> Limits:
    """What a department accepts, without a file."""
    return Limits(rois={"Brainstem": RoiLimits(dsc=Limit(median_at_least=0.8))}, minimum_patients=10)


def training(name: str) -> tuple[TrainConfig, TrainOptions]:
    """A short training in which another name stands for the left parotid."""
    default = TrainConfig()
    config = replace(default, run=replace(default.run, steps=500))
    return config, TrainOptions(roi_map=RoiMap(rois={"Parotid_L": (name,)}), device="cpu")
