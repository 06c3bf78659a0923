"""`check`: our own files pass, and every rule finds what it is for in files that break it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from shapes import hard_shapes
from synthetic import axial, write_stack

from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.finding import LEVELS, Finding
from contour_ai.dicom.notes import code_of
from contour_ai.dicom.profile import Profile
from contour_ai.dicom.refusals import KNOWN
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_read import iter_masks
from contour_ai.dicom.rtstruct_write import write_structures
from contour_ai.errors import InputError
from contour_ai.volume import Structures

CONTOUR_DATA = 0x30060050


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> CTSeries:
    folder = tmp_path_factory.mktemp("ct")
    write_stack(folder, axial(8, shape_ij=(24, 20)))
    return read_ct(folder, with_pixels=False)


@pytest.fixture(scope="module")
def good(ct: CTSeries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    masks = hard_shapes(ct.grid.shape_kij)
    structures = Structures.from_masks({n: masks[n] for n in ("Sphere", "Island", "Speckle")}, ct.grid)
    return write_structures(
        tmp_path_factory.mktemp("rs") / "rs.dcm", structures, ct, Provenance(label="Test")
    ).path


@pytest.fixture
def findings(good: Path, ct: CTSeries, tmp_path: Path) -> Callable[..., list[Finding]]:
    def spoiled(edit: Callable[[Dataset], object], **options: str) -> list[Finding]:
        dataset = pydicom.dcmread(good)
        edit(dataset)
        dataset.save_as(tmp_path / "bad.dcm")
        return check_structure_set(tmp_path / "bad.dcm", ct, **options)

    return spoiled


def test_our_own_files_have_no_findings(good: Path, ct: CTSeries) -> None:
    assert check_structure_set(good, ct) == []
    assert check_structure_set(good, ct, profile="eclipse") == []
    assert check_structure_set(good) == []


def remove(keyword: str) -> Callable[[Dataset], None]:
    return lambda d: delattr(d, keyword)


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda d: setattr(d, keyword, value)


def in_roi(keyword: str, value: object, n: int = 0) -> Callable[[Dataset], None]:
    return lambda d: setattr(d.StructureSetROISequence[n], keyword, value)


def data(*numbers: object, kind: str = "CLOSED_PLANAR") -> Callable[[Dataset], None]:
    def edit(d: Dataset) -> None:
        contour = d.ROIContourSequence[0].ContourSequence[0]
        text = "\\".join(map(str, numbers))
        contour[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "DS", text, already_converted=True)
        contour.NumberOfContourPoints = len(numbers) // 3
        contour.ContourGeometricType = kind

    return edit


def plane(*xy: float) -> tuple[float, ...]:
    """x, y pairs on slice 1 (z = -47 mm), where the first contour of the first ROI lies."""
    return tuple(v for x, y in zip(xy[::2], xy[1::2], strict=True) for v in (x, y, -47.0))


def long_label(d: Dataset) -> None:
    d[0x30060002] = DataElement(0x30060002, "SH", "L" * 17, already_converted=True)


def swap_images(d: Dataset) -> None:
    one, two = d.ROIContourSequence[0].ContourSequence[:2]
    one.ContourImageSequence, two.ContourImageSequence = two.ContourImageSequence, one.ContourImageSequence


def unlisted_image(d: Dataset) -> None:
    study = d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    del study.RTReferencedSeriesSequence[0].ContourImageSequence[:4]


def stranger(d: Dataset) -> None:
    item = d.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    item.ReferencedSOPInstanceUID = "1.2.3"


def hole_of_its_own(d: Dataset) -> None:
    contours = d.ROIContourSequence[0].ContourSequence
    data(*plane(-10, -10, 10, -10, 10, 10, -10, 10))(d)
    inner = deepcopy(contours[0])
    contours.append(inner)
    inner[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "DS", [str(v) for v in plane(-5, -5, 5, -5, 5, 5, -5, 5)])


def image_without_class(d: Dataset) -> None:
    del d.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedSOPClassUID


def image_of_another_class(d: Dataset) -> None:
    image = d.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def study_without_class(d: Dataset) -> None:
    del d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].ReferencedSOPClassUID


def other_letters(d: Dataset) -> None:
    d.StructureSetROISequence[0].ROIName = "Blase_gefüllt"
    d.SpecificCharacterSet = None


def long_weight(d: Dataset) -> None:
    d[0x00101030] = DataElement(0x00101030, "DS", "70.123456789012345", already_converted=True)


DIFFERS = "read differently by different systems"

SQUARE = plane(-10, -10, 0, -10, 0, 0, -10, 0)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            in_roi("ReferencedFrameOfReferenceUID", ""),
            "breaks the standard: ROI Sphere, ReferencedFrameOfReferenceUID: is missing (PS3.3 C.8.8.5, type 1)",
        ),
        (put("FrameOfReferenceUID", "1.2.3"), f"{DIFFERS}: FrameOfReferenceUID: 1.2.3 is not listed"),
        (
            remove("ReferencedFrameOfReferenceSequence"),
            f"{DIFFERS}: ReferencedFrameOfReferenceSequence: is missing",
        ),
        (
            remove("AccessionNumber"),
            "breaks the standard: AccessionNumber: is missing (PS3.3 C.7.2.1, type 2: empty",
        ),
        (put("PatientID", "P2"), f"{DIFFERS}: PatientID: is 'P2', the CT has 'P1'"),
        (put("PatientSex", "F"), f"{DIFFERS}: PatientSex: is 'F', the CT has 'O'"),
        (
            put("StructureSetLabel", ""),
            "StructureSetLabel: '' has 0 characters (PS3.3 C.8.8.5, SH, type 1: 1 to 16)",
        ),
        (long_label, "breaks the standard: StructureSetLabel: 'LLLLLLLLLLLLLLLLL' has 17 characters"),
        (put("ApprovalStatus", "APPROVED"), f"{DIFFERS}: ApprovalStatus: is 'APPROVED'"),
        (remove("SoftwareVersions"), f"{DIFFERS}: SoftwareVersions: is missing"),
        (put("StructureSetDate", ""), f"{DIFFERS}: StructureSetDate: is empty"),
        (put("Modality", "RTPLAN"), "breaks the standard: Modality: is 'RTPLAN'"),
        (put("SOPInstanceUID", "1.2.3"), "MediaStorageSOPInstanceUID: differs"),
        (in_roi("ROIName", "island"), "ROI 'island', ROIName: is there 2 times (case ignored)"),
        (in_roi("ROIName", " Sphere"), "begins or ends with a space"),
        (in_roi("ROIName", ""), "ROIName: is empty"),
        (in_roi("ROINumber", 2), "ROINumber: 2 used more than once"),
        (in_roi("ROINumber", 9), "RTROIObservationsSequence: refers to ROI number 1, which does not exist"),
        (in_roi("ROIGenerationAlgorithm", "MAGIC"), "ROIGenerationAlgorithm: is 'MAGIC'"),
        (in_roi("ReferencedFrameOfReferenceUID", "1.9"), "ROI Sphere, ReferencedFrameOfReferenceUID: 1.9"),
        (lambda d: d.RTROIObservationsSequence.pop(1), "ROI Island, RTROIObservationsSequence: has 0 items"),
        (
            lambda d: setattr(d.RTROIObservationsSequence[0], "RTROIInterpretedType", ""),
            f"{DIFFERS}: ROI Sphere, RTROIInterpretedType: is empty",
        ),
        (
            lambda d: setattr(d.RTROIObservationsSequence[0], "RTROIInterpretedType", "LUNG"),
            "'LUNG' is not one of the defined terms",
        ),
        (
            lambda d: [setattr(o, "RTROIInterpretedType", "EXTERNAL") for o in d.RTROIObservationsSequence],
            "3 ROIs are EXTERNAL",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0], "ROIDisplayColor"),
            f"{DIFFERS}: ROI Sphere, ROIDisplayColor: is missing",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0], "ContourSequence"),
            f"{DIFFERS}: ROI Sphere has no contours [empty-roi]",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0].ContourSequence[0], "ContourImageSequence"),
            f"{DIFFERS}: ROI Sphere, ContourImageSequence: 1 contours have none: contour 1 on slice 2 (z = -47.0 mm)",
        ),
        (
            swap_images,
            f"{DIFFERS}: ROI Sphere: 2 contours refer to another image than the one on whose plane they lie; the plane "
            "decides (image of slice 3 (z = -44.0 mm), contour on slice 2 (z = -47.0 mm); image of slice 2",
        ),
        (unlisted_image, "does not list"),
        (stranger, "1 images are not in the CT"),
        (
            data("-10.123456789012345", *SQUARE[1:]),
            "known to be refused by Varian Eclipse (github.com/GSTT-CSC/TotalSegmentator-AIDE issue 11, "
            "github.com/qurit/rt-utils issue 80): ROI Sphere, ContourData: 1 contours have numbers of more than 16 "
            "characters: contour 1 on slice 2 (z = -47.0 mm) (1, up to 19) [number-length]",
        ),
        (
            data(1, 2, 3, 4),
            "breaks the standard: ROI Sphere: 1 contour cannot be read and is not used (contour 1: 4 numbers, which",
        ),
        (data(*SQUARE[:-1], "x"), "1 contour cannot be read and is not used (contour 1: 'x' is no number)"),
        (
            data(*SQUARE[:6]),
            "breaks the standard: ROI Sphere: 1 contour has fewer than 3 points, encloses no area and is not used",
        ),
        (
            data(*SQUARE, *SQUARE[:3]),
            f"{DIFFERS}: ROI Sphere, ContourData: 1 contours repeat their first point",
        ),
        (
            data(*SQUARE[:2], -46.5, *SQUARE[3:]),
            "1 contours do not lie in a plane: contour 1 on slice 2 (z = -47.0 mm)",
        ),
        (
            data(*(v if n % 3 < 2 else v + 1 for n, v in enumerate(SQUARE))),
            "1 contour lies off its slice and is used there (1.00 mm off slice 2 (z = -47.0 mm))",
        ),
        (
            data(*SQUARE[:3], *SQUARE),
            f"{DIFFERS}: ROI Sphere, ContourData: 1 contours have a point twice in a row",
        ),
        (
            data(*plane(-10, -10, 0, 0, 5, 5)),
            "lie on a straight line and enclose no area: contour 1 on slice 2",
        ),
        (hole_of_its_own, "1 contours lie inside another one: systems that fill every contour lose these"),
        (
            image_without_class,
            "ROI Sphere, ContourImageSequence: 1 contours refer to an image without its SOP",
        ),
        (
            image_of_another_class,
            "image of another SOP class than the CT's: contour 1 on slice 2 (z = -47.0 mm) (1.2.840.10008",
        ),
        (study_without_class, "missing for 1 studies or images"),
        (remove("SeriesNumber"), "breaks the standard: SeriesNumber: is missing (PS3.3 C.8.8.1, type 2"),
        (remove("StructureSetDescription"), f"{DIFFERS}: StructureSetDescription: is missing or empty"),
        (in_roi("ROIDescription", ""), f"{DIFFERS}: ROI Sphere, ROIDescription: is missing or empty"),
        (
            in_roi("ROIName", "Sphere_needs_review"),
            f"{DIFFERS}: ROI 'Sphere_needs_review', ROIName: speaks of review",
        ),
        (put("StudyTime", "010203"), f"{DIFFERS}: StudyTime: is '010203', the CT has '120000'"),
        (
            lambda d: delattr(d.RTROIObservationsSequence[1], "ROIInterpreter"),
            "breaks the standard: ROI Island, ROIInterpreter: is missing",
        ),
        (
            put("SpecificCharacterSet", "LATIN"),
            "breaks the standard: SpecificCharacterSet: names unknown ones: LATIN",
        ),
        (other_letters, "'Blase_gefüllt' is not in the file's SpecificCharacterSet, which is missing"),
        (long_weight, "breaks the standard: PatientWeight: 70.123456789012345 is longer than 16 characters"),
        (
            lambda d: setattr(d.ROIContourSequence[0], "ROIDisplayColor", [0, 300, 0]),
            "breaks the standard: ROI Sphere: ROIDisplayColor is '0\\\\300\\\\0', not three numbers from 0 to 255",
        ),
        (
            data(*plane(-10, -10, 0, 0, 0, -10, -10, 0)),
            f"{DIFFERS}: ROI Sphere, ContourData: 1 contours cross themselves: contour 1 on slice 2 (z = -47.0 mm) (1",
        ),
        (
            data(*plane(-100, -10, 0, -10, 0, 0)),
            f"{DIFFERS}: ROI Sphere, ContourData: 1 contours leave the image: contour 1 on slice 2 (z = -47.0 mm) (by",
        ),
        (
            data(*SQUARE, kind="OPEN_PLANAR"),
            f"{DIFFERS}: ROI Sphere: 1 OPEN_PLANAR contour encloses no area and is not used",
        ),
        (
            lambda d: setattr(d.ROIContourSequence[0].ContourSequence[0], "NumberOfContourPoints", 7),
            "NumberOfContourPoints: 1 contours have a wrong one: contour 1 on slice 2 (z = -47.0 mm) (7 for",
        ),
        (
            lambda d: d.ROIContourSequence[0].ContourSequence.append(
                d.ROIContourSequence[0].ContourSequence[0]
            ),
            f"{DIFFERS}: ROI Sphere: 1 contour is there twice and counts once (slice 2 (z = -47.0 mm)) [twice]",
        ),
    ],
)
def test_every_rule_finds_what_it_is_for(edit, expected: str, findings) -> None:
    text = "\n".join(map(str, findings(edit)))
    assert expected in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Lung_Lobe_Upper_L", "has 17 characters, eclipse takes 16"),
        ("Blase gefüllt", "has characters that eclipse does not take: ü"),
    ],
)
def test_profiles_have_their_own_limits(name: str, message: str, findings) -> None:
    assert not findings(in_roi("ROIName", name))
    (finding,) = findings(in_roi("ROIName", name), profile="eclipse")
    assert (finding.level, finding.rule) == ("refused", "roi-name")
    assert "AAPM Report 263" in str(finding)
    assert message in finding.message


@pytest.mark.parametrize("keyword", ["FileMetaInformationVersion", "ImplementationClassUID"])
def test_file_meta_is_whole(keyword: str, good: Path, ct: CTSeries, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(good)
    del dataset.file_meta[keyword]
    pydicom.dcmwrite(tmp_path / "bad.dcm", dataset, enforce_file_format=False)
    (finding,) = check_structure_set(tmp_path / "bad.dcm", ct)
    assert str(finding) == f"breaks the standard: {keyword}: is missing (PS3.10 7.1, type 1) [file-meta]"


def test_the_gravest_level_comes_first(findings) -> None:
    def edit(d: Dataset) -> None:
        d.ApprovalStatus = "APPROVED"
        del d.OperatorsName
        del d.SOPInstanceUID

    levels = [f.level for f in findings(edit)]
    assert levels == sorted(levels, key=list(LEVELS).index)
    assert set(levels) == set(LEVELS)


def test_everything_an_rt_utils_file_gets_wrong(tmp_path: Path) -> None:
    rt_utils = pytest.importorskip("rt_utils")
    write_stack(tmp_path / "ct", axial(8, shape_ij=(24, 24), spacing_ij_mm=(0.9766, 0.9766)))
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    masks = hard_shapes(ct.grid.shape_kij)
    builder = rt_utils.RTStructBuilder.create_new(str(tmp_path / "ct"))
    for name in ("Annulus", "Line_1"):
        builder.add_roi(np.moveaxis(masks[name], 0, 2), name=name)
    builder.save(str(tmp_path / "rs.dcm"))
    text = "\n".join(map(str, check_structure_set(tmp_path / "rs.dcm", ct)))
    for expected in (
        "breaks the standard: AccessionNumber: is missing",
        "breaks the standard: ReferringPhysicianName: is missing",
        "breaks the standard: OperatorsName: is missing",
        "ROI Annulus, ContourData: 12 contours have numbers of more than 16 characters: contour 1 on slice 2",
        "ROI Line_1: 6 contours have fewer than 3 points, enclose no area and are not used",
        f"{DIFFERS}: SoftwareVersions: is missing",
        f"{DIFFERS}: ROI Annulus, RTROIInterpretedType: is empty",
        f"{DIFFERS}: ROI Annulus, ContourData: 6 contours lie inside another one: systems that fill every contour lose",
    ):
        assert expected in text


def test_without_the_ct_contours_are_named_by_their_place(good: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(good)
    data(*SQUARE[:6])(dataset)
    dataset.save_as(tmp_path / "bad.dcm")
    (finding,) = check_structure_set(tmp_path / "bad.dcm")
    assert str(finding) == (
        "breaks the standard: ROI Sphere, ContourData: 1 contours are closed with fewer than 3 distinct points: "
        "contour 1 at z -47 mm (2) [few-points]"
    )


def test_holes_of_their_own_are_what_the_profile_wants(ct: CTSeries, tmp_path: Path) -> None:
    structures = Structures.from_masks({"Island": hard_shapes(ct.grid.shape_kij)["Island"]}, ct.grid)
    profile = Profile(holes="separate")
    path = write_structures(
        tmp_path / "rs.dcm", structures, ct, Provenance(label="Test"), profile=profile
    ).path
    assert check_structure_set(path, ct, profile=profile) == []
    assert [f.rule for f in check_structure_set(path, ct)] == ["holes"]


def test_what_is_no_structure_set_is_refused(ct: CTSeries, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no structure set"):
        check_structure_set(ct.paths[0])
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(InputError, match=r"no structure set|not a DICOM file"):
        check_structure_set(tmp_path / "x")


def test_known_refusals_stand_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "interoperability.md").read_text(encoding="utf-8")
    for refusal in KNOWN:
        assert f"| {refusal.what} | {refusal.systems} | {refusal.source} |" in page


def test_a_file_that_is_cut_short(good: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(good.read_bytes()[:-700])
    assert [f.rule for f in check_structure_set(tmp_path / "cut.dcm") if f.level == "refused"] == [
        "cut-short"
    ]


def old_planning_system(d: Dataset) -> None:
    """What ARIA 8 to 16, Pinnacle 9 and XiO leave out or write."""
    for keyword in ("OperatorsName", "FrameOfReferenceUID", "PositionReferenceIndicator", "AccessionNumber"):
        delattr(d, keyword)
    del d.ApprovalStatus
    long_label(d)
    for n, (roi, shown, seen) in enumerate(
        zip(d.StructureSetROISequence, d.ROIContourSequence, d.RTROIObservationsSequence, strict=True)
    ):
        roi.ROINumber = shown.ReferencedROINumber = seen.ReferencedROINumber = n + 12
        roi.ROIGenerationAlgorithm = ""
        seen.RTROIInterpretedType = ""
        del shown.ROIDisplayColor
        for contour in shown.ContourSequence:
            del contour.ContourImageSequence


def test_exports_of_planning_systems_are_not_refused(findings) -> None:
    found = findings(old_planning_system)
    assert found
    assert not [str(f) for f in found if f.level == "refused"]
    assert not [f for f in found if f.where == "FrameOfReferenceUID"]


def test_what_contours_mean_together_is_said_as_by_the_reader(
    ct: CTSeries, good: Path, tmp_path: Path
) -> None:
    dataset = pydicom.dcmread(good)
    contours = dataset.ROIContourSequence[0].ContourSequence
    data(*plane(-10, -10, 0, -10, 0, 0, -10, 0))(dataset)
    second = deepcopy(contours[0])
    contours.append(second)
    values = [str(v) for v in plane(-5, -5, 8, -5, 8, 8, -5, 8)]
    second[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "DS", values)
    del contours[2:4]
    dataset.save_as(tmp_path / "rs.dcm")
    notes: list[str] = []
    dict(iter_masks(tmp_path / "rs.dcm", ct, ["Sphere"], on_note=notes.append))
    said = [n.removeprefix("rs.dcm: ") for n in notes]
    assert [code_of(n) for n in notes] == ["overlap", "slice-gap"]
    messages = [f.message for f in check_structure_set(tmp_path / "rs.dcm", ct)]
    assert all(sentence in messages for sentence in said)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["1e308", "-9e307", "1e400", "1e17"])
def test_coordinates_beyond_any_patient_break_the_standard_and_are_computed_with_no_further(
    findings: Callable[..., list[Finding]], number: str
) -> None:
    def edit(dataset: Dataset) -> None:
        contour = dataset.ROIContourSequence[0].ContourSequence[0]
        numbers = [str(v) for v in contour.ContourData]
        contour[CONTOUR_DATA].value = [number, *numbers[1:]]

    said = [f for f in findings(edit) if f.rule in ("contour-data", "outside-image", "self-crossing")]
    assert [(f.level, f.rule) for f in said] == [("standard", "contour-data")]
    assert "cannot be read and is not used" in said[0].message
