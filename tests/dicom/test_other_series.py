"""Structure sets whose contours lie on several CT series of a folder: refused, as each series alone would cut ROIs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pydicom import Sequence, dcmread
from pydicom.dataset import Dataset
from synthetic import Stack, axial, box_contours, structure_set, uid, write_stack, write_structure_set

from contour_ai.cli.main import cli
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.inspection import inspect
from contour_ai.dicom.other_series import ON_PLANE_MM, _off_plane
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.dicom.scan import find_patient, find_patients
from contour_ai.dicom.structure_set import ContourRead
from contour_ai.errors import InputError
from contour_ai.grid import Grid

SCAN = axial(12)
REFUSED = "lie on several CT series of one folder"

Edit = Callable[[int, Dataset], object]


def by_series(part: Callable[[int], object], *also: str) -> Edit:
    """A SeriesInstanceUID, and other elements, that change with the slice."""

    def edit(k: int, d: Dataset) -> None:
        for keyword in ("SeriesInstanceUID", *also):
            setattr(d, keyword, uid(keyword, part(k)))

    return edit


def kernels(k: int, d: Dataset) -> None:
    d.SeriesInstanceUID, d.ConvolutionKernel = uid("own", k), f"B{k % 2}0f"


PIECES: dict[str, Edit] = {
    "with the study": by_series(lambda k: k, "StudyInstanceUID"),
    "with the frame": by_series(lambda k: k, "FrameOfReferenceUID"),
    "in pairs": by_series(lambda k: k // 2),
    "in halves": by_series(lambda k: k // 6),
    "in unequal parts": by_series(lambda k: k < 8),
    "alternating": by_series(lambda k: k % 2),
    "every third": by_series(lambda k: k % 3),
    "two kernels": kernels,
    "another patient": lambda k, d: (
        setattr(d, "SeriesInstanceUID", uid("own", k)),
        setattr(d, "PatientID", f"P{k // 4}"),
    ),
}


def drawn(
    folder: Path, stack: Stack = SCAN, *, images: bool = True, first: str = "", name: str = "rs.dcm"
) -> Path:
    """A structure set on slices 3 to 10 of `stack`; each contour names its image, and the set the series `first`."""
    slices = range(3, 11)
    made = structure_set(
        stack, {"Bladder": box_contours(stack, slices), "Rectum": box_contours(stack, slices)}
    )
    if not images:
        listed = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        listed.RTReferencedSeriesSequence[0].ContourImageSequence = Sequence()
    for roi in made.ROIContourSequence if images else ():
        for k, contour in zip(slices, roi.ContourSequence, strict=True):
            image = Dataset()
            image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            image.ReferencedSOPInstanceUID = uid(stack.series, "slice", k)
            contour.ContourImageSequence = Sequence([image])
    study = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    if first:
        study.RTReferencedSeriesSequence[0].SeriesInstanceUID = first
    folder.mkdir(parents=True, exist_ok=True)
    made.save_as(folder / name, enforce_file_format=True)
    return folder / name


def in_pieces(folder: Path, edit: Edit = PIECES["in halves"], *, images: bool = True) -> Path:
    """A folder with a scan in pieces, and a structure set that names the series of slice 5."""
    (one,) = [path for path in write_stack(folder / "ct", SCAN, edit) if path.name == "CT007.dcm"]
    return drawn(folder, images=images, first=str(dcmread(one).SeriesInstanceUID))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], env={"COLUMNS": "1000"})


@pytest.mark.parametrize("pieces", PIECES)
def test_a_scan_in_pieces_that_cannot_be_joined_is_refused(pieces: str, tmp_path: Path) -> None:
    path = in_pieces(tmp_path, PIECES[pieces])
    if pieces == "with the study":
        (tmp_path / "ct" / "CT002.dcm").unlink()  # a slice is lost as well
    result = run("to-masks", tmp_path, "--rtstruct", path, "--out", tmp_path / "m.npz")
    assert result.exit_code == 3 and not (tmp_path / "m.npz").exists()
    assert REFUSED in result.output or "have 3 patient IDs" in result.output


def test_the_refusal_says_how_many_contours_lie_where_and_its_way_out_works(tmp_path: Path) -> None:
    path = in_pieces(tmp_path)
    first, second = uid("SeriesInstanceUID", 0), uid("SeriesInstanceUID", 1)
    with pytest.raises(InputError, match=REFUSED) as caught:
        read_structures(path, read_ct(find_patient(tmp_path, rtstruct=path).ct))
    error = caught.value
    assert error.found == (
        f"of 16 contours 6 on the CT series that is read, {first} with 6 slice(s); "
        f'10 on {second}: 6 slices, "series A", patient P1'
    )
    assert "export it again with one StudyInstanceUID" in str(error.fix)
    assert "give a folder that holds no other CT series" in str(error.fix)
    for k in range(1, 7):
        (tmp_path / "ct" / f"CT{k:03d}.dcm").unlink()
    found = read_structures(path, read_ct(find_patient(tmp_path, needs_rtstruct=True).ct))
    assert found.mask("Bladder").any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("pieces", ["in halves", "alternating", "every third", "with the study"])
def test_without_named_images_the_planes_decide(pieces: str, tmp_path: Path) -> None:
    path = in_pieces(tmp_path, PIECES[pieces], images=False)
    assert REFUSED in run("to-masks", tmp_path, "--rtstruct", path, "--out", tmp_path / "m.npz").output


def test_every_command_that_reads_contours_refuses_them(tmp_path: Path) -> None:
    patient, side = tmp_path / "P1", tmp_path / "side"
    path = in_pieces(patient)
    first = uid("SeriesInstanceUID", 0)
    other = drawn(side, first=first)
    edited = dcmread(other)
    edited.SOPInstanceUID = edited.file_meta.MediaStorageSOPInstanceUID = uid("other")
    edited.save_as(other)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("structures:\n- each: [Bladder]\n  steps: [{margin: 3}]\n", encoding="utf-8")
    write_stack(tmp_path / "alone", Stack(SCAN.positions_lps[:6]), PIECES["in halves"])
    masks, made = tmp_path / "m.npz", tmp_path / "made.dcm"
    assert run("to-masks", tmp_path / "alone", "--rtstruct", path, "--out", masks).exit_code == 0
    for arguments in (
        ("to-seg", patient, "--rtstruct", path, "--out", made),
        ("derive", patient, "--recipe", recipe, "--rtstruct", path, "--out", made),
        ("to-rtstruct", patient, masks, "--series", first, "--into", path, "--out", made),
        ("evaluate", other, path, "--ct", patient, "--out", tmp_path / "evaluated"),
    ):
        result = run(*arguments)
        assert result.exit_code == 3 and REFUSED in result.output, (arguments[0], result.output)
        assert not made.exists()
    assert f"not measured: The contours of this structure set {REFUSED}" in run("rois", patient).output


def test_inspect_says_so_once_and_does_not_advise_to_choose_one_of_the_pieces(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", SCAN, PIECES["in halves"])
    drawn(tmp_path)  # names the series that the scan was
    found = inspect(tmp_path)
    problems = [*found.all_problems()]
    (refused,) = [one for one in problems if REFUSED in one.what]
    assert (
        f"of 16 contours 6 on {uid('SeriesInstanceUID', 0)} with 6 slice(s); 10 on {uid('SeriesInstanceUID', 1)}: "
        in refused.what
    )
    assert "give a folder that holds no other CT series" in refused.fix
    assert not any("lie on no slice" in one.what for one in problems)
    slices = [[roi.slices for roi in one.structure_sets[0].rois] for one in found.series]
    assert sorted(slices) == [[3, 3], [5, 5]]
    (several,) = [one for one in problems if one.what == "2 CT series of one patient"]
    assert several.fix.startswith("no two of their slices lie at one place: where these series are pieces")
    assert not any("are not here" in one.what for one in problems)
    with pytest.raises(InputError, match="which one is meant") as caught:
        find_patient(tmp_path)
    assert caught.value.fix == several.fix


@pytest.mark.parametrize("pieces", ["in halves", "every third"])
def test_inspect_still_names_contours_that_lie_on_no_series_at_all(pieces: str, tmp_path: Path) -> None:
    path = in_pieces(tmp_path, PIECES[pieces])
    edited = dcmread(path)
    data = edited.ROIContourSequence[0].ContourSequence[0]
    data.ContourData = [v + 500 * (n % 3 == 2) for n, v in enumerate(data.ContourData)]
    del data.ContourImageSequence
    edited.save_as(path)
    problems = list(inspect(tmp_path).all_problems())
    assert len([one for one in problems if REFUSED in one.what]) == 1
    assert any("ROI Bladder: 1 contour lies on no slice" in one.what for one in problems)


def test_rois_says_once_that_a_structure_set_on_several_series_is_not_measured(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", SCAN, PIECES["in pairs"])
    drawn(tmp_path)
    assert run("rois", tmp_path).output.count(REFUSED) == 1


def test_check_says_how_many_contours_lie_on_which_series_and_its_way_out_works(tmp_path: Path) -> None:
    path = in_pieces(tmp_path)
    first, second = uid("SeriesInstanceUID", 0), uid("SeriesInstanceUID", 1)
    result = run("check", path, "--ct", tmp_path, "--series", second)
    (line,) = [one for one in result.output.splitlines() if "[several-series]" in one]
    assert line.startswith(
        "read differently by different systems: the contours lie on several CT series of one folder, "
        f"of 16 contours 10 on {second} with 6 slice(s); 6 on {first}: 6 slices"
    )
    assert "export it again with one StudyInstanceUID" in line
    for k in range(1, 13):
        slice_path = tmp_path / "ct" / f"CT{k:03d}.dcm"
        joined = dcmread(slice_path)
        joined.SeriesInstanceUID = first
        joined.save_as(slice_path)
    assert "several" not in run("check", path, "--ct", tmp_path).output


# -- ordinary folders ---------------------------------------------------------------------------------------------

OTHERS = {
    "a longer scan": axial(30, series="longer"),
    "a longer scan with other pixels": replace(axial(30, 2.0, series="longer"), spacing_ij_mm=(1.5, 1.5)),
    "another frame": axial(30, series="longer", frame="frame 2", study="study 2"),
    "a scan shifted by half a slice": replace(
        axial(12, series="shifted"), positions_lps=SCAN.positions_lps + np.array([0, 0, 1.2]), frame="frame 2"
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("images", [True, False])
def test_a_second_series_changes_nothing(other: str, images: bool, tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", SCAN)
    write_stack(tmp_path / "other", OTHERS[other])
    drawn(tmp_path, images=images)
    (files,) = [p for p in find_patients(tmp_path) if p.structure_sets]
    found = read_structures(files.structure_sets[0].path, read_ct(files.ct))
    assert found.mask("Bladder").any(axis=(1, 2)).sum() == 8


def test_contours_beyond_the_ct_are_left_out_with_a_note_as_long_as_no_piece_of_its_scan_is_there(
    tmp_path: Path,
) -> None:
    long = axial(30)
    write_stack(tmp_path / "ct", SCAN)
    write_stack(tmp_path / "other", replace(axial(30, 2.0, series="longer"), spacing_ij_mm=(1.5, 1.5)))
    path = write_structure_set(tmp_path / "rs.dcm", long, {"Bladder": box_contours(long, range(8, 16))})
    notes: list[str] = []
    ct = read_ct(find_patient(tmp_path, rtstruct=path, series_uid=uid("series A")).ct)
    found = read_structures(path, ct, on_note=notes.append)
    assert found.mask("Bladder").any(axis=(1, 2)).sum() == 4
    assert any("4 contours lie on no slice" in note for note in notes)


def test_a_roi_drawn_on_another_scan_does_not_hinder_the_others(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", SCAN)
    second = replace(axial(30, 2.0, series="longer"), spacing_ij_mm=(1.5, 1.5))
    write_stack(tmp_path / "other", second)
    rois = {f"ROI {n}": box_contours(SCAN, range(3, 11)) for n in range(6)}
    made = structure_set(SCAN, {**rois, "Lesion": box_contours(second, [25, 26])})
    for k, contour in zip([25, 26], made.ROIContourSequence[6].ContourSequence, strict=True):
        image = Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        image.ReferencedSOPInstanceUID = uid("longer", "slice", k)
        contour.ContourImageSequence = Sequence([image])
    made.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    found = read_structures(
        tmp_path / "rs.dcm", read_ct(find_patient(tmp_path, rtstruct=tmp_path / "rs.dcm").ct)
    )
    assert set(found.contoured()) == set(rois)


@pytest.mark.parametrize("slices", [1, 2, 40])
def test_contours_off_the_planes_are_those_that_a_look_at_each_plane_finds(slices: int) -> None:
    grid = Grid.axial((slices, 4, 4), (3.0, 1.0, 1.0))
    offsets, dice = grid.slice_offsets_mm, np.random.default_rng(slices)
    planar = []
    for n in range(400):
        points = dice.uniform(-200, 200, (1 + n % 37, 3))
        points[:, 2] = dice.choice(offsets) + dice.choice([0, 0.1, -0.1, 0.05, 1.4, 1.5, -90])
        if n % 50 == 0:
            points[0] = dice.choice([np.nan, np.inf, 1e308])
        planar.append(("Bladder", ContourRead(points, "CLOSED_PLANAR", str(n))))
    expected = {}
    with np.errstate(all="ignore"):
        for _, contour in planar:
            height = contour.points_lps.mean(axis=0) @ grid.normal
            distance = np.abs(offsets - height).min()
            if np.isfinite(distance) and distance > ON_PLANE_MM:
                expected[contour.image_uid] = height, bool(distance < 1.5 - ON_PLANE_MM)
    found = _off_plane(planar, grid)
    assert {one.image_uid: (one.slice_offset_mm, one.between) for one in found} == expected
    assert 0 < len(expected) < len(planar)
