"""Reads a CT and a structure set with one research tool; run by that tool's own Python, which has no contour-ai.

    python readers.py TOOL CT_FOLDER RTSTRUCT OUT.npz

OUT.npz has a mask (slice, row, column), slices ascending along z, for every ROI, or a single number where the tool
gives volumes only (cm3). ``dicom_validator`` writes an array of texts instead, one for every finding.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def pyradplan(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    import SimpleITK as sitk  # noqa: N813
    from pyRadPlan.io.dicom import DicomImporter

    importer = DicomImporter(str(_together(ct, structure_set)))
    return {
        voi.name: sitk.GetArrayFromImage(voi.mask) > 0 for voi in importer.load_cst(importer.load_ct()).vois
    }


def opentps(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    from opentps.core.io.dicomIO import readDicomCT, readDicomStruct

    image = readDicomCT([str(path) for path in sorted(ct.iterdir())])
    masks = {}
    for contour in readDicomStruct(str(structure_set)).contours:
        mask = contour.getBinaryMask(origin=image.origin, gridSize=image.gridSize, spacing=image.spacing)
        if mask.imageArray is not None:  # it makes none of a ROI on a single slice
            masks[contour.name] = np.asarray(mask.imageArray).transpose(2, 1, 0) > 0.5
    return masks


def pycerr(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    from cerr import plan_container
    from cerr.contour import rasterseg

    plan = plan_container.loadDcmDir(str(_together(ct, structure_set)))
    z = [float(s.imagePositionPatient[2]) for s in plan.scan[0].scanInfo]
    masks = {}
    for n, structure in enumerate(plan.structure):
        mask = np.moveaxis(np.asarray(rasterseg.getStrMask(n, plan)), 2, 0) > 0
        masks[structure.structureName] = mask if z[0] < z[-1] else mask[::-1]
    return masks


def dcmrtstruct2nii(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    import SimpleITK as sitk  # noqa: N813
    from dcmrtstruct2nii import dcmrtstruct2nii as convert

    with tempfile.TemporaryDirectory() as folder:
        convert(str(structure_set), str(ct), folder, convert_original_dicom=False)
        return {
            path.name[len("mask_") : -len(".nii.gz")]: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
            for path in Path(folder).glob("mask_*.nii.gz")
        }


def dicomrttool(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    from DicomRTTool.ReaderWriter import DicomReaderWriter

    reader = DicomReaderWriter(arg_max=False, verbose=False)
    reader.walk_through_folders(str(_together(ct, structure_set)))
    masks = {}
    for name in reader.return_rois(print_rois=False):
        reader.set_contour_names_and_associations(contour_names=[name])
        reader.get_images_and_mask()
        masks[name] = np.asarray(reader.mask)[..., -1] > 0
    return masks


def dicompyler(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    from dicompylercore.dicomparser import DicomParser

    parser = DicomParser(str(structure_set))
    volumes = {}
    for number, structure in parser.GetStructures().items():
        planes = parser.GetStructureCoordinates(number)
        thickness = parser.CalculatePlaneThickness(planes)
        volumes[structure["name"]] = np.array(parser.CalculateStructureVolume(planes, thickness))
    return volumes


def dicom_validator(ct: Path, structure_set: Path) -> dict[str, np.ndarray]:
    """The attribute tables of PS3.3 are those that come with highdicom, so that nothing has to be fetched."""
    from dicom_validator.validator.dicom_file_validator import DicomFileValidator

    found = []
    for result in DicomFileValidator(_standard()).validate(str(structure_set)).values():
        for module, errors in result.module_errors.items():
            found += [f"{module} {tag}: {error.code.name}" for tag, error in errors.items()]
    return {"findings": np.array(found, dtype=str)}


def _standard() -> Any:
    """What dicom-validator usually reads from the standard's text: dictionary, modules of the IOD, their attributes."""
    import json

    import highdicom
    from dicom_validator.validator.dicom_info import DicomInfo
    from pydicom.datadict import DicomDictionary, tag_for_keyword
    from pydicom.uid import RTStructureSetStorage

    tables = Path(highdicom.__file__).parent / "_standard"
    attributes = json.loads((tables / "module_attribute_map.json").read_text(encoding="utf-8"))
    modules = json.loads((tables / "iod_module_map.json").read_text(encoding="utf-8"))["rt-structure-set"]

    def tag(number: int) -> str:
        return f"({number >> 16:04X},{number & 0xFFFF:04X})"

    def tree(rows: list[dict]) -> dict:
        root: dict = {}
        for row in rows:
            level = root
            for keyword in row["path"]:
                level = level.setdefault(tag(tag_for_keyword(keyword)), {}).setdefault("items", {})
            number = tag_for_keyword(row["keyword"])
            if number is not None:
                entry = {"name": row["keyword"], "type": row["type"]}
                if row["type"].endswith("C"):
                    entry["cond"] = {"type": "U"}  # conditions are prose
                level.setdefault(tag(number), {}).update(entry)
        return root

    return DicomInfo(
        {
            tag(number): {"name": entry[2], "vr": entry[0], "vm": entry[1], "prop": ""}
            for number, entry in DicomDictionary.items()
        },
        {
            str(RTStructureSetStorage): {
                "title": "RT Structure Set IOD",
                "modules": {m["key"]: {"ref": m["key"], "use": m["usage"]} for m in modules},
                "group_macros": {},
            }
        },
        {m["key"]: tree(attributes[m["key"]]) for m in modules},
    )


def _together(ct: Path, structure_set: Path) -> Path:
    """A folder with copies of both, which stays until the end of the process."""
    import shutil

    folder = Path(tempfile.mkdtemp(dir=structure_set.parent, prefix="both"))
    for path in (*ct.iterdir(), structure_set):
        shutil.copy(path, folder / path.name)
    return folder


READERS = {
    f.__name__: f
    for f in (pyradplan, opentps, pycerr, dcmrtstruct2nii, dicomrttool, dicompyler, dicom_validator)
}

if __name__ == "__main__":
    name, ct, structure_set, out = sys.argv[1:]
    np.savez(out, **READERS[name](Path(ct), Path(structure_set)))
