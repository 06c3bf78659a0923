"""How often each flag fires: on a model's predictions as they are, and on the same predictions spoiled on purpose.

    contour-ai sample held-back --region headneck --count 24 --first-seed 300
    python benchmarks/flags.py phantom-headneck held-back
    python benchmarks/flags.py headneck-openkbp openkbp-dicom --splits runs/headneck/splits.json --write docs/flags.md

Patients must not have trained the model: with `--splits` those that the training held back are taken. The predictions
go through the steps that `contour-ai predict` takes; what is spoiled are the logits that the network gave, of one ROI
or of one pair at a time. The tables give, in per cent of the ROIs, how often a flag fired; good are ROIs with a Dice of
at least `--good` against the patient's own contours, poor those with less, and only good ones are spoiled.

With `--write` the tables take the place of those of the same model in docs/flags.md, between the two comments that
name it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from contour_ai.bundle import ModelBundle, load_bundle
from contour_ai.dicom.rtstruct_read import read_structures
from contour_ai.errors import InputError
from contour_ai.pipeline._predict import (
    LoadedModel,
    Opened,
    flags_of,
    load_model,
    open_patient,
    restore_rois,
    run_network,
)
from contour_ai.pipeline.result import PredictedRoi, dice_in_box
from contour_ai.pipeline.splits_file import read_splits
from contour_ai.postprocess import contour_logit
from contour_ai.quality.flag import Flag, PatientFlags
from contour_ai.structures import flip_pairs, tg263_name

OUTSIDE = -12.0
"""Logit of what is surely not the ROI."""
SHIFT_MM = (10.0, 20.0)
SPECKS = 5


Channels = dict[int, np.ndarray]
"""Logits (k, i, j) that take the place of others."""


def shifted(mm: float) -> Callable[[np.ndarray, Context, int], Channels]:
    """Moved by so much in a direction that differs from ROI to ROI."""

    def spoil(logits: np.ndarray, context: Context, channel: int) -> Channels:
        axis = context.dice.integers(3)
        steps = max(1, round(mm / context.spacing_mm[axis])) * context.dice.choice((-1, 1))
        moved = np.roll(logits[channel], steps, axis)
        edge = [slice(None)] * 3
        edge[axis] = slice(None, steps) if steps > 0 else slice(steps, None)
        moved[tuple(edge)] = OUTSIDE
        return {channel: moved}

    return spoil


def truncated(logits: np.ndarray, context: Context, channel: int) -> Channels:
    """The upper or the lower third of its slices is missing."""
    held = np.flatnonzero((logits[channel] > context.threshold(channel, logits)).any(axis=(1, 2)))
    cut = logits[channel].copy()
    if held.size > 2:
        third = len(held) // 3
        ends = slice(held[-third], None) if context.dice.integers(2) else slice(None, held[third - 1] + 1)
        cut[ends] = OUTSIDE
    return {channel: cut}


def swapped(logits: np.ndarray, context: Context, channel: int) -> Channels:
    """In the place of its partner, where it has one, and of the next ROI where not."""
    pairs = dict(flip_pairs(context.bundle.roi_names))
    other = {**pairs, **{b: a for a, b in pairs.items()}}.get(channel, (channel + 1) % len(logits))
    return {channel: logits[other], other: logits[channel]}


def speckled(logits: np.ndarray, context: Context, channel: int) -> Channels:
    """With blots of two voxels' radius strewn into the body nearby."""
    inside = logits[channel] > context.threshold(channel, logits)
    near = ndimage.binary_dilation(inside, iterations=10) & ~ndimage.binary_dilation(inside, iterations=4)
    places = np.argwhere(near & context.patient.prepared.body)
    spots = np.zeros(inside.shape, bool)
    if len(places):
        spots[tuple(context.dice.choice(places, SPECKS).T)] = True
    blots = ndimage.binary_dilation(spots, iterations=2)
    return {channel: np.where(blots, 4.0, logits[channel])}


def another_patients(logits: np.ndarray, context: Context) -> Channels:
    """All ROIs as they are in another patient, laid on this one by the middle of the body."""
    spoiled = np.full_like(logits, OUTSIDE)
    ours, theirs = middle(context.patient), context.other_middle
    start = [round(a - b) for a, b in zip(ours, theirs, strict=True)]
    here, there = [slice(None)], [slice(None)]
    for begin, n, m in zip(start, logits.shape[1:], context.other.shape[1:], strict=True):
        here.append(slice(max(0, begin), max(0, min(n, begin + m))))
        there.append(slice(max(0, -begin), max(0, min(m, n - begin))))
    spoiled[tuple(here)] = context.other[tuple(there)]
    return dict(enumerate(spoiled))


ONE_ROI = {
    **{f"shifted {mm:g} mm": shifted(mm) for mm in SHIFT_MM},
    "truncated": truncated,
    "swapped": swapped,
    "speckled": speckled,
}
ALL_ROIS = {"another's": another_patients}
SPOILED = (*ONE_ROI, *ALL_ROIS)


class Context:
    """What spoiling needs besides the logits: the patient, another one, and the same random numbers in every run."""

    def __init__(
        self, patient: Opened, bundle: ModelBundle, other: tuple[Opened, np.ndarray], seed: int
    ) -> None:
        self.patient, self.bundle = patient, bundle
        self.other, self.other_middle = other[1], middle(other[0])
        self.spacing_mm = patient.prepared.grid.spacing_mm
        self.dice = np.random.default_rng(seed)

    def threshold(self, channel: int, logits: np.ndarray) -> float:
        rule = self.bundle.postprocess_of(self.bundle.roi_names[channel])
        return contour_logit(logits[channel], rule, self.patient.prepared.body)


def middle(patient: Opened) -> list[float]:
    """The body's middle on the model's grid."""
    held = [np.flatnonzero(patient.prepared.body.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))]
    return [(n[0] + n[-1]) / 2 for n in held]


def measure(patients: list[Path], model: LoadedModel, good: float, kinds: list[str], report: Report) -> None:
    """Fills the report, patient by patient; the one before is the other one."""
    bundle, before, started = model.bundle, None, time.perf_counter()
    for seed, folder in enumerate(patients):
        try:
            patient = open_patient(folder, bundle)
        except InputError as error:
            print(f"{folder.name} left out: {error}", file=sys.stderr)
            continue
        logits = run_network(patient.prepared, model)
        rois = restore_rois(patient, logits, bundle, bundle.roi_names)
        dice = scores(patient, rois)
        begun = time.perf_counter()
        flags = flags_of(patient, rois, bundle)
        report.seconds.append(time.perf_counter() - begun)
        report.images.update({f.code for f in flags.image})
        report.patients += 1
        for roi in bundle.roi_names:
            kind = "not scored" if roi not in dice else "good" if dice[roi] >= good else "poor"
            report.add(kind, roi, flags.rois[roi])
        if before is not None:
            context = Context(ct=patient, source=bundle, bundle=before, device=seed)
            found = [n for n, roi in enumerate(bundle.roi_names) if dice.get(roi, 0) >= good]
            for kind in (k for k in kinds if k in ONE_ROI):
                for channel in found:
                    flags = spoiled_flags(context, rois, logits, ONE_ROI[kind](logits, context, channel))
                    report.add(kind, bundle.roi_names[channel], flags.rois[bundle.roi_names[channel]])
            for kind in (k for k in kinds if k in ALL_ROIS):
                flags = spoiled_flags(context, rois, logits, ALL_ROIS[kind](logits, context))
                for channel in found:
                    report.add(kind, bundle.roi_names[channel], flags.rois[bundle.roi_names[channel]])
        before = patient, logits
        print(f"{report.patients} {folder.name} {time.perf_counter() - started:.0f} s", file=sys.stderr)


def spoiled_flags(
    context: Context, rois: list[PredictedRoi], logits: np.ndarray, spoiled: Channels
) -> PatientFlags:
    """Flags of the patient with some channels in the place of others; only those are brought to the CT again."""
    bundle, changed = context.bundle, logits.copy()
    for channel, values in spoiled.items():
        changed[channel] = values
    names = [bundle.roi_names[channel] for channel in spoiled]
    again = {roi.info.name: roi for roi in restore_rois(context.patient, changed, bundle, names)}
    return flags_of(context.patient, [again.get(roi.info.name, roi) for roi in rois], bundle)


def scores(patient: Opened, rois: list[PredictedRoi]) -> dict[str, float]:
    """{ROI: Dice} of those that the patient's structure set has."""
    if len(patient.files.structure_sets) != 1:
        return {}
    truth = read_structures(patient.files.structure_sets[0].path, patient.ct)
    named = {tg263_name(name) or name: name for name in truth.contoured()}
    found = {}
    for roi in rois:
        if roi.info.name in named:
            mask = truth.mask(named[roi.info.name])
            if mask.any():
                empty = roi.box is None or roi.inside is None
                found[roi.info.name] = 0.0 if empty else dice_in_box(roi.inside, roi.box, mask)
    return found


class Report:
    """Counts, and the tables made of them."""

    def __init__(self) -> None:
        self.patients, self.seconds = 0, []
        self.images: Counter[str] = Counter()
        self.codes: dict[str, Counter[str]] = defaultdict(Counter)
        self.any: dict[tuple[str, str], list[bool]] = defaultdict(list)

    def add(self, kind: str, roi: str, flags: tuple[Flag, ...]) -> None:
        self.codes[kind].update({flag.code for flag in flags})
        self.any[kind, roi].append(bool(flags))

    def count(self, kind: str) -> int:
        return sum(len(found) for (k, _), found in self.any.items() if k == kind)

    def lines(self, bundle: ModelBundle, good: float) -> Iterator[str]:
        """The tables, under a heading that says of which model and how many patients."""
        kinds = [k for k in ("good", "poor", "not scored", *SPOILED) if self.count(k)]
        yield f"### {bundle.name} {bundle.version} (weights {bundle.weights_sha256[:12]})"
        yield ""
        yield (
            f"{self.patients} patients that the model was not trained on. Good: Dice of at least {good:g} against "
            "the patient's own contours; poor: less; not scored: not contoured in the patient. Only good ones are "
            f"spoiled. Flags of images: {', '.join(f'{c} {n}' for c, n in self.images.items()) or 'none'}."
        )
        yield ""
        yield "| flag, % of ROIs | " + " | ".join(kinds) + " |"
        yield "|---|" + "---:|" * len(kinds)
        yield "| number of ROIs | " + " | ".join(str(self.count(k)) for k in kinds) + " |"
        for code in sorted({code for counts in self.codes.values() for code in counts}):
            yield self._row(code, [self.codes[k][code] / self.count(k) for k in kinds])
        yield self._row("**any**", [sum(map(sum, self._of(k))) / self.count(k) for k in kinds])
        yield ""
        yield "| any flag, % | " + " | ".join(kinds) + " |"
        yield "|---|" + "---:|" * len(kinds)
        for roi in bundle.roi_names:
            cells = [self.any.get((k, roi), []) for k in kinds]
            yield self._row(roi, [float(np.mean(found)) if found else None for found in cells])

    def _of(self, kind: str) -> list[list[bool]]:
        return [found for (k, _), found in self.any.items() if k == kind]

    @staticmethod
    def _row(name: str, shares: list[float | None]) -> str:
        cells = ["-" if s is None else "" if s == 0 else f"{100 * s:.0f}" for s in shares]
        return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="name or folder of a bundle")
    parser.add_argument("data_dir", type=Path, help="a folder of patients, each in a folder of its own")
    parser.add_argument(
        "--splits", type=Path, help="a run's splits.json: only the patients that it held back"
    )
    parser.add_argument("--good", type=float, default=0.75, help="Dice of a good prediction")
    parser.add_argument("--spoil", action="append", choices=SPOILED, help="only in this way; may be repeated")
    parser.add_argument("--most", type=int, help="look at so many patients only")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, help="docs/flags.md, to put the tables into")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.model)
    if bundle.ranges is None:
        sys.exit(f"{bundle.name} has no ranges: `contour-ai models ranges` measures them")
    patients = sorted(p for p in arguments.data_dir.iterdir() if p.is_dir())
    if arguments.splits is not None:
        held_back = set(read_splits(arguments.splits).validation)
        patients = [p for p in patients if p.name in held_back or f"OpenKBP-{p.name}" in held_back]
    if arguments.write is not None and f"<!-- flags of {bundle.name} -->" not in arguments.write.read_text(
        "utf-8"
    ):
        sys.exit(f"{arguments.write} has no place for {bundle.name}")
    report = Report()
    model = load_model(bundle, arguments.device)
    measure(patients[: arguments.most], model, arguments.good, arguments.spoil or list(SPOILED), report)
    if not report.patients:
        sys.exit("no patient was looked at")
    tables = "\n".join(report.lines(bundle, arguments.good))
    print(tables)
    print(f"\nflags took {np.median(report.seconds) * 1000:.0f} ms a patient (median)", file=sys.stderr)
    if arguments.write is not None:
        put_into(arguments.write, bundle.name, tables)


def put_into(path: Path, model: str, tables: str) -> None:
    """Replaces what stands between the two comments of a model."""
    text = path.read_text(encoding="utf-8")
    first, last = f"<!-- flags of {model} -->\n", f"<!-- end of {model} -->"
    if text.count(first) != 1 or text.count(last) != 1:
        sys.exit(f"{path} lacks the lines {first.strip()} and {last}")
    before, rest = text.split(first)
    after = rest.split(last)[1]
    path.write_text(f"{before}{first}{tables}\n{last}{after}", encoding="utf-8", newline="\n")
    print(f"written into {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
