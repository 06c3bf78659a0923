"""One page and table of all patients that were predicted into a folder, from the summaries that lie there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from contour_ai.files import is_temporary
from contour_ai.pipeline._predict import REPORT
from contour_ai.pipeline.summary import SUMMARY
from contour_ai.report.predicted import FAILED, NOT_JUDGED, ORDER, PredictedPatient, write_predicted

MONTAGE = "montage.png"


def write_patients(out_dir: Path, failures: Sequence[tuple[str, str]] = ()) -> tuple[Path, Path]:
    """Writes `patients.html` and `patients.csv` into a folder of predictions, of this run and of earlier ones.

    Args:
        failures: (patient's folder, what went wrong) of those that were not predicted.

    Raises:
        OutputError: a file of that name is none of this program's, or it cannot be written.
    """
    found = [_of_summary(path) for path in sorted(out_dir.glob(f"*/{SUMMARY}")) if _counts(path)]
    failed = [PredictedPatient(patient=name, verdict=FAILED, reason=_in_short(why)) for name, why in failures]
    return write_predicted(out_dir, [*failed, *(p for p in found if p is not None)])


def _counts(path: Path) -> bool:
    return not is_temporary(path.parent.name)


def _of_summary(path: Path) -> PredictedPatient | None:
    """A line; None where the file is no summary of a prediction."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rois: Mapping[str, Mapping[str, Any]] = content["rois"]
        verdict = _known(content.get("verdict"))
        own = _reasons(content)
        by_roi = {name: _reasons(facts) for name, facts in rois.items()}
        worst = min(rois, key=lambda n: (_rank(rois[n]), -len(by_roi[n])), default="")
        if worst and not by_roi[worst]:
            worst = ""
        # What concerns the patient as a whole comes first where it is as grave as the worst ROI's verdict.
        whole = bool(own) and (not worst or ORDER.index(verdict) <= _rank(rois[worst]))
        if whole:
            worst = ""
        model, folder = content["model"], path.parent
        names = (REPORT, MONTAGE, SUMMARY)
        link = next((name for name in names if (folder / name).is_file()), "")
        return PredictedPatient(
            patient=content["patient_id"] or folder.name,
            verdict=verdict,
            worst_roi=worst,
            reason=own[0] if whole else (by_roi[worst][0] if worst else ""),
            findings=len(own) + sum(map(len, by_roi.values())),
            mean_dice=(content.get("scores") or {}).get("mean_dice_of_organs"),
            model=f"{model['name']} {model['version']}",
            folder=folder.name,
            link=f"{quote(folder.name)}/{link}" if link else "",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _reasons(facts: Mapping[str, Any]) -> list[str]:
    """Findings, the most important first; flags in summaries without verdicts."""
    return [str(one["reason"]) for one in facts.get("findings") or facts.get("flags") or ()]


def _rank(facts: Mapping[str, Any]) -> int:
    return ORDER.index(_known(facts.get("verdict")))


def _known(verdict: object) -> str:
    return str(verdict) if verdict in ORDER else NOT_JUDGED


def _in_short(error: str) -> str:
    """The error's sentence and what was found; no path of the machine."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return " ".join([lines[0], *(line for line in lines[1:] if line.startswith("found:"))]) if lines else ""
