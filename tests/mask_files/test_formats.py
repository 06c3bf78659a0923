"""NIfTI, NRRD and MetaImage against SimpleITK as an independent reader and writer; damaged and foreign files."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from contour_ai.errors import GeometryError, InputError
from contour_ai.grid import Grid
from contour_ai.mask_files import read_masks, save_masks

GRID = Grid.axial((6, 10, 8), (3.0, 1.5, 2.0), (-10.5, -20.25, 33.0))
RNG = np.random.default_rng(3)
MASK = RNG.random(GRID.shape_kij) < 0.3
C, S = float(np.cos(0.3)), float(np.sin(0.3))
OBLIQUE = Grid(
    shape_kij=(6, 10, 8),
    positions_lps=np.arange(6)[:, None] * np.array([0, -3 * S, 3 * C]) + 5,
    step_i_lps=[0, 1.5 * C, 1.5 * S],
    step_j_lps=[2, 0, 0],
)


def image_of(array: np.ndarray, grid: Grid = GRID, kind: type = np.uint8) -> sitk.Image:
    image = sitk.GetImageFromArray(array.astype(kind))
    columns = grid.affine[:3, [2, 1, 0]]
    lengths = np.linalg.norm(columns, axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def read(path: Path, grid: Grid = GRID) -> tuple[dict[str, np.ndarray], list[str]]:
    notes: list[str] = []
    return dict(read_masks(path, grid, on_note=notes.append)), notes


def refused(path: Path, match: str, grid: Grid = GRID) -> None:
    with pytest.raises(InputError, match=match):
        read(path, grid)


def nifti(
    path: Path,
    array: np.ndarray,
    affine_lps: np.ndarray | None = None,
    *,
    order: str = "<",
    dims: int = 3,
    sform: int = 1,
    slope: float = 1.0,
    units: int = 2,
) -> Path:
    """A NIfTI-1 file written by the standard's offsets; `affine_lps` takes (x, y, z, 1)."""
    if affine_lps is None:
        affine_lps = GRID.affine[:, [2, 1, 0, 3]]
    ras = np.diag([-1.0, -1, 1, 1]) @ affine_lps
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "c8": 32}
    kind = array.dtype.str[1:]
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, dims, *array.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, codes[kind], 8 * array.dtype.itemsize)
    struct.pack_into(order + "8f", header, 76, 1, *np.linalg.norm(ras[:3, :3], axis=0), 1, 1, 1, 1)
    struct.pack_into(order + "3f", header, 108, 352, slope, 0)
    header[123] = units
    struct.pack_into(order + "2h", header, 252, 0, sform)
    struct.pack_into(order + "12f", header, 280, *ras[:3].ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(("kind", "packed"), [(np.uint8, True), (np.int16, False), (np.float32, True)])
def test_what_itk_writes_is_read_without_a_wrong_voxel(grid, suffix, kind, packed, tmp_path):
    path = tmp_path / f"A{suffix}"
    sitk.WriteImage(image_of(MASK, grid, kind), str(path), useCompression=packed)
    masks, notes = read(path, grid)
    assert np.array_equal(masks["A"], MASK)
    assert notes == []


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("file_format", ["nifti", "nrrd"])
def test_itk_reads_what_is_written(grid, file_format, tmp_path):
    files = save_masks(tmp_path / "m", [("A", MASK)], grid, format=file_format)
    image = sitk.ReadImage(str(files["A"]))
    assert np.array_equal(sitk.GetArrayFromImage(image), MASK)
    expected = image_of(MASK, grid)
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, name)() == pytest.approx(getattr(expected, name)(), abs=1e-5), name
    assert image.GetPixelID() == sitk.sitkUInt8


def test_nifti_of_other_byte_orders_units_and_four_dimensions(tmp_path):
    metres = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ GRID.affine[:, [2, 1, 0, 3]]
    for name, file in {
        "big": nifti(tmp_path / "big.nii", MASK.astype("i2"), order=">"),
        "four": nifti(tmp_path / "four.nii.gz", MASK.astype("u1"), dims=4),
        "metres": nifti(tmp_path / "metres.nii", MASK.astype("u1"), metres, units=1),
        "scaled": nifti(tmp_path / "scaled.nii", MASK.astype("u1"), slope=255.0),
    }.items():
        masks, notes = read(file)
        assert np.array_equal(masks[name], MASK), name
        assert notes == []


def test_a_sheared_nifti_is_resampled_and_rounding_is_not_a_shear(tmp_path):
    inside = np.zeros(GRID.shape_kij, "u1")
    inside[1:5, 3:8, 2:7] = 1
    affine = GRID.affine[:, [2, 1, 0, 3]].copy()
    affine[0, 1] = 1e-5
    masks, notes = read(nifti(tmp_path / "a.nii.gz", inside, affine))
    assert np.array_equal(masks["a"], inside) and notes == []
    affine[0, 1] = 1.5 * 0.2
    masks, notes = read(nifti(tmp_path / "a.nii.gz", inside, affine))
    rows = [np.flatnonzero(masks["a"][2, i]) for i in range(3, 8)]
    assert [int(r[0]) for r in rows] == [2, 3, 3, 3, 3], "row i lies 0.15 i columns further right"
    assert "100 voxels" in notes[0] and "was resampled" in notes[0]


def test_two_matrices_that_contradict_each_other(tmp_path):
    path = nifti(tmp_path / "a.nii", MASK.astype("u1"))
    data = bytearray(path.read_bytes())
    struct.pack_into("<h", data, 252, 1)
    path.write_bytes(data)  # a quaternion of zeros: its origin is 0
    refused(path, r"contradicts itself(.|\n)*sform and its qform lie apart")


def test_a_nifti_that_does_not_say_where_it_lies(tmp_path):
    refused(
        nifti(tmp_path / "a.nii", MASK.astype("u1"), sform=0), r"does not say where(.|\n)*neither an sform"
    )
    refused(nifti(tmp_path / "a.nii", MASK.astype("u1"), np.full((4, 4), np.nan)), "does not say where")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_cut_short_is_refused(suffix, packed, tmp_path):
    folder = tmp_path / "whole"
    folder.mkdir()
    sitk.WriteImage(image_of(MASK), str(folder / f"A{suffix}"), useCompression=packed)
    data_file = max(folder.iterdir(), key=lambda p: (p.suffix not in (".nhdr", ".mhd"), p.name))
    data = data_file.read_bytes()
    for lost in (1, 40, len(data) // 2):
        data_file.write_bytes(data[:-lost])
        refused(folder / f"A{suffix}", "cut short|damaged|cannot be read")


def test_more_voxels_than_the_header_says(tmp_path):
    path = nifti(tmp_path / "a.nii", MASK.astype("u1"))
    data = bytearray(path.read_bytes())
    struct.pack_into("<h", data, 46, 3)
    path.write_bytes(data)
    refused(path, r"more voxels than its header says(.|\n)*240 bytes")


def test_a_flipped_byte_in_a_compressed_file(tmp_path):
    for suffix in (".nii.gz", ".nrrd"):
        path = tmp_path / f"A{suffix}"
        sitk.WriteImage(image_of(MASK), str(path), useCompression=True)
        data = bytearray(path.read_bytes())
        data[-12] ^= 0x10
        path.write_bytes(data)
        refused(path, "damaged|cut short|more voxels")


def test_sizes_beyond_the_ct_are_refused_before_memory_is_taken(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", MASK.astype("u1"))
    data = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<3h", data, 42, 30000, 30000, 30000)
    path.write_bytes(gzip.compress(bytes(data)))
    refused(path, r"far larger than the CT(.|\n)*30000 x 30000 x 30000")
    text = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 99999999 99999999 99999999\nencoding: raw\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    )
    (tmp_path / "b.nrrd").write_text(text)
    refused(tmp_path / "b.nrrd", "far larger than the CT")
    text = "NDims = 3\nDimSize = 999999 999999 999999\nElementType = MET_UCHAR\nOffset = 0 0 0\n"
    text += "ElementDataFile = LOCAL\n"
    (tmp_path / "c.mha").write_text(text)
    refused(tmp_path / "c.mha", "far larger than the CT")


@pytest.mark.parametrize(
    ("field", "changed", "message"),
    [
        ("sizes: 8 10 6", "sizes: 8 -10 6", "header of the NRRD file is damaged"),
        ("sizes: 8 10 6", "sizes: 8 x 6", "header of the NRRD file is damaged"),
        ("sizes: 8 10 6", "sizes: 8 10", "dimension 3, but 2 sizes"),
        ("dimension: 3", "dimension: 4", "dimension 4, but 3 sizes"),
        ("encoding: raw", "encoding: rot13", r"encoding of the NRRD(.|\n)*rot13"),
        ("type: uchar", "type: block", "whole or real numbers"),
        ("space: LPS", "space: scanner-xyz", r"not the patient's(.|\n)*scanner-xyz"),
        ("space origin: (-10.5,-20.25,33)", "space origin: (a,b,c)", "space origin"),
        ("space directions: (2,0,0) (0,1.5,0) (0,0,3)\n", "", "no 'space directions'"),
        ("(0,0,3)", "(0,1.5,0)", "does not say where"),
        ("encoding: raw", "encoding: raw\ndata file: x.raw", r"data file(.|\n)*not there"),
        ("33)\n\n", "33)\ndata file: LIST\n\n", "lists several data files"),
        ("encoding: raw", "encoding: raw\nline skip: -4", "line skip"),
    ],
)
def test_nrrd_headers_that_cannot_be_used(field, changed, message, tmp_path):
    text = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 8 10 6\nencoding: raw\n"
        "space directions: (2,0,0) (0,1.5,0) (0,0,3)\nspace origin: (-10.5,-20.25,33)\n\n"
    )
    assert field in text
    path = tmp_path / "a.nrrd"
    path.write_bytes(text.encode() + MASK.astype("u1").tobytes())
    assert np.array_equal(read(path)[0]["a"], MASK)
    path.write_bytes(text.replace(field, changed).encode() + MASK.astype("u1").tobytes())
    refused(path, message)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_takes_its_voxels_from_its_own_folder_alone(suffix, tmp_path):
    path = tmp_path / "own" / "below" / f"A{suffix}"
    path.parent.mkdir(parents=True)
    sitk.WriteImage(image_of(MASK), str(path), useCompression=False)
    name = next(p.name for p in path.parent.iterdir() if p != path)
    header, voxels = path.read_bytes(), (path.parent / name).read_bytes()

    def naming(other: str) -> Path:
        path.write_bytes(header.replace(name.encode(), other.encode()))
        return path

    (path.parent / "data").mkdir()
    for place in (tmp_path / name, tmp_path / "own" / name, path.parent / "data" / name):
        place.write_bytes(voxels)
    for other in (
        f"../{name}",
        f"data/../../{name}",
        f"../../{name}",
        str(tmp_path / name),
        "..",
        "/dev/zero",
    ):
        refused(naming(other), r"outside its own folder(.|\n)*its name alone")
    for other in (f"./{name}", f"data/{name}", f"data/../{name}", str(path.parent / name)):
        assert np.array_equal(read(naming(other))[0]["A"], MASK), other
    refused(naming("n" * 5000), "not there")
    (path.parent / name).unlink()
    refused(naming(name), r"not there(.|\n)*copy both files")


def test_nrrd_in_other_spaces_and_as_text(tmp_path):
    text = (
        "NRRD0005\n# comment\ntype: unsigned char\ndimension: 3\nspace: right-anterior-superior\nsizes: 8 10 6\n"
        "space directions: (-2,0,0) (0,-1.5,0) (0,0,3)\nspace origin: (10.5,20.25,33)\n"
    )
    (tmp_path / "a.nrrd").write_bytes((text + "encoding: raw\n\n").encode() + MASK.astype("u1").tobytes())
    voxels = " ".join(str(int(v)) for v in MASK.ravel())
    (tmp_path / "b.nrrd").write_text(f"{text}encoding: ascii\n\n{voxels}\n")
    masks, notes = read(tmp_path)
    assert np.array_equal(masks["a"], MASK) and np.array_equal(masks["b"], MASK)
    assert notes == []


def test_segments_of_3d_slicer(tmp_path):
    labels = np.zeros(GRID.shape_kij, np.uint8)
    labels[1:3], labels[4:] = 1, 7
    image = image_of(labels)
    for n, (name, label) in enumerate((("Liver", "1"), ("Milz, groß", "7"))):
        for key, value in (("ID", f"Segment_{n}"), ("Name", name), ("LabelValue", label), ("Layer", "0")):
            image.SetMetaData(f"Segment{n}_{key}", value)
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
    masks, notes = read(tmp_path / "s.seg.nrrd")
    assert list(masks) == ["Liver", "Milz, groß"] and notes == []
    assert np.array_equal(masks["Milz, groß"], labels == 7)


def test_overlapping_segments_in_layers(tmp_path):
    layers = np.stack([MASK, ~MASK], axis=-1).astype("u1")
    text = (
        "NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 8 10 6\nencoding: gzip\n"
        "kinds: list domain domain domain\nspace directions: none (2,0,0) (0,1.5,0) (0,0,3)\n"
        "space origin: (-10.5,-20.25,33)\nSegment0_Name:=A\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
    )
    rest = "Segment1_Name:=B: left\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n"
    path = tmp_path / "s.seg.nrrd"
    path.write_bytes((text + rest + "\n").encode() + gzip.compress(layers.tobytes()))
    masks, _ = read(path)
    assert np.array_equal(masks["A"], MASK) and np.array_equal(masks["B: left"], ~MASK)
    path.write_bytes((text + "\n").encode() + gzip.compress(layers.tobytes()))
    refused(path, r"labels without a name(.|\n)*layer 1")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "Liver": 1, "Both": [1, 2]},
        {"0": "background", "1": "Liver", "2": "Spleen"},
    ],
    ids=["version 2", "version 1"],
)
def test_nnunets_description_names_labels(labels, tmp_path):
    array = np.zeros(GRID.shape_kij, "u1")
    array[1], array[2] = 1, 2
    nifti(tmp_path / "labelsTr" / "case.nii.gz", array)
    for folder in (tmp_path, tmp_path / "labelsTr"):
        (folder / "dataset.json").write_text(json.dumps({"labels": labels, "numTraining": 1}))
        for source in (tmp_path / "labelsTr", tmp_path / "labelsTr" / "case.nii.gz"):
            masks, _ = read(source)
            assert np.array_equal(masks["Liver"], array == 1)
            other = masks["Both"] if "Both" in masks else masks["Spleen"]
            assert np.array_equal(other, array > 0 if "Both" in masks else array == 2)
        (folder / "dataset.json").unlink()


def test_names_in_a_nifti_extension(tmp_path):
    array = np.zeros(GRID.shape_kij, "u1")
    array[1], array[2] = 1, 2
    plain = nifti(tmp_path / "a.nii", array).read_bytes()
    table = (
        b'<CaretExtension><LabelTable><Label Key="1" Red="1"><![CDATA[liver]]></Label>'
        b'<Label Key="2"><![CDATA[spleen]]></Label></LabelTable></CaretExtension>'
    )
    table += bytes(-(len(table) + 8) % 16)
    data = bytearray(plain[:348] + b"\1\0\0\0" + struct.pack("<2i", len(table) + 8, 30) + table)
    struct.pack_into("<f", data, 108, len(data))
    (tmp_path / "a.nii").write_bytes(bytes(data) + plain[352:])
    masks, _ = read(tmp_path / "a.nii")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"liver": 80, "spleen": 80}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RNG.random(GRID.shape_kij).astype("f4"), "which are probabilities"),
        (RNG.normal(0, 500, GRID.shape_kij).astype("i2"), "an image"),
        (RNG.normal(0, 5, GRID.shape_kij).astype("f4"), "an image, logits or distances"),
        (np.full(GRID.shape_kij, np.nan, "f4"), "not finite"),
        (np.where(MASK, 0.9, 0).astype("f4"), "probabilities"),
        (MASK.astype("c8"), "whole or real numbers"),
    ],
    ids=["probabilities", "CT", "logits", "NaN", "one probability", "complex"],
)
def test_what_is_no_mask_is_named(array, message, tmp_path):
    refused(nifti(tmp_path / "a.nii.gz", array), message)
    if array.dtype.kind != "c":
        np.savez(tmp_path / "a.npz", A=array)
        refused(tmp_path / "a.npz", message if array.dtype.kind == "f" else "boolean or 0 and 1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1: no\n2: Liver\n", "not text"),
        ("Liver: 1\n2: Spleen\n", "labels and names mixed|not text"),
        ("a: &a [*a]\n", "cannot be read"),
        ("1: 2001-99-99\n", "cannot be read"),
        ("1: Liver\n1: Spleen\n", "twice"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_files_of_names_that_cannot_be_used(content, message, tmp_path):
    array = np.zeros(GRID.shape_kij, "u1")
    array[1], array[2] = 1, 2
    nifti(tmp_path / "a.nii.gz", array)
    (tmp_path / "names.yaml").write_text(content)
    refused(tmp_path, message)


def npz_entry(path: Path, header: bytes, data: bytes = b"", flags: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = header + b" " * (64 - (len(header) + 11) % 64) + b"\n"
        archive.writestr("A.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data)
    if flags:
        raw = bytearray(path.read_bytes())
        raw[6] |= flags
        raw[raw.rindex(b"PK\1\2") + 8] |= flags
        path.write_bytes(raw)
    return path


GOOD = b"{'descr': '|b1', 'fortran_order': False, 'shape': (6, 10, 8), }"


@pytest.mark.parametrize(
    ("header", "data", "flags", "message"),
    [
        (GOOD, b"\0" * 479, 0, "479 bytes and more instead of 480"),
        (GOOD, b"\0" * 481, 0, "instead of 480 bytes"),
        (GOOD, b"\0" * 480, 1, "encrypted"),
        (GOOD.replace(b"(6, 10, 8)", b"(99999999999, 99999999999)"), b"", 0, "another shape"),
        (GOOD.replace(b"'|b1'", b"'|O'"), b"\0" * 480, 0, "boolean or 0 and 1"),
        (b"{'descr': '|b1'", b"", 0, "npz file cannot be read"),
        (b"(" * 9000, b"", 0, "npz file cannot be read"),
        (b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (6, 10, 8), }", b"", 0, "boolean or 0"),
    ],
)
def test_hostile_npz_files(header, data, flags, message, tmp_path):
    refused(npz_entry(tmp_path / "a.npz", header, data, flags), message)


def test_an_npz_with_a_flipped_byte_or_of_one_array(tmp_path):
    np.savez(tmp_path / "a.npz", A=MASK)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[200] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    refused(tmp_path / "a.npz", "npz file cannot be read")
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, MASK)
    refused(tmp_path / "b.npz", "npz file cannot be read")


def test_fortran_order_in_an_npz(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", A=np.asfortranarray(MASK))
    assert np.array_equal(read(tmp_path / "a.npz")[0]["A"], MASK)


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("a.zip", b"PK\3\4", "a zip archive"),
        ("a.npy", b"\x93NUMPY", "single NumPy array"),
        ("a.tar", b"\0" * 257 + b"ustar", "a tar archive"),
        ("a.h5", b"\x89HDF\r\n", "HDF5"),
        ("a.dcm", b"\0" * 128 + b"DICM", "DICOM file"),
        ("b.dcm", b"\0" * 128 + b"DICM" + b"\2\0\1\0OB\0\0\1", "DICOM file"),
    ],
)
def test_other_files_are_named_by_what_they_are(name, start, message, tmp_path):
    (tmp_path / name).write_bytes(start)
    refused(tmp_path / name, f"no mask file(.|\\n)*{message}")


def test_gzip_by_content_not_by_name(tmp_path):
    data = nifti(tmp_path / "a.nii.gz", MASK.astype("u1")).read_bytes()
    (tmp_path / "b.nii").write_bytes(data)
    (tmp_path / "c.nii.gz").write_bytes(gzip.decompress(data))
    masks, _ = read(tmp_path)
    assert all(np.array_equal(masks[name], MASK) for name in "abc")


def test_a_matrix_with_an_axis_of_no_length(tmp_path):
    affine = GRID.affine[:, [2, 1, 0, 3]].copy()
    affine[:3, 2] = 0
    with pytest.raises(GeometryError, match="does not say where"):
        read(nifti(tmp_path / "a.nii.gz", MASK.astype("u1"), affine))
