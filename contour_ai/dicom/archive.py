"""What lies in folders: CT series, structure sets and other DICOM files, told apart by their headers."""

from __future__ import annotations

import filecmp
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from contour_ai.dicom.classify import (
    DICOMDIR,
    LOCALIZER,
    Looked,
    OtherFile,
    SkippedFile,
    SliceFile,
    StructureSetFile,
    look,
)
from contour_ai.dicom.file_index import FileIndex
from contour_ai.dicom.folders import files_below, list_files
from contour_ai.dicom.foreign import OTHER
from contour_ai.dicom.joining import joined_series
from contour_ai.progress import OnProgress, ProgressEvent, no_progress

logger = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SEARCH_THREADS = 8
"""Waiting for a network share takes longer than reading a header; more threads than cores hide it."""

FILES_AT_ONCE = 16
"""Files that a thread looks at before it reports: handing over single ones takes longer than to know them again."""

MAX_WARNINGS = 10
WAYS_OUT = (
    (
        "Secondary Capture",
        "pictures of a CT, without its densities in HU and mostly without its geometry; export the original CT slices "
        "(CT Image Storage)",
    ),
    ("localizer", "an overview to plan the scan, no slices; export the CT slices themselves"),
    ("MR ", "contour-ai works on CT; give the planning CT"),
    ("Positron", "contour-ai works on CT; give the CT of the PET/CT"),
)
"""(what is in the name of a kind of DICOM file, what to do where there is nothing else)."""
OTHER_WAY_OUT = "no CT slices; add the CT series that belongs to it"
MAX_NAMED = 5
"""Files that a note names; of more it says how many."""
COPY = "copy of a structure set"


@dataclass(frozen=True, kw_only=True)
class CTSeriesFiles:
    """The files of one CT series. `sop_instance_uids` are in the order of `paths`, which is that of the file names."""

    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    frame_of_reference_uid: str
    description: str
    paths: tuple[Path, ...]
    sop_instance_uids: tuple[str, ...]
    slices: int
    """Number of slices: of files, or of frames in a multi-frame series."""
    notes: tuple[str, ...] = ()
    """Sentences on what was odd in how they belong together."""
    acquisition: int | None = None
    """Which is read where several overlap in the series; None refuses such a series."""
    siblings: tuple[CTSeriesFiles, ...] = field(default=(), compare=False, repr=False)
    """All CT series that were found with it, itself among them: contours may lie on them."""

    def __str__(self) -> str:
        return (
            f"{self.series_instance_uid or 'series without UID'}: {self.slices} slices, "
            f'"{self.description or "no description"}", patient {self.patient_id or "without ID"}'
        )


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What lies in a folder."""

    ct_series: tuple[CTSeriesFiles, ...]
    structure_sets: tuple[StructureSetFile, ...]
    others: tuple[OtherFile, ...]
    skipped: tuple[SkippedFile, ...]
    results: tuple[Path, ...] = ()
    """Folders with results of contour-ai, which were not looked into: they are no input beside the images."""

    def __str__(self) -> str:
        """What was found, in a line."""
        kinds = Counter(other.kind for other in self.others)
        parts = [
            f"{len(self.ct_series)} CT series",
            f"{len(self.structure_sets)} RTSTRUCT",
            *(f"{n} {kind}" for kind, n in sorted(kinds.items())),
        ]
        parts += self.skipped_kinds
        if self.results:
            parts.append(f"{len(self.results)} folder(s) of results of contour-ai, not looked into")
        return ", ".join(parts)

    @property
    def skipped_kinds(self) -> list[str]:
        """The files that were left out, by what they are: "1 zip archive", "2 unreadable DICOM file(s)"."""
        kinds = Counter(skipped.kind for skipped in self.skipped if skipped.kind is not OTHER)
        parts = [
            f"{n} {kind.name if n == 1 else kind.several}"
            for kind, n in sorted(kinds.items(), key=lambda item: item[0].name)
        ]
        unknown = Counter(skipped.is_dicom for skipped in self.skipped if skipped.kind is OTHER)
        if unknown[True]:
            parts.append(f"{unknown[True]} unreadable DICOM file(s)")
        if unknown[False]:
            parts.append(f"{unknown[False]} other file(s)")
        return parts

    @property
    def damaged(self) -> tuple[SkippedFile, ...]:
        """Files and folders that were meant to be DICOM and cannot be read: each may be a slice that is now missing."""
        return tuple(skipped for skipped in self.skipped if skipped.is_dicom)

    @property
    def ways_out(self) -> list[str]:
        """What to do where there is no CT series, by what lies here instead of one."""
        if self.ct_series:
            return []
        kinds = {s.kind: s.path for s in self.skipped if s.kind.fix}
        ways = [f"{path.name} is a {kind.name}: {kind.fix}" for kind, path in kinds.items()]
        for kind in sorted({other.kind for other in self.others} - {DICOMDIR, COPY}):
            ways.append(f"{kind}: {next((fix for sign, fix in WAYS_OUT if sign in kind), OTHER_WAY_OUT)}")
        return ways

    def not_used(self, ct: CTSeriesFiles) -> list[str]:
        """A note on what looks like DICOM and is not used with a CT series: damaged files by name, others by kind."""
        notes = []
        if self.damaged:
            named = "; ".join(map(str, self.damaged[:MAX_NAMED]))
            more = f"; and {len(self.damaged) - MAX_NAMED} more" if len(self.damaged) > MAX_NAMED else ""
            notes.append(
                f"{len(self.damaged)} file(s) that look like DICOM cannot be read and are not used, "
                f"each may be a slice that is missing: {named}{more}"
            )
        uid = ct.series_instance_uid
        strays = [o for o in self.others if uid and o.series_instance_uid == uid and o.kind != LOCALIZER]
        if strays:
            named = "; ".join(f"{o.path}: {o.kind}" for o in strays[:MAX_NAMED])
            more = f"; and {len(strays) - MAX_NAMED} more" if len(strays) > MAX_NAMED else ""
            notes.append(
                f"{len(strays)} file(s) of this series are no CT slices and are not used: {named}{more}"
            )
        kinds = Counter(o.kind for o in self.others if o not in strays and o.kind not in (DICOMDIR, COPY))
        if kinds:
            notes.append("not used: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
        return notes


class BesideSeries:
    """What lies in the folders of each CT series of an archive, or would make a part of it."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._others = grouped(archive.others, lambda other: [other.series_instance_uid])
        skipped = archive.skipped
        self._skipped = grouped(range(len(skipped)), lambda n: [skipped[n].path, skipped[n].path.parent])

    def of(self, ct: CTSeriesFiles) -> Archive:
        folders, uid = {path.parent for path in ct.paths}, ct.series_instance_uid
        numbers = sorted({n for folder in folders for n in self._skipped.get(folder, ())})
        return replace(
            self._archive,
            others=tuple(self._others.get(uid, ())) if uid else (),
            skipped=tuple(self._archive.skipped[n] for n in numbers),
        )


def grouped(values: Iterable[T], keys: Callable[[T], Iterable[K]]) -> dict[K, list[T]]:
    """The values with each key, in their order, so that no patient of an archive looks through all of it."""
    groups: dict[K, list[T]] = {}
    for value in values:
        for key in keys(value):
            groups.setdefault(key, []).append(value)
    return groups


def scan(
    paths: Path | Sequence[Path],
    on_progress: OnProgress = no_progress,
    *,
    index: FileIndex | None = None,
) -> Archive:
    """Looks at every file in folders and their subfolders, also where these are links; only headers are read.

    Unfinished files of a run (see `files.is_temporary`) are never looked at. A folder with results of contour-ai is
    looked into where it is given itself, or where nothing else in the folder given is CT or RTSTRUCT.

    Args:
        paths: a folder or several; a single file counts as well.
        on_progress: told how many files were looked at.
        index: what is known of files from earlier; it learns what is new, and is not saved here.

    Raises:
        InputError: a path does not exist, or is an unfinished file.
    """
    listed = [list_files(path) for path in ([paths] if isinstance(paths, Path) else paths)]
    looked = _look_at([file for one in listed for file in one.files], on_progress, index)
    skipped: list[Path] = []
    for one in listed:
        if any(not isinstance(looked[file], SkippedFile) for file in one.files):
            skipped += one.results
        else:
            within = [f for folder in one.results for f in files_below(folder).files if f not in looked]
            looked |= _look_at(within, on_progress, index)
    if index is not None:
        index.keep_only(looked, [paths] if isinstance(paths, Path) else paths)
    for one in listed:
        for folder, reason in one.closed:
            looked[folder] = SkippedFile(
                path=folder, reason=f"This folder cannot be opened ({reason}).", is_dicom=True
            )
    return _sorted_out(looked.values(), dict.fromkeys(skipped))


def _look_at(paths: Iterable[Path], on_progress: OnProgress, index: FileIndex | None) -> dict[Path, Looked]:
    """What each file is."""
    files = list(dict.fromkeys(paths))
    found: dict[Path, Looked] = {}
    groups = [files[n : n + FILES_AT_ONCE] for n in range(0, len(files), FILES_AT_ONCE)]
    with ThreadPoolExecutor(SEARCH_THREADS) as pool:
        for group in pool.map(partial(_look_at_group, index=index), groups):
            found.update(group)
            if len(found) % 64 < FILES_AT_ONCE or len(found) == len(files):
                on_progress(ProgressEvent(stage="looking for DICOM", done=len(found), total=len(files)))
    return found


def _look_at_group(paths: Sequence[Path], index: FileIndex | None) -> list[tuple[Path, Looked]]:
    if index is None:
        return [(path, look(path)) for path in paths]
    return [(path, _known_or_look(path, index)) for path in paths]


def _known_or_look(path: Path, index: FileIndex) -> Looked:
    try:
        stat = path.stat()  # before it is opened: a change in between shows the next time
    except OSError:
        return look(path)
    found = index.known(path, stat)
    if found is None:
        found = look(path)
        index.remember(found, stat)
    return found


def _sorted_out(looked: Iterable[Looked], results: Iterable[Path]) -> Archive:
    slices: dict[tuple[str, str, str], list[SliceFile]] = {}
    structure_sets: list[StructureSetFile] = []
    others: list[OtherFile] = []
    skipped: list[SkippedFile] = []
    for found in looked:
        if isinstance(found, SliceFile):
            slices.setdefault((found.patient_id, found.study_uid, found.series_uid), []).append(found)
        elif isinstance(found, StructureSetFile):
            structure_sets.append(found)
        elif isinstance(found, OtherFile):
            others.append(found)
        else:
            skipped.append(found)
    structure_sets, copies = _without_copies(structure_sets)
    others += copies
    _warn_of_damaged(skipped)
    series = tuple(_joined([_series(slices[key]) for key in sorted(slices)]))
    return Archive(
        ct_series=tuple(replace(one, siblings=series) for one in series),
        structure_sets=tuple(structure_sets),
        others=tuple(others),
        skipped=tuple(skipped),
        results=tuple(results),
    )


# -- files and series ------------------------------------------------------------------------------------------


def _without_copies(
    structure_sets: Sequence[StructureSetFile],
) -> tuple[list[StructureSetFile], list[OtherFile]]:
    """The structure sets without files that are, byte for byte, copies of an earlier one."""
    kept: list[StructureSetFile] = []
    of_uid: dict[str, list[StructureSetFile]] = {}
    copies: list[OtherFile] = []
    for one in structure_sets:
        same_uid = of_uid.setdefault(one.sop_instance_uid, []) if one.sop_instance_uid else []
        original = next((k for k in same_uid if filecmp.cmp(k.path, one.path, shallow=False)), None)
        if original is None:
            kept.append(one)
            same_uid.append(one)
        else:
            copies.append(
                OtherFile(
                    path=one.path,
                    kind=COPY,
                    series_instance_uid=one.series_instance_uid,
                    patient_id=one.patient_id,
                )
            )
    return kept, copies


def _warn_of_damaged(skipped: Sequence[SkippedFile]) -> None:
    """Names what was meant to be DICOM and cannot be read: each may be a slice that is now missing."""
    broken = [s for s in skipped if s.is_dicom]
    for one in broken[:MAX_WARNINGS]:
        logger.warning("left out %s: %s", one.path, one.reason)
    if len(broken) > MAX_WARNINGS:
        logger.warning("left out %d more DICOM files that cannot be read", len(broken) - MAX_WARNINGS)


def _series(slices: Sequence[SliceFile]) -> CTSeriesFiles:
    first = slices[0]
    return CTSeriesFiles(
        series_instance_uid=first.series_uid,
        study_instance_uid=first.study_uid,
        patient_id=first.patient_id,
        frame_of_reference_uid=_first(s.frame_of_reference_uid for s in slices),
        description=_first(s.description for s in slices),
        paths=tuple(s.path for s in slices),
        sop_instance_uids=tuple(s.sop_uid for s in slices),
        slices=sum(s.frames for s in slices),
    )


def _joined(series: Sequence[CTSeriesFiles]) -> list[CTSeriesFiles]:
    """The series, with those joined that are one scan whose study or series UID changes from slice to slice."""
    joined: dict[int, CTSeriesFiles | None] = {}
    for found in joined_series(series):
        parts = found.parts
        first = series[parts[0]]
        of_all = [series[n] for n in parts]
        joined.update(dict.fromkeys(parts))
        joined[parts[0]] = replace(
            first,
            series_instance_uid=_first(one.series_instance_uid for one in of_all),
            patient_id=_first(one.patient_id for one in of_all),
            study_instance_uid=_first(one.study_instance_uid for one in of_all),
            frame_of_reference_uid=_first(one.frame_of_reference_uid for one in of_all),
            paths=tuple(path for n in parts for path in series[n].paths),
            sop_instance_uids=tuple(uid for n in parts for uid in series[n].sop_instance_uids),
            slices=sum(series[n].slices for n in parts),
            notes=(*first.notes, found.note),
        )
    kept = [joined.get(n, one) for n, one in enumerate(series)]
    return [one for one in kept if one is not None]


def _first(values: Iterable[str]) -> str:
    """The first that is not empty; none is read after it."""
    return next(filter(None, values), "")
