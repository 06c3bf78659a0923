"""Patient and study elements of the CT in the structure set: byte for byte, whatever their character set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from synthetic import axial, write_stack

from contour_ai.dicom.check import check_structure_set
from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.rtstruct_header import Provenance
from contour_ai.dicom.rtstruct_write import WrittenStructureSet, contours_of_mask, write_structure_set
from contour_ai.dicom.values import words
from contour_ai.dicom.verify import check_written
from contour_ai.errors import VerificationError
from contour_ai.structures import roi_info

STACK = axial()


def raw(d: Dataset, keyword: str, vr: str, value: bytes) -> None:
    value += b" " * (len(value) % 2)
    d[Tag(keyword)] = RawDataElement(
        Tag(keyword), vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
    )


def write(
    folder: Path, elements: dict[str, tuple[str, bytes]], roi: str = "Bladder"
) -> tuple[WrittenStructureSet, Dataset]:
    """A structure set with one ROI on a CT with these elements, and it read again without converting anything."""

    def edit(k: int, d: Dataset) -> None:
        if "SpecificCharacterSet" in d and "PatientName" in elements:
            del d.SpecificCharacterSet
        for keyword, (vr, value) in elements.items():
            raw(d, keyword, vr, value)
        d["PixelData"].VR = "OW"
        named = d.get("SpecificCharacterSet")
        d.set_original_encoding(False, True, convert_encodings(named) if named else default_encoding)

    write_stack(folder / "ct", STACK, edit)
    ct = read_ct(folder / "ct")
    mask = np.zeros(ct.grid.shape_kij, bool)
    mask[2, 3:6, 3:6] = True
    assert ct.patient_id  # pydicom converts what is looked at
    written = write_structure_set(
        folder / "rs.dcm",
        [contours_of_mask(roi_info(roi), mask)],
        ct,
        Provenance(label="test"),
        verify={roi: mask},
    )
    return written, dcmread(folder / "rs.dcm")


def value(d: Dataset, keyword: str) -> bytes:
    element: object = d.get_item(Tag(keyword))
    assert isinstance(element, RawDataElement) and isinstance(element.value, bytes)
    return element.value.rstrip(b" \0")


def charset(d: Dataset) -> bytes | None:
    return "\\".join(words(d, "SpecificCharacterSet")).encode() if "SpecificCharacterSet" in d else None


NAMES = {
    "shift-jis": (b"ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ=表^太郎".encode("shift_jis")),
    "iso-2022-jp": (b"\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎".encode("iso2022_jp")),
    "gbk": (b"GBK", "王乗^小東".encode("gbk")),
    "gb18030": (b"GB18030", "王乗^小东".encode("gb18030")),
    "utf-8": (b"ISO_IR 192", "Šimon^Zoë".encode()),
    "latin-1": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "cyrillic": (b"ISO_IR 144", "Иванов^Иван".encode("iso8859_5")),
    "korean": (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("roi", ["Bladder", "Blase_größer"])
def test_names_survive_in_every_character_set(tmp_path: Path, kind: str, roi: str) -> None:
    named, name = NAMES[kind]
    written, d = write(
        tmp_path, {"SpecificCharacterSet": ("CS", named), "PatientName": ("PN", name)}, roi=roi
    )
    assert written.notes == () and written.names == {roi: roi}
    if roi.isascii() or kind in ("utf-8", "latin-1", "gb18030"):
        assert (charset(d), value(d, "PatientName")) == (named, name)
    else:
        before = dcmread(next((tmp_path / "ct").iterdir()))
        assert charset(d) == b"ISO_IR 192"
        assert value(d, "PatientName").decode() == str(before.PatientName)
    assert d.StructureSetROISequence[0].ROIName == roi
    assert not [
        f for f in check_structure_set(tmp_path / "rs.dcm", read_ct(tmp_path / "ct")) if f.severity == "error"
    ]


def test_bytes_that_look_like_a_backslash_stay_where_they_are(tmp_path: Path) -> None:
    name = "許功蓋^表".encode("big5")
    assert name.count(b"\\") == 3
    for n, named in enumerate((b"ISO_IR 100", None, b"BIG5")):
        elements = {"PatientName": ("PN", name), "PatientID": ("LO", b"P1")}
        if named is not None:
            elements["SpecificCharacterSet"] = ("CS", named)
        _, d = write(tmp_path / str(n), elements)
        assert value(d, "PatientName") == name
        assert charset(d) == (named if n == 0 else None)


@pytest.mark.parametrize("named", [b"BIG5", b"ISO_IR 999", None])
def test_what_cannot_be_decoded_stays_as_it_is_and_roi_names_become_ascii(
    tmp_path: Path, named: bytes | None
) -> None:
    name = "陳^大文".encode("big5")
    elements = {"PatientName": ("PN", name)}
    if named is not None:
        elements["SpecificCharacterSet"] = ("CS", named)
    written, d = write(tmp_path, elements, roi="Größe 胃")
    assert (charset(d), value(d, "PatientName")) == (None, name)
    assert written.names == {"Größe 胃": "Grosse _"}
    assert d.StructureSetROISequence[0].ROIName == "Grosse _"
    assert "PatientName of the CT cannot be decoded" in written.notes[0]
    assert "ROI names are written in ASCII" in written.notes[0]


def test_an_unknown_character_set_is_not_inherited(tmp_path: Path) -> None:
    written, d = write(tmp_path, {"SpecificCharacterSet": ("CS", b"WINDOWS-1252")})
    assert charset(d) == b"ISO_IR 192"
    assert written.notes == (
        "SpecificCharacterSet is 'WINDOWS-1252', not a character set of DICOM, and is not used",
    )


@pytest.mark.parametrize(
    ("keyword", "vr", "written_as"),
    [
        ("PatientWeight", "DS", b"70,5"),
        ("PatientWeight", "DS", b"Anonymous"),
        ("PatientWeight", "DS", b"70 kg"),
        ("PatientSize", "DS", b"1,75"),
        ("PatientAge", "AS", b"Anonymous"),
        ("PatientBirthDate", "DA", b"Anonymous"),
        ("StudyDate", "DA", b"2001-99-99"),
        ("StudyTime", "TM", b"99:99"),
        ("PatientIdentityRemoved", "CS", b"perhaps"),
    ],
)
def test_values_that_are_none_are_left_out_with_a_note(
    tmp_path: Path, keyword: str, vr: str, written_as: bytes
) -> None:
    written, d = write(tmp_path, {keyword: (vr, written_as)})
    assert not d.get(keyword)
    (note,) = written.notes
    assert note.startswith(f"{keyword} is '{written_as.decode()}', not ") and note.endswith("is not used")


@pytest.mark.parametrize(
    "elements",
    [
        {"StudyID": ("SH", b"a study ID that is far too long")},
        {"AccessionNumber": ("SH", b"x" * 40)},
        {"PatientID": ("LO", b"P1\\P2")},
        {"PatientSex": ("CS", b"male")},
        {"StudyInstanceUID": ("UI", b"1.02.3")},
        {"FrameOfReferenceUID": ("UI", b"frame-1")},
        {"PatientName": ("PN", b"A=B=C=D=E")},
        {"PatientWeight": ("LO", b"70.5")},
    ],
)
def test_faults_of_the_ct_are_inherited_and_not_refused(
    tmp_path: Path, elements: dict[str, tuple[str, bytes]]
) -> None:
    _, d = write(tmp_path, elements)
    for keyword, (_, expected) in elements.items():
        assert value(d, keyword) == expected


def test_bytes_that_differ_do_not_pass(tmp_path: Path) -> None:
    from contour_ai.dicom.patient_module import patient_elements
    from contour_ai.dicom.profile import load_profile

    write(tmp_path, {"PatientName": ("PN", b"Right^Name")})
    ct = read_ct(tmp_path / "ct")
    patient = patient_elements(ct.header, ct.paths[0], [])
    d = dcmread(tmp_path / "rs.dcm")
    d.PatientName = "Wrong^Name"
    d.save_as(tmp_path / "rs.dcm")
    with pytest.raises(VerificationError, match="PatientName is not the CT's"):
        check_written(tmp_path / "rs.dcm", ct, patient, profile=load_profile("generic"))
