"""Adds ROIs to a copy of a structure set: what is there stays byte for byte, private elements and order included.

Only these elements change: SOPInstanceUID and SeriesInstanceUID are new; the three sequences of ROIs get more items,
and lose those of a ROI that is replaced; images that only the new contours use are added to the list of images;
ApprovalStatus becomes UNAPPROVED, and the review of a set that was approved is taken out, for nobody has reviewed what
was added. Group lengths, where a file has them, are counted anew.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

from contour_ai.dicom import tags
from contour_ai.dicom.byte_elements import (
    PREAMBLE_BYTES,
    MalformedError,
    OpenedBytes,
    Span,
    element,
    find,
    item,
    items,
    open_bytes,
    spans,
    spliced,
    text_of,
    with_value,
)
from contour_ai.dicom.contour_data import CoordinateText, image_item, roi_contour_item
from contour_ai.dicom.copied import (
    APPROVAL_STATUS,
    NUMBER_OF,
    REVIEW,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    UNREVIEWED,
    Copied,
    refuse_other_ct,
    verify_copy,
    with_one_external,
)
from contour_ai.dicom.profile import Profile, load_profile
from contour_ai.dicom.roi_names import written_names
from contour_ai.dicom.rtstruct_header import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Provenance,
    frame_of_reference_uid,
    image_reference,
    roi_items,
    structure_set_uid,
)
from contour_ai.dicom.rtstruct_read import load_structure_set
from contour_ai.dicom.rtstruct_write import LONGEST_EXPLICIT_BYTES, RoiContours
from contour_ai.dicom.verify import ExpectedMask
from contour_ai.errors import InputError, OutputError
from contour_ai.files import RTSTRUCT, atomic_file

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries


def add_to_copy(
    source: Path,
    out: Path,
    rois: Iterable[RoiContours],
    ct: CTSeries,
    provenance: Provenance,
    *,
    expected: Mapping[str, ExpectedMask],
    leave_out: Iterable[str] = (),
    profile: str | Path | Profile = "generic",
    overwrite: bool = False,
) -> Copied:
    """Writes a copy of the structure set `source`, which was drawn on `ct`, with ROIs added or replaced by name.

    Args:
        rois: the ROIs to add. One that has the name of a ROI of the file, in any case, takes its place.
        expected: {name: mask} of every ROI in `rois`: the copy is read back and each voxel compared.
        leave_out: names of ROIs of the file that must not be in the copy.

    Raises:
        InputError: not a structure set of this CT, damaged, or in an encoding that cannot be copied byte for byte.
        OutputError: `out` is the file itself, exists, or cannot be written.
        VerificationError: the copy does not read back as it was meant; no file is left.
    """
    source, out = Path(source), Path(out)
    if out.exists() and out.resolve() == source.resolve():
        raise OutputError(
            "The structure set to add to would be overwritten by its copy.",
            where=out,
            fix="choose another file for the copy",
        )
    before = load_structure_set(source)
    refuse_other_ct(before, ct)
    leave_out = tuple(leave_out)
    added, notes = with_one_external(list(rois), before, leave_out)
    try:
        copy = _Copy(open_bytes(source), ct, provenance, load_profile(profile))
        copy.notes += notes
        content, copied = copy.made(added, leave_out)
    except (MalformedError, struct.error) as error:
        raise InputError(
            "The structure set is damaged.", where=source, found=error, fix="export it again"
        ) from error
    with atomic_file(out, overwrite=overwrite, inputs=(source, *ct.paths), kind=RTSTRUCT) as temporary:
        temporary.write_bytes(content)
        verify_copy(source, temporary, copied, ct, expected, profile=profile, where=out)
    return replace(copied, path=out)


class _Copy:
    """The bytes of a copy, element by element."""

    def __init__(self, file: OpenedBytes, ct: CTSeries, provenance: Provenance, profile: Profile) -> None:
        self.file, self.ct, self.provenance, self.profile = file, ct, provenance, profile
        self.data, self.explicit = file.data, file.explicit
        self.elements = file.elements
        self.notes: list[str] = []
        charset = text_of(self.data, self.elements.get(SPECIFIC_CHARACTER_SET)) or "ISO_IR 6"
        self.encodings = convert_encodings(charset.split("\\"))

    def made(self, rois: Sequence[RoiContours], leave_out: Sequence[str]) -> tuple[bytes, Copied]:
        uid, series_uid = self._uids()
        asked = [roi.info.name for roi in rois]
        folded = {name.strip().casefold() for name in asked}
        if len(folded) < len(asked):
            raise InputError("Two ROIs have the same name.", found=", ".join(asked))
        out = {n.strip().casefold() for n in leave_out}
        known = self._names()
        replaced = {n: name for n, name in known.items() if name.casefold() in folded}
        left_out = {n: name for n, name in known.items() if name.casefold() in out and n not in replaced}
        stay = [name for n, name in known.items() if n not in replaced and n not in left_out]
        # A name that is shortened for the importer never takes that of a ROI that stays.
        written = written_names(dict.fromkeys([*stay, *asked]), self.profile)
        names = {name: written[name] for name in asked}
        new = self._new_sequences(rois, names)
        changes: dict[int, bytes] = {
            SOP_INSTANCE_UID: self._element(SOP_INSTANCE_UID, b"UI", uid.encode()),
            SERIES_INSTANCE_UID: self._element(SERIES_INSTANCE_UID, b"UI", series_uid.encode()),
            APPROVAL_STATUS: self._element(APPROVAL_STATUS, b"CS", b"UNAPPROVED"),
        }
        gone = {**replaced, **left_out}
        for tag, added in new.items():
            changes[tag] = self._with_items(tag, set(gone), added)
        frames = self._with_images({k for roi in rois for k in roi.slices})
        if frames is not None:
            changes[tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE] = frames
        self._unapproved(changes)
        for what, some in (("is replaced by the new one", replaced), ("is left out", left_out)):
            self.notes += [
                f"ROI {name} of {self.file.path.name} {what}" for name in dict.fromkeys(some.values())
            ]
        self.notes += [f"ROI {asked} is written as {name}" for asked, name in names.items() if asked != name]
        copied = Copied(
            path=self.file.path,
            sop_instance_uid=uid,
            names=names,
            replaced=tuple(dict.fromkeys(replaced.values())),
            left_out=tuple(dict.fromkeys(left_out.values())),
            notes=tuple(self.notes),
        )
        return self._meta(uid) + self._data_set(changes), copied

    def _uids(self) -> tuple[str, str]:
        """New UIDs of instance and series; those that the provenance fixes, where it does."""
        seed = self.provenance.uids_from
        if seed:
            return str(structure_set_uid(seed)), str(structure_set_uid(seed, "series"))
        return str(generate_uid()), str(generate_uid())

    def _element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        return element(tag, vr, value, explicit=self.explicit)

    def _items_of(self, tag: int) -> list[Span]:
        span = self.elements.get(tag)
        return [] if span is None else list(items(self.data, span, explicit=self.explicit))

    def _number(self, one: Span, tag: int) -> int | None:
        found = find(self.data, tag, one.value_start, one.value_end, explicit=self.explicit)
        try:
            return int(text_of(self.data, found))
        except ValueError:
            return None

    def _names(self) -> dict[int, str]:
        """{ROI number: name} of the file."""
        names = {}
        for one in self._items_of(tags.STRUCTURE_SET_ROI_SEQUENCE):
            number = self._number(one, tags.ROI_NUMBER)
            found = find(self.data, tags.ROI_NAME, one.value_start, one.value_end, explicit=self.explicit)
            if number is not None and found is not None:
                raw = self.data[found.value_start : found.value_end]
                names[number] = _decoded(raw, self.encodings).strip(" \0")
        return names

    def _new_sequences(self, rois: Sequence[RoiContours], names: Mapping[str, str]) -> dict[int, bytes]:
        """The items to add to each of the three sequences of ROIs."""
        numbers = [self._number(i, tag) or 0 for key, tag in NUMBER_OF.items() for i in self._items_of(key)]
        observed = [
            self._number(i, tags.OBSERVATION_NUMBER) or 0
            for i in self._items_of(tags.RT_ROI_OBSERVATIONS_SEQUENCE)
        ]
        first, first_observation = max(numbers, default=0) + 1, max(observed, default=0) + 1
        text = CoordinateText(self.ct.grid, self.profile.decimals)
        images = [
            image_item(image_reference(self.ct, k), explicit=self.explicit) if uid else b""
            for k, uid in enumerate(self.ct.sop_instance_uids)
        ]
        frame = frame_of_reference_uid(self.ct)
        when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        parts: dict[int, list[bytes]] = {
            tags.STRUCTURE_SET_ROI_SEQUENCE: [],
            tags.ROI_CONTOUR_SEQUENCE: [],
            tags.RT_ROI_OBSERVATIONS_SEQUENCE: [],
        }
        for n, roi in enumerate(rois):
            name = names[roi.info.name]
            encoded = text(roi.slices)
            self._refuse_long(name, max((len(c[1]) for c in encoded), default=0))
            described = [roi.description, f"added by {self.provenance.software} on {when}"]
            one, observation = roi_items(
                first + n,
                name,
                roi.info,
                frame_of_reference_uid=frame,
                algorithm=roi.algorithm,
                description="; ".join(filter(None, described)),
            )
            observation.ObservationNumber = first_observation + n
            parts[tags.STRUCTURE_SET_ROI_SEQUENCE].append(item(self._encoded(one)))
            parts[tags.RT_ROI_OBSERVATIONS_SEQUENCE].append(item(self._encoded(observation)))
            parts[tags.ROI_CONTOUR_SEQUENCE].append(
                roi_contour_item(first + n, roi.info.color, encoded, images, explicit=self.explicit)
            )
        return {tag: b"".join(p) for tag, p in parts.items()}

    def _refuse_long(self, name: str, longest: int) -> None:
        if self.explicit and longest > LONGEST_EXPLICIT_BYTES:
            raise InputError(
                "A contour does not fit the encoding of the structure set, which must stay as it is.",
                where=f"{self.file.path}, ROI {name}",
                found=f"{longest} bytes",
                expected=f"at most {LONGEST_EXPLICIT_BYTES} in explicit VR",
                fix="convert the structure set to implicit VR first: dcmconv +ti IN OUT",
            )

    def _encoded(self, dataset: Dataset) -> bytes:
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, not self.explicit
        write_dataset(stream, dataset, parent_encoding=self.encodings)
        return stream.getvalue()

    def _with_items(self, tag: int, gone: set[int], added: bytes) -> bytes:
        """A sequence of ROIs without the items of some, and with new ones."""
        span = self.elements.get(tag)
        if span is None:
            return self._element(tag, b"SQ", added)
        kept = [
            self.data[one.start : one.end]
            for one in self._items_of(tag)
            if self._number(one, NUMBER_OF[tag]) not in gone
        ]
        return with_value(self.data, span, b"".join(kept) + added)

    def _with_images(self, slices: set[int]) -> bytes | None:
        """ReferencedFrameOfReferenceSequence with the images of new contours; None where it need not change."""
        span = self.elements.get(tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE)
        if span is None:
            return None
        data, explicit = self.data, self.explicit
        listed: set[str] = set()
        place: tuple[Span, ...] | None = None
        for way in self._ways(
            (
                tags.REFERENCED_FRAME_OF_REFERENCE_SEQUENCE,
                tags.RT_REFERENCED_STUDY_SEQUENCE,
                tags.RT_REFERENCED_SERIES_SEQUENCE,
            ),
            span,
        ):
            series = way[-1]
            uid = find(data, SERIES_INSTANCE_UID, series.value_start, series.value_end, explicit=explicit)
            images = find(
                data, tags.CONTOUR_IMAGE_SEQUENCE, series.value_start, series.value_end, explicit=explicit
            )
            if images is None:
                continue
            for one in items(data, images, explicit=explicit):
                listed.add(_image_uid(data, one, explicit))
            if place is None and text_of(data, uid) == self.ct.series_instance_uid:
                place = (*way, images)
        missing = [k for k in sorted(slices) if self.ct.sop_instance_uids[k] not in listed | {""}]
        if not missing or place is None:
            return None
        added = b"".join(image_item(image_reference(self.ct, k), explicit=explicit) for k in missing)
        inner = place[-1]
        value = with_value(data, inner, data[inner.value_start : inner.value_end] + added)
        for outer in reversed(place[:-1]):
            whole = spliced(data, outer.value_start, outer.value_end, [(inner, value)])
            value, inner = with_value(data, outer, whole), outer
        return value

    def _ways(self, levels: Sequence[int], span: Span) -> list[tuple[Span, ...]]:
        """All ways down nested sequences: sequence, item, sequence, item ..."""
        ways: list[tuple[Span, ...]] = [(span, i) for i in items(self.data, span, explicit=self.explicit)]
        for tag in levels[1:]:
            longer = []
            for way in ways:
                last = way[-1]
                nested = find(self.data, tag, last.value_start, last.value_end, explicit=self.explicit)
                if nested is not None:
                    longer += [(*way, nested, i) for i in items(self.data, nested, explicit=self.explicit)]
            ways = longer
        return ways

    def _unapproved(self, changes: dict[int, bytes]) -> None:
        status = text_of(self.data, self.elements.get(APPROVAL_STATUS))
        if status in UNREVIEWED:
            if status:
                del changes[APPROVAL_STATUS]  # as it is
            return
        changes.update({tag: b"" for tag in REVIEW if tag in self.elements})
        self.notes.append(
            f"{self.file.path.name} is {status}; the copy is UNAPPROVED, for what was added has not been reviewed"
        )

    def _data_set(self, changes: Mapping[int, bytes]) -> bytes:
        """All elements in the order of their tags, those in `changes` as they are given there."""
        parts = {tag: self.data[s.start : s.end] for tag, s in self.elements.items()}
        order = [s.tag for s in spans(self.data, explicit=self.explicit)]
        for tag in changes:
            if tag not in parts:
                at = next((n for n, other in enumerate(order) if other > tag), len(order))
                order.insert(at, tag)
        parts.update(changes)
        for tag in order:
            if tag & 0xFFFF == 0 and len(parts[tag]) >= 12:  # a group length
                length = sum(len(parts[t]) for t in order if t >> 16 == tag >> 16 and t != tag)
                parts[tag] = parts[tag][:-4] + struct.pack("<L", length)
        return b"".join(parts[tag] for tag in order)

    def _meta(self, uid: str) -> bytes:
        """Preamble and file meta information, of which only the instance's UID changes."""
        if not self.file.before:
            syntax = ExplicitVRLittleEndian if self.explicit else ImplicitVRLittleEndian
            elements = b"".join(
                element(0x00020000 + tag, vr, value, explicit=True)
                for tag, vr, value in (
                    (1, b"OB", b"\0\1"),
                    (2, b"UI", RTStructureSetStorage.encode()),
                    (3, b"UI", uid.encode()),
                    (0x10, b"UI", syntax.encode()),
                    (0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
                    (0x13, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
                )
            )
            start = bytes(PREAMBLE_BYTES) + b"DICM"
            return (
                start + element(0x00020000, b"UL", struct.pack("<L", len(elements)), explicit=True) + elements
            )
        before = self.file.before
        first = PREAMBLE_BYTES + 4
        parts = []
        for span in spans(before, first, explicit=True):
            own = before[span.start : span.end]
            parts.append(
                (
                    span.tag,
                    element(span.tag, b"UI", uid.encode(), explicit=True) if span.tag == 0x00020003 else own,
                )
            )
        length = sum(len(part) for tag, part in parts if tag != 0x00020000)
        whole = [p[:-4] + struct.pack("<L", length) if tag == 0x00020000 else p for tag, p in parts]
        return before[:first] + b"".join(whole)


def _image_uid(data: bytes, one: Span, explicit: bool) -> str:
    return text_of(data, find(data, 0x00081155, one.value_start, one.value_end, explicit=explicit))


def _decoded(raw: bytes, encodings: Sequence[str]) -> str:
    return decode_bytes(raw, list(encodings), set())
