"""Structure sets that come back: whose they are, found by the images that they refer to."""

from __future__ import annotations

import logging

from contour_ai.dicom.scan import scan
from contour_ai.errors import InputError
from contour_ai.node.database import Database
from contour_ai.node.store import ImageStore

logger = logging.getLogger(__name__)

NOBODYS = "-"
"""Series of a structure set that refers to no CT of this node."""


def pair_returned(database: Database, store: ImageStore) -> int:
    """Pairs structure sets that came in with the node's own; returns how many were looked at.

    A structure set belongs to the series that it names, else to that with an image that it names. Its job is the last
    one of the series that gave a structure set; the node's own structure set, sent back as it was, is paired, too, and
    told from others by its UID.
    """
    fresh = database.rows("SELECT sop_uid, path FROM returned WHERE series_uid = ''")
    for row in fresh:
        series_uid = NOBODYS
        try:
            found = scan(store.root / row["path"]).structure_sets
            if found:
                series_uid = _series_of(
                    found[0].referenced_series_uids, found[0].referenced_sop_uids, database
                )
        except InputError as error:
            logger.warning("a structure set that came in cannot be read: %s", error)
        job = database.row(
            "SELECT id FROM jobs WHERE series_uid = ? AND structure_set != '' ORDER BY id DESC LIMIT 1",
            series_uid,
        )
        database.execute(
            "UPDATE returned SET series_uid = ?, job = ? WHERE sop_uid = ?",
            series_uid,
            None if job is None else job["id"],
            row["sop_uid"],
        )
    return len(fresh)


def _series_of(series_uids: tuple[str, ...], sop_uids: tuple[str, ...], database: Database) -> str:
    for uid in series_uids:
        if database.row("SELECT 1 FROM series WHERE series_uid = ?", uid):
            return uid
    for uid in sop_uids:
        row = database.row("SELECT series_uid FROM instances WHERE sop_uid = ?", uid)
        if row is not None:
            return str(row["series_uid"])
    return NOBODYS
