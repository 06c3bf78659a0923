"""One page and table of all patients that were predicted into a folder, from the summaries that lie there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from contour_ai.files import is_temporary
from contour_ai.pipeline._predict import REPORT
from contour_ai.pipeline.summary import SUMMARY, Summary, SummaryRoi, usable_summary
from contour_ai.report.predicted import FAILED, NOT_JUDGED, ORDER, PredictedPatient, write_predicted

MONTAGE = "montage.png"


def write_patients(out_dir: Path, failures: Sequence[tuple[str, str]] = ()) -> tuple[Path, Path]:
    """Writes `patients.html` and `patients.csv` into a folder of predictions, of this run and of earlier ones.

    Args:
        failures: (patient's folder, what went wrong) of those that were not predicted.

    Raises:
        OutputError: a file of that name is none of this program's, or it cannot be written.
    """
    folders = [path.parent for path in sorted(out_dir.glob(f"*/{SUMMARY}"))]
    found = [(folder, usable_summary(folder)) for folder in folders if not is_temporary(folder.name)]
    predicted = [_line(folder, summary) for folder, summary in found if summary is not None]
    failed = [PredictedPatient(patient=name, verdict=FAILED, reason=_in_short(why)) for name, why in failures]
    return write_predicted(out_dir, [*failed, *predicted])


def _line(folder: Path, summary: Summary) -> PredictedPatient:
    rois, verdict = summary.rois, _known(summary.verdict)
    own = _reasons(summary)
    by_roi = {name: _reasons(roi) for name, roi in rois.items()}
    worst = min(rois, key=lambda n: (_rank(rois[n]), -len(by_roi[n])), default="")
    if worst and not by_roi[worst]:
        worst = ""
    # What concerns the patient as a whole comes first where it is as grave as the worst ROI's verdict.
    whole = bool(own) and (not worst or ORDER.index(verdict) <= _rank(rois[worst]))
    if whole:
        worst = ""
    link = next((name for name in (REPORT, MONTAGE, SUMMARY) if (folder / name).is_file()), "")
    return PredictedPatient(
        patient=summary.patient_id or folder.name,
        verdict=verdict,
        worst_roi=worst,
        reason=own[0] if whole else (by_roi[worst][0] if worst else ""),
        findings=len(own) + sum(map(len, by_roi.values())),
        mean_dice=None if summary.scores is None else summary.scores.mean_dice_of_organs,
        model=f"{summary.model.name} {summary.model.version}",
        folder=folder.name,
        link=f"{quote(folder.name)}/{link}" if link else "",
    )


def _reasons(judged: Summary | SummaryRoi) -> list[str]:
    """Findings, the most important first; flags in summaries without verdicts."""
    return [flag.reason for flag in judged.findings or judged.flags]


def _rank(roi: SummaryRoi) -> int:
    return ORDER.index(_known(roi.verdict))


def _known(verdict: str) -> str:
    return verdict if verdict in ORDER else NOT_JUDGED


def _in_short(error: str) -> str:
    """The error's sentence and what was found; no path of the machine."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return " ".join([lines[0], *(line for line in lines[1:] if line.startswith("found:"))]) if lines else ""
