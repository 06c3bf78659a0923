"""Label maps are read from .npz and from TotalSegmentator's folders, in any orientation; others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its customary name

from contour_ai.errors import InputError
from contour_ai.sample.synthesis.label_maps import read_label_maps
from contour_ai.sample.synthesis.tissues import Tissue, tissue_of

NAMES = {
    "urinary_bladder": Tissue.BLADDER,
    "vertebrae_L5": Tissue.VERTEBRA,
    "rib_left_12": Tissue.RIB,
    "iliac_artery_left": Tissue.ARTERY,
    "iliac_vena_right": Tissue.VEIN,
    "portal_vein_and_splenic_vein": Tissue.VEIN,
    "lung_lower_lobe_left": Tissue.LUNG_LEFT,
    "gluteus_maximus_right": Tissue.GLUTEUS,
    "iliopsoas_left": Tissue.MUSCLE,
    "femur_left": Tissue.FEMUR_LEFT,
    "hip_right": Tissue.HIP_RIGHT,
    "humerus_left": Tissue.OTHER_BONE,
    "adrenal_gland_right": Tissue.GLAND,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_totalsegmentator_are_known(name: str) -> None:
    assert tissue_of(name) == NAMES[name]


def test_an_unknown_name_is_no_tissue() -> None:
    assert tissue_of("left big toe") is None


def labels() -> np.ndarray:
    array = np.zeros((6, 5, 4), np.uint8)
    array[1:3, 1:4, 0:2] = 1
    array[4, 0, 3] = 2
    return array


def test_npz_and_a_folder_of_nifti_in_another_orientation_give_the_same_labels(tmp_path: Path) -> None:
    names = ("colon", "femur_left")
    np.savez(
        tmp_path / "a.npz", lab=labels(), names=np.array(names), spacing_mm_kij=np.array([3.0, 2.0, 1.5])
    )
    folder = tmp_path / "s0001" / "segmentations"
    folder.mkdir(parents=True)
    for n, name in enumerate(names, start=1):
        image = sitk.GetImageFromArray((labels() == n).astype(np.uint8))
        image.SetSpacing((1.5, 2.0, 3.0))
        sitk.WriteImage(sitk.DICOMOrient(image, "PIR"), str(folder / f"{name}.nii.gz"))
    one, other = read_label_maps(tmp_path)
    assert (one.name, other.name) == ("a", "s0001")
    assert one.names == other.names == names
    np.testing.assert_array_equal(one.labels, labels())
    np.testing.assert_array_equal(other.labels, labels())
    assert one.spacing_mm_kij == (3.0, 2.0, 1.5)
    assert other.spacing_mm_kij == pytest.approx((3.0, 2.0, 1.5))
    assert len(one.sha256) == len(other.sha256) == 64


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There are no label maps here"):
        read_label_maps(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"lab": labels()}, "This is no label map"),
        ({"lab": labels(), "names": ["colon"], "spacing_mm_kij": [1, 1, 1]}, "labels without a name"),
        ({"lab": labels() * 0, "names": ["colon"], "spacing_mm_kij": [1, 1, 1]}, "not empty"),
        ({"lab": labels(), "names": ["a", "b"], "spacing_mm_kij": [1, 0, 1]}, "voxel size of a label map"),
    ],
)
def test_a_file_that_is_no_label_map_is_refused(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **{key: np.asarray(value) for key, value in content.items()})
    with pytest.raises(InputError, match=message):
        read_label_maps(tmp_path / "a.npz")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_maps(tmp_path)
