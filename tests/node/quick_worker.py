"""A worker without a network: answers every order with a structure set that has no ROI, under the UIDs asked for."""

import json
import sys
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from contour_ai.dicom.rtstruct_header import structure_set_uid

print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "job" not in order:
        continue
    image = dcmread(next(Path(order["images"]).iterdir()), stop_before_pixels=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.Modality = RTStructureSetStorage, "RTSTRUCT"
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = structure_set_uid(order["uids_from"])
    dataset.PatientID, dataset.StudyInstanceUID = image.PatientID, image.StudyInstanceUID
    dataset.SeriesInstanceUID = structure_set_uid(order["uids_from"], "series")
    dataset.StructureSetLabel = "quick"
    folder = Path(order["out_dir"]) / "patient"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"RS.{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    summary = {
        "structure_set": {"file": path.name, "sop_instance_uid": dataset.SOPInstanceUID},
        "verdict": "clear",
        "rois": {},
        "timings_s": {"total": 0.1},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    answer = {"job": order["job"], "outcome": "contoured", "structure_set": str(path), "verdict": "clear"}
    print(json.dumps(answer), flush=True)
