"""When a series is complete: quiet, not cut off, and without a gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contour_ai.dicom.classify import LOCALIZER
from contour_ai.dicom.ct import read_ct, refuse_missing_slices
from contour_ai.dicom.scan import scan
from contour_ai.errors import ContourAIError
from contour_ai.node.database import Database
from contour_ai.node.store import ImageStore

FEWEST_WITH_GAP = 3
"""Fewer make no stack in which a gap could be seen."""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a series can be taken up, and if not, why, in a sentence.

    Args:
        waits: whether time may change it.
        counts: False for overviews, which are no CT that anybody waits for.
    """

    ready: bool
    reason: str = ""
    waits: bool = True
    counts: bool = True


def readiness(
    series_uid: str,
    database: Database,
    check: Callable[[str], Readiness],
    *,
    quiet_for_s: float,
    quiet_s: float,
) -> Readiness:
    """Whether nothing came for `quiet_s`, the connections that brought it ended as they should, and there is no gap.

    Args:
        check: looks at the slices of a series (`check_slices`).
        quiet_for_s: seconds since its last slice, or since the node started: what came before may have been cut off.
    """
    if quiet_for_s < quiet_s:
        return Readiness(ready=False, reason="slices are still arriving")
    cut = cut_off(series_uid, database)
    return Readiness(ready=False, reason=cut) if cut else check(series_uid)


def check_slices(series_uid: str, store: ImageStore) -> Readiness:
    """Whether the slices of a series that are here form one stack without a gap."""
    return check_files(store.paths(series_uid))


def check_files(paths: Sequence[Path]) -> Readiness:
    """Whether files form one stack of slices without a gap."""
    archive = scan(list(paths))
    if not archive.ct_series and archive.others and all(o.kind == LOCALIZER for o in archive.others):
        return Readiness(ready=False, reason="a localiser: it is never contoured", waits=False, counts=False)
    try:
        only = archive.ct_series[0] if len(archive.ct_series) == 1 else None  # its files are found already
        ct = read_ct(only or list(paths), with_pixels=False)
        slices = ct.grid.shape_kij[0]
        if slices < FEWEST_WITH_GAP:
            return Readiness(
                ready=False, reason=f"{slices} slice(s) are no CT that can be contoured", waits=False
            )
        refuse_missing_slices(ct)
    except ContourAIError as error:
        found = f" ({error.found})" if error.found else ""
        return Readiness(ready=False, reason=f"{error.what}{found}", waits=False)
    return Readiness(ready=True)


def cut_off(series_uid: str, database: Database) -> str:
    """Why the connections that brought a series were no proper end; empty where they were.

    A connection that was cut off counts until another one, opened after it, has brought images of the series and was
    released: senders try again. Images that come again are enough; half a series has no gap either.
    """
    row = database.row("SELECT released FROM series WHERE series_uid = ?", series_uid)
    if row is not None and row["released"]:
        return ""
    brought = "SELECT associations.* FROM associations JOIN touches ON association = id WHERE series_uid = ?"
    if database.row(f"{brought} AND state = 'open'", series_uid):
        return "its sender is still connected"
    cut = database.row(f"{brought} AND state = 'aborted' ORDER BY last_opened DESC LIMIT 1", series_uid)
    if cut is None:
        return ""
    if database.row(f"{brought} AND state = 'released' AND id > ?", series_uid, cut["last_opened"]):
        return ""
    return f"the connection of {cut['calling_ae']} was cut off; waiting for the rest"
