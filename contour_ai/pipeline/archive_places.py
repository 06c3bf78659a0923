"""Folders and patients of an archive that the ROI map names, or a list of those to leave out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from contour_ai.dicom.scan import PatientFiles
from contour_ai.errors import ConfigError, listed
from contour_ai.structures.roi_map import RoiMap
from contour_ai.text_files import read_text_file
from contour_ai.yaml_files import parse_yaml, read_yaml

NO_REASON = "listed in --exclude"


class Places:
    """The patients of an archive by their IDs and folders."""

    def __init__(self, data_dir: Path, patients: Mapping[str, PatientFiles]) -> None:
        self.of_label = {label: _places(data_dir, files) for label, files in patients.items()}
        self._known = {place for places in self.of_label.values() for place in places}

    def refuse_unknown(self, places: Collection[str], what: str, where: object = None) -> None:
        """Stops where a folder or patient is named that is not here.

        Raises:
            ConfigError: there are such; all are named.
        """
        unknown = [place for place in dict.fromkeys(places) if normal_place(place) not in self._known]
        if unknown:
            raise ConfigError(
                f"{what} of folders or patients that are not in this archive.",
                where=where,
                found=listed(unknown, between=", "),
                expected="a folder below the archive, as in site/pelvis, or a patient ID",
            )

    def within(self, label: str, places: Collection[str]) -> str | None:
        """The first of these places that a patient is in; None where it is in none."""
        here = self.of_label[label]
        return next((place for place in places if normal_place(place) in here), None)

    def rois(self, label: str, rois_of_places: Mapping[str, Sequence[str]]) -> frozenset[str]:
        """The ROIs that are listed for the places of a patient."""
        here = self.of_label[label]
        return frozenset(
            roi for place, rois in rois_of_places.items() if normal_place(place) in here for roi in rois
        )


class MapPlaces:
    """The rules of a ROI map for single folders and patients.

    Raises:
        ConfigError: one of them is not in the archive.
    """

    def __init__(self, places: Places, roi_map: RoiMap | None) -> None:
        self.places, self.roi_map = places, roi_map
        if roi_map is not None:
            places.refuse_unknown(
                (*roi_map.absent, *roi_map.accepted), "The ROI map speaks", where=roi_map.source
            )

    def absent(self, label: str) -> frozenset[str]:
        """ROIs that are certainly not in a patient."""
        return frozenset() if self.roi_map is None else self.places.rois(label, self.roi_map.absent)

    def accepted(self, label: str) -> frozenset[str]:
        """ROIs of a patient that are right."""
        return frozenset() if self.roi_map is None else self.places.rois(label, self.roi_map.accepted)


def load_places(path: Path) -> dict[str, str]:
    """{patient ID or folder: reason} from a text file, or from a YAML mapping or list.

    In a text file, each line is a patient ID or folder, and behind a tab, comma, semicolon or a colon with a space the
    reason; a line may also be written as in YAML, with the ID in double quotes. Lines that begin with # are comments.

    Raises:
        ConfigError: the file cannot be read, is empty, or names a place twice with different reasons.
    """
    if path.suffix.casefold() in (".yaml", ".yml"):
        return _checked_places(path, _yaml_lines(path))
    try:
        lines = read_text_file(path).splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError("The list of patients cannot be read.", where=path, found=error) from error
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return _checked_places(path, [_quoted_line(path, line) or _plain_line(line) for line in entries])


def _plain_line(line: str) -> tuple[str, str]:
    parts = re.split(r"\t|[,;]|:\s", line, maxsplit=1)
    return parts[0].strip(), "".join(parts[1:]).strip()


def _quoted_line(path: Path, line: str) -> tuple[str, str] | None:
    """A line as YAML writes it, "P1": "reason", for IDs and reasons with any characters in them."""
    if not re.match(r'"(?:[^"\\]|\\.)*":\s', f"{line} "):
        return None
    try:
        ((place, reason),) = parse_yaml(line).items()
    except ValueError as error:
        raise ConfigError("A line of the list of patients cannot be read.", where=path, found=line) from error
    return str(place), "" if reason is None else str(reason)


def _yaml_lines(path: Path) -> list[tuple[str, str]]:
    content = read_yaml(path, "The list of patients", fix="check --exclude")
    if isinstance(content, Mapping):
        return [(str(place), "" if reason is None else str(reason)) for place, reason in content.items()]
    if isinstance(content, list):
        return [(str(place), "") for place in content]
    raise ConfigError(
        "The list of patients is neither a mapping nor a list.",
        where=path,
        found=type(content).__name__,
        expected="patient IDs or folders, each with its reason, as in `P123: hip prosthesis`",
    )


def _checked_places(path: Path, entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    places: dict[str, str] = {}
    for place, reason in entries:
        if not normal_place(place) or places.get(place, reason) != reason:
            raise ConfigError(
                "The list of patients has an entry that is empty, or twice with different reasons.",
                where=path,
                found=place or "an empty patient ID",
                expected="each patient ID or folder once, with its reason",
            )
        places[place] = reason
    if not places:
        raise ConfigError("The list of patients is empty.", where=path, fix="leave the option out")
    return places


def _places(data_dir: Path, files: PatientFiles) -> frozenset[str]:
    """A patient's ID, and the folders below the archive in which its structure sets or CT lie."""
    # Not resolved: a folder of the archive may be a link to one elsewhere.
    root, found = data_dir.absolute(), {normal_place(files.ct.patient_id)}
    paths = [*(one.path for one in files.structure_sets), files.ct.paths[0]]
    for path in (path.absolute() for path in paths):
        if root in path.parents:
            parts = path.relative_to(root).parts[:-1]
            found |= {normal_place("/".join(parts[: n + 1])) for n in range(len(parts))}
    return frozenset(found - {""})


def normal_place(place: str) -> str:
    """A folder or patient ID as it is compared: slashes either way, spaces and case do not matter."""
    return place.strip().replace("\\", "/").strip("/").casefold()
