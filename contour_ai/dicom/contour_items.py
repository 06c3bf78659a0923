"""Contours straight from the bytes of a structure set: what pydicom would take most of the reading time for."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement

from contour_ai.dicom.tags import CONTOUR_DATA, CONTOUR_GEOMETRIC_TYPE, CONTOUR_IMAGE_SEQUENCE, ITEM

UNDEFINED_LENGTH = 0xFFFFFFFF

LONG_HEADERS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""Value representations with a length of four bytes (PS3.5 7.1.2)."""

REFERENCED_SOP_INSTANCE_UID = b"\x08\x00\x55\x11"
"""Its tag (0008,1155) as it is in little endian files."""
REFERENCED_SOP_CLASS_UID = b"\x08\x00\x50\x11"
ITEM_START = b"\xfe\xff\x00\xe0"
UID_BYTES = re.compile(rb"[0-9.]{1,64}")

EXACT_DIGITS = 15
"""A whole number of so many digits is a float64, and divided by a power of ten it is rounded as `float` rounds text."""
POWERS_OF_TEN = np.array([float(10**n) for n in range(EXACT_DIGITS + 1)])

BACKSLASH, DOT, MINUS, ZERO = b"\\.-0"

NUMBER = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
"""A DS value (PS3.5 6.2). `float` takes more: "1_0", "nan", "infinity"."""
DIGIT_GROUPS = re.compile(rb"(?<=\d)_(?=\d)")
LONGEST_NUMBER_CHARACTERS = 64
"""No number is longer, not even where the standard's 16 characters are not kept."""
FARTHEST_POINT_MM = 1e6
"""No coordinate is farther from the origin than a kilometre."""


@dataclass(frozen=True)
class RawContour:
    """The bytes of ContourData and ContourGeometricType, without padding, and the image referred to (or "")."""

    numbers: bytes
    geometric_type: bytes
    image_uid: str


def raw_contours(sequence: RawDataElement) -> list[RawContour] | None:
    """The items of a ContourSequence that was not parsed yet; None where pydicom has to do it.

    That is where lengths are undefined, where the file is big endian, or where an image is referred to in some
    unusual way.
    """
    value = sequence.value
    if value is None or not sequence.is_little_endian or sequence.length == UNDEFINED_LENGTH:
        return None
    found = []
    try:
        for item in _items(value):
            elements = dict(_elements(item, explicit=not sequence.is_implicit_VR))
            images = elements.get(CONTOUR_IMAGE_SEQUENCE)
            uid = uid_in(images) if images else ""
            if uid is None:
                return None
            found.append(
                RawContour(
                    elements.get(CONTOUR_DATA, b"").strip(b" \0"),
                    elements.get(CONTOUR_GEOMETRIC_TYPE, b"").strip(b" \0"),
                    uid,
                )
            )
    except (ValueError, struct.error):
        return None
    return found


def _items(value: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(value):
        group, number, length = struct.unpack_from("<HHL", value, at)
        end = at + 8 + length
        if (group << 16) + number != ITEM or end > len(value):
            raise ValueError("no item of defined length")
        yield value[at + 8 : end]
        at = end


def _elements(item: bytes, *, explicit: bool) -> Iterator[tuple[int, bytes]]:
    """(tag, value) of all elements of an item."""
    at = 0
    while at < len(item):
        group, number, length = struct.unpack_from("<HHL", item, at)
        at += 8
        if explicit:
            if item[at - 4 : at - 2] in LONG_HEADERS:
                (length,) = struct.unpack_from("<L", item, at)
                at += 4
            else:
                length >>= 16
        if at + length > len(item):
            raise ValueError("no element of defined length")
        yield (group << 16) + number, item[at : at + length]
        at += length


def uid_in(images: bytes, tag: bytes = REFERENCED_SOP_INSTANCE_UID) -> str | None:
    """A UID in the bytes of a ContourImageSequence, little endian; None if it is not found so.

    Looking it up takes a tenth of the time of parsing the sequence.
    """
    at = images.find(tag)
    if at < 0:
        return None
    start = at + 8
    explicit = images[at + 4 : at + 6] == b"UI"
    length = int.from_bytes(images[at + 6 : start] if explicit else images[at + 4 : start], "little")
    found = images[start : start + length].rstrip(b" \0")
    return found.decode("ascii") if UID_BYTES.fullmatch(found) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class ContourNumbers:
    """The numbers of one ContourData.

    Args:
        values: a multiple of three of them; none where they cannot be read.
        wrong: why they cannot be read, or "".
        repair: how they are read where they are not written as the standard asks, or "".
    """

    values: NDArray[np.float64]
    wrong: str = ""
    repair: str = ""


def numbers_of(texts: Sequence[bytes]) -> list[ContourNumbers]:
    """The numbers, with backslashes between them, of every text."""
    values = _plain_decimals(b"\\".join(texts)) if texts and all(texts) else None
    if values is not None:
        ends = np.cumsum([text.count(b"\\") + 1 for text in texts])
        parts = np.split(values, ends[:-1])
        if not any(len(part) % 3 for part in parts) and np.abs(values).max() <= FARTHEST_POINT_MM:
            return [ContourNumbers(values=part) for part in parts]
        return [_checked(part) for part in parts]
    return [_numbers(text) for text in texts]


def _checked(values: NDArray[np.float64], repair: str = "") -> ContourNumbers:
    wrong = ""
    if len(values) % 3:
        wrong = f"{len(values)} numbers, which is not a multiple of 3"
    elif not np.isfinite(values).all():
        wrong = "a coordinate is not a finite number"
    elif len(values) and abs(farthest := float(values[np.abs(values).argmax()])) > FARTHEST_POINT_MM:
        wrong = f"a coordinate is {farthest:g} mm"
    return ContourNumbers(
        values=np.empty(0) if wrong else values, wrong=wrong, repair="" if wrong else repair
    )


def _numbers(text: bytes) -> ContourNumbers:
    """The numbers of one text, which may have exponents, spaces, decimal commas and backslashes too many."""
    plain = _plain_decimals(text) if text else np.empty(0)
    if plain is not None:
        return _checked(plain)
    parts = [part.strip() for part in text.split(b"\\")]
    kept = list(parts)
    while kept and not kept[-1]:
        kept.pop()
    while kept and not kept[0]:
        kept.pop(0)
    repairs = ["without the backslash at its end"] if len(kept) < len(parts) else []
    plain_parts = kept
    if b"," in text and b"." not in text:
        plain_parts = [part.replace(b",", b".", 1) for part in kept]
        repairs.append("with decimal commas for points")
    if DIGIT_GROUPS.search(text):
        plain_parts = [DIGIT_GROUPS.sub(b"", part) for part in plain_parts]
        repairs.append("without the underscores between digits")
    for wrong, part in zip(kept, plain_parts, strict=True):
        if len(part) <= LONGEST_NUMBER_CHARACTERS and NUMBER.fullmatch(part):
            continue
        shown = wrong[:LONGEST_NUMBER_CHARACTERS].decode("ascii", "backslashreplace")
        return ContourNumbers(
            values=np.empty(0), wrong=f"{shown!r} is no number" if shown else "a number is missing"
        )
    return _checked(np.fromiter(map(float, plain_parts), dtype=np.float64), " and ".join(repairs))


def _plain_decimals(text: bytes) -> NDArray[np.float64] | None:
    """What `float` makes of every number, three times as fast; None if there is more than digits, sign and dot."""
    characters = np.frombuffer(text, np.uint8)
    is_dot = characters == DOT
    dots = np.flatnonzero(is_dot)
    ends_with_dots = np.append(
        np.flatnonzero(characters == BACKSLASH), len(characters)
    )  # the end of every number
    number_of_dot = np.searchsorted(ends_with_dots, dots)
    if len(dots) == len(characters) or (np.diff(number_of_dot) == 0).any():
        return None
    decimals = np.zeros(len(ends_with_dots), np.intp)
    decimals[number_of_dot] = ends_with_dots[number_of_dot] - dots - 1
    # Without the dots every number is a sign and the digits of a whole number.
    dots_before = np.zeros(len(ends_with_dots), np.intp)
    dots_before[number_of_dot] = 1
    ends = ends_with_dots - np.cumsum(dots_before)
    digits = characters[~is_dot]
    first = np.append(0, ends_with_dots[:-1] + 1)
    negative = characters[np.minimum(first, len(characters) - 1)] == MINUS
    lengths = ends - np.append(0, ends[:-1] + 1) - negative
    known = np.count_nonzero(digits - ZERO < 10) + np.count_nonzero(negative) + len(ends) - 1
    if known != len(digits) or lengths.min() < 1 or lengths.max() > EXACT_DIGITS:
        return None
    whole = np.zeros(len(ends), np.int64)
    for place in range(int(lengths.max())):
        has = lengths > place
        digit = digits[np.maximum(ends - 1 - place, 0)].astype(np.int64) - ZERO
        whole += np.where(has, digit, 0) * 10**place
    return np.where(negative, -whole, whole) / POWERS_OF_TEN[decimals]
