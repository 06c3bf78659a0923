"""`check`: our own files pass, and every rule finds what it is for in files that break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from shapes import hard_shapes
from synthetic import axial, write_stack

from contour_ai.dicom.check import Finding, check_structure_set
from contour_ai.dicom.ct import CTSeries, read_ct
from contour_ai.dicom.rtstruct_header import Provenance
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
    return write_structures(tmp_path_factory.mktemp("rs") / "rs.dcm", structures, ct, Provenance("Test")).path


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


SQUARE = plane(-10, -10, 0, -10, 0, 0, -10, 0)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (remove("FrameOfReferenceUID"), "error: FrameOfReferenceUID: is missing [frame-of-reference]"),
        (put("FrameOfReferenceUID", "1.2.3"), "2 different ones in one set"),
        (remove("ReferencedFrameOfReferenceSequence"), "has 0 items instead of one"),
        (remove("AccessionNumber"), "error: AccessionNumber: is missing; where unknown"),
        (put("PatientID", "P2"), "error: PatientID: is 'P2', the CT has 'P1'"),
        (put("PatientSex", "F"), "warning: PatientSex: is 'F', the CT has 'O'"),
        (put("StructureSetLabel", ""), "StructureSetLabel: '' has 0 characters, must have 1-16"),
        (long_label, "has 17 characters, must have 1-16"),
        (put("ApprovalStatus", "APPROVED"), "warning: ApprovalStatus: is 'APPROVED'"),
        (remove("SoftwareVersions"), "warning: SoftwareVersions: is missing"),
        (put("StructureSetDate", ""), "warning: StructureSetDate: is empty"),
        (put("Modality", "RTPLAN"), "error: Modality: is 'RTPLAN'"),
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
            "warning: ROI Sphere, RTROIInterpretedType: is empty",
        ),
        (
            lambda d: setattr(d.RTROIObservationsSequence[0], "RTROIInterpretedType", "LUNG"),
            "'LUNG' is not one of the terms",
        ),
        (
            lambda d: [setattr(o, "RTROIInterpretedType", "EXTERNAL") for o in d.RTROIObservationsSequence],
            "3 ROIs are EXTERNAL",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0], "ROIDisplayColor"),
            "warning: ROI Sphere, ROIDisplayColor",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0], "ContourSequence"),
            "warning: ROI Sphere, ContourSequence",
        ),
        (
            lambda d: delattr(d.ROIContourSequence[0].ContourSequence[0], "ContourImageSequence"),
            "warning: ROI Sphere: 1 contours have no ContourImageSequence: contour 1",
        ),
        (swap_images, "2 contours refer to another slice than they lie on: contour 1 (slice 2, lies on 1)"),
        (unlisted_image, "does not list"),
        (stranger, "1 images are not in the CT"),
        (
            data("-10.123456789012345", *SQUARE[1:]),
            "1 contours have numbers of more than 16 characters: contour 1 (1, up to 19)",
        ),
        (data(1, 2, 3, 4), "1 contours hold no list of x, y, z: contour 1 (4 values)"),
        (data(*SQUARE[:-1], "x"), "1 contours hold no list of x, y, z"),
        (data(*SQUARE[:6]), "closed contours have fewer than 3 distinct points: contour 1 (2)"),
        (data(*SQUARE, *SQUARE[:3]), "warning: ROI Sphere: 1 contours repeat their first point"),
        (data(*SQUARE[:2], -46.5, *SQUARE[3:]), "1 contours do not lie in a plane: contour 1 (0."),
        (data(*(v if n % 3 < 2 else v + 1 for n, v in enumerate(SQUARE))), "contour 1 (1.00 mm off slice 1)"),
        (data(*plane(-10, -10, 0, 0, 0, -10, -10, 0)), "1 contours cross themselves: contour 1 (1 times)"),
        (
            data(*plane(-100, -10, 0, -10, 0, 0)),
            "warning: ROI Sphere: 1 contours leave the image: contour 1 (by",
        ),
        (
            data(*SQUARE, kind="OPEN_PLANAR"),
            "warning: ROI Sphere: 1 contours are OPEN_PLANAR and enclose no area",
        ),
        (
            lambda d: setattr(d.ROIContourSequence[0].ContourSequence[0], "NumberOfContourPoints", 7),
            "1 contours have a wrong NumberOfContourPoints: contour 1 (7 for",
        ),
        (
            lambda d: d.ROIContourSequence[0].ContourSequence.append(
                d.ROIContourSequence[0].ContourSequence[0]
            ),
            "1 contours are there twice",
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
    assert (finding.severity, finding.rule) == ("error", "roi-name")
    assert message in finding.message


def test_errors_come_first(findings) -> None:
    def edit(d: Dataset) -> None:
        d.ApprovalStatus = "APPROVED"
        del d.FrameOfReferenceUID

    assert [f.severity for f in findings(edit)] == ["error", "warning"]


def test_what_an_rt_utils_file_gets_wrong(ct: CTSeries, tmp_path: Path) -> None:
    rt_utils = pytest.importorskip("rt_utils")
    mask = np.zeros((24, 20, 8), bool)
    mask[8:12, 3:14, 2:5] = True
    mask[20, 3, 6] = True
    builder = rt_utils.RTStructBuilder.create_new(str(ct.paths[0].parent))
    builder.add_roi(mask, name="A")
    builder.save(str(tmp_path / "rs.dcm"))
    rules = {f.rule for f in check_structure_set(tmp_path / "rs.dcm", ct) if f.severity == "error"}
    assert {"type-2", "frame-of-reference", "few-points"} <= rules


def test_what_is_no_structure_set_is_refused(ct: CTSeries, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no structure set"):
        check_structure_set(ct.paths[0])
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(InputError, match=r"no structure set|not a DICOM file"):
        check_structure_set(tmp_path / "x")
