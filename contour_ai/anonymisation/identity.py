"""The words by which a patient could be told in a file, and the search for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from contour_ai.anonymisation.rules import CODE_LISTS
from contour_ai.structures import classify

IDENTIFIERS = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "DeviceSerialNumber",
        "DeviceUID",
        "InstitutionAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "Occupation",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientBirthDate",
        "PatientComments",
        "PatientID",
        "PatientTelephoneNumbers",
        "PersonAddress",
        "PersonTelephoneNumbers",
        "ReferringPhysicianAddress",
        "ReferringPhysicianTelephoneNumbers",
        "RequestedProcedureID",
        "RequestingService",
        "ResponsibleOrganization",
        "StationName",
    }
)
"""Elements besides those of VR PN (names of persons) and UI (instance UIDs) whose value tells the patient."""

SHORTEST_IN_TEXT = 4
"""Characters of a word that is searched within other words; a shorter one ("Li") only as a word of its own."""

SHORTEST_NAME = 2
"""Characters: initials are no identity."""

SHORTEST_IDENTIFIER = 3
"""Characters: "1" tells nobody, and stands everywhere."""

ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "shift_jis", "gb18030", "iso8859_5")

REPLACEMENT = "X"


@dataclass
class Identity:
    """What was found in a patient's files.

    Args:
        words: of names and identifiers, as they were written.
        uids: instance UIDs.
        dates: DA values.
    """

    words: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    dates: set[str] = field(default_factory=set)

    def learn(self, data_set: Dataset) -> None:
        """Adds what a data set and the items of its sequences say. Values that cannot be read are skipped."""
        for tag in list(data_set.keys()):
            vr = data_set.get_item(tag).VR or "UN"
            if vr in ("OB", "OW", "OF", "OD", "OL", "OV", "DS", "IS", "FL", "FD", "US", "SS"):
                continue
            try:
                element = data_set[tag]
            except Exception:  # noqa: BLE001 - a value that cannot be read is not kept, and names nobody readable
                continue
            if element.VR == "SQ":
                for item in element.value or ():
                    self.learn(item)
            else:
                self._learn_element(keyword_for_tag(tag), element.VR, _texts(element.value))

    def _learn_element(self, keyword: str, vr: str, values: list[str]) -> None:
        if vr == "PN":
            for value in values:
                self.words.update(
                    word for word in re.split(r"[\^=,\s]+", value) if len(word) >= SHORTEST_NAME
                )
        elif vr == "UI" and not keyword.endswith("ClassUID") and keyword != "TransferSyntaxUID":
            self.uids.update(value for value in values if not value.startswith("1.2.840.10008."))
        elif keyword in IDENTIFIERS:
            self.words.update(value for value in values if len(value) >= SHORTEST_IDENTIFIER)
        elif vr in ("DA", "DT") and keyword not in CODE_LISTS:
            self.dates.update(value[:8] for value in values if re.fullmatch(r"\d{8}", value[:8]))

    def learn_word(self, word: str) -> None:
        """Adds a name or identifier."""
        if len(word) >= SHORTEST_IDENTIFIER:
            self.words.add(word)

    def clean(self, text: str) -> str:
        """A ROI name or description without the patient's words; "X" stands where they were.

        An anatomical name stays as it is: a patient called Lung must not turn Lung_L into X_L.
        """
        if is_anatomical(text):
            return text
        for word in sorted(self.words | self.dates, key=lambda w: (-len(w), w)):
            text = _pattern(word).sub(REPLACEMENT, text)
        return text

    def needles(self) -> Iterator[tuple[str, bytes]]:
        """(word, its bytes in lower case) in every encoding that it could have, of names, identifiers and UIDs."""
        for word in sorted(self.words | self.uids):
            seen = set()
            for encoding in ENCODINGS:
                try:
                    needle = word.lower().encode(encoding)
                except UnicodeError:
                    continue
                if len(needle) >= SHORTEST_IN_TEXT and needle not in seen:
                    seen.add(needle)
                    yield word, needle


def _pattern(word: str) -> re.Pattern[str]:
    """Finds a word in any case: within other words too, unless it is short."""
    escaped = re.escape(word)
    whole = len(word) < SHORTEST_IN_TEXT
    return re.compile(rf"(?<![^\W_]){escaped}(?![^\W_])" if whole else escaped, re.IGNORECASE)


def _texts(value: object) -> list[str]:
    values: Iterable[object] = value if isinstance(value, (list, tuple, MultiValue)) else (value,)
    return [str(v).strip("\0 ") for v in values if v is not None]


def is_anatomical(name: str) -> bool:
    """Whether a ROI name is a standard one or an alias; not where it is only read so with a typing error.

    A patient may be called Fegatto, which is a letter more than the Italian liver.
    """
    found = classify(name)
    return found.tg263_name is not None and not found.corrected
