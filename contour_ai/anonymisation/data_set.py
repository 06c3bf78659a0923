"""Takes the identity out of one DICOM data set. Numbers that are kept are not parsed: they stay byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from dicognito.datetimeanonymizer import DateTimeAnonymizer
from dicognito.randomizer import Randomizer
from dicognito.uianonymizer import UIAnonymizer
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from contour_ai import __version__
from contour_ai.anonymisation import rules
from contour_ai.anonymisation.identity import Identity
from contour_ai.anonymisation.key import Key, Pseudonym
from contour_ai.anonymisation.options import Keep, method_codes

OVERLAY_AND_CURVE_GROUPS = frozenset(range(0x5000, 0x5100)) | frozenset(range(0x6000, 0x6100))
CODE_STRING = re.compile(r"[A-Z0-9 _]{0,16}")
NUMBERS = ("IS", "DS")
NUMBER = re.compile(r"[+-]?\d*\.?\d*([eE][+-]?\d+)?")
TIME = re.compile(r"\d{2,6}(\.\d{1,6})?")
UTF_8 = "ISO_IR 192"
STANDARD_UIDS = "1.2.840.10008."
"""Root of the UIDs that the standard defines; they tell nobody."""

UNMODIFIED, MODIFIED = "UNMODIFIED", "MODIFIED"


@dataclass(frozen=True, kw_only=True)
class Cleaner:
    """Cleans the data sets of one patient: the same UID becomes the same new one in all of them.

    Args:
        identity: what the patient's files say of the person.
        pseudonym: new ID and name, and how far dates move.
        keep: options beyond the Basic Profile.
        new_uids, new_dates: dicognito's handlers.
    """

    identity: Identity
    pseudonym: Pseudonym
    keep: frozenset[Keep]
    new_uids: UIAnonymizer
    new_dates: DateTimeAnonymizer

    @classmethod
    def of(cls, key: Key, identity: Identity, pseudonym: Pseudonym, keep: frozenset[Keep]) -> Cleaner:
        """The cleaner of a patient under a key."""
        return cls(
            identity=identity,
            pseudonym=pseudonym,
            keep=keep,
            new_uids=UIAnonymizer(Randomizer(key.secret)),
            new_dates=DateTimeAnonymizer(24 * pseudonym.shift_days),
        )

    def clean(self, data_set: Dataset) -> None:
        """Takes the identity out of a data set with its file meta information, in place.

        Raises:
            ValueError: a UID that is to be replaced cannot be read.
        """
        self._clean_items(data_set)
        if "SpecificCharacterSet" in data_set:
            data_set.SpecificCharacterSet = UTF_8  # text was decoded when it was cleaned
        data_set.PatientID = data_set.PatientName = self.pseudonym.name
        self._declare(data_set)
        meta = data_set.file_meta
        for tag in list(meta.keys()):
            if keyword_for_tag(tag) not in ("TransferSyntaxUID", "MediaStorageSOPClassUID"):
                del meta[tag]
        meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
        data_set.preamble = b"\0" * 128

    def _clean_items(self, data_set: Dataset) -> None:
        for tag in list(data_set.keys()):
            keyword = keyword_for_tag(tag)
            if (
                tag.is_private
                or not keyword
                or tag.group in OVERLAY_AND_CURVE_GROUPS
                or tag.element == 0
                or keyword in rules.removed(self.keep)
            ):
                del data_set[tag]
            elif keyword in rules.emptied(self.keep):
                data_set[tag] = DataElement(tag, dictionary_VR(tag), "")
            else:
                self._clean_element(data_set, tag, keyword)

    def _clean_element(self, data_set: Dataset, tag: BaseTag, keyword: str) -> None:
        vr = _vr(data_set, tag)
        if vr == "SQ":
            for item in data_set[tag].value or Sequence():
                self._clean_items(item)
        elif vr == "UI":
            if not all(value.startswith(STANDARD_UIDS) for value in _values(data_set[tag])):
                self.new_uids(data_set, data_set[tag])
        elif vr in ("DA", "DT"):
            self._shift(data_set, tag, keyword)
        elif vr == "TM":
            self._check_time(data_set, tag)
        elif vr in rules.TEXT_VRS:
            self._clean_text(data_set, tag, keyword, vr)
        elif vr == "CS" and keyword != "SpecificCharacterSet":
            values = _values(data_set[tag])
            if not all(CODE_STRING.fullmatch(value.strip(" \0")) for value in values):
                del data_set[tag]

    def _clean_text(self, data_set: Dataset, tag: BaseTag, keyword: str, vr: str) -> None:
        if dictionary_VR(tag) in NUMBERS and all(NUMBER.fullmatch(v) for v in _values(data_set[tag])):
            return  # a number under a wrong VR: without its ROINumber a ROI would be lost
        if keyword not in rules.kept_text(self.keep) or vr == "UN":
            if keyword in rules.REPLACED:
                data_set[tag] = DataElement(tag, dictionary_VR(tag), rules.REPLACED[keyword])
            elif keyword not in ("PatientID", "PatientName"):
                del data_set[tag]
            return
        cleaned = [self.identity.clean(value) for value in _values(data_set[tag])]
        data_set[tag] = DataElement(tag, vr, cleaned if len(cleaned) > 1 else "".join(cleaned))

    def _shift(self, data_set: Dataset, tag: BaseTag, keyword: str) -> None:
        if keyword in rules.CODE_LISTS or Keep.DATES in self.keep:
            return
        element = data_set[tag]
        if not all(_is_date(value) for value in _values(element)):
            data_set[tag] = DataElement(tag, element.VR, "")  # a date that is none cannot be moved
            return
        time_keyword = keyword.replace("Date", "Time")
        if element.VR == "DA" and time_keyword != keyword and time_keyword in data_set:
            self._check_time(data_set, data_set[time_keyword].tag)
        self.new_dates(data_set, element)

    @staticmethod
    def _check_time(data_set: Dataset, tag: BaseTag) -> None:
        if not all(TIME.fullmatch(value) for value in _values(data_set[tag])):
            data_set[tag] = DataElement(tag, "TM", "")

    def _declare(self, data_set: Dataset) -> None:
        data_set.PatientIdentityRemoved = "YES"
        data_set.DeidentificationMethod = f"contour-ai {__version__}: PS3.15 Basic Profile"
        items = []
        for code in method_codes(self.keep):
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator = code.value, "DCM"
            item.CodeMeaning = code.meaning[:64]
            items.append(item)
        data_set.DeidentificationMethodCodeSequence = Sequence(items)
        dates = UNMODIFIED if Keep.DATES in self.keep else MODIFIED
        data_set.LongitudinalTemporalInformationModified = dates


def _vr(data_set: Dataset, tag: BaseTag) -> str:
    """The element's VR: in the file, or of the dictionary (implicit VR, UN)."""
    vr = data_set.get_item(tag).VR
    if vr in (None, "UN"):
        return str(dictionary_VR(tag)) if vr is None else data_set[tag].VR
    return str(vr)


def _values(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    values = value if isinstance(value, (list, MultiValue)) else [value]
    return [str(v).strip("\0 ") for v in values if v is not None and str(v).strip("\0 ")]


def _is_date(value: str) -> bool:
    """Whether a DA or DT value is a date that dicognito can move."""
    try:
        datetime.strptime(value[:8].replace(".", ""), "%Y%m%d"[: max(2, min(len(value), 8) - 2)])
    except ValueError:
        return False
    return len(value) >= 8
