"""The tables of `verdicts.py`: how many verdicts are not clear, with intervals, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

JUDGED = ("shifted 10 mm", "cut by a third", "speckled", "another organ")
GROSS = "grossly wrong"
SIZES_CM3 = (0.0, 10.0, 20.0, 40.0, math.inf)
Z = 1.96


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One contour and its verdict."""

    patient: str
    roi: str
    what: str
    """`good`, `clinical, poor agreement`, `own, good`, `own, poor`, or the kind of fault."""
    detail: str
    volume_cm3: float
    verdict: str
    reason: str = ""


def wilson(alarms: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    share = alarms / count
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_text(found: Iterable[Judged], counted: Sequence[str] = ("look", "stop")) -> str:
    """`92 (85 to 96) of 75`: in per cent, how many are not clear."""
    verdicts = [one.verdict for one in found]
    if not verdicts:
        return ""
    alarms = sum(verdict in counted for verdict in verdicts)
    low, high = wilson(alarms, len(verdicts))
    return f"{100 * alarms / len(verdicts):.0f} ({100 * low:.0f} to {100 * high:.0f}) of {len(verdicts)}"


def tables(found: Sequence[Judged], wrong: Sequence[Judged], patients: int) -> str:
    """Markdown."""
    lines = [
        f"{patients} patients. In per cent how many are not `clear`, with 95 % intervals, of how many.",
        "",
    ]
    lines += [*_by_kind(found), "", *_by_roi(found), "", *_by_size(found)]
    if wrong:
        lines += [
            "",
            "| grossly wrong clinical contour | volume in cm³ | verdict | reason |",
            "|---|---:|---|---|",
        ]
        lines += [
            f"| {w.patient}, {w.roi} | {w.volume_cm3:.0f} | `{w.verdict}` | {w.reason} |" for w in wrong
        ]
    return "\n".join(lines)


def _by_kind(found: Sequence[Judged]) -> list[str]:
    names = {
        "good": "good (Dice with the network of at least 0.75)",
        "own, good": "the model's own, Dice of at least 0.75",
        "own, poor": "the model's own, Dice below 0.75",
    }
    kinds = list(dict.fromkeys(one.what for one in found))
    first = ["good", "clinical, poor agreement", "own, good", "own, poor"]
    judged = [one for one in found if one.what in JUDGED]
    lines = ["| contours | not clear |", "|---|---|"]
    for kind in [k for k in first if k in kinds]:
        lines.append(f"| {names.get(kind, kind)} | {share_text(o for o in found if o.what == kind)} |")
    lines.append(f"| **the four kinds that are judged** | {share_text(judged)} |")
    for kind in [k for k in kinds if k not in first]:
        mine = [o for o in found if o.what == kind]
        lines.append(f"| {kind} | {share_text(mine)} |")
        if kind == GROSS:
            lines.append(f"| {kind}, `stop` | {share_text(mine, ('stop',))} |")
        details = list(dict.fromkeys(o.detail for o in mine))
        if len(details) > 1 and kind != "another organ":
            lines += [f"| {kind}, {d} | {share_text(o for o in mine if o.detail == d)} |" for d in details]
    return lines


def _by_roi(found: Sequence[Judged]) -> list[str]:
    kinds = ["good", *JUDGED, "own, good", "own, poor"]
    lines = ["| ROI | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for roi in dict.fromkeys(one.roi for one in found):
        cells = (share_text(o for o in found if (o.roi, o.what) == (roi, kind)) for kind in kinds)
        lines.append(f"| {roi} | " + " | ".join(cells) + " |")
    return lines


def _by_size(found: Sequence[Judged]) -> list[str]:
    """By the volume of the contour as it is judged."""
    kinds = ["good", *JUDGED]
    lines = ["| volume of the contour | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for low, high in pairwise(SIZES_CM3):
        name = f"{low:g} to {high:g} cm³" if math.isfinite(high) else f"above {low:g} cm³"
        here = [o for o in found if low <= o.volume_cm3 < high]
        cells = (share_text(o for o in here if o.what == kind) for kind in kinds)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
