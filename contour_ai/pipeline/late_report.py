"""The report of a prediction that was written without one: its structure set can be sent meanwhile."""

from __future__ import annotations

from pathlib import Path

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import InputError
from contour_ai.files import update_manifest
from contour_ai.pipeline._predict.writing import REPORT
from contour_ai.pipeline.report import report_of_prediction
from contour_ai.pipeline.summary import SUMMARY, read_summary


def write_late_report(folder: Path, images: Path) -> Path:
    """Writes `report.html` into the folder of a finished prediction, from its files; returns its path.

    Args:
        folder: with `summary.json` and the structure set.
        images: folder of the CT, in which no acquisitions overlap: the node takes no such series.

    Raises:
        InputError: the CT or the structure set cannot be read; or the prediction has none.
        OutputError: the report cannot be written.
    """
    summary = read_summary(folder / SUMMARY)
    if not summary.structure_set.file:
        raise InputError("This prediction has no structure set to show.", where=folder)
    ct = read_ct(find_patient(images, keep_all=True).ct)
    report_of_prediction(folder / REPORT, ct, folder / summary.structure_set.file, None, summary)
    update_manifest(folder, REPORT)
    return folder / REPORT
