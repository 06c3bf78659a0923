"""Patient and study elements of a CT for the structure set on it: copied as bytes, in a character set that fits.

A planning system matches the two by these elements, so they are to be the same bytes wherever a character set allows
it. Decoding and encoding them again is not safe: names in Shift-JIS, GBK or Big5 have bytes that look like the
backslash between two values, and many files name no character set, or one that does not exist.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.charset import decode_bytes, encode_string, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from contour_ai.dicom.header import read_header
from contour_ai.dicom.notes import value_not_used
from contour_ai.dicom.values import BINARY, CONVERSION_ERRORS, convertible, words
from contour_ai.errors import InputError

FROM_CT = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyID",
)
"""Patient and study attributes, copied as they are."""

UTF_8 = "ISO_IR 192"
LATIN_1 = "ISO_IR 100"
ESCAPE = b"\x1b"
DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D, 0x5C}
"""Characters that end what an escape sequence began (PS3.5 6.1.2.5.3)."""
DAMAGED = "\N{REPLACEMENT CHARACTER}"

FORMS = {
    "DA": (re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"), "a date YYYYMMDD"),
    "TM": (re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)?"), "a time HHMMSS"),
    "AS": (re.compile(r"\d{3}[DWMY]"), "an age such as 063Y"),
    "DS": (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), "a number with a decimal point"),
}
"""{VR: (the form of its values, in words)}: what is of another form is left out, as it could not be used either."""
FLAGS = {"PatientIdentityRemoved": ("YES", "NO")}


@dataclass(frozen=True, kw_only=True)
class PatientElements:
    """What a structure set takes over from its CT.

    Args:
        elements: {keyword: value as bytes}.
        character_set: SpecificCharacterSet of the structure set; none where the CT names none that can be used.
        ascii_only: whether its own texts must be ASCII, as the elements are in an unknown encoding.
        notes: what was left out or could not be decoded.
    """

    elements: Mapping[str, bytes]
    character_set: tuple[str, ...]
    ascii_only: bool = False
    notes: tuple[str, ...] = ()

    def write_to(self, data_set: Dataset) -> None:
        """Puts the elements and the character set into a data set."""
        if "SpecificCharacterSet" in data_set:
            del data_set.SpecificCharacterSet
        if self.character_set:
            data_set.SpecificCharacterSet = (
                self.character_set[0] if len(self.character_set) == 1 else list(self.character_set)
            )
        for keyword in FROM_CT:
            if keyword in data_set:
                del data_set[keyword]
        for keyword, value in self.elements.items():
            tag = Tag(keyword)
            data_set[tag] = RawDataElement(
                tag, dictionary_VR(tag), len(value), value, 0, is_implicit_VR=False, is_little_endian=True
            )


def patient_elements(header: Dataset, path: Path | None, texts: Iterable[str]) -> PatientElements:
    """The patient and study elements of a CT, and the character set for them and for a structure set's own texts.

    Args:
        header: of a slice.
        path: the file of that slice, from which bytes are taken that pydicom has converted already.
        texts: ROI names, label and descriptions of the structure set.
    """
    values, notes = _valid(_bytes(header, path))
    terms = tuple(words(header, "SpecificCharacterSet"))
    if not any(terms):
        terms = ()
    ours = [text for text in texts if not text.isascii()]
    if all(_is_ascii(value) for value in values.values()):
        return PatientElements(
            elements=values, character_set=_for_ascii(terms, ours), notes=(*notes, *_unknown(terms))
        )
    known = bool(terms) and _is_valid(terms)
    decoded = {keyword: _decoded(value, terms) for keyword, value in values.items()} if known else {}
    if known and None not in decoded.values():
        if all(_encodable(text, terms) for text in ours):
            return PatientElements(elements=values, character_set=terms, notes=notes)
        return PatientElements(
            elements={k: _padded(k, str(text).encode()) for k, text in decoded.items()},
            character_set=(UTF_8,),
            notes=notes,
        )
    if all(_is_utf_8(value) for value in values.values()) and (terms or ours):
        return PatientElements(elements=values, character_set=(UTF_8,), notes=(*notes, *_unknown(terms)))
    return PatientElements(
        elements=values,
        character_set=terms if known else (),
        ascii_only=True,
        notes=(*notes, _undecodable([k for k, v in values.items() if not _is_ascii(v)], terms)),
    )


def ascii_names(names: Mapping[str, str]) -> dict[str, str]:
    """{name asked for: name in the file}, the latter in ASCII and each once."""
    taken: set[str] = set()
    result = {}
    for asked, written in names.items():
        plain = ascii_text(written) or "ROI"
        name, n = plain, 2
        while name.casefold() in taken:
            name, n = f"{plain[: 63 - len(str(n))]}_{n}", n + 1
        taken.add(name.casefold())
        result[asked] = name
    return result


def ascii_text(text: str) -> str:
    """A text with accents taken off letters, and "_" for what has no ASCII form."""
    replaced = text.replace("ß", "ss").replace("æ", "ae").replace("ø", "o").replace("ł", "l")
    plain = "".join(c for c in unicodedata.normalize("NFKD", replaced) if not unicodedata.combining(c))
    return re.sub(r"[^\x20-\x7e]+", "_", plain).strip()


# -- bytes ---------------------------------------------------------------------------------------------------------


def _bytes(header: Dataset, path: Path | None) -> dict[str, bytes]:
    """{keyword: value as it is written in the CT}."""
    fresh = Dataset()
    if path is not None:
        with contextlib.suppress(
            InputError
        ):  # a file that is gone since it was read: its values are encoded again
            fresh = convertible(read_header(path, ["SpecificCharacterSet", *FROM_CT]), keep=FROM_CT)
    found = {}
    for keyword in FROM_CT:
        tag = Tag(keyword)
        if tag not in header:
            continue
        element: object = header.get_item(tag)
        converted = not isinstance(element, RawDataElement)
        if converted and tag in fresh and words(header, keyword) == _converted(fresh, keyword):
            element = fresh.get_item(tag)
        found[keyword] = _value_bytes(header, keyword, element)
    return found


def _converted(fresh: Dataset, keyword: str) -> list[str]:
    """The values of an element of a file as pydicom converts them."""
    copied = Dataset()
    for name in ("SpecificCharacterSet", keyword):
        if name in fresh:
            copied[Tag(name)] = fresh.get_item(Tag(name))
    try:
        copied[Tag(keyword)]
    except CONVERSION_ERRORS:
        return []
    return words(copied, keyword)


def _value_bytes(header: Dataset, keyword: str, element: object) -> bytes:
    if isinstance(element, RawDataElement) and element.VR not in BINARY:
        return _padded(keyword, element.value or b"")
    values = words(header, keyword)
    terms = words(header, "SpecificCharacterSet")
    text = "\\".join(values)
    if text.isascii():
        return _padded(keyword, text.encode())
    try:
        return _padded(keyword, encode_string(text, _encodings(terms)))
    except CONVERSION_ERRORS:
        return _padded(keyword, text.encode())


def _padded(keyword: str, value: bytes) -> bytes:
    if len(value) % 2 == 0:
        return value
    return value + (b"\0" if dictionary_VR(keyword) == "UI" else b" ")


def _valid(values: Mapping[str, bytes]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The values without those that are no date, time, age or number, and a note on each of these."""
    kept: dict[str, bytes] = {}
    notes = []
    for keyword, value in values.items():
        text = value.decode("latin-1").strip("\0 ")
        form = FORMS.get(dictionary_VR(keyword))
        expected = None
        if text and form is not None and not form[0].fullmatch(text):
            expected = form[1]
        elif text and keyword in FLAGS and text not in FLAGS[keyword]:
            expected = " or ".join(FLAGS[keyword])
        elif dictionary_VR(keyword) == "DS" and len(text) > 16:
            expected = "a number of at most 16 characters"
        if expected is None:
            kept[keyword] = value
        else:
            notes.append(value_not_used("", keyword, text, expected))
    return kept, tuple(notes)


# -- character sets ------------------------------------------------------------------------------------------------


def _is_ascii(value: bytes) -> bool:
    return value.isascii() and ESCAPE not in value


def _is_utf_8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return ESCAPE not in value


def _is_valid(terms: Sequence[str]) -> bool:
    """Whether all terms are defined by DICOM (PS3.3 C.12.1.1.2), and may stand together."""
    if not all(term in python_encoding for term in terms):
        return False
    return len(terms) == 1 or all(term.startswith("ISO 2022") or not term for term in terms)


def _encodings(terms: Sequence[str]) -> list[str]:
    found = [python_encoding[term] for term in terms if term in python_encoding]
    return found or ["ascii"]


def _decoded(value: bytes, terms: Sequence[str]) -> str | None:
    """A value as text; None where its bytes are not in the character set."""
    encodings = _encodings(terms)
    try:
        if ESCAPE not in value:
            first = "ascii" if terms[0] in ("", "ISO_IR 6", "ISO 2022 IR 6") else encodings[0]
            return value.decode(first)
        text = decode_bytes(value, encodings, DELIMITERS)
    except CONVERSION_ERRORS:
        return None
    return None if DAMAGED in text or "\x1b" in text else text


def _encodable(text: str, terms: Sequence[str]) -> bool:
    """Whether a text can stand in a file with this character set, without bytes that look like a backslash."""
    if len(terms) > 1 or terms[0] in ("", "ISO_IR 6") or terms[0].startswith("ISO 2022"):
        return text.isascii()
    try:
        return b"\\" not in text.encode(_encodings(terms)[0])
    except UnicodeError:
        return False


def _for_ascii(terms: tuple[str, ...], ours: Sequence[str]) -> tuple[str, ...]:
    """The character set of a file whose patient and study are in ASCII."""
    if not ours:
        if not terms or terms == ("ISO_IR 6",):
            return (LATIN_1,)
        return terms if _is_valid(terms) else (UTF_8,)
    if terms and _is_valid(terms) and all(_encodable(text, terms) for text in ours):
        return terms
    return (UTF_8,)


def _unknown(terms: Sequence[str]) -> tuple[str, ...]:
    if not terms or _is_valid(terms):
        return ()
    return (value_not_used("", "SpecificCharacterSet", "\\".join(terms), "a character set of DICOM"),)


def _undecodable(keywords: Sequence[str], terms: Sequence[str]) -> str:
    named = "\\".join(terms) or "none"
    return (
        f"{', '.join(keywords)} of the CT cannot be decoded (SpecificCharacterSet: {named}); copied byte for byte, and "
        "ROI names are written in ASCII"
    )
