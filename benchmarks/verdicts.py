"""How often verdicts are right: on contours with known faults, on clinical ones, and on the model's own.

    contour-ai import-openkbp open-kbp/provided-data openkbp-dicom
    python benchmarks/verdicts.py headneck-openkbp openkbp-dicom --share 0.12 --write docs/verdicts.md

Patients are those that the model, its second reader and its verdicts were not made from: the ones that a training with
`data.validation_share` of `--share` holds back (a fixed hash of the PatientID), or the validation patients of
`--splits RUN/splits.json`. Every contour goes through what `contour-ai review` does with it, and the model's own
contours through what `contour-ai predict` does. A contour is good where the Dice with the network is at least 0.75;
only good ones are spoiled, on the CT's own grid. `--wrong P:ROI` names clinical contours that are grossly wrong, of
any patient of the archive. In per cent: how many are not clear, with 95 % intervals (Wilson).

With `--write` the tables take the place of those of the same model in that file, between the two comments that name it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from verdict_tables import GROSS, JUDGED, Judged, tables

from contour_ai.bundle import load_bundle
from contour_ai.dicom.frames import drawn_on
from contour_ai.dicom.rtstruct_read import iter_masks, load_structure_set
from contour_ai.errors import ContourAIError
from contour_ai.mask_agreement import dice
from contour_ai.pipeline._predict import (
    LoadedModel,
    Opened,
    load_model,
    open_patient,
    restore_rois,
    run_network,
)
from contour_ai.pipeline._predict.contouring import findings_of, read_again
from contour_ai.pipeline._review import judge_contours, known_names, scene_of
from contour_ai.pipeline.splitting import split
from contour_ai.preprocess import resample_structures
from contour_ai.preprocess.axes import patient_order
from contour_ai.quality.agreement import contour_figures
from contour_ai.quality.flag import EXTERNAL, ImageEvidence
from contour_ai.quality.judging import judge
from contour_ai.quality.reviewing import Contoured, Judge
from contour_ai.quality.spoiling import shifted, spoil
from contour_ai.volume import Structures

Bool = NDArray[np.bool_]
GOOD_DICE = 0.75
GROSS_CM3 = 150.0
"""As large as the cords that some clinics' structure sets hold, which are no cords."""


def main() -> int:
    arguments = _arguments()
    model = load_model(load_bundle(arguments.model))
    folders = {path.name: path for path in sorted(arguments.archive.iterdir()) if path.is_dir()}
    chosen = _held_back(arguments, folders)
    found: list[Judged] = []
    for n, name in enumerate(chosen):
        began = time.monotonic()
        try:
            found += judged_in(folders[name], model, every_kind=arguments.every_kind)
        except ContourAIError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        print(f"{n + 1}/{len(chosen)} {name} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    wrong = [
        one for name, rois in _wrong(arguments.wrong).items() for one in wrong_in(folders[name], rois, model)
    ]
    if arguments.json:
        arguments.json.write_text(
            json.dumps([vars(one) for one in [*found, *wrong]], indent=0), encoding="utf-8"
        )
    text = tables(found, wrong, len(chosen))
    print(text)
    if arguments.write:
        _replace(arguments.write, arguments.model, text)
    return 0


def judged_in(folder: Path, model: LoadedModel, *, every_kind: bool) -> Iterator[Judged]:
    """Every verdict on a patient: its clinical contours, the same with faults, and the model's own."""
    patient = open_patient(folder, model.bundle, resampler=lambda: model.resampler)
    logits = run_network(patient.prepared, model)
    contours = _clinical(patient, model)
    yield from _own(folder.name, patient, logits, contours, model)
    judge_by = _judge(patient, logits, model)
    order, signs = patient_order(patient.ct.grid)
    turned = {roi: _turned(mask, order, signs) for roi, mask in contours.items()}
    spacing = tuple(float(patient.ct.grid.spacing_mm[axis]) for axis in order)
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    for roi, mask in contours.items():
        on_model, agreed = _agreement(roi, mask, patient, judge_by)
        what = "good" if agreed >= GOOD_DICE else "clinical, poor agreement"
        yield _one(folder.name, roi, what, "", mask, on_model, judge_by, model)
        if agreed < GOOD_DICE:
            continue
        for fault in spoil(roi, turned, (spacing[0], spacing[1], spacing[2]), rng):
            if every_kind or fault.kind in JUDGED:
                back = _turned_back(fault.mask, order, signs)
                on_model, _ = _agreement(roi, back, patient, judge_by)
                yield _one(folder.name, roi, fault.kind, fault.detail, back, on_model, judge_by, model)
    for detail, roi, drawn in gross(turned, (spacing[0], spacing[1], spacing[2])):
        back = _turned_back(drawn, order, signs)
        on_model, _ = _agreement(roi, back, patient, judge_by)
        yield _one(folder.name, roi, GROSS, detail, back, on_model, judge_by, model, whole=True)


def gross(
    contours: Mapping[str, Bool], spacing_mm: tuple[float, float, float]
) -> Iterator[tuple[str, str, Bool]]:
    """(fault, ROI, mask) of grossly wrong contours: each organ elsewhere, on the other side, or much too large.

    Args:
        contours: {ROI: mask}, axes superior, posterior, left, ascending.
        spacing_mm: distance of the voxels along them.
    """
    for roi, mask in contours.items():
        for axis, distance, where in (
            (0, -60.0, "below"),
            (0, 60.0, "above"),
            (1, -60.0, "front"),
            (2, 60.0, "left"),
        ):
            moved = shifted(mask, axis, distance, spacing_mm)
            if moved.any():
                yield f"60 mm {where}", roi, moved
        if roi.endswith(("_L", "_R")):
            yield "left as right", roi, np.ascontiguousarray(mask[:, :, ::-1])
        voxel_cm3 = float(np.prod(spacing_mm)) / 1000
        wanted = max(4 * int(mask.sum()), round(GROSS_CM3 / voxel_cm3))
        distances = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
        limit = np.partition(distances, wanted, axis=None)[wanted]
        yield "four times as large, at least 150 cm³", roi, distances < limit


def wrong_in(folder: Path, rois: Sequence[str], model: LoadedModel) -> Iterator[Judged]:
    """The verdicts on clinical contours of a patient that are known to be grossly wrong."""
    patient = open_patient(folder, model.bundle, resampler=lambda: model.resampler)
    judge_by = _judge(patient, run_network(patient.prepared, model), model)
    for roi, mask in _clinical(patient, model).items():
        if roi in rois:
            on_model, _ = _agreement(roi, mask, patient, judge_by)
            yield _one(folder.name, roi, "wrong", "", mask, on_model, judge_by, model, whole=True)


def _judge(patient: Opened, logits: NDArray[np.float32], model: LoadedModel) -> Judge:
    prepared, outside = patient.prepared, model.bundle.preprocess.outside_hu
    image = ImageEvidence(
        grid=patient.ct.grid,
        body=patient.body,
        hu=prepared.hu,
        model_grid=prepared.grid,
        outside_hu=outside,
        ct_hu=patient.volume.hu,
    )
    scene = scene_of(patient, logits, model.bundle, read_again(prepared, model))
    return Judge(scene, image, model.bundle.contour_model)


def _clinical(patient: Opened, model: LoadedModel) -> dict[str, Bool]:
    """{the model's ROI: mask on the CT's grid} of the patient's structure set."""
    structure_set = drawn_on(load_structure_set(patient.files.structure_sets[0].path), patient.ct)
    known = known_names(structure_set, model.bundle, [])
    read = zip(structure_set.rois, iter_masks(structure_set, patient.ct), strict=True)
    masks = {roi.name: mask for roi, (_, mask) in read}
    return {known[name]: mask for name, mask in masks.items() if name in known and mask.any()}


def _agreement(roi: str, mask: Bool, patient: Opened, judge_by: Judge) -> tuple[Bool, float]:
    """The contour on the model's grid, and its Dice with what the network finds."""
    structures = Structures.from_masks({roi: mask}, patient.ct.grid)
    on_model = resample_structures(structures, patient.prepared.grid).mask(roi)
    return on_model, dice(on_model, judge_by.scene.predicted[roi], neither=0.0)


def _one(
    patient: str,
    roi: str,
    what: str,
    detail: str,
    mask: Bool,
    on_model: Bool,
    judge_by: Judge,
    model: LoadedModel,
    *,
    whole: bool = False,
) -> Judged:
    """The verdict on a contour; where its probability makes it `look`, other findings are left out but for `whole`."""
    volume = float((mask.sum(axis=(1, 2)) * judge_by.image.grid.voxel_volumes_cm3).sum())
    figures = contour_figures(roi, on_model, judge_by.scene)
    fitted = judge_by.model
    alarms = (
        figures is not None and fitted is not None and fitted.probability(roi, figures) > fitted.limit(roi)
    )
    if alarms and not whole:
        assert fitted is not None and figures is not None
        verdict, reason = "look", fitted.reason(roi, figures)
    else:
        found = judge_contours([Contoured(roi, mask)], {roi: roi}, judge_by, model.bundle)[roi]
        verdict, reason = found.verdict, found.reason
    return Judged(
        patient=patient, roi=roi, what=what, detail=detail, volume_cm3=volume, verdict=verdict, reason=reason
    )


def _own(
    name: str, patient: Opened, logits: NDArray[np.float32], contours: Mapping[str, Bool], model: LoadedModel
) -> Iterator[Judged]:
    """What `predict` says of its own contours, of which the clinical one is known."""
    bundle = model.bundle
    rois = restore_rois(patient, logits, bundle, bundle.roi_names, model.resampler)
    found = findings_of(patient, rois, bundle, read_again(patient.prepared, model))
    organs = [roi.info.name for roi in rois if roi.info.interpreted_type != EXTERNAL]
    length = float(np.ptp(patient.ct.grid.slice_offsets_mm))
    verdict = judge(found.flags, organs, bundle.region, scan_mm=length, opinions=found.opinions)
    for roi in rois:
        truth = contours.get(roi.info.name)
        if truth is None:
            continue
        drawn = np.zeros_like(truth)
        if roi.box is not None and roi.inside is not None:
            drawn[roi.box] = roi.inside
        agreed = dice(drawn, truth, neither=0.0)
        said = verdict.rois[roi.info.name]
        volume = float((drawn.sum(axis=(1, 2)) * patient.ct.grid.voxel_volumes_cm3).sum())
        yield Judged(
            patient=name,
            roi=roi.info.name,
            what="own, good" if agreed >= GOOD_DICE else "own, poor",
            detail=f"{agreed:.2f}",
            volume_cm3=volume,
            verdict=said.verdict,
            reason=said.reason,
        )


def _turned(mask: Bool, order: Sequence[int], signs: Sequence[float]) -> Bool:
    """Axes superior, posterior, left, ascending."""
    turned = mask.transpose(order)
    return np.ascontiguousarray(turned[tuple(slice(None, None, 1 if s > 0 else -1) for s in signs)])


def _turned_back(mask: Bool, order: Sequence[int], signs: Sequence[float]) -> Bool:
    straight = mask[tuple(slice(None, None, 1 if s > 0 else -1) for s in signs)]
    return np.ascontiguousarray(straight.transpose(np.argsort(order)))


def _held_back(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> list[str]:
    """Names of the folders of patients that nothing was made from."""
    if arguments.only:
        return [name for name in arguments.only.split(",") if name in folders]
    if arguments.splits:
        held = set(json.loads(arguments.splits.read_text(encoding="utf-8"))["validation"])
        return [name for name in folders if name in held or f"{arguments.prefix}{name}" in held]
    return split({name: f"{arguments.prefix}{name}" for name in folders}, arguments.share)[1]


def _wrong(named: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in named:
        patient, roi = text.split(":")
        found.setdefault(patient, []).append(roi)
    return found


def _replace(path: Path, model: str, text: str) -> None:
    """Between `<!-- verdicts of MODEL -->` and `<!-- end of verdicts of MODEL -->`."""
    begin, end = f"<!-- verdicts of {model} -->", f"<!-- end of verdicts of {model} -->"
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    if not rest:
        sys.exit(f"{path} has no {begin}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("archive", type=Path)
    parser.add_argument(
        "--share", type=float, default=0.12, help="of the patients that a training holds back"
    )
    parser.add_argument("--splits", type=Path, help="splits.json of a run, instead")
    parser.add_argument("--only", help="these folders, separated by commas, instead")
    parser.add_argument("--prefix", default="OpenKBP-", help="of the PatientID before the folder's name")
    parser.add_argument(
        "--every-kind", action="store_true", help="all faults, not only the four that are judged"
    )
    parser.add_argument("--wrong", action="append", default=[], metavar="P:ROI")
    parser.add_argument("--json", type=Path, help="every verdict, for other tables")
    parser.add_argument("--write", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
