"""`contour-ai synthesize`: DICOM patients, what is absent, patients that are kept, and another recipe refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn_label_map import drawn_label_map

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient
from contour_ai.pipeline.archive import find_sources
from contour_ai.sample.synthesis.anatomy import anatomy_of
from contour_ai.sample.synthesis.label_maps import read_label_maps
from contour_ai.sample.synthesis.patient import draw_patient
from contour_ai.sample.synthesis.recipe import load_recipe
from contour_ai.structures.roi_map import RoiMap

RECIPE = """
grid: {pixel_mm: [5.0, 5.2], slice_mm: [3.5]}
organs: {female_probability: 1}
view: {part: 0, trunk: 0, above: 0}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["synthesize", *map(str, arguments)], prog_name="contour-ai")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesis")
    drawn = drawn_label_map()
    spacing = np.array(drawn.spacing_mm_kij)
    np.savez(folder / "map.npz", lab=drawn.labels, names=np.array(drawn.names), spacing_mm_kij=spacing)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    result = run(folder / "map.npz", folder / "out", "--recipe", folder / "recipe.yaml", "--first-seed", 7)
    assert result.exit_code == 0, result.output
    return folder


def test_a_written_patient_is_the_drawn_one(place: Path) -> None:
    found = find_patient(place / "out" / "synthetic-00007", needs_rtstruct=True)
    ct = read_ct(found.ct)
    anatomies = [anatomy_of(m) for m in read_label_maps(place / "map.npz")]
    drawn = draw_patient(anatomies, load_recipe(place / "recipe.yaml"), 7)
    assert ct.volume is not None
    np.testing.assert_array_equal(ct.volume.hu, drawn.volume.hu)
    assert str(ct.header.PatientSex) == "F"
    read = read_structures(found.structure_sets[0].path, ct)
    for roi, mask in drawn.structures.masks():
        np.testing.assert_array_equal(read.mask(roi), mask, err_msg=roi)


def test_the_roi_map_says_what_is_absent(place: Path) -> None:
    roi_map = RoiMap.load(place / "out" / "roi-map.yaml")
    assert {"Prostate", "SeminalVes"} <= set(roi_map.absent["synthetic-00007"])
    assert {"External", "Bladder", "Rectum"} <= set(roi_map.rois)


def test_train_takes_what_was_written(place: Path) -> None:
    roi_map = RoiMap.load(place / "out" / "roi-map.yaml")
    sources = find_sources(place / "out", roi_map)
    source = sources.patients[0]
    assert source.patient_id == "synthetic-00007" and not sources.left_out
    assert {"Prostate", "SeminalVes"} <= source.absent
    assert {"Bladder", "Rectum"} <= set(source.rois)


def test_patients_that_are_there_are_kept_and_others_added(place: Path) -> None:
    first = place / "out" / "synthetic-00007" / "RS.dcm"
    before = first.read_bytes()
    result = run(
        place / "map.npz", place / "out", "--recipe", place / "recipe.yaml", "--first-seed", 7, "--count", 2
    )
    assert result.exit_code == 0, result.output
    assert "1 patients were there already" in result.output
    assert first.read_bytes() == before
    assert (place / "out" / "synthetic-00008" / "RS.dcm").is_file()
    assert set(RoiMap.load(place / "out" / "roi-map.yaml").absent) == {"synthetic-00007", "synthetic-00008"}


def test_another_recipe_in_the_same_folder_is_refused(place: Path) -> None:
    result = run(place / "map.npz", place / "out")
    assert result.exit_code == 2
    assert "another recipe or of other label maps" in result.output


def test_a_map_that_cannot_be_used_is_named_and_left_out(place: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "map.npz").write_bytes((place / "map.npz").read_bytes())
    lab = np.ones((4, 4, 4), np.uint8)
    np.savez(
        maps / "bladder.npz", lab=lab, names=np.array(["urinary_bladder"]), spacing_mm_kij=np.full(3, 4.0)
    )
    result = run(maps, tmp_path / "out", "--recipe", place / "recipe.yaml", "--first-seed", 7)
    assert result.exit_code == 0, result.output
    assert "label map bladder is left out: A label map of a pelvis needs both femora" in result.output
    same = tmp_path / "out" / "synthetic-00007" / "RS.dcm"
    assert same.read_bytes() == (place / "out" / "synthetic-00007" / "RS.dcm").read_bytes()
    result = run(maps / "bladder.npz", tmp_path / "other")
    assert result.exit_code == 3
    assert "needs both femora and hip bones" in result.output and not (tmp_path / "other").exists()


def test_the_recipe_is_printed_with_its_keys_explained() -> None:
    result = run("--print-recipe")
    assert result.exit_code == 0
    assert "# Volume of the bladder;" in result.output and "bladder_cm3: [50.0, 500.0]" in result.output


def test_both_places_are_needed() -> None:
    result = run()
    assert result.exit_code == 2 and "LABEL_MAPS and OUT_DIR are needed" in result.output
