"""A worker: contours one patient after the other and keeps its models. Runs as a process of its own.

Orders come as JSON lines on standard input, answers go as JSON lines to standard output; messages go to standard
error, which the node keeps with the job. A worker that ends, for whatever reason, takes nobody along.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from contour_ai.errors import ContourAIError

if TYPE_CHECKING:
    from contour_ai.pipeline._predict.model import LoadedModel

MODELS_IN_MEMORY = 3
"""A node has few models; the least recently used one is dropped."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One patient to contour.

    Args:
        job: number of the job.
        images: folder of the CT.
        out_dir: where the result goes.
        model: name or folder; empty for the default one.
        uids_from: fixes the UIDs of the structure set.
        require: `commissioned` where a model that is not is never used.
    """

    job: int
    images: str
    out_dir: str
    model: str
    rois: tuple[str, ...] | None
    profile: str
    derive: str | None
    template: str | None
    uids_from: str
    require: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of an order.

    Args:
        outcome: `contoured`, `stopped` (by the verdict), `failed` (the patient cannot be contoured).
        structure_set: its path, empty where there is none.
        verdict: `clear`, `look`, `stop`; empty where the model gives none.
        message: why it was stopped or failed, in a line.
        seconds: of the whole patient.
    """

    job: int
    outcome: str
    structure_set: str = ""
    verdict: str = ""
    message: str = ""
    seconds: float = 0.0


class Models:
    """The models that a worker keeps, each with its network on the device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._loaded: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()

    def get(self, name: str) -> LoadedModel:
        """A model, loaded if it is not, or if its files have changed since.

        Raises:
            ModelError: it cannot be used.
        """
        from contour_ai.bundle import default_bundle, load_bundle
        from contour_ai.pipeline._predict.model import load_model

        bundle = load_bundle(name) if name else default_bundle()
        key = (str(bundle.folder), bundle.inference_fingerprint)
        if key not in self._loaded:
            self._loaded[key] = load_model(bundle, self.device)
            while len(self._loaded) > MODELS_IN_MEMORY:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]


def carry_out(order: Order, models: Models) -> Answer:
    """Contours the patient of an order; an error is an answer, too."""
    from contour_ai.bundle.commissioned_record import refuse_uncommissioned
    from contour_ai.pipeline._predict import PredictOptions, predict

    out_dir = Path(order.out_dir)
    found = _result(out_dir, order)
    if found is not None:  # made before, by a worker or a node that was ended before it could say so
        return found
    options = PredictOptions(
        device=models.device,
        rois=order.rois,
        profile=order.profile,
        derive=order.derive,
        template=None if order.template is None else Path(order.template),
        report="stopped",  # of others, it is written when the structure set is on its way
        overlays=False,
        overwrite=True,
        uids_from=order.uids_from,
    )
    try:
        model = models.get(order.model)
        if order.require:
            refuse_uncommissioned(model.bundle)
        predict(Path(order.images), model, out_dir, options)
    except ContourAIError as error:
        where = f" ({error.found})" if error.found else ""
        print(error, file=sys.stderr, flush=True)
        return Answer(job=order.job, outcome="failed", message=f"{error.what}{where}")
    result = _result(out_dir, order)
    if result is None:
        return Answer(job=order.job, outcome="failed", message="The prediction left no summary.")
    return result


def _result(out_dir: Path, order: Order) -> Answer | None:
    """The answer that a finished folder gives; None where there is none for these UIDs."""
    from contour_ai.dicom.rtstruct_header import structure_set_uid
    from contour_ai.pipeline.summary import SUMMARY, usable_summary

    expected = str(structure_set_uid(order.uids_from))
    for path in sorted(out_dir.glob(f"*/{SUMMARY}")):
        summary = usable_summary(path.parent)
        if summary is None or "total" not in summary.timings_s:
            continue
        verdict, structure_set, seconds = summary.verdict, summary.structure_set, summary.timings_s["total"]
        if verdict == "stop" and not structure_set.file:
            reasons = "; ".join(flag.reason for flag in summary.findings) or "verdict stop"
            return Answer(
                job=order.job,
                outcome="stopped",
                verdict="stop",
                structure_set=str(path.parent / SUMMARY),
                message=reasons[:500],
                seconds=seconds,
            )
        file = path.parent / structure_set.file
        if structure_set.sop_instance_uid == expected and file.is_file():
            return Answer(
                job=order.job,
                outcome="contoured",
                verdict=verdict,
                structure_set=str(file),
                seconds=seconds,
            )
    return None


def serve(device: str, orders: Iterable[str], answers: TextIO) -> None:
    """Carries out orders until the input ends."""
    models = Models(device)
    _say(answers, {"ready": True})
    for line in orders:
        if not line.strip():
            continue
        content: dict[str, Any] = json.loads(line)
        if content.get("warm"):
            _warm(models, content["warm"])
            continue
        if content.get("report"):
            _say(answers, {"reported": report(**content["report"])})
            continue
        content["rois"] = None if content["rois"] is None else tuple(content["rois"])
        order = Order(**content)
        try:
            answer = carry_out(order, models)
        except Exception:  # noqa: BLE001 - one patient never ends a worker; the traceback is kept with the job
            traceback.print_exc()
            sys.stderr.flush()
            answer = Answer(job=order.job, outcome="failed", message="unforeseen fault; see the job's log")
        _say(answers, answer.__dict__)


def report(folder: str, images: str) -> bool:
    """Writes the report of a contoured patient; whether there is one now. A fault is told to the log, no more."""
    from contour_ai.pipeline.late_report import write_late_report

    try:
        write_late_report(Path(folder), Path(images))
    except Exception:  # noqa: BLE001 - the contours are there, and on their way
        traceback.print_exc()
        sys.stderr.flush()
        return False
    return True


def _warm(models: Models, names: list[str]) -> None:
    """Loads models before the first patient comes; one that cannot be used fails when it is asked for."""
    for name in names[:MODELS_IN_MEMORY]:
        try:
            models.get(name)
        except ContourAIError as error:
            print(error, file=sys.stderr, flush=True)


def _say(answers: TextIO, content: Mapping[str, object]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def main() -> None:
    """Entry point of `python -m contour_ai.node.worker DEVICE`."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not stand among the answers
    serve(sys.argv[1], _orders(sys.stdin), answers)


def _orders(source: TextIO) -> Iterator[str]:
    """The lines of the input. When it ends, so does the process, at once: the node is gone, and the next node's worker
    must not meet this one at the same patient's files."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="orders", daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    main()
