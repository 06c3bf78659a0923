"""Reads structure templates: Eclipse's XML, tables (CSV) and YAML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contour_ai.errors import ConfigError
from contour_ai.settings import from_mapping
from contour_ai.structures.roi_record import INTERPRETED_TYPES
from contour_ai.structures.template import EXTERNAL, HEX, StructureTemplate, TemplateRoi, rgb_of_hex
from contour_ai.text_files import table_rows
from contour_ai.yaml_files import read_yaml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST_BYTES = 8 << 20
TYPE_SPELLINGS = {
    "BODY": EXTERNAL,
    "IRRADIATED_VOLUME": "IRRAD_VOLUME",
    "OAR": "ORGAN",
    "CONTRASTAGENT": "CONTRAST_AGENT",
    "NONE": "",
}
"""What systems write for DICOM's terms."""

YES, NO = ("yes", "true", "1", "x", "y"), ("no", "false", "0", "", "n")
RGB_FIELDS = re.compile(r"RGB\s*(.{3})(.{3})(.{3})\s*$", re.IGNORECASE)
NUMBERS = re.compile(r"(\d{1,3})[\s,;\\]+(\d{1,3})[\s,;\\]+(\d{1,3})")
STYLES = re.compile(r"^(segment|contour|translucent|solid|wire)\s*-?\s*", re.IGNORECASE)
SHADES = (("lt", "light"), ("dk", "dark"), ("med", "medium"))
SKIN_RENDERING = (255, 205, 170)
"""The one style of Eclipse that is not named by its colour."""


def load_template(source: str | Path | StructureTemplate) -> StructureTemplate:
    """A template from an .xml (Eclipse), .csv or .yaml file.

    Raises:
        ConfigError: it cannot be read, or says something that cannot be meant; the place is named.
    """
    if isinstance(source, StructureTemplate):
        return source
    path = Path(source)
    readers = {".xml": _from_xml, ".csv": _from_csv, ".tsv": _from_csv}
    if path.suffix.lower() in (".yaml", ".yml"):
        return _from_yaml(path)
    if path.suffix.lower() not in readers:
        raise ConfigError(
            "A structure template is an XML, CSV or YAML file.",
            where=path,
            expected=".xml (Eclipse structure template), .csv or .yaml",
        )
    return readers[path.suffix.lower()](path, _text(path))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ConfigError("The template is too large.", where=path, expected=f"{LARGEST_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "The template cannot be read.", where=path, found=error.strerror or error
        ) from error
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ConfigError("The template is no text.", where=path, expected="UTF-8")


def _from_yaml(path: Path) -> StructureTemplate:
    content = read_yaml(path, "The template")
    if isinstance(content, list):
        content = {"structures": content}
    if isinstance(content, Mapping) and isinstance(content.get("structures"), list):
        content = {**content, "structures": [_with_hex_color(roi, path) for roi in content["structures"]]}
    template = from_mapping(StructureTemplate, content, where=path)
    return dataclasses.replace(template, source=str(path))


def _with_hex_color(roi: object, path: Path) -> object:
    """An entry of a YAML template whose colour may be a list, or written as in the other formats."""
    if not isinstance(roi, Mapping) or roi.get("color") is None:
        return roi
    color = roi["color"]
    rgb = _color(" ".join(str(n) for n in color) if isinstance(color, list) else str(color))
    if rgb is None:
        raise ConfigError(
            "The colour of a ROI in the template is not known.",
            where=f"{path}, {roi.get('name', '?')}",
            found=color,
            expected=COLORS,
        )
    return {**roi, "color": _hex(rgb)}


COLORS = '"#ff8800", "255 136 0" or a name such as orange'
COLUMNS = {
    "name": ("name", "structure", "roi", "id"),
    "type": ("type", "interpreted type", "volume type"),
    "color": ("color", "colour"),
    "required": ("required",),
    "aliases": ("aliases", "synonyms"),
    "order": ("order",),
}
"""Field: what its column may be called."""


def _from_csv(path: Path, text: str) -> StructureTemplate:
    rows = table_rows(text)
    header = [c.strip().lower() for c in rows[0]] if rows else []
    fields = [next((f for f, names in COLUMNS.items() if c in names), None) for c in header]
    unknown = [c for c, f in zip(header, fields, strict=True) if f is None]
    if unknown or "name" not in fields:
        raise ConfigError(
            "The template's first line does not name its columns."
            if "name" not in fields
            else "Unknown column.",
            where=path,
            found=", ".join(unknown) or ", ".join(header),
            expected=f"name, and any of {', '.join(f for f in COLUMNS if f != 'name')}",
        )
    found: list[tuple[float, TemplateRoi]] = []
    for number, row in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in row):
            values = {f: c.strip() for f, c in zip(fields, row, strict=False) if f}
            found.append(_of_row(values, f"{path}, line {number}", len(found)))
    ordered = [roi for _, roi in sorted(found, key=lambda pair: pair[0])]
    return StructureTemplate(structures=tuple(ordered), source=str(path))


def _of_row(values: Mapping[str, str], where: str, number: int) -> tuple[float, TemplateRoi]:
    """(place in the order, ROI) of one line of a table."""
    required = values.get("required", "yes").lower()
    color = values.get("color", "")
    rgb = _color(color) if color else None
    try:
        order = float(values["order"]) if values.get("order") else float(number)
    except ValueError:
        raise ConfigError("The order is no number.", where=where, found=values["order"]) from None
    if required not in (*YES, *NO) or (color and rgb is None):
        raise ConfigError(
            "A value of the template cannot be used.",
            where=where,
            found=f"required {required!r}, color {color!r}",
            expected=f"required: yes or no; color: {COLORS}",
        )
    try:
        roi = TemplateRoi(
            name=values.get("name", ""),
            type=_type(values.get("type", "")),
            color=None if rgb is None else _hex(rgb),
            required=required in YES,
            aliases=tuple(a.strip() for a in re.split(r"[;|]", values.get("aliases", "")) if a.strip()),
        )
    except ConfigError as error:
        raise ConfigError(
            error.what, where=where, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    return order, roi


def _from_xml(path: Path, text: str) -> StructureTemplate:
    """An Eclipse structure template: StructureTemplate/Structures/Structure."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ConfigError(
            "The template defines entities, which no structure template needs.",
            where=path,
            fix="export it again from the planning system",
        )
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except (ElementTree.ParseError, RecursionError) as error:
        raise ConfigError("The template is not valid XML.", where=path, found=error) from error
    found = [e for e in root.iter() if _tag(e) == "Structure"]
    notes: list[str] = []
    structures = [_of_element(e, path, notes) for e in found]
    preview = next((e for e in root.iter() if _tag(e) == "Preview"), None)
    description = "" if preview is None else preview.get("ID", "")
    if not structures:
        raise ConfigError(
            "This XML file has no structures.",
            where=path,
            found=_tag(root),
            expected="an Eclipse structure template: StructureTemplate, Structures, Structure ID=...",
        )
    return StructureTemplate(
        structures=tuple(structures), description=description, source=str(path), notes=tuple(notes)
    )


def _of_element(element: Element, path: Path, notes: list[str]) -> TemplateRoi:
    name = (element.get("ID") or element.get("Name") or "").strip()
    other = (element.get("Name") or "").strip()
    style = _child(element, "ColorAndStyle")
    rgb = _color(style) if style else None
    if style and rgb is None:
        notes.append(f"{name}: the colour {style!r} is not known")
    written = _child(element, "VolumeType")
    kind: str | None = None
    try:
        kind = _type(written)
        if kind is not None and kind not in INTERPRETED_TYPES:
            notes.append(f"{name}: the type {written!r} is not one of DICOM's")
            kind = None
        return TemplateRoi(
            name=name,
            type=kind,
            color=None if rgb is None else _hex(rgb),
            aliases=(other,) if other and other.casefold() != name.casefold() else (),
        )
    except ConfigError as error:
        raise ConfigError(error.what, where=f"{path}, structure {name!r}", found=error.found) from error


def _tag(element: Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rsplit("}", 1)[-1]


def _child(element: Element, name: str) -> str:
    found = next((e for e in element.iter() if _tag(e) == name), None)
    return "" if found is None or found.text is None else found.text.strip()


def _type(text: str) -> str | None:
    """DICOM's term for a type as systems write it; None where there is none."""
    term = re.sub(r"[ -]+", "_", text.strip().upper())
    return TYPE_SPELLINGS.get(term, term) or None


def _color(text: str) -> tuple[int, int, int] | None:
    """A colour as systems write it: "#ff8800", "255 136 0", RGB255136  0, "Segment - Cyan"; None for others."""
    text = text.strip()
    if HEX.fullmatch(text):
        return rgb_of_hex(text)
    fields = RGB_FIELDS.search(text)
    if fields and all(f.strip().isdigit() for f in fields.groups()):
        return _checked([int(f) for f in fields.groups()])
    numbers = NUMBERS.search(text)
    if numbers:
        return _checked([int(n) for n in numbers.groups()])
    if text.casefold() == "skin rendering":
        return SKIN_RENDERING
    from PIL import ImageColor

    word = re.sub(r"[\s_-]+", "", STYLES.sub("", text).casefold())
    for short, long in SHADES:
        if word.startswith(short) and word not in ImageColor.colormap:
            word = long + word.removeprefix(short)
    known = ImageColor.colormap.get(word)
    return None if known is None else _checked(list(ImageColor.getrgb(word)[:3]))


def _checked(values: list[int]) -> tuple[int, int, int] | None:
    return (values[0], values[1], values[2]) if max(values) <= 255 else None


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
