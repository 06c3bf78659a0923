"""All of predict on small drawn patients, with a network whose weights are set by hand to find bright tissue."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from contour_ai.bundle import (
    ModelBundle,
    RoiPostprocess,
    TrainingRecord,
    load_bundle,
    save_bundle,
    update_bundle,
)
from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import load_structure_set, read_structures
from contour_ai.dicom.rtstruct_write import RoiContours, write_structures
from contour_ai.errors import ConfigError, OutputError, VerificationError
from contour_ai.files import MANIFEST
from contour_ai.grid import Grid
from contour_ai.network import ResidualUNet3d
from contour_ai.network_config import NetworkConfig
from contour_ai.pipeline._evaluate import evaluate
from contour_ai.pipeline._predict import (
    LoadedModel,
    LoadingModel,
    PredictOptions,
    folder_name,
    load_model,
    predict,
    predict_patients,
)
from contour_ai.pipeline._predict.structure_set import write_prediction
from contour_ai.preprocess import PreprocessSettings
from contour_ai.progress import ProgressEvent
from contour_ai.quality.flag import PatientFlags
from contour_ai.structures import RoiInfo
from contour_ai.volume import Structures, Volume

GRID = Grid.axial((24, 72, 90), (3.0, 2.0, 1.6), (-71.2, -60.0, -300.0))
MONTAGE_ONLY = PredictOptions(overlays=False)
"""Pictures of every slice take most of the time of so small a patient."""
ROIS = (
    RoiInfo(name="Bright", color=(255, 80, 0)),
    RoiInfo(name="Brighter", color=(0, 160, 255)),
    RoiInfo(name="Never", color=(255, 0, 255)),
)


def thresholding(thresholds: tuple[float, ...]) -> ResidualUNet3d:
    """A network whose logits are 20 (x - threshold) of the voxel itself: everything else is multiplied by 0."""
    config = NetworkConfig(
        name="custom", in_channels=1, out_channels=len(thresholds), base_filters=1, levels=2, dropout=0.0
    )
    network = ResidualUNet3d(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name and "shortcut.1" not in name:
                parameter.zero_()
        network.stem.shortcut[0].weight[0, 0, 1, 1, 1] = 1
        network.decoder[0].merge.weight[0, 1] = 1  # the skip, not what comes from below
        network.decoder[0].block.shortcut[0].weight[0, 0, 1, 1, 1] = 1
        network.head.weight[:] = 20
        network.head.bias[:] = torch.tensor([-20 * t for t in thresholds])
    return network


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = thresholding((-0.575, -0.075, 5.0))  # of a window of 0 to 800 HU: 170 HU, 370 HU and never
    bundle = ModelBundle(
        folder=Path(),
        name="bright",
        version="1.2",
        kind="phantom",
        rois=ROIS,
        preprocess=PreprocessSettings(spacing_mm_kij=(2.5, 2.0, 2.0), windows_hu=((0.0, 800.0),)),
        network=network.config,
        postprocess={"Brighter": RoiPostprocess(largest_component=True)},
    )
    folder = tmp_path_factory.mktemp("models") / "bright"
    save_bundle(folder, bundle, network.state_dict(), model_card="For tests.")
    return folder


def drawn(grid: Grid) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """A body of 40 HU with a ball of 300 HU on the patient's left and one of 700 HU on the right."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape_kij), indexing="ij"), axis=-1)
    points = grid.index_to_lps(index)
    body = (points[..., 0] / 62) ** 2 + ((points[..., 1] - 10) / 50) ** 2 < 1
    hu = np.where(body, 40, -1000)
    hu = (hu + np.random.default_rng(0).normal(0, 6, hu.shape)).astype(np.int16)
    masks = {"Body": body}
    for name, value, centre, radius in (
        ("Bright_only", 300, [32.0, 12.0, -266.0], 14.0),
        ("Brighter", 700, [-30.0, 8.0, -262.0], 11.0),
    ):
        masks[name] = np.linalg.norm(points - centre, axis=-1) <= radius
        hu[masks[name]] = value
    masks["Bright"] = masks.pop("Bright_only") | masks["Brighter"]
    return Volume(hu, grid), masks


def make_patient(folder: Path, *, patient_id: str = "Doe^1", grid: Grid = GRID, truth: bool = False) -> Path:
    volume, masks = drawn(grid)
    identity = PatientIdentity(patient_id=patient_id, patient_name="Doe^Jo", study_date="20260102")
    ct = write_ct(folder / "ct", volume, identity, uid_seed=f"{patient_id} {folder.name}")
    if truth:
        own = {"bright": masks["Bright"], "BRIGHTER": masks["Brighter"], "Skin": masks["Body"]}
        info = {
            "bright": RoiInfo(name="bright", color=(1, 2, 3)),
            "BRIGHTER": RoiInfo(name="BRIGHTER", color=(1, 2, 3)),
            "Skin": RoiInfo(name="Skin", color=(1, 2, 3), interpreted_type="EXTERNAL"),
        }
        structures = Structures.from_masks(own, ct.grid)
        write_structures(folder / "rs.dcm", structures, ct, Provenance(label="truth"), roi_info=info)
    return folder


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


# -- all of it ----------------------------------------------------------------------------------------------


def test_everything_that_predict_does(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in", truth=True)
    bundle = load_bundle(model_dir)
    result = predict(patient, bundle, tmp_path / "out")
    assert result.folder == tmp_path / "out" / "Doe_1"
    files = sorted(p.name for p in result.folder.iterdir())
    sop = str(pydicom.dcmread(result.path).SOPInstanceUID)
    assert files == [MANIFEST, f"RS.{sop}.dcm", "montage.png", "overlays", "summary.json"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["Doe_1"], "nothing temporary is left"

    ct = read_ct(patient / "ct")
    structures = read_structures(load_structure_set(result.path), ct)
    _, masks = drawn(ct.grid)
    assert structures.names == ("Bright", "Brighter", "Body"), "an empty ROI is not written"
    assert dice(structures.mask("Bright"), masks["Bright"]) > 0.93
    assert dice(structures.mask("Brighter"), masks["Brighter"]) > 0.9
    assert dice(structures.mask("Body"), masks["Body"]) > 0.98

    occupied = np.flatnonzero(
        np.logical_or.reduce([structures.mask(n) for n in structures.names]).any(axis=(1, 2))
    )
    names = [p.name for p in result.overlays]
    assert names == [f"slice_{k + 1:03d}.png" for k in range(occupied[0], occupied[-1] + 1)]
    assert all(p.exists() for p in result.overlays)
    with Image.open(result.overlays[0]) as picture:
        assert picture.width > 1300, "four panels"


def test_a_contour_where_the_patients_expected_dice_is_highest(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in")
    bundle = load_bundle(model_dir)
    calm = bundle.build_network()
    with torch.no_grad():  # a network that is unsure: the probability falls over some 100 HU
        calm.head.weight /= 10
        calm.head.bias /= 10
    rule = RoiPostprocess(expected_dice=True)
    unsure = save_bundle(
        tmp_path / "unsure",
        replace(bundle, postprocess={"Brighter": rule}),
        calm.state_dict(),
        model_card="For tests.",
    )
    plain = predict(patient, replace(unsure, postprocess={}), tmp_path / "plain", MONTAGE_ONLY)
    larger = predict(patient, unsure, tmp_path / "larger", MONTAGE_ONLY)
    volumes = [{r.name: r.volume_cm3 for r in result.rois} for result in (plain, larger)]
    assert (
        volumes[1]["Brighter"] > 1.02 * volumes[0]["Brighter"]
        and volumes[1]["Bright"] == volumes[0]["Bright"]
    )
    probability = {r.name: r.probability for r in larger.rois}
    assert probability["Bright"] == 0.5 and 0.2 <= (probability["Brighter"] or 0) < 0.48
    structures = read_structures(load_structure_set(larger.path), read_ct(patient / "ct"))
    assert structures.mask("Brighter").sum() * np.prod(GRID.spacing_mm) / 1000 == pytest.approx(
        volumes[1]["Brighter"], rel=0.01
    )


def test_the_summary(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in", truth=True)
    result = predict(patient, load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY)
    summary = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    bundle = load_bundle(model_dir)
    assert summary["patient_id"] == "Doe^1"
    assert summary["model"]["name"] == "bright" and summary["model"]["version"] == "1.2"
    assert summary["model"]["weights_sha256"] == bundle.weights_sha256
    assert summary["structure_set"]["file"] == result.path.name
    assert summary["input"]["slices_rows_columns"] == [24, 72, 90]
    text = (result.folder / "summary.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text and str(model_dir) not in text and platform.node() not in text
    if os.name != "nt":
        modes = {p.suffix: p.stat().st_mode & 0o077 for p in result.folder.rglob("*") if p.name[0] != "."}
        assert {suffix for suffix, others in modes.items() if others} == {".dcm"}, "for the planning system"
        assert result.folder.stat().st_mode & 0o077, "its account must reach the structure set"
    brighter = summary["rois"]["Brighter"]
    assert brighter["volume_cm3"] == pytest.approx(4 / 3 * np.pi * 1.1**3, rel=0.2)
    assert brighter["centroid_lps_mm"] == pytest.approx([-30, 8, -262], abs=0.3)
    assert brighter["slices_from_1"] == [11, 17] and brighter["flags"] == []
    at = {name: roi["contour_at_probability"] for name, roi in summary["rois"].items()}
    assert at == {"Bright": 0.5, "Brighter": 0.5, "Never": None, "Body": None}
    assert summary["rois"]["Never"]["flags"][0]["code"] == "empty"
    assert summary["rois"]["Never"]["name_in_file"] is None
    assert summary["rois"]["Body"]["type"] == "EXTERNAL" and summary["rois"]["Body"]["flags"] == []
    assert set(summary["scores"]["dice"]) == {"Bright", "Brighter", "Body"}
    assert (
        summary["scores"]["mean_dice_of_organs"] == pytest.approx(result.mean_dice, abs=1e-4)
        and result.mean_dice > 0.9
    )
    stages = ["finding", "reading", "body", "model", "preprocessing", "network", "restoring", "flags"]
    stages += ["position", "judging"]
    assert [*stages, "structure set", "reference", "pictures", "total"] == list(summary["timings_s"])
    assert "review" in summary["caution"] and summary["device"].startswith("cpu")


def test_the_structure_set_says_where_it_comes_from(tmp_path: Path, model_dir: Path) -> None:
    result = predict(make_patient(tmp_path / "in"), load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY)
    file = pydicom.dcmread(result.path)
    assert file.ApprovalStatus == "UNAPPROVED"
    assert "not for patients" in file.SeriesDescription and "bright 1.2" in file.StructureSetDescription
    colors = [list(map(int, item.ROIDisplayColor)) for item in file.ROIContourSequence]
    assert colors[:2] == [[255, 80, 0], [0, 160, 255]]
    types = [item.RTROIInterpretedType for item in file.RTROIObservationsSequence]
    assert types == ["ORGAN", "ORGAN", "EXTERNAL"]
    assert {item.ROIGenerationAlgorithm for item in file.StructureSetROISequence} == {"AUTOMATIC"}


DERIVE = """
structures:
- name: Bright_PRV03
  of: Bright
  steps: [{margin: 3}]
- name: Shell
  of: Body
  steps: [{ring: {inner_mm: -5, outer_mm: 0}}]
- name: Around_old
  of: rs_only
  steps: [{margin: 4}]
"""


def test_structures_are_derived_and_styled_by_a_template(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in")
    recipe, template = tmp_path / "r.yaml", tmp_path / "t.csv"
    recipe.write_text(DERIVE, encoding="utf-8")
    template.write_text("name,aliases\nBODY,\nHell,Bright\nLens_L,\n", encoding="utf-8")
    options = PredictOptions(derive=str(recipe), template=template, overlays=False)
    result = predict(patient, load_bundle(model_dir), tmp_path / "out", options)
    ct = read_ct(patient / "ct")
    structures = read_structures(load_structure_set(result.path), ct)
    assert structures.names == ("BODY", "Hell", "Lens_L", "Brighter", "Bright_PRV03", "Shell")
    bright, grown = structures.mask("Hell"), structures.mask("Bright_PRV03")
    assert not (bright & ~grown).any() and 1.3 < grown.sum() / bright.sum() < 2.5
    assert "Around_old is skipped: there is no ROI rs_only with contours" in result.notes
    content = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    assert content["missing_of_template"] == ["Lens_L"]
    assert content["derived"]["Bright_PRV03"]["sources"] == ["Bright"]
    assert content["rois"]["Bright"]["name_in_file"] == "Hell"
    assert len(content["options"]["recipe_sha256"]) == 64
    file = pydicom.dcmread(result.path)
    assert {item.ROIGenerationAlgorithm for item in file.StructureSetROISequence} == {"AUTOMATIC"}


def test_contours_are_added_to_a_copy_and_withheld_ones_stay_out(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in", truth=True)
    existing = tmp_path / "in" / "rs.dcm"
    file = pydicom.dcmread(existing)
    file.StructureSetROISequence[2].ROIName = "rs_only"
    file.save_as(existing)
    before = existing.read_bytes()
    recipe = tmp_path / "r.yaml"
    recipe.write_text(DERIVE, encoding="utf-8")
    options = PredictOptions(derive=recipe, into=existing, overlays=False)
    result = predict(patient, load_bundle(model_dir), tmp_path / "out", options)
    assert existing.read_bytes() == before
    made = load_structure_set(result.path)
    assert made.names == ("rs_only", "Bright", "Brighter", "Body", "Bright_PRV03", "Shell", "Around_old")
    assert "ROI bright of rs.dcm is replaced by the new one" in result.notes
    ct = read_ct(patient / "ct")
    old = read_structures(load_structure_set(existing), ct).mask("rs_only")
    assert np.array_equal(read_structures(made, ct).mask("rs_only"), old)


def test_nothing_is_written_or_derived_of_what_is_withheld(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in", truth=True)
    result = predict(patient, load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY)
    assert result.in_memory is not None
    recipe = tmp_path / "r.yaml"
    recipe.write_text(DERIVE, encoding="utf-8")
    options = PredictOptions(derive=recipe, into=tmp_path / "in" / "rs.dcm")
    rois = result.in_memory.rois
    flags = PatientFlags((), {roi.info.name: () for roi in rois})
    bundle, folder = load_bundle(model_dir), tmp_path / "again"
    folder.mkdir()
    written = write_prediction(
        rois, flags, result.in_memory.ct, bundle, options, folder, withheld={"Bright": "its verdict is stop"}
    )
    made = load_structure_set(written.structure_set.path)
    assert made.names == ("Skin", "Brighter", "Body", "Shell")
    assert "ROI bright of rs.dcm is left out" in written.structure_set.notes
    assert any(
        "Bright_PRV03 is skipped: Bright: its verdict is stop" in n for n in written.structure_set.notes
    )


def test_wrong_recipes_are_refused_before_the_work(tmp_path: Path, model_dir: Path) -> None:
    patient = make_patient(tmp_path / "in")
    with pytest.raises(ConfigError, match="No such recipe"):
        predict(patient, load_bundle(model_dir), tmp_path / "out", PredictOptions(derive="nothing"))
    wrong = [str(patient), str(patient), "--out", str(tmp_path / "out"), "--into", str(tmp_path / "in/ct/x")]
    (tmp_path / "in/ct/x").write_text("", encoding="utf-8")
    done = CliRunner().invoke(cli, ["predict", *wrong, "--model", str(model_dir)])
    assert done.exit_code == 2 and "one patient" in done.stderr


def test_without_ground_truth(tmp_path: Path, model_dir: Path) -> None:
    result = predict(make_patient(tmp_path / "in"), load_bundle(model_dir), tmp_path / "out")
    summary = json.loads((result.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["scores"] is None and result.mean_dice is None
    with Image.open(result.overlays[0]) as picture:
        assert picture.width < 3 * 450 + 10, "three panels"


def turned(x: float, y: float, z: float) -> Grid:
    """GRID as a scanner delivers it that sees the patient turned: columns along x, rows along y, slices along z."""
    index_of_corner = [0 if s > 0 else n - 1 for s, n in zip((z, y, x), GRID.shape_kij, strict=True)]
    corner = GRID.index_to_lps(index_of_corner)
    step_k = GRID.affine[:3, 0] * z
    positions = corner + np.arange(GRID.shape_kij[0])[:, None] * step_k
    return Grid(
        shape_kij=GRID.shape_kij,
        positions_lps=positions,
        step_i_lps=GRID.step_i_lps * y,
        step_j_lps=GRID.step_j_lps * x,
    )


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("prone", turned(-1, -1, 1)),
        ("feet first", turned(-1, 1, -1)),
        ("feet first prone", turned(1, -1, -1)),
    ],
)
def test_left_stays_left_in_every_position(name: str, grid: Grid, tmp_path: Path, model_dir: Path) -> None:
    result = predict(
        make_patient(tmp_path / "in", grid=grid), load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY
    )
    found = {roi.name: roi for roi in result.rois}
    assert found["Brighter"].centroid_lps_mm == pytest.approx((-30, 8, -262), abs=0.3), name
    structures = read_structures(result.path, read_ct(tmp_path / "in"))
    assert dice(structures.mask("Bright"), drawn(grid)[1]["Bright"]) > 0.93


def test_a_tilted_stack_with_unequal_slices(tmp_path: Path, model_dir: Path) -> None:
    heights = np.concatenate([[0], np.cumsum(np.where(np.arange(23) < 12, 2.4, 4.1))])
    positions = np.array([-71.2, -60.0, -300.0]) + heights[:, None] * [0.0, 0.15, 1.0]
    grid = Grid(
        shape_kij=GRID.shape_kij,
        positions_lps=positions,
        step_i_lps=GRID.step_i_lps,
        step_j_lps=GRID.step_j_lps,
    )
    result = predict(
        make_patient(tmp_path / "in", grid=grid), load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY
    )
    structures = read_structures(result.path, read_ct(tmp_path / "in"))
    assert dice(structures.mask("Bright"), drawn(grid)[1]["Bright"]) > 0.92


def test_the_same_input_gives_the_same_contours(tmp_path: Path, model_dir: Path) -> None:
    patient, model = make_patient(tmp_path / "in"), load_model(load_bundle(model_dir), "cpu")
    contours = []
    for n in (1, 2):
        result = predict(patient, model, tmp_path / f"out{n}", MONTAGE_ONLY)
        rois = pydicom.dcmread(result.path).ROIContourSequence
        contours.append([[c.ContourData for c in roi.ContourSequence] for roi in rois])
    assert contours[0] == contours[1]


def test_flags_where_the_scan_cuts_an_organ(tmp_path: Path, model_dir: Path) -> None:
    grid = GRID.crop(
        (slice(0, 14), slice(0, 72), slice(0, 63))
    )  # ends inside both balls, and at the left one's side
    result = predict(
        make_patient(tmp_path / "in", grid=grid), load_bundle(model_dir), tmp_path / "out", MONTAGE_ONLY
    )
    codes = {roi.name: [flag.code for flag in roi.flags] for roi in result.rois}
    assert codes["Bright"] == ["touches_scan_end", "touches_field_of_view", "parts"], (
        "two balls, one cut at the side"
    )
    assert codes["Brighter"] == ["touches_scan_end"]
    reasons = [flag.reason for roi in result.rois for flag in roi.flags]
    told = r"reaches the last slice, slice \d+ \(.+ mm\): the organ may go on beyond the scan"
    assert any(re.match(told, r) for r in reasons)
    file = pydicom.dcmread(result.path)
    assert "reaches the last slice" in file.StructureSetROISequence[0].ROIDescription


def test_what_a_rule_leaves_out_is_flagged(tmp_path: Path, model_dir: Path) -> None:
    patient, bundle = make_patient(tmp_path / "in"), load_bundle(model_dir)
    strict = replace(bundle, postprocess={"Bright": RoiPostprocess(largest_component=True)})
    found = {
        name: predict(patient, one, tmp_path / name, MONTAGE_ONLY)
        for name, one in (("plain", bundle), ("strict", strict))
    }
    flags = {name: {flag.code: flag for flag in found[name].rois[0].flags} for name in found}
    assert "left_out" not in flags["plain"] and "parts" not in flags["strict"]
    told, other = flags["strict"]["left_out"], flags["plain"]["parts"]
    apart = found["plain"].rois[0].volume_cm3 - found["strict"].rois[0].volume_cm3
    assert told.value == pytest.approx(apart, rel=0.1) and told.unit == "cm3" and told.high == 0.5
    assert set(other.slices) - {min(other.slices), max(other.slices)} <= set(told.slices)
    assert "cm3 of disconnected prediction was removed, " in told.reason and ", slices " in told.reason


# -- options ------------------------------------------------------------------------------------------------


def test_only_some_rois(tmp_path: Path, model_dir: Path) -> None:
    patient, bundle = make_patient(tmp_path / "in"), load_bundle(model_dir)
    options = PredictOptions(rois=("brighter",), overlays=False, tta=True)
    result = predict(patient, bundle, tmp_path / "out", options)
    assert [roi.name for roi in result.rois] == ["Brighter"]
    assert result.overlays == () and not (result.folder / "overlays").exists()
    with pytest.raises(ConfigError) as caught:
        predict(patient, bundle, tmp_path / "out2", PredictOptions(rois=("Liver",)))
    assert "Liver" in str(caught.value) and "Bright, Brighter, Never, Body" in str(caught.value)
    assert not (tmp_path / "out2").exists()


def test_the_model_says_whether_the_mirror_image_is_averaged(tmp_path: Path, model_dir: Path) -> None:
    patient, plain = make_patient(tmp_path / "in"), load_bundle(model_dir)
    mirroring = replace(plain, inference=replace(plain.inference, mirror=True))
    said = {}
    for name, bundle, tta in (
        ("plain", plain, None),
        ("asked for", plain, True),
        ("usual", mirroring, None),
        ("forbidden", mirroring, False),
    ):
        model = load_model(bundle)
        passes: list[int] = []
        model.network.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        found = predict(patient, model, tmp_path / name, PredictOptions(overlays=False, tta=tta))
        summary = json.loads((found.folder / "summary.json").read_text(encoding="utf-8"))
        said[name] = (len(passes), summary["options"]["tta"])
    assert said == {"plain": (1, False), "asked for": (2, True), "usual": (2, True), "forbidden": (1, False)}


def test_unknown_profile_and_device(tmp_path: Path, model_dir: Path) -> None:
    patient, bundle = make_patient(tmp_path / "in"), load_bundle(model_dir)
    for options in (PredictOptions(profile="nowhere"), PredictOptions(device="abacus")):
        with pytest.raises(ConfigError):
            predict(patient, bundle, tmp_path / "out", options)
    assert not list((tmp_path / "out").glob("*"))


def test_existing_output_is_kept_unless_told_otherwise(tmp_path: Path, model_dir: Path) -> None:
    patient, bundle = make_patient(tmp_path / "in"), load_bundle(model_dir)
    first = predict(patient, bundle, tmp_path / "out", MONTAGE_ONLY)
    with pytest.raises(OutputError) as caught:
        predict(patient, bundle, tmp_path / "out")
    assert "exists already" in str(caught.value) and first.path.exists()
    second = predict(patient, bundle, tmp_path / "out", PredictOptions(overlays=False, overwrite=True))
    assert second.path.exists() and not first.path.exists()
    edited = second.path.read_bytes() + b"edited by a physician"
    second.path.write_bytes(edited)
    with pytest.raises(OutputError, match=r"RS\..*: changed since contour-ai wrote it"):
        predict(patient, bundle, tmp_path / "out", PredictOptions(overlays=False, overwrite=True))
    assert second.path.read_bytes() == edited


def test_results_below_the_patient_never_become_input(tmp_path: Path, model_dir: Path) -> None:
    patient, bundle = make_patient(tmp_path / "in", truth=True), load_bundle(model_dir)
    first = predict(patient, bundle, patient / "ai", MONTAGE_ONLY)
    again = predict(patient, bundle, patient / "again", MONTAGE_ONLY)
    assert again.reference == first.reference == patient / "rs.dcm"
    with pytest.raises(OutputError, match=r"(?s)lies in an input.*choose another --out"):
        predict(patient, bundle, patient / "ai", replace(MONTAGE_ONLY, overwrite=True))
    scores = evaluate(patient / "ai", patient, rois=["Bright"])
    assert [row.dsc for row in scores.rows] == [pytest.approx(first.rois[0].dice)]


def test_overwriting_never_takes_what_is_not_its_own(tmp_path: Path, model_dir: Path) -> None:
    bundle, options = load_bundle(model_dir), PredictOptions(overwrite=True, overlays=False)
    patient = make_patient(tmp_path / "Doe_1")
    with pytest.raises(OutputError) as caught:
        predict(patient, bundle, tmp_path, options)
    assert "CT itself lies in the folder" in str(caught.value)
    assert len(list((tmp_path / "Doe_1" / "ct").iterdir())) == 24
    stranger = tmp_path / "out" / "Doe_1"
    stranger.mkdir(parents=True)
    (stranger / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        predict(patient, bundle, tmp_path / "out", options)
    assert "not an earlier prediction of this patient" in str(caught.value)
    (stranger / "summary.json").write_text('{"patient_id": "Doe_1"}', encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        predict(patient, bundle, tmp_path / "out", options)
    assert "a prediction of patient 'Doe_1'" in str(caught.value)
    assert (stranger / "thesis.txt").exists()


def test_two_ids_with_the_same_safe_name_get_two_folders(tmp_path: Path, model_dir: Path) -> None:
    from contour_ai.dicom.scan import find_patient

    one = find_patient(make_patient(tmp_path / "a", patient_id="Doe/1"))
    two = find_patient(make_patient(tmp_path / "b", patient_id="Doe^1"))
    first = folder_name(one)
    second = folder_name(two, [first])
    assert first == "Doe_1" and second.startswith("Doe_1-") and second == folder_name(two, ["DOE_1"])


def test_a_failed_verification_leaves_nothing(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["contour_ai.pipeline._predict.structure_set"]
    real = module.contours_of_level

    def shifted(*args: object, **options: object) -> RoiContours:
        roi = real(*args, **options)
        moved = {k: [np.add(p, (0, 1)) for p in polygons] for k, polygons in roi.slices.items()}
        return RoiContours(info=roi.info, slices=moved)

    monkeypatch.setattr(module, "contours_of_level", shifted)
    with pytest.raises(VerificationError) as caught:
        predict(make_patient(tmp_path / "in"), load_bundle(model_dir), tmp_path / "out")
    assert "voxels differ" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_progress_is_one_bar_from_0_to_100(tmp_path: Path, model_dir: Path) -> None:
    events = []
    predict(
        make_patient(tmp_path / "in"),
        load_bundle(model_dir),
        tmp_path / "out",
        MONTAGE_ONLY,
        events.append,
    )
    done = [event.done for event in events]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 100
    assert {event.stage for event in events} == {"in"}
    assert "network" in {event.facts["now"] for event in events}


def content_of(folder: Path) -> dict[str, object]:
    """What must not depend on when and in whose company a patient was contoured."""
    rs = next(folder.glob("RS.*.dcm"))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    contours = [[c.ContourData for c in r.ContourSequence] for r in pydicom.dcmread(rs).ROIContourSequence]
    pictures = {p.name: p.read_bytes() for p in (folder / "overlays").iterdir()}
    return {
        "rois": summary["rois"],
        "contours": contours,
        "pictures": pictures,
        "montage": (folder / "montage.png").read_bytes(),
    }


def test_several_patients_overlap_and_give_the_same_files(tmp_path: Path, model_dir: Path) -> None:
    model = load_model(load_bundle(model_dir), "cpu")
    ids = ["a^1", "b", "a/1", "c", "d"]
    patients = [make_patient(tmp_path / f"in{n}", patient_id=i) for n, i in enumerate(ids)]
    patients.insert(2, tmp_path / "nobody")
    outcomes = list(predict_patients(patients, model, tmp_path / "out"))
    assert [o.patient_dir for o in outcomes] == patients
    assert [o.error is None for o in outcomes] == [True, True, False, True, True, True]
    names = [o.prediction.folder.name for o in outcomes if o.prediction is not None]
    assert names[:2] == ["a_1", "b"] and names[2].startswith("a_1-") and names[3:] == ["c", "d"]
    taken: list[str] = []
    for outcome in outcomes:
        if outcome.prediction is None:
            continue
        alone = predict(outcome.patient_dir, model, tmp_path / "alone", taken=taken)
        taken.append(alone.folder.name)
        assert content_of(alone.folder) == content_of(outcome.prediction.folder)
    assert taken == names


def test_patients_wait_for_a_model_that_is_loading(tmp_path: Path, model_dir: Path) -> None:
    bundle = load_bundle(model_dir)
    go = threading.Event()

    def load() -> LoadedModel:
        assert go.wait(60)
        return load_model(bundle, "cpu")

    patient = make_patient(tmp_path / "in")
    seen: list[str] = []

    def watch(event: ProgressEvent) -> None:
        seen.append(str(event.facts["now"]))
        if event.facts["now"] == "model":  # read, and nothing more to do without the model
            go.set()

    (found,) = predict_patients([patient], LoadingModel(bundle, load), tmp_path / "out", None, watch)
    assert found.prediction is not None and list(dict.fromkeys(seen))[:5] == [
        "finding",
        "reading",
        "body",
        "model",
        "preprocessing",
    ]
    alone = predict(patient, load_model(bundle, "cpu"), tmp_path / "alone")
    assert content_of(alone.folder) == content_of(found.prediction.folder)


def test_a_model_that_cannot_be_loaded_is_one_error_and_not_that_of_a_patient(
    tmp_path: Path, model_dir: Path
) -> None:
    patients = [make_patient(tmp_path / f"in{n}", patient_id=f"p{n}") for n in range(2)]
    bundle = load_bundle(model_dir)
    loading = LoadingModel(bundle, lambda: load_model(bundle, "abacus"))
    with pytest.raises(ConfigError, match="no such device"):
        list(predict_patients([tmp_path / "nobody", *patients], loading, tmp_path / "out"))
    with pytest.raises(ConfigError, match="no such device"):
        predict(patients[0], bundle, tmp_path / "out", PredictOptions(device="abacus"))
    arguments = ["predict", *map(str, patients), "--out", str(tmp_path / "out"), "--model", str(model_dir)]
    result = CliRunner().invoke(cli, [*arguments, "--device", "abacus"])
    assert result.exit_code == 4 and result.stderr.count("no such device") == 1
    assert not (tmp_path / "out").exists()


def test_several_patients_stop_early(tmp_path: Path, model_dir: Path) -> None:
    model = load_model(load_bundle(model_dir), "cpu")
    patients = [make_patient(tmp_path / f"in{n}", patient_id=f"p{n}") for n in range(5)]
    outcomes = predict_patients(patients, model, tmp_path / "out", MONTAGE_ONLY)
    assert next(outcomes).prediction is not None
    outcomes.close()
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left[0] == "p0" and len(left) < 5 and not [n for n in left if n.startswith(".")]


# -- the command and the Python API -------------------------------------------------------------------------


def test_the_command_tries_every_patient(tmp_path: Path, model_dir: Path) -> None:
    good = make_patient(tmp_path / "good", truth=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["predict", str(empty), str(good), "--out", str(tmp_path / "out"), "--model", str(model_dir)]
    result = CliRunner().invoke(cli, [*arguments, "--no-overlays"])
    assert result.exit_code == 3
    assert "Brighter" in result.stdout and "Dice" in result.stdout and "Doe_1" in result.stdout
    assert "1 of 2 patients contoured" in result.stderr and "empty" in result.stderr
    assert "phantom model" in result.stderr and "model bright 1.2" in result.stderr
    again = CliRunner().invoke(cli, arguments[:1] + arguments[2:])
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_the_command_warns_of_mirroring_where_the_training_did_not(tmp_path: Path, model_dir: Path) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "sided")
    sided = replace(load_bundle(folder), training=TrainingRecord(mirrored_samples=False))
    update_bundle(sided, model_card="# sided\n")
    patient = make_patient(tmp_path / "in")
    said = {}
    for model in (model_dir, folder):
        for tta in ("--tta", "--no-tta"):
            out = tmp_path / f"{model.name} {tta}"
            arguments = [
                "predict",
                str(patient),
                "--out",
                str(out),
                "--model",
                str(model),
                "--no-overlays",
                tta,
            ]
            result = CliRunner().invoke(cli, arguments)
            assert result.exit_code == 0
            said[model.name, tta] = "trained without mirrored patients" in result.stderr.replace("\n", " ")
    assert [name for name, warned in said.items() if warned] == [("sided", "--tta")]


def test_the_command_goes_on_after_a_fault_of_its_own(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["contour_ai.pipeline._predict.opening"]
    real = module.body_mask
    calls: list[int] = []

    def broken_once(*args: object) -> object:
        calls.append(1)
        return real(*args) if len(calls) > 1 else 1 / 0

    monkeypatch.setattr(module, "body_mask", broken_once)
    patients = [str(make_patient(tmp_path / n, patient_id=n)) for n in ("a", "b")]
    options = ["--out", str(tmp_path / "out"), "--model", str(model_dir), "--no-overlays"]
    result = CliRunner().invoke(cli, ["predict", *patients, *options])
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr and "Please report it" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_dir()] == ["b"]


def test_the_command_refuses_wrong_models_and_usage(tmp_path: Path) -> None:
    missing = CliRunner().invoke(cli, ["predict", str(tmp_path), "--out", str(tmp_path), "--model", "nobody"])
    assert missing.exit_code == 4 and "There is no such model" in missing.stderr
    usage = CliRunner().invoke(cli, ["predict", str(tmp_path)])
    assert usage.exit_code == 2 and "--out" in usage.stderr
    assert CliRunner().invoke(cli, ["predict", "--help"]).exit_code == 0
