"""Names of masks that other programs made, turned into those of TG-263 or of a ROI map."""

from __future__ import annotations

from contour_ai.errors import InputError
from contour_ai.structures.classification import classify
from contour_ai.structures.roi_map import RoiMap
from contour_ai.structures.tg263 import is_listed_name


class Renaming:
    """Gives each mask the name to write, one after the other, and never the same to two.

    Args:
        roi_map: names and what they stand for; what it ignores is left out.
        standard: whether names that the map does not have become those of TG-263. Without, and with a map, they are
            left out.
        source: the file or folder of masks, for messages.
    """

    def __init__(self, roi_map: RoiMap | None, *, standard: bool, source: object) -> None:
        self._map = roi_map
        self._standard = standard
        self._source = source
        self._given: dict[str, str] = {}
        self.notes: list[str] = []

    def name_for(self, name: str) -> str | None:
        """The name to write; None where the mask is left out. What cannot be renamed is noted.

        Raises:
            InputError: another mask has become this name.
            ConfigError: two entries of the map say different things of the name.
        """
        written = self._looked_up(name)
        if written is None:
            return None
        other = self._given.setdefault(written.casefold(), name)
        if other != name:
            raise InputError(
                "Two masks would get the same ROI name.",
                where=self._source,
                found=f"{other} and {name}, both {written}",
                fix="leave one of them out, or give each a ROI in --roi-map",
            )
        return written

    def _looked_up(self, name: str) -> str | None:
        if self._map is not None:
            applied = self._map.apply([name])
            if name in applied.rois:
                return applied.rois[name]
            if name in applied.ignored:
                self.notes.append(f"{name} is left out, as the ROI map says")
                return None
            if not self._standard:
                self.notes.append(f"ROI {name} is not in the map and is left out")
                return None
        if not self._standard or is_listed_name(name):
            return name
        found = classify(name)
        if found.tg263_name is not None:
            return found.tg263_name
        self.notes.append(f"{name} keeps its name: TG-263 has none that is certain ({found.rule})")
        return name
