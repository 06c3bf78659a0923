"""DICOM data elements as spans of bytes: for changing some of a data set and leaving every other byte as it is.

Little endian only, implicit or explicit VR (PS3.5 chapter 7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contour_ai.dicom.contour_items import LONG_HEADERS, UNDEFINED_LENGTH
from contour_ai.dicom.tags import ITEM, ITEM_END, SEQUENCE_END
from contour_ai.errors import InputError

PREAMBLE_BYTES = 128
TRANSFER_SYNTAX_UID = 0x00020010
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
"""Transfer syntaxes: implicit and explicit VR little endian (PS3.6 table A-1)."""

DEEPEST = 32
"""Sequences within sequences, at most: a structure set has five."""


class MalformedError(ValueError):
    """The bytes are not what the standard says; the text tells where."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """An element in some bytes: where it starts, where its value starts and ends, and where the next one starts.

    `end` lies behind the delimiter of a sequence of undefined length, `value_end` before it.
    """

    tag: int
    vr: bytes
    """Empty in implicit VR."""
    start: int
    value_start: int
    value_end: int
    end: int

    @property
    def undefined_length(self) -> bool:
        """Whether a delimiter ends it."""
        return self.end != self.value_end


@dataclass(frozen=True, kw_only=True)
class OpenedBytes:
    """A file: bytes before the data set, the data set, and how it is encoded."""

    path: Path
    before: bytes
    data: bytes
    explicit: bool

    @property
    def elements(self) -> dict[int, Span]:
        return {s.tag: s for s in spans(self.data, explicit=self.explicit)}


def open_bytes(path: Path) -> OpenedBytes:
    """The bytes of a DICOM file, with or without preamble and file meta information.

    Raises:
        InputError: its encoding is neither implicit nor explicit VR little endian.
        MalformedError: it cannot be taken apart.
    """
    data = path.read_bytes()
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != b"DICM":
        start = 0
        if len(data) < 8:
            raise MalformedError("the file is too short")
        explicit = data[4:6].isalpha() and data[4:6].isupper()
        return OpenedBytes(path=path, before=b"", data=data, explicit=explicit)
    start = PREAMBLE_BYTES + 4
    syntax, at = "", start
    while at + 8 <= len(data) and data[at : at + 2] == b"\x02\x00":
        span = next(spans(data, at, explicit=True))
        if span.tag == TRANSFER_SYNTAX_UID:
            syntax = text_of(data, span)
        at = span.end
    if syntax not in (EXPLICIT, IMPLICIT, ""):
        raise InputError(
            "This structure set cannot be copied byte for byte in its encoding.",
            where=path,
            found=f"transfer syntax {syntax}",
            expected="explicit or implicit VR little endian",
            fix="convert it first: dcmconv +ti IN OUT",
        )
    explicit = syntax == EXPLICIT or (
        not syntax and data[at + 4 : at + 6].isalpha() and data[at + 4 : at + 6].isupper()
    )
    return OpenedBytes(path=path, before=data[:at], data=data[at:], explicit=explicit)


def spans(
    data: bytes, start: int = 0, end: int | None = None, *, explicit: bool, depth: int = 0
) -> Iterator[Span]:
    """The elements of a data set or item, in their order.

    Raises:
        MalformedError: an element ends beyond `end`, or a delimiter is missing.
    """
    at, end = start, len(data) if end is None else end
    if depth > DEEPEST:
        raise MalformedError(f"sequences nested more than {DEEPEST} deep")
    while at < end:
        tag, vr, value_start, length = _header(data, at, end, explicit)
        if length == UNDEFINED_LENGTH:
            # A sequence of unknown VR is encoded in implicit VR (PS3.5 6.2.2, note 4).
            value_end, after = _end_of_sequence(data, value_start, end, explicit and vr != b"UN", depth)
        else:
            value_end = after = value_start + length
            if after > end:
                raise MalformedError(f"the element at byte {at} ends beyond what holds it")
        yield Span(tag=tag, vr=vr, start=at, value_start=value_start, value_end=value_end, end=after)
        at = after


def items(data: bytes, sequence: Span, *, explicit: bool) -> Iterator[Span]:
    """The items of a sequence, as spans with the tag of an item.

    Raises:
        MalformedError: as `spans`.
    """
    yield from _items(data, sequence.value_start, sequence.value_end, explicit, 0)


def find(data: bytes, tag: int, start: int = 0, end: int | None = None, *, explicit: bool) -> Span | None:
    """The element of a tag, or None."""
    return next((s for s in spans(data, start, end, explicit=explicit) if s.tag == tag), None)


def text_of(data: bytes, span: Span | None) -> str:
    """The value as ASCII text without padding; empty where there is no element."""
    return "" if span is None else data[span.value_start : span.value_end].decode("latin-1").strip(" \0")


def element(tag: int, vr: bytes, value: bytes, *, explicit: bool) -> bytes:
    """One element of defined length, padded to an even one."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB", b"UN") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack("<L", len(value)) + value
    if vr in LONG_HEADERS:
        return head + struct.pack("<2sHL", vr, 0, len(value)) + value
    return head + struct.pack("<2sH", vr, len(value)) + value


def item(content: bytes) -> bytes:
    """An item of defined length."""
    return struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, len(content)) + content


def with_value(data: bytes, span: Span, value: bytes) -> bytes:
    """The bytes of an element, or item, with another value of the same kind: its length is written anew."""
    head = data[span.start : span.value_start]
    if span.undefined_length:
        return head + value + data[span.value_end : span.end]
    short = len(head) == 8 and span.vr not in (b"", *LONG_HEADERS)
    if short and len(value) > 0xFFFF:
        raise MalformedError("a value is too long for its element")
    return head[: -2 if short else -4] + struct.pack("<H" if short else "<L", len(value)) + value


def spliced(data: bytes, start: int, end: int, changes: Sequence[tuple[Span, bytes]]) -> bytes:
    """The bytes from `start` to `end` with some elements replaced; `changes` in the order of the elements."""
    parts, at = [], start
    for span, replacement in changes:
        parts += [data[at : span.start], replacement]
        at = span.end
    return b"".join([*parts, data[at:end]])


class _Header(NamedTuple):
    """What stands before an element's value."""

    tag: int
    vr: bytes
    """Empty in implicit VR."""
    value_start: int
    length: int


def _header(data: bytes, at: int, end: int, explicit: bool) -> _Header:
    """That of the element at a byte."""
    if at + 8 > end:
        raise MalformedError(f"the element at byte {at} is cut short")
    group, number, length = struct.unpack_from("<HHL", data, at)
    tag = (group << 16) + number
    if not explicit or group == 0xFFFE:
        return _Header(tag, b"", at + 8, length)
    vr = data[at + 4 : at + 6]
    if vr in LONG_HEADERS:
        if at + 12 > end:
            raise MalformedError(f"the element at byte {at} is cut short")
        return _Header(tag, vr, at + 12, struct.unpack_from("<L", data, at + 8)[0])
    if not (vr.isalpha() and vr.isupper()):
        raise MalformedError(f"the element at byte {at} has no value representation")
    return _Header(tag, vr, at + 8, length >> 16)


def _items(data: bytes, start: int, end: int, explicit: bool, depth: int) -> Iterator[Span]:
    at = start
    while at < end:
        tag, _, value_start, length = _header(data, at, end, explicit=False)
        if tag == SEQUENCE_END:
            return
        if tag != ITEM:
            raise MalformedError(f"at byte {at} an item is expected")
        if length == UNDEFINED_LENGTH:
            value_end, after = _end_of_item(data, value_start, end, explicit, depth)
        else:
            value_end = after = value_start + length
            if after > end:
                raise MalformedError(f"the item at byte {at} ends beyond its sequence")
        yield Span(tag=ITEM, vr=b"", start=at, value_start=value_start, value_end=value_end, end=after)
        at = after


def _end_of_sequence(data: bytes, start: int, end: int, explicit: bool, depth: int) -> tuple[int, int]:
    """(end of the items, end of the delimiter) of a sequence of undefined length."""
    at = start
    for one in _items(data, start, end, explicit, depth + 1):
        at = one.end
    if at + 8 > end or _header(data, at, end, explicit=False).tag != SEQUENCE_END:
        raise MalformedError(f"the sequence at byte {start} has no end")
    return at, at + 8


def _end_of_item(data: bytes, start: int, end: int, explicit: bool, depth: int) -> tuple[int, int]:
    at = start
    while at + 8 <= end:
        if _header(data, at, end, explicit=False).tag == ITEM_END:
            return at, at + 8
        at = next(spans(data, at, end, explicit=explicit, depth=depth + 1)).end
    raise MalformedError(f"the item at byte {start} has no end")
