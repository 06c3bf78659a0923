"""What a validation on whole patients finds, and where it is written."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contour_ai.cores import available_cores
from contour_ai.csv_files import write_csv
from contour_ai.evaluation.confusion import Accuracies
from contour_ai.inference import Predictor
from contour_ai.progress import OnProgress, ProgressEvent, no_progress
from contour_ai.training.cache import Case
from contour_ai.training.validation_figures import CaseFigures, case_figures, worst_cases
from contour_ai.training.worst_pictures import save_pictures, worst_picture

FIGURES_OF_ROIS = {"dice": "dice", "surface dice": "surface_dice", "hd95_mm": "hd95_mm"}
"""{heading: field of `Score`}."""

ACCURACIES = tuple(f.name for f in fields(Accuracies))
"""Headings of what the confusion matrix gives."""

VALIDATION_FILE = "validation.csv"
"""In a run folder: the Dice of every ROI of every validation patient, by the weights that validated best."""

WORST = 3
"""Patients whose pictures are drawn."""

FIGURE_THREADS = 8
"""Threads that compute figures beside a GPU, at most; each holds the logits of a patient."""

FORWARD_SHARE = 0.4
"""Of a training step, the forward pass: what a validation takes is guessed from it until one was seen."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A validation on whole patients."""

    step: int
    elapsed_s: float
    loss: float
    rate: float
    dice: Mapping[str, float]
    """Mean over the patients that have the ROI; NaN where none has."""
    patients: Mapping[str, Mapping[str, float]]
    """{patient ID: {ROI: Dice}}."""
    surface_dice: Mapping[str, float] = field(default_factory=dict)
    """Mean over the patients, within the ROI's tolerance."""
    hd95_mm: Mapping[str, float] = field(default_factory=dict)
    """Median over the patients, infinite where most miss it."""
    accuracies: Mapping[str, float] = field(default_factory=dict)
    """Of the confusion matrix (see `Accuracies`); empty where ROIs overlap."""

    @classmethod
    def of(
        cls,
        step: int,
        elapsed_s: float,
        loss: float,
        rate: float,
        rois: Sequence[str],
        figures: CaseFigures,
    ) -> Score:
        """Averages the patients' figures."""
        means, accuracies = figures.table(rois), figures.accuracies()
        return cls(
            step=step,
            elapsed_s=elapsed_s,
            loss=loss,
            rate=rate,
            dice=means["dice"],
            patients=figures.dice(),
            surface_dice=means["surface_dice"],
            hd95_mm=means["hd95_mm"],
            accuracies={} if accuracies is None else vars(accuracies),
        )

    @property
    def mean(self) -> float:
        """Mean over the ROIs that could be scored; 0 where none could."""
        values = [v for v in self.dice.values() if not math.isnan(v)]
        return float(np.mean(values)) if values else 0.0


def validate(
    cases: Sequence[Case],
    predictor: Predictor,
    on_progress: OnProgress = no_progress,
    *,
    threads: int | None = None,
) -> CaseFigures:
    """The figures of the validation patients, whole, on the model grid, as in prediction.

    Args:
        threads: that compute figures while the network runs; None for several beside a GPU, which would wait for the
            distances of surfaces otherwise, and none on the CPU.
    """
    if threads is None:
        threads = 0 if predictor.device.type == "cpu" else min(FIGURE_THREADS, available_cores())
    figures = CaseFigures()
    coming: deque[Future[CaseFigures]] = deque()
    with ThreadPoolExecutor(max(threads, 1), "figures") as pool:
        for n, case in enumerate(cases):
            on_progress(
                ProgressEvent(
                    stage="validation", done=n, total=len(cases), facts={"patient": case.patient_id}
                )
            )
            coming.append(pool.submit(case_figures, predictor.logits(case.hu), case))
            while len(coming) > threads:
                figures.merge(coming.popleft().result())
        while coming:
            figures.merge(coming.popleft().result())
    on_progress(ProgressEvent(stage="validation", done=len(cases), total=len(cases)))
    return figures


class CurveWriter(Protocol):
    """What is used of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> object:
        """One point of a curve."""

    def add_image(
        self, tag: str, img_tensor: NDArray[np.uint8], global_step: int, /, *, dataformats: str
    ) -> object:
        """A picture."""

    def flush(self) -> object:
        """Writes what is waiting."""

    def close(self) -> object:
        """Ends the file."""


def draw_worst(
    folder: Path,
    writer: CurveWriter,
    score: Score,
    cases: Sequence[Case],
    predict: Callable[[Case], NDArray[np.float32]],
) -> None:
    """Pictures of the patients that did worst, in a folder and in TensorBoard; they are predicted again.

    Raises:
        OutputError: the folder cannot be written.
    """
    by_id = {case.patient_id: case for case in cases}
    pictures = {}
    for place, (patient, roi, dice) in enumerate(worst_cases(score.patients, WORST), start=1):
        picture = worst_picture(by_id[patient], roi, predict(by_id[patient]))
        pictures[f"{place}_{patient}_{roi}_{dice:.3f}"] = picture
        writer.add_image(f"worst/{place}", np.asarray(picture), score.step, dataformats="HWC")
    save_pictures(folder, pictures)


def write_metrics(path: Path, rois: Sequence[str], scores: Sequence[Score]) -> None:
    """`metrics.csv`: one row a validation."""
    names = ["step", "elapsed_s", "loss", "learning_rate", "mean_dice", *ACCURACIES]
    header = [*names, *(f"{figure} {roi}" for figure in FIGURES_OF_ROIS for roi in rois)]
    table = [
        [str(s.step), f"{s.elapsed_s:.1f}", f"{s.loss:.5f}", f"{s.rate:.3e}", f"{s.mean:.4f}"]
        + [_number(s.accuracies.get(name)) for name in ACCURACIES]
        + [_number(getattr(s, key).get(roi)) for key in FIGURES_OF_ROIS.values() for roi in rois]
        for s in scores
    ]
    write_csv(path, header, table, overwrite=True)


def write_patients(path: Path, score: Score) -> None:
    """`validation.csv`: one row a patient and ROI; those that were not contoured have none."""
    table = [
        (patient, roi, f"{dice:.4f}")
        for patient, rois in score.patients.items()
        for roi, dice in rois.items()
    ]
    write_csv(path, ["patient", "roi", "dice"], table, overwrite=True)


def _number(value: float | None) -> str:
    """Empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def write_score(writer: CurveWriter, score: Score) -> None:
    """The curves of TensorBoard."""
    writer.add_scalar("Dice/mean", score.mean, score.step)
    for figure, key in FIGURES_OF_ROIS.items():
        for roi, value in getattr(score, key).items():
            if math.isfinite(value):
                writer.add_scalar(f"{figure.replace('dice', 'Dice')}/{roi}", value, score.step)
    for name, value in score.accuracies.items():
        writer.add_scalar(f"accuracy/{name}", value, score.step)
    writer.flush()
