"""Finds what belongs together: in a node's storage, or in two folders."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset

from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import CTSeriesFiles, scan
from contour_ai.dicom.values import text
from contour_ai.errors import ContourAIError, InputError, listed
from contour_ai.monitoring.kept import kept_edits
from contour_ai.monitoring.records import ApprovedPair
from contour_ai.pipeline.pairing import find_pairs
from contour_ai.pipeline.summary import Summary, usable_summary

DATABASE = "node.sqlite"


def is_node_storage(path: Path) -> bool:
    """Whether a folder is the storage of a DICOM node."""
    return (path / DATABASE).is_file()


def pairs_of_folders(ai_dir: Path, approved_dir: Path) -> tuple[list[ApprovedPair], list[str]]:
    """Predictions in one folder with the structure sets of the same CTs in another, and sentences on the others.

    Raises:
        InputError: nothing belongs together.
    """
    found, notes = find_pairs(ai_dir, approved_dir)
    doses = _doses([ai_dir, approved_dir])
    pairs = [
        _pair(one.patient, one.ct, one.predicted.path, one.reference.path, doses, approved_at="")
        for one in found
    ]
    return pairs, notes


def pairs_of_node(storage: Path) -> tuple[list[ApprovedPair], list[str]]:
    """What the node sent with what came back approved; the last approved set of each job counts.

    Raises:
        InputError: nothing has come back yet.
    """
    connection = sqlite3.connect(f"file:{storage / DATABASE}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        rows = connection.execute(
            "SELECT returned.path AS approved, returned.received_at AS at, jobs.folder AS folder,"
            " jobs.structure_set AS ai, jobs.id AS job, series.series_uid AS series, series.patient_id AS patient"
            " FROM returned JOIN jobs ON jobs.id = returned.job JOIN series ON series.series_uid = jobs.series_uid"
            " WHERE returned.approved = 1 ORDER BY returned.received_at"
        ).fetchall()
        ratings = connection.execute("SELECT job, roi, rating FROM ratings").fetchall()
        images = {
            row["series"]: [
                storage / i["path"]
                for i in connection.execute(
                    "SELECT path FROM instances WHERE series_uid = ?", (row["series"],)
                )
            ]
            for row in rows
        }
    finally:
        connection.close()
    pairs, notes = {}, []
    for row in rows:
        ai = storage / "results" / row["folder"] / row["ai"]
        if not images[row["series"]] or not ai.is_file():
            notes.append(f"{row['patient']}: images or result are deleted after their days; not compared")
            continue
        try:
            (ct,) = scan(images[row["series"]]).ct_series
        except (ContourAIError, ValueError) as error:
            notes.append(f"{row['patient']}: {error}")
            continue
        at = datetime.fromtimestamp(row["at"]).strftime("%Y-%m-%d")
        label = row["patient"] or row["series"]
        rated = {r["roi"]: r["rating"] for r in ratings if r["job"] == row["job"]}
        pairs[row["series"]] = _pair(
            label, ct, ai, storage / row["approved"], {}, approved_at=at, rated=rated
        )
    if not pairs and not kept_edits(storage / DATABASE):
        raise InputError(
            "No approved structure set has come back to this node.",
            where=storage,
            found=listed(notes) or "none with ApprovalStatus APPROVED that refers to a CT of the node",
            fix="let the planning system send approved structure sets to the node",
        )
    return list(pairs.values()), notes


def _pair(
    patient: str,
    ct: CTSeriesFiles,
    ai: Path,
    approved: Path,
    doses: dict[str, Path],
    *,
    approved_at: str,
    rated: Mapping[str, str] | None = None,
) -> ApprovedPair:
    image = read_header(ct.paths[0], ["Manufacturer", "ManufacturerModelName", "StationName"])
    review = read_header(approved, ["ReviewDate", "ReviewerName", "StructureSetDate"])
    summary = usable_summary(ai.parent)
    rois = {} if summary is None else summary.rois
    names = {name: roi.name_in_file or name for name, roi in rois.items()}
    parts = [text(image, key) for key in ("Manufacturer", "ManufacturerModelName", "StationName")]
    return ApprovedPair(
        patient=patient,
        series_uid=ct.series_instance_uid,
        ct=ct.paths,
        ai=ai,
        approved=approved,
        date=_date(review) or approved_at,
        model=_model(ai, summary),
        scanner=" ".join(part for part in parts if part),
        reviewer=pseudonym(text(review, "ReviewerName")),
        verdicts={names[name]: roi.verdict for name, roi in rois.items() if roi.verdict},
        dose=doses.get(ct.study_instance_uid),
        ratings={names.get(roi, roi): rating for roi, rating in (rated or {}).items()},
    )


def pseudonym(name: str) -> str:
    """A reviewer without a name: the same person is the same in all reports."""
    return f"R-{hashlib.sha256(name.casefold().encode()).hexdigest()[:6]}" if name.strip("^ ") else ""


def _date(header: Dataset) -> str:
    for keyword in ("ReviewDate", "StructureSetDate"):
        found = text(header, keyword)
        try:
            return datetime.strptime(found, "%Y%m%d").strftime("%Y-%m-%d")
        except ValueError:
            continue
    return ""


def model_of(ai: Path) -> str:
    """Name and version of the model that drew a structure set; empty where it does not say."""
    return _model(ai, usable_summary(ai.parent))


def _model(ai: Path, summary: Summary | None) -> str:
    """By the summary beside the structure set; else what the structure set itself says."""
    if summary is not None and summary.model.name:
        return f"{summary.model.name} {summary.model.version}"
    versions = read_header(ai, ["SoftwareVersions"]).get("SoftwareVersions") or ()
    every = [versions] if isinstance(versions, str) else [str(v) for v in versions]
    return every[-1] if every else ""


def _doses(places: Sequence[Path]) -> dict[str, Path]:
    """{StudyInstanceUID: an RTDOSE of a whole plan}."""
    found: dict[str, Path] = {}
    for path in _dose_files(places):
        header = read_header(path, ["StudyInstanceUID", "DoseSummationType"])
        if text(header, "DoseSummationType") in ("PLAN", "MULTI_PLAN", ""):
            found.setdefault(text(header, "StudyInstanceUID"), path)
    return found


def _dose_files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from (other.path for other in scan(place).others if other.kind == "RT Dose")
