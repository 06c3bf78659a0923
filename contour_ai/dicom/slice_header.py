"""The header of a CT slice: where the slice lies, how its stored values become HU, and whether that can be true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from contour_ai.dicom.header import COPY_AGAIN, UNREADABLE, cut_short, damaged, read_header, read_start
from contour_ai.dicom.values import THOUSANDS, integer, number_in, text, words
from contour_ai.errors import InputError

HEADER_THREADS = 8

ACQUISITION_NUMBER = ("AcquisitionNumber", "FrameAcquisitionNumber")
TEMPORAL_POSITION = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
)
ACQUISITION_TIME = ("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime")

SETTINGS = (
    "KVP",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "FilterType",
    "SliceThickness",
    "TableHeight",
    "ScanOptions",
    "ImageType",
    "SeriesDescription",
    "ProtocolName",
    "SeriesTime",
    "AcquisitionDate",
    "StationName",
)
"""What a scanner keeps within a scan."""
VARYING_SETTINGS = (
    "ContentTime",
    "XRayTubeCurrent",
    "Exposure",
    "ExposureTime",
    "WindowCenter",
    "RescaleIntercept",
)
"""What it may also change within a scan, but not in turns."""

KEYWORDS = (
    *SETTINGS,
    *VARYING_SETTINGS,
    *ACQUISITION_TIME,
    *ACQUISITION_NUMBER,
    *TEMPORAL_POSITION,
    "ContentDate",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagesInAcquisition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "RescaleSlope",
)

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

PIXEL_MM = (0.01, 10.0)
"""Distances between pixels that a CT can have: from micro-CT to coarser than any scanner or data set reconstructs."""
MOST_PIXELS = 8192
"""Rows or columns, at most: four times what scanners make; more is a damaged header that would take memory."""
WIDEST_MM = 4000.0
"""Rows or columns in mm, at most: no bore and no table is so wide or long."""
FARTHEST_SLICE_MM = 1e5
"""Coordinates of positions, at most: 100 m from the frame of reference's origin is no place in a patient."""
THICKEST_MM = 100.0
"""SliceThickness, at most; it is used for nothing but the volume of a single slice."""
SLOPES = (1e-4, 100.0)
"""Size of RescaleSlope: CTs have 1, or a fraction where values are packed."""
LARGEST_INTERCEPT = 1e6
"""Size of RescaleIntercept: CTs have -1024, -8192, or -32768 where values are packed into 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Where one CT slice lies, and how its stored values become HU."""

    path: Path
    frame: int | None
    """Frame number from 1 in a multi-frame file, else None."""
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    instance_number: str
    rows: int
    columns: int
    position_lps: tuple[float, float, float]
    orientation: tuple[float, ...]
    """Direction cosines along which j grows (3), then along which i grows (3)."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    thickness_mm: float | None
    slope: float | None
    intercept: float | None
    """None where the file has no rescale."""
    acquisition_number: str = ""
    acquisition_time: str = ""
    temporal_position: str = ""
    content_time: str = ""
    """When the image was made: date and time."""
    kernel: str = ""
    settings: tuple[str, ...] = ()
    """Values of `SETTINGS` and `VARYING_SETTINGS` as they are written, empty where there is none."""
    images_in_acquisition: int | None = None
    is_compressed: bool = False
    """Whether its pixels must be decoded."""
    corrected: tuple[tuple[str, str, float], ...] = ()
    """(attribute, as written, as taken) of numbers that are written with a decimal comma."""
    unused: tuple[tuple[str, str], ...] = ()
    """(attribute, as written) of optional numbers that are none."""

    def __str__(self) -> str:
        x, y, z = self.position_lps
        frame = f", frame {self.frame}" if self.frame is not None else ""
        return f"{self.path.name}{frame} (instance {self.instance_number or '?'}, position {x:g}, {y:g}, {z:g} mm)"


def read_slices(paths: Sequence[Path], on_done: Callable[[int], None] = lambda done: None) -> list[Slice]:
    """The slices in CT files, in the order of the files.

    Raises:
        InputError: a file is damaged, lacks what places it in the patient, or has values that no CT can have.
    """
    slices: list[Slice] = []
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        for done, found in enumerate(pool.map(_slices_in, paths), start=1):
            slices += found
            on_done(done)
    return slices


def _slices_in(path: Path) -> list[Slice]:
    header, bytes_behind = read_start(path, KEYWORDS)
    try:
        _check_length(path, header, bytes_behind)
        enhanced = text(header, "SOPClassUID") in (
            EnhancedCTImageStorage,
            LegacyConvertedEnhancedCTImageStorage,
        )
        if enhanced or _frame_count(path, header) > 1:
            return _frames(path, read_header(path))
        return [_slice(path, None, header, [header])]
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _frame_count(path: Path, header: Dataset) -> int:
    if not words(header, "NumberOfFrames"):
        return 1
    count = integer(header, "NumberOfFrames")
    if count is None or count < 0:
        raise damaged(path, f"NumberOfFrames is {text(header, 'NumberOfFrames')!r}")
    return count or 1


def _check_length(path: Path, header: FileDataset, bytes_behind: int) -> None:
    """Refuses an image of impossible size, and a file that cannot hold its pixels, also where these are not read."""
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if rows is None or columns is None:
        raise damaged(path, "no Rows or Columns")
    if not (0 < rows <= MOST_PIXELS and 0 < columns <= MOST_PIXELS):
        raise _impossible(
            path, "an image size", f"{rows} rows, {columns} columns", f"1 to {MOST_PIXELS} of each"
        )
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if syntax not in UNCOMPRESSED:
        return
    expected = rows * columns * _frame_count(path, header) * (integer(header, "BitsAllocated") or 0) // 8
    if bytes_behind < expected:
        raise cut_short(path, f"at most {bytes_behind}", expected)


def _frames(path: Path, header: Dataset) -> list[Slice]:
    """The frames of a multi-frame file (PS3.3 C.7.6.16): each value from the frame's own groups or the shared ones."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    count = _frame_count(path, header)
    if len(per_frame) != count:
        raise InputError(
            "This multi-frame CT does not say where each of its frames lies.",
            where=path,
            found=f"{len(per_frame)} frame positions for {count} frames",
            fix="export the CT as one file a slice, or as Enhanced CT with functional groups",
        )
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    slices = [
        _slice(path, n, header, [*_macros(group), *(m for s in shared for m in _macros(s)), header])
        for n, group in enumerate(per_frame, start=1)
    ]
    return [replace(one, images_in_acquisition=None) for one in slices]


def _macros(group: Dataset) -> list[Dataset]:
    names = (
        "FrameContentSequence",
        "CardiacSynchronizationSequence",
        "RespiratorySynchronizationSequence",
        "CTReconstructionSequence",
        "CTXRayDetailsSequence",
        "CTExposureSequence",
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
    )
    return [item for name in names for item in (group.get(name) or [])[:1]]


def _slice(path: Path, frame: int | None, header: Dataset, sources: Sequence[Dataset]) -> Slice:
    """One slice; values that may differ from frame to frame come from the first of `sources` that has them."""
    reader = _SliceNumbers(path, sources)
    x, y, z = reader.needed("ImagePositionPatient", 3)
    between_rows, between_columns = reader.needed("PixelSpacing", 2)
    one = Slice(
        path=path,
        frame=frame,
        sop_class_uid=text(header, "SOPClassUID"),
        sop_instance_uid=_uid(path, header, "SOPInstanceUID"),
        study_instance_uid=_uid(path, header, "StudyInstanceUID"),
        series_instance_uid=_uid(path, header, "SeriesInstanceUID"),
        frame_of_reference_uid=_uid(path, header, "FrameOfReferenceUID"),
        instance_number=reader.word("InstanceNumber"),
        rows=integer(header, "Rows") or 0,
        columns=integer(header, "Columns") or 0,
        position_lps=(x, y, z),
        orientation=reader.needed("ImageOrientationPatient", 6),
        pixel_spacing_mm=(between_rows, between_columns),
        thickness_mm=reader.optional("SliceThickness"),
        slope=reader.rescale("RescaleSlope"),
        intercept=reader.rescale("RescaleIntercept"),
        acquisition_number=reader.word(*ACQUISITION_NUMBER),
        acquisition_time=_time(reader),
        temporal_position=reader.word(*TEMPORAL_POSITION),
        content_time=f"{reader.word('ContentDate')} {time}" if (time := reader.word("ContentTime")) else "",
        kernel=reader.word("ConvolutionKernel"),
        settings=tuple(reader.word(keyword) for keyword in (*SETTINGS, *VARYING_SETTINGS)),
        images_in_acquisition=integer(header, "ImagesInAcquisition"),
        is_compressed=is_compressed(header),
        corrected=tuple(reader.corrected),
        unused=tuple(reader.unused),
    )
    _check_plausible(one)
    return one


def is_compressed(header: Dataset) -> bool:
    """Whether the pixels of a file are compressed, by its transfer syntax."""
    syntax = text(getattr(header, "file_meta", None) or Dataset(), "TransferSyntaxUID")
    known = UID(syntax) if syntax else None
    return known is not None and known.is_transfer_syntax and known.is_compressed and not known.is_deflated


def _time(reader: _SliceNumbers) -> str:
    """When a slice was acquired, as text that sorts by time."""
    time = reader.word(*ACQUISITION_TIME)
    return time if len(time) > len("HHMMSS.FFFFFF") else f"{reader.word('AcquisitionDate')} {time}".strip()


def _uid(path: Path, header: Dataset, keyword: str) -> str:
    """A UID; refused where it holds what no program could write back."""
    uid = text(header, keyword)
    if not uid.isascii() or not uid.isprintable() or "\\" in uid or len(uid) > 64:
        raise damaged(path, f"{keyword} is {uid!r}, which is no UID")
    return uid


class _SliceNumbers:
    """The numbers of one slice, and which of them are not written as the standard wants them."""

    def __init__(self, path: Path, sources: Sequence[Dataset]) -> None:
        self.path = path
        self.sources = sources
        self.corrected: list[tuple[str, str, float]] = []
        self.unused: list[tuple[str, str]] = []

    def words(self, keyword: str) -> list[str]:
        """The values of the first source that has any."""
        return next((found for source in self.sources if any(found := words(source, keyword))), [])

    def word(self, *keywords: str) -> str:
        """The value of the first attribute that has one, empty where none has."""
        return next((" ".join(found) for keyword in keywords if (found := self.words(keyword))), "")

    def needed(self, keyword: str, count: int) -> tuple[float, ...]:
        """`count` numbers, without which the slice cannot be used."""
        found = self.words(keyword)
        result = tuple(value for word in found if (value := number_in(word)) is not None)
        if len(result) != count or len(found) != count:
            raise InputError(
                f"This CT slice has no usable {keyword}.",
                where=self.path,
                found="\\".join(found) or "nothing",
                expected=f"{count} numbers",
                fix=f"remove it if it is no slice of the CT (a scout, a screenshot); otherwise {COPY_AGAIN}",
            )
        if "," in "".join(found):
            self.corrected.append((keyword, "\\".join(found), result[0]))
        return result

    def optional(self, keyword: str) -> float | None:
        """A number; None where it is missing or none."""
        found = self.words(keyword)
        value = number_in(found[0]) if len(found) == 1 else None
        if found and (value is None or not 0 <= value <= THICKEST_MM):
            self.unused.append((keyword, "\\".join(found)))
            return None
        if value is not None and "," in found[0]:
            self.corrected.append((keyword, found[0], value))
        return value

    def rescale(self, keyword: str) -> float | None:
        """A number of the rescale; None where it is missing.

        Raises:
            InputError: it is there, but is no number, or one that can be read in two ways.
        """
        found = self.words(keyword)
        if not found:
            return None
        value = number_in(found[0]) if len(found) == 1 else None
        if value is None or THOUSANDS.fullmatch(found[0]):
            raise InputError(
                f"This CT slice has no usable {keyword}; its values in HU are not known.",
                where=self.path,
                found="\\".join(found),
                expected="one number, with a decimal point",
                fix="export the CT again; the program that wrote this attribute did not keep to DICOM",
            )
        if "," in found[0]:
            self.corrected.append((keyword, found[0], value))
        return value


def _check_plausible(one: Slice) -> None:
    """Refuses values that no CT of a patient can have, before memory is taken for what they ask for."""
    low, high = PIXEL_MM
    if not all(low <= mm <= high for mm in one.pixel_spacing_mm):
        found = " x ".join(f"{mm:g}" for mm in one.pixel_spacing_mm)
        raise _impossible(one.path, "a pixel size (PixelSpacing)", f"{found} mm", f"{low:g} to {high:g} mm")
    sides = one.rows * one.pixel_spacing_mm[0], one.columns * one.pixel_spacing_mm[1]
    if max(sides) > WIDEST_MM:
        raise _impossible(
            one.path,
            "an image width",
            f"{sides[0]:.0f} x {sides[1]:.0f} mm",
            f"at most {WIDEST_MM:g} mm",
        )
    if max(map(abs, one.position_lps)) > FARTHEST_SLICE_MM:
        raise _impossible(
            one.path,
            "a position (ImagePositionPatient)",
            one.position_lps,
            f"at most {FARTHEST_SLICE_MM:g} mm",
        )
    if one.slope is not None and not SLOPES[0] <= abs(one.slope) <= SLOPES[1]:
        raise _impossible(one.path, "a RescaleSlope", f"{one.slope:g}", f"{SLOPES[0]:g} to {SLOPES[1]:g}")
    if one.intercept is not None and abs(one.intercept) > LARGEST_INTERCEPT:
        limit = f"-{LARGEST_INTERCEPT:g} to {LARGEST_INTERCEPT:g}"
        raise _impossible(one.path, "a RescaleIntercept", f"{one.intercept:g}", limit)


def _impossible(path: Path, what: str, found: object, expected: str) -> InputError:
    return InputError(
        f"This CT slice has {what} that no CT of a patient can have.",
        where=path,
        found=found,
        expected=expected,
        fix="export the CT again; the header is damaged or was written by a program that does not keep to DICOM",
    )
