"""Values of DICOM elements as they are written: numbers and words of files that do not keep to the standard.

pydicom converts an element when it is first asked for, and raises where its text is no number. Exports have decimal
commas, an anonymiser's word in place of a number, and numbers under another VR; here each is read for what it can mean.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection
from functools import lru_cache
from typing import cast

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STANDARD_VR

BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
"""{VR of numbers that are not written as text: their `struct` format}."""

VALID_VR = frozenset(str(vr.value) for vr in STANDARD_VR)
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""What may be a decimal comma or a separator of thousands: "-1,024"."""
LINE_ENDS = re.compile("[\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]+")

CONVERSION_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    AttributeError,
    IndexError,
    KeyError,
    LookupError,
    NotImplementedError,
    OverflowError,
    TypeError,
    UnicodeError,
    ValueError,
    struct.error,
)
"""What pydicom raises on values that it cannot convert."""


def words(data_set: Dataset, keyword: str) -> list[str]:
    """The values of an element as they are written, without padding; none where it is missing or empty.

    Numbers of a binary VR are given in decimal. Not for names and other text in a character set: see `text`.
    """
    tag = _tag(keyword)
    if tag not in data_set:
        return []
    try:
        element = cast("DataElement | RawDataElement", data_set.get_item(tag))
    except CONVERSION_ERRORS:  # it is longer than the file
        return []
    if not isinstance(element, RawDataElement):
        value = element.value
        values = list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]
        found = ["" if v is None else _original(v) for v in values]
        return found if any(found) else []
    data = element.value or b""
    vr = element.VR if element.VR not in (None, "UN") else dictionary_VR(element.tag).split(" ")[0]
    if vr in BINARY:
        form = BINARY[str(vr)]
        size = struct.calcsize(f"<{form}")
        order = "<" if element.is_little_endian else ">"
        whole = data[: len(data) // size * size]
        return [repr(number) for (number,) in struct.iter_unpack(f"{order}{form}", whole)]
    written = data.decode("latin-1").strip("\0 \t\r\n")
    return [word.strip("\0 \t\r\n") for word in written.split("\\")] if written else []


@lru_cache(maxsize=1024)
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(data_set: Dataset, keyword: str) -> str:
    """An element as text in the file's character set, without padding; empty where it is missing or empty.

    Several values are joined by backslashes, as they are written. What cannot be converted is given as it is written.
    Line ends and tabs, which no name may hold, become spaces.
    """
    try:
        value = data_set.get(keyword)
    except CONVERSION_ERRORS:
        return on_one_line("\\".join(words(data_set, keyword)))
    if isinstance(value, MultiValue | list):
        return on_one_line("\\".join(str(v).strip("\0 ") for v in value))
    return "" if value is None else on_one_line(str(value)).strip("\0 ")


def on_one_line(value: str) -> str:
    """A name without line ends and tabs: it would pass for several names, or for a line of the program's own."""
    return LINE_ENDS.sub(" ", value)


def convertible(header: Dataset, keep: Collection[str] = ()) -> Dataset:
    """A header of which every element can be asked for: a VR that does not exist is replaced, a broken value dropped.

    Args:
        keep: keywords of elements that stay also where their value is broken.
    """
    result = Dataset()
    if hasattr(header, "file_meta"):
        result.file_meta = header.file_meta
    kept = {Tag(keyword) for keyword in keep}
    for tag in list(header.keys()):
        try:
            element = cast("DataElement | RawDataElement", header.get_item(tag))
        except CONVERSION_ERRORS:  # it is longer than the file
            continue
        if isinstance(element, RawDataElement) and element.VR not in (None, *VALID_VR):
            vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
            element = element._replace(VR=vr.split(" ")[0])
        if tag in kept or _can_be_converted(element, header):
            result[tag] = element
    return result


def _can_be_converted(element: DataElement | RawDataElement, header: Dataset) -> bool:
    if not isinstance(element, RawDataElement):
        return True
    try:
        convert_raw_data_element(element, encoding=header.original_character_set, ds=header)
    except CONVERSION_ERRORS:
        return False
    return True


def number_in(word: str) -> float | None:
    """The finite number that a word is, also with a decimal comma; None for any other word."""
    if not NUMBER.fullmatch(word):
        return None
    value = float(word.replace(",", "."))
    return value if math.isfinite(value) else None


def numbers(data_set: Dataset, keyword: str) -> list[float | None]:
    """The numbers of an element, None for each value that is no finite number."""
    return [number_in(word) for word in words(data_set, keyword)]


def integer(data_set: Dataset, keyword: str) -> int | None:
    """The whole number that an element with one value is; None where it is missing or anything else."""
    found = numbers(data_set, keyword)
    if len(found) != 1 or found[0] is None or not found[0].is_integer():
        return None
    return int(found[0])


def _original(value: object) -> str:
    """A converted value as it was written."""
    return str(getattr(value, "original_string", "") or value).strip("\0 ")
