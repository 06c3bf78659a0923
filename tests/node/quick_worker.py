"""The node's worker without a network: a structure set without a ROI, under the UIDs asked for.

CONTOUR_AI_TEST_WORK_S: seconds for a patient.
"""

import json
import os
import time
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from contour_ai.dicom.rtstruct_header import structure_set_uid
from contour_ai.files import atomic_folder
from contour_ai.node import worker


def contour(order: worker.Order, models: worker.Models) -> worker.Answer:
    out_dir = Path(order.out_dir)
    sop_uid = structure_set_uid(order.uids_from)
    done = out_dir / "patient" / f"RS.{sop_uid}.dcm"
    answer = worker.Answer(job=order.job, outcome="contoured", structure_set=str(done), verdict="clear")
    if done.is_file():
        return answer
    time.sleep(float(os.environ.get("CONTOUR_AI_TEST_WORK_S", "0")))
    image = dcmread(next(Path(order.images).iterdir()), stop_before_pixels=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.Modality = RTStructureSetStorage, "RTSTRUCT"
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = sop_uid
    dataset.PatientID, dataset.StudyInstanceUID = image.PatientID, image.StudyInstanceUID
    dataset.SeriesInstanceUID = structure_set_uid(order.uids_from, "series")
    dataset.StructureSetLabel = "quick"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    out_dir.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out_dir / "patient", overwrite=True) as folder:
        dataset.save_as(folder / done.name, enforce_file_format=True)
        summary = {
            "structure_set": {"file": done.name, "sop_instance_uid": sop_uid},
            "verdict": "clear",
            "rois": {},
            "timings_s": {"total": 0.1},
        }
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return answer


worker.carry_out = contour
worker.report = lambda folder, images: True
worker._computes_on = lambda device: "cpu" if device == "auto" else device  # without importing torch
worker.Models.begin = lambda models, order: None
if __name__ == "__main__":
    worker.main()
