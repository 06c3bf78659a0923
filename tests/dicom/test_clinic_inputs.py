"""What clinics send, one oddity at a time and through the commands: used where it can be, named where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from shapes import hard_shapes
from synthetic import Stack, axial, box_contours, compress, structure_set, uid, write_stack

from contour_ai.cli.main import cli
from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_read import iter_masks
from contour_ai.errors import ContourAIError

STACK = axial(8, shape_ij=(24, 20))
BOX = box_contours(STACK, range(8))
VOXELS = 16
"""Of a box on a slice: 4 x 4 voxels of 2 mm."""

Edit = Callable[[Dataset], object]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def said(result: Result) -> str:
    """The messages in one line, as terminals break long ones."""
    return " ".join(result.stderr.split())


def masks_of(folder: Path, tmp_path: Path, *options: object) -> tuple[dict[str, list[int]], str]:
    """({ROI: voxels a slice}, messages) of ``to-masks``."""
    result = run("to-masks", folder, "--out", tmp_path / "masks.npz", "--overwrite", *options)
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "masks.npz") as archive:
        return {n: archive[n].sum(axis=(1, 2)).tolist() for n in archive.files}, said(result)


def on(*slices: int) -> list[int]:
    return [VOXELS if k in slices else 0 for k in range(8)]


# -- structure sets ----------------------------------------------------------------------------------------------


def contours(d: Dataset, roi: int = 0) -> pydicom.Sequence:
    return d.ROIContourSequence[roi].ContourSequence


def with_images(d: Dataset, *uids: str) -> None:
    for contour, sop in zip(contours(d), uids, strict=True):
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", sop
        contour.ContourImageSequence = pydicom.Sequence([image])


def no_references(d: Dataset) -> None:
    del d.ReferencedFrameOfReferenceSequence
    del d.FrameOfReferenceUID
    for roi in d.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID


def renumbered(d: Dataset) -> None:
    for roi, shown, number in zip(d.StructureSetROISequence, d.ROIContourSequence, (70, 3), strict=True):
        roi.ROINumber = shown.ReferencedROINumber = number
    d.ROIContourSequence = pydicom.Sequence(reversed(d.ROIContourSequence))


def kinds(d: Dataset, kind: str) -> None:
    contours(d)[1].ContourGeometricType = kind


def few_points(d: Dataset, number: int) -> None:
    contours(d)[1].ContourData = contours(d)[1].ContourData[: 3 * number]
    contours(d)[1].NumberOfContourPoints = number


def moved(d: Dataset, mm: float) -> None:
    for contour in contours(d):
        contour.ContourData = [
            v + mm if n % 3 == 2 else v for n, v in enumerate(map(float, contour.ContourData))
        ]


def named(d: Dataset, *names: str) -> None:
    for roi, name in zip(d.StructureSetROISequence, names, strict=True):
        roi.ROIName = name


def twice(d: Dataset) -> None:
    d.ROIContourSequence[0].ContourSequence = pydicom.Sequence([*contours(d), *contours(d)])


def no_contours(d: Dataset) -> None:
    del d.ROIContourSequence[0].ContourSequence


def xio_names(d: Dataset) -> None:
    named(d, "1,SUV_primair", " Myelum ")


def latin_name(d: Dataset) -> None:
    d.SpecificCharacterSet = "ISO_IR 192"
    name = DataElement(0x30060026, "LO", "Rückenmark".encode("latin-1"), already_converted=True)
    d.StructureSetROISequence[0].add(name)


A, B, BOTH = on(2, 3), on(6), {"A": on(2, 3), "B": on(6)}

STRUCTURE_SETS: dict[str, tuple[Edit, dict[str, list[int]], list[str]]] = {
    # what is done to the file; voxels a slice; what is said, nothing else
    "no ContourImageSequence": (lambda d: None, BOTH, []),
    "no ContourSequence": (no_contours, {"A": on(), "B": B}, ["ROI A has no contours"]),
    "no item of contours": (
        lambda d: d.ROIContourSequence.pop(0),
        {"A": on(), "B": B},
        ["ROI A has no contours"],
    ),
    "no ReferencedFrameOfReferenceSequence": (no_references, BOTH, []),
    "POINT": (
        lambda d: kinds(d, "POINT"),
        {"A": on(2), "B": B},
        ["ROI A: 1 POINT contour encloses no area and is not used (4 points around (-1.0, -7.0, -41.0) mm)"],
    ),
    "OPEN_PLANAR": (
        lambda d: kinds(d, "OPEN_PLANAR"),
        {"A": on(2), "B": B},
        [
            "ROI A: 1 OPEN_PLANAR contour encloses no area and is not used (4 points around (-1.0, -7.0, -41.0)"
        ],
    ),
    "one point": (
        lambda d: few_points(d, 1),
        {"A": on(2), "B": B},
        [
            "ROI A: 1 contour has fewer than 3 points, encloses no area and is not used (1 points around (-5.0,"
        ],
    ),
    "two points": (
        lambda d: few_points(d, 2),
        {"A": on(2), "B": B},
        [
            "ROI A: 1 contour has fewer than 3 points, encloses no area and is not used (2 points around (-1.0,"
        ],
    ),
    "the same name twice": (
        lambda d: named(d, "A", "A"),
        {"A": A, "A (2)": B},
        ["ROI A (number 2) is called A (2) here"],
    ),
    "names of XiO": (xio_names, {"1,SUV_primair": A, "Myelum": B}, []),
    "a name in another character set": (
        latin_name,
        {"R\N{REPLACEMENT CHARACTER}ckenmark": A, "B": B},
        [
            "ROI R\N{REPLACEMENT CHARACTER}ckenmark (number 1) has a name that is not written in the character "
            "set that the file declares"
        ],
    ),
    "numbers in any order": (renumbered, BOTH, []),
    "unknown images": (lambda d: with_images(d, "1.2.3", "1.2.4"), BOTH, []),
    "images of other slices": (
        lambda d: with_images(d, uid(STACK.series, "slice", 2), uid(STACK.series, "slice", 7)),
        BOTH,
        [
            "ROI A: 1 contour refers to another image than the one on whose plane it lies; the plane decides "
            "(image of slice 8 (z = -29.0 mm), contour on slice 4 (z = -41.0 mm))"
        ],
    ),
    "0.7 mm off": (
        lambda d: moved(d, 0.7),
        BOTH,
        [
            "ROI A: 2 contours lie off their slices and are used there (0.70 mm off slice 3 (z = -44.0 mm); "
            "0.70 mm off slice 4 (z = -41.0 mm))"
        ],
    ),
    "0.04 mm off": (lambda d: moved(d, 0.04), BOTH, []),
    "every contour twice": (
        twice,
        BOTH,
        ["ROI A: 2 contours are there twice and count once (slices 3-4 (z = -44.0 to -41.0 mm))"],
    ),
    "no observations": (lambda d: delattr(d, "RTROIObservationsSequence"), BOTH, []),
    "no label": (lambda d: delattr(d, "StructureSetLabel"), BOTH, []),
    "invalid date": (
        lambda d: d.add(DataElement(0x30060008, "DA", "3.1.2026", already_converted=True)),
        BOTH,
        [],
    ),
}


@pytest.mark.parametrize("oddity", STRUCTURE_SETS)
def test_structure_sets(oddity: str, tmp_path: Path) -> None:
    edit, expected, notes = STRUCTURE_SETS[oddity]
    write_stack(tmp_path / "in", STACK)
    data_set = structure_set(STACK, {"A": [BOX[2], BOX[3]], "B": [BOX[6]]})
    edit(data_set)
    data_set.save_as(tmp_path / "in" / "rs.dcm", enforce_file_format=True)
    read, messages = masks_of(tmp_path / "in", tmp_path)
    assert read == expected
    for note in notes:
        assert f"note: rs.dcm: {note}" in messages
    assert messages.count("note:") == len(notes), messages
    assert run("inspect", tmp_path / "in").exit_code == 0
    checked = run("check", tmp_path / "in" / "rs.dcm", "--ct", tmp_path / "in")
    assert checked.exit_code == 0, checked.output  # without OperatorsName: no reason to refuse a file
    assert "breaks the standard: OperatorsName: is missing (PS3.3 C.8.8.1, type 2" in checked.stdout
    for note in notes:
        assert note.partition(" (number")[0] in " ".join(checked.stdout.split()) or "is called" in note
    assert run("check", tmp_path / "in" / "rs.dcm", "--ct", tmp_path / "in", "--strict").exit_code == 3


def test_a_structure_set_without_preamble_and_meta(tmp_path: Path) -> None:
    write_stack(tmp_path / "in", STACK)
    data_set = structure_set(STACK, {"A": [BOX[2], BOX[3]], "B": [BOX[6]]})
    plain = Dataset({tag: data_set[tag] for tag in data_set.keys()})  # noqa: SIM118 - a data set, not a dict
    plain.save_as(tmp_path / "in" / "RS", implicit_vr=True, little_endian=True)
    assert masks_of(tmp_path / "in", tmp_path) == (BOTH, "")


# -- CTs ---------------------------------------------------------------------------------------------------------


def whole(d: Dataset) -> None:
    """Nothing odd."""


def no_study(d: Dataset) -> None:
    del d.StudyID
    d.StudyDate = d.StudyTime = None


def bare(d: Dataset) -> None:
    """Only what places a slice and makes HU of it."""
    for keyword in (
        "PatientPosition",
        "SliceThickness",
        "ImageType",
        "SeriesDescription",
        "PatientName",
        "StudyID",
    ):
        delattr(d, keyword)


def own_rescale(d: Dataset) -> None:
    if d.InstanceNumber % 2:
        d.PixelData = (np.frombuffer(d.PixelData, np.uint16) + 76).astype(np.uint16).tobytes()
        d.RescaleIntercept = "-1100"


SIGNED = axial(8, shape_ij=(24, 20), signed=True, intercept=-100.0)
CTS: dict[str, tuple[Stack, Edit]] = {
    "no StudyID": (STACK, no_study),
    "hardly anything": (STACK, bare),
    "signed": (SIGNED, whole),
    "unsigned": (STACK, whole),
    "rescale of each slice": (STACK, own_rescale),
}
SYNTAXES = (
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "RLELossless",
)


def there_and_back(folder: Path, tmp_path: Path) -> None:
    """Masks to a structure set on a CT, and the same voxels back; importers have nothing to say against it."""
    shapes = hard_shapes((8, 24, 20))
    np.savez(tmp_path / "in.npz", **shapes)
    written = run("to-rtstruct", folder, tmp_path / "in.npz", "--out", folder / "rs.dcm")
    assert written.exit_code == 0, written.output
    assert "read back without a wrong voxel" in written.stdout
    back = run("to-masks", folder, "--out", tmp_path / "back.npz")
    assert back.exit_code == 0, back.output
    with np.load(tmp_path / "back.npz") as archive:
        assert all(np.array_equal(archive[name], mask) for name, mask in shapes.items())
    checked = run("check", folder / "rs.dcm", "--ct", folder)
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("oddity", CTS)
def test_cts(oddity: str, tmp_path: Path) -> None:
    stack, edit = CTS[oddity]
    write_stack(tmp_path / "ct", stack, lambda k, d: edit(d))
    volume = read_ct(tmp_path / "ct").volume
    write_stack(tmp_path / "plain", STACK)
    assert volume is not None
    np.testing.assert_array_equal(volume.hu, read_ct(tmp_path / "plain").volume.hu)  # type: ignore[union-attr]
    there_and_back(tmp_path / "ct", tmp_path)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_cts(syntax: str, signed: bool, tmp_path: Path) -> None:
    for path in write_stack(tmp_path / "ct", SIGNED if signed else STACK):
        compress(path, syntax)
    there_and_back(tmp_path / "ct", tmp_path)
    assert "no problems" in run("inspect", tmp_path / "ct").stdout


def test_a_ct_without_preamble_and_meta(tmp_path: Path) -> None:
    for n, path in enumerate(write_stack(tmp_path / "ct", STACK)):
        data_set = pydicom.dcmread(path)
        path.unlink()
        plain = Dataset({tag: data_set[tag] for tag in data_set.keys()})  # noqa: SIM118 - a data set, not a dict
        plain.save_as(tmp_path / "ct" / f"IM{n}", implicit_vr=n % 2 == 0, little_endian=True)
    there_and_back(tmp_path / "ct", tmp_path)


# -- anything ----------------------------------------------------------------------------------------------------


def elements(d: Dataset, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where every element is, the first item of every sequence only."""
    for element in d:
        yield (*path, element.tag)
        if element.VR == "SQ" and element.value:
            yield from elements(element.value[0], (*path, element.tag, 0))


def without(item: Dataset, tag: object) -> None:
    del item[tag]


def emptied(item: Dataset, tag: object) -> None:
    item[tag] = DataElement(tag, item[tag].VR, pydicom.Sequence() if item[tag].VR == "SQ" else None)


def scrambled(item: Dataset, tag: object) -> None:
    if item[tag].VR == "SQ":
        item[tag] = DataElement(tag, "SQ", pydicom.Sequence([Dataset()]))
    else:
        value = b"x\\-7..\xe9 "
        item[tag] = RawDataElement(tag, item[tag].VR, len(value), value, 0, True, True)


@pytest.mark.parametrize("spoil", [without, emptied, scrambled])
def test_whatever_is_wrong_with_an_element_nothing_else_is_raised(spoil: Callable, tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", STACK)
    ct = read_ct(tmp_path / "ct", with_pixels=False)
    good = structure_set(STACK, {"A": [BOX[2], BOX[3]], "B": [BOX[6]]})
    with_images(good, *ct.sop_instance_uids[2:4])
    places = list(elements(good))
    assert len(places) > 40
    for *path, tag in places:
        data_set = pydicom.Dataset.from_json(good.to_json())
        data_set.file_meta = deepcopy(good.file_meta)
        data_set.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        item = data_set
        for step in path:
            item = item[step].value if not isinstance(step, int) or step else item[step]  # tag, then 0
        spoil(item, tag)
        pydicom.dcmwrite(tmp_path / "bad.dcm", data_set, enforce_file_format=False)
        notes: list[str] = []
        for use in (
            lambda n=notes: dict(iter_masks(tmp_path / "bad.dcm", ct, on_note=n.append)),
            lambda: check_structure_set(tmp_path / "bad.dcm", ct),
        ):
            try:
                use()
            except ContourAIError as error:
                assert "bad.dcm" in str(error)
