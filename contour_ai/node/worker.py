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
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from contour_ai.errors import ContourAIError
from contour_ai.interrupts import ignore_interrupts
from contour_ai.settings import from_mapping

if TYPE_CHECKING:
    from contour_ai.pipeline._predict import Begun, LoadedModel, PredictOptions

MODELS_IN_MEMORY = 3
"""A node has few models; the least recently used one is dropped."""
BEGIN = '{"begin"'
"""How the line of a patient to begin with starts."""
KEPT_S = 60.0
"""What is begun is dropped after so many seconds without an order: it holds a whole CT."""


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


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptBegun:
    """A patient who is begun, and what must still hold when the job comes.

    Args:
        files: name, size and time of every file in the folder of the images.
    """

    files: frozenset[tuple[str, int, int]]
    model: LoadedModel
    begun: Begun


class Models:
    """The models that a worker keeps, each with its network on the device, and the patient it has begun with.

    A thread of its own begins with a patient, so that orders are taken meanwhile.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._loaded: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
        self._loading, self._changing = threading.Lock(), threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="begin")
        self._coming: tuple[Order, Future[KeptBegun]] | None = None
        self._begun_at = 0.0

    def begin(self, order: Order) -> None:
        """Begins with the patient of an order that may come; one that was begun before and not asked for is dropped."""
        self.drop_begun()
        with self._changing:
            self._coming = (order, self._thread.submit(self._begin, order))
            self._begun_at = time.monotonic()

    def _begin(self, order: Order) -> KeptBegun:
        from contour_ai.pipeline._predict import begin

        model, files = self.get(order.model), _files_in(order.images)
        begun = begin(Path(order.images), model, _options(order, self.device))
        return KeptBegun(files=files, model=model, begun=begun)

    def begun(self, order: Order, model: LoadedModel) -> Begun | None:
        """What was begun for this order, if its images, model and ROIs are still the same; it is given once.

        A fault on the way is not told: the order meets it again.
        """
        with self._changing:
            if self._coming is None:
                return None
            asked, future = self._coming
            if (asked.images, asked.model, asked.rois) != (order.images, order.model, order.rois):
                return None
            self._coming = None
        try:
            kept = future.result()
        except Exception:  # noqa: BLE001 - whatever it is, the order meets it again and tells it
            return None
        return kept.begun if kept.model is model and kept.files == _files_in(order.images) else None

    def drop_begun(self, older_than_s: float = 0.0) -> None:
        """Frees the memory of a patient that nobody has asked for in so many seconds."""
        with self._changing:
            if time.monotonic() - self._begun_at < older_than_s:
                return
            if self._coming is not None:
                self._coming[1].cancel()
            self._coming = None

    def get(self, name: str) -> LoadedModel:
        """A model, loaded if it is not, or if its files have changed since.

        Raises:
            ModelError: it cannot be used.
        """
        from contour_ai.bundle import default_bundle, load_bundle
        from contour_ai.pipeline._predict.model import load_model

        bundle = load_bundle(name) if name else default_bundle()
        key = (str(bundle.folder), bundle.inference_fingerprint)
        with self._loading:
            if key not in self._loaded:
                self._loaded[key] = load_model(bundle, self.device)
                while len(self._loaded) > MODELS_IN_MEMORY:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return self._loaded[key]


def carry_out(order: Order, models: Models) -> Answer:
    """Contours the patient of an order; an error is an answer, too."""
    from contour_ai.bundle.commissioned_record import refuse_uncommissioned
    from contour_ai.pipeline._predict import predict

    out_dir = Path(order.out_dir)
    found = _result(out_dir, order)
    if found is not None:  # made before, by a worker or a node that was ended before it could say so
        return found
    try:
        model = models.get(order.model)
        if order.require:
            refuse_uncommissioned(model.bundle)
        begun = models.begun(order, model)
        predict(Path(order.images), model, out_dir, _options(order, models.device), begun=begun)
    except ContourAIError as error:
        where = f" ({error.found})" if error.found else ""
        print(error, file=sys.stderr, flush=True)
        return Answer(job=order.job, outcome="failed", message=f"{error.what}{where}")
    result = _result(out_dir, order)
    if result is None:
        return Answer(job=order.job, outcome="failed", message="The prediction left no summary.")
    return result


def _options(order: Order, device: str) -> PredictOptions:
    """What `predict` is told for an order."""
    from contour_ai.pipeline._predict import PredictOptions

    return PredictOptions(
        device=device,
        rois=order.rois,
        profile=order.profile,
        derive=order.derive,
        template=None if order.template is None else Path(order.template),
        report="stopped",  # of others, it is written when the structure set is on its way
        overlays=False,
        overwrite=True,
        uids_from=order.uids_from,
    )


def _files_in(folder: str) -> frozenset[tuple[str, int, int]]:
    stats = [(path.name, path.stat()) for path in Path(folder).iterdir()]
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


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


def serve(models: Models, orders: Iterable[str], answers: TextIO) -> None:
    """Carries out orders until the input ends."""
    _say(answers, {"ready": True, "device": _computes_on(models.device)})
    for line in orders:
        if not line.strip():  # nothing came for a while
            models.drop_begun(KEPT_S)
            continue
        content = json.loads(line)
        if content.get("warm"):
            _warm(models, content["warm"])
            continue
        if content.get("report"):
            _say(answers, {"reported": report(**content["report"])})
            continue
        order = from_mapping(Order, content)
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


def _computes_on(device: str) -> str:
    """The device that a name stands for; empty where there is none, which the first order tells."""
    from contour_ai.inference import choose_device

    try:
        return str(choose_device(device))
    except ContourAIError as error:
        print(error, file=sys.stderr, flush=True)
        return ""


def _say(answers: TextIO, content: Mapping[str, object]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def main() -> None:
    """Entry point of `python -m contour_ai.node.worker DEVICE`."""
    ignore_interrupts()  # they are for the node, which ends this process
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not stand among the answers
    models = Models(sys.argv[1])
    serve(models, _orders(sys.stdin, models), answers)


def _orders(source: TextIO, models: Models) -> Iterator[str]:
    """The lines of the input but for patients to begin with, which is done beside; an empty one where none came for a
    while.

    When the input ends, so does the process, at once: the node is gone, and the next node's worker must not meet this
    one at the same patient's files.
    """
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in source:
            if line.startswith(BEGIN):
                models.begin(from_mapping(Order, json.loads(line)["begin"]))
            else:
                lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="orders", daemon=True).start()
    while True:
        try:
            yield lines.get(timeout=KEPT_S / 4)
        except queue.Empty:
            yield ""


if __name__ == "__main__":
    main()
