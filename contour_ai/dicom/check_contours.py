"""What `check` says of contours: numbers, points, planes, holes, slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from contour_ai.dicom.contour_items import ContourNumbers, numbers_of
from contour_ai.dicom.contour_shapes import ContourShape, OnSlices, Points, shapes_of
from contour_ai.dicom.finding import Finding, Findings, refused
from contour_ai.dicom.notes import Level
from contour_ai.dicom.placing import area_type
from contour_ai.dicom.rtstruct_parse import geometric_type, image_classes, image_uid, raw_numbers, raw_text
from contour_ai.dicom.tags import NUMBER_OF_CONTOUR_POINTS
from contour_ai.polygons import count_self_intersections
from contour_ai.slice_names import slice_text

if TYPE_CHECKING:
    from contour_ai.dicom.ct import CTSeries

LONGEST_NUMBER = 16
"""Bytes of a DS value."""
LONGEST_EXPLICIT_BYTES = 65534
COPLANAR_TOL_MM = 0.02
"""Planning systems compare plane positions to about a hundredth of a millimetre; on an oblique plane, coordinates that
are rounded to that lie up to 0.017 mm apart along the normal."""
ON_PLANE_TOL_MM = 0.05
SMALLEST_TRIANGLE_MM2 = 1e-6
"""Below it points lie on a line: coordinates are written to about a thousandth of a millimetre."""
SAME_PLANE_DECIMALS = 2
CONTOURS_SHOWN = 3
"""Contours of a ROI that are named for each thing wrong with them."""

DATA, IMAGES, TYPE, COUNT = (
    "ContourData",
    "ContourImageSequence",
    "ContourGeometricType",
    "NumberOfContourPoints",
)

Fault = tuple[Level, str, str, str, str]
"""Level, rule, attribute, what is wrong with contours, and this contour's number that shows it."""


def contour_findings(dataset: Dataset, ct: CTSeries | None, *, keyholes: bool) -> Findings:
    """What is wrong with contours, a finding for every ROI and fault, with the first contours that have it.

    Args:
        keyholes: whether the importer wants holes joined to their outline, so that inner contours are mentioned.
    """
    syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    for roi, contours in contours_by_roi(dataset):
        found: dict[tuple[Level, str, str, str], list[str]] = {}
        seen: set[bytes] = set()
        planes: dict[tuple[int, float], dict[int, Points]] = {}
        texts = [raw_numbers(contour) for contour in contours]
        read = [_points(numbers) for numbers in numbers_of(texts)]
        areas = {
            n: points
            for n, (contour, points) in enumerate(zip(contours, read, strict=True), start=1)
            if points is not None and area_type(_kind(contour).upper())
        }
        shapes = shapes_of([*areas.values()], None if ct is None else ct.grid)
        shape_of = dict(zip(areas, shapes, strict=True))
        for n, (contour, raw, points) in enumerate(zip(contours, texts, read, strict=True), start=1):
            faults = [*_encoding(contour, raw, points, explicit=syntax == ExplicitVRLittleEndian)]
            if raw and raw in seen:
                faults.append(("differs", "twice", DATA, "are there twice", ""))
            seen.add(raw)
            faults += _references(contour, ct)
            if n in areas:
                faults += _shape(shape_of[n], areas[n], contour, ct)
                _collect(planes, n, areas[n])
            for level, rule, attribute, what, number in faults:
                label = f"contour {n}{_place(points, ct)}" + (f" ({number})" if number else "")
                found.setdefault((level, rule, attribute, what), []).append(label)
        if keyholes and (inner := [n for plane in planes.values() for n in _inner(plane)]):
            what = "lie inside another one: systems that fill every contour lose these holes"
            found["differs", "holes", DATA, what] = [f"contour {n}" for n in inner]
        for (level, rule, attribute, what), labels in found.items():
            more = f" and {len(labels) - CONTOURS_SHOWN} more" if len(labels) > CONTOURS_SHOWN else ""
            text = f"{len(labels)} contours {what}: {', '.join(labels[:CONTOURS_SHOWN])}{more}"
            where = f"ROI {roi}, {attribute}"
            if level == "refused":
                yield refused(rule, where, text)
            else:
                yield Finding(level=level, rule=rule, message=text, where=where)


def contours_by_roi(dataset: Dataset) -> Iterator[tuple[str, list[Dataset]]]:
    """(ROI name, its contours) of every item of contours."""
    names = {
        str(r.get("ROINumber")): str(r.get("ROIName")) for r in dataset.get("StructureSetROISequence") or ()
    }
    for item in dataset.get("ROIContourSequence") or ():
        number = str(item.get("ReferencedROINumber"))
        yield names.get(number, f"number {number}"), list(item.get("ContourSequence") or ())


def _kind(contour: Dataset) -> str:
    return geometric_type(contour).decode("ascii", "replace")


def _points(numbers: ContourNumbers) -> Points | None:
    """(N, 3) LPS mm; None where the values are no list of points, or farther away than any patient."""
    if numbers.wrong or numbers.repair or not len(numbers.values):
        return None
    return numbers.values.reshape(-1, 3)


def _place(points: Points | None, ct: CTSeries | None) -> str:
    """Where a contour lies: the nearest slice of the CT, or else in the patient."""
    if points is None:
        return ""
    if ct is not None:
        k = int(np.abs(ct.grid.slice_offsets_mm - float((points @ ct.grid.normal).mean())).argmin())
        return f" on {slice_text(ct.grid, k)}"
    constant = [axis for axis, spread in zip("xyz", np.ptp(points, axis=0), strict=True) if spread < 1e-6]
    if constant:
        return f" at {constant[-1]} {points[0]['xyz'.index(constant[-1])]:g} mm"
    x, y, z = points.mean(axis=0)
    return f" around ({x:.1f}, {y:.1f}, {z:.1f}) mm"


def _encoding(contour: Dataset, raw: bytes, points: Points | None, *, explicit: bool) -> Iterator[Fault]:
    """What is wrong with a contour whatever it encloses."""
    numbers = raw.split(b"\\") if raw else []
    if (longest := max(map(len, numbers), default=0)) > LONGEST_NUMBER:
        many = sum(len(x) > LONGEST_NUMBER for x in numbers)
        yield (
            "refused",
            "number-length",
            DATA,
            "have numbers of more than 16 characters",
            f"{many}, up to {longest}",
        )
    if explicit and len(raw) > LONGEST_EXPLICIT_BYTES:
        yield "standard", "explicit-length", DATA, "are too long for explicit VR", f"{len(raw)} bytes"
    kind = _kind(contour)
    if not kind:
        yield "standard", "geometric-type", TYPE, "have none (PS3.3 C.8.8.6, type 1)", ""
    elif area_type(kind.upper()) is None:
        yield "differs", "no-area", TYPE, f"are {kind} and enclose no area", ""
    if points is None:
        yield "standard", "contour-data", DATA, "hold no list of x, y, z", f"{len(numbers)} values"
        return
    stated = raw_text(contour, NUMBER_OF_CONTOUR_POINTS)
    if stated.strip() != str(len(points)):
        given = stated or "none"
        yield "standard", "number-of-points", COUNT, "have a wrong one", f"{given} for {len(points)}"


def _references(contour: Dataset, ct: CTSeries | None) -> Iterator[Fault]:
    classes = image_classes(contour)
    if not classes:
        yield "differs", "contour-image", IMAGES, "have none", ""
        return
    for kind in classes:
        if not kind:
            yield "standard", "contour-image", IMAGES, "refer to an image without its SOP class", ""
        elif ct is not None and ct.sop_class_uid and kind != ct.sop_class_uid:
            yield (
                "differs",
                "contour-image",
                IMAGES,
                "refer to an image of another SOP class than the CT's",
                kind,
            )


def _shape(shape: ContourShape, points: Points, contour: Dataset, ct: CTSeries | None) -> Iterator[Fault]:
    """What is wrong with a closed contour."""
    has_area = shape.largest_triangle_mm2 > SMALLEST_TRIANGLE_MM2
    distinct = len(points) if has_area else len(np.unique(points, axis=0))
    if distinct < 3:
        yield "standard", "few-points", DATA, "are closed with fewer than 3 distinct points", f"{distinct}"
        return
    if shape.is_closed_twice:
        yield "differs", "repeated-point", DATA, "repeat their first point at the end", ""
    elif shape.repeated:
        yield "differs", "repeated-point", DATA, "have a point twice in a row", f"{shape.repeated}"
    if not has_area:
        yield "standard", "line", DATA, "lie on a straight line and enclose no area", f"{distinct} points"
        return
    if shape.thickness_mm > COPLANAR_TOL_MM:
        yield "standard", "coplanar", DATA, "do not lie in a plane", f"{shape.thickness_mm:.3f} mm"
    count = count_self_intersections(np.delete(points, int(np.abs(shape.normal).argmax()), axis=1))
    if count:
        yield "differs", "self-crossing", DATA, "cross themselves", f"{count} times"
    if ct is not None and shape.on_slices is not None:
        yield from _on_slices(shape.on_slices, contour, ct)


def _on_slices(place: OnSlices, contour: Dataset, ct: CTSeries) -> Iterator[Fault]:
    """What is wrong with a closed contour as one of this CT."""
    if place.off_mm > ON_PLANE_TOL_MM:
        yield "differs", "off-plane", DATA, "do not lie on a CT slice", f"{place.off_mm:.2f} mm off"
    uid = image_uid(contour)
    if ct.sop_instance_uids.count(uid) == 1 and ct.sop_instance_uids[place.k] != uid:
        other = ct.sop_instance_uids.index(uid)
        yield (
            "differs",
            "other-image",
            IMAGES,
            "refer to another slice than they lie on",
            f"{slice_text(ct.grid, other)}, contour at {place.slice_offset_mm:.2f} mm",
        )
    if place.outside_voxels > 0.01:
        yield "differs", "outside-image", DATA, "leave the image", f"by {place.outside_voxels:.2f} voxels"


def _collect(planes: dict[tuple[int, float], dict[int, Points]], n: int, points: Points) -> None:
    """Puts a contour with those of its plane: the axis along which it spreads least, and its place on that axis."""
    axis = int(np.ptp(points, axis=0).argmin())
    key = axis, round(float(points[:, axis].mean()), SAME_PLANE_DECIMALS)
    planes.setdefault(key, {})[n] = np.delete(points, axis, axis=1)


def _inner(contours: dict[int, Points]) -> Iterator[int]:
    """Numbers of the contours of a plane that lie inside another one, which makes them holes."""
    boxes = {n: (p.min(axis=0), p.max(axis=0)) for n, p in contours.items()}
    for n, points in contours.items():
        low, high = boxes[n]
        for other, around in contours.items():
            within = other != n and (boxes[other][0] < low).all() and (boxes[other][1] > high).all()
            if within and _inside(points, around).mean() > 0.5:
                yield n
                break


def _inside(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points (N, 2) lie inside a polygon (M, 2), by the number of its edges on their right."""
    (u, v), (u_last, v_last) = polygon.T, np.roll(polygon, 1, axis=0).T
    passes = (v[None] > points[:, 1:]) != (v_last[None] > points[:, 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = u_last + (points[:, 1:] - v_last) / (v - v_last) * (u - u_last)
    return np.count_nonzero(passes & (points[:, :1] < at), axis=1) % 2 == 1
