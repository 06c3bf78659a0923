"""Mutations of valid files, byte by byte and element by element, for benchmarks/robustness_fuzz.py."""

from __future__ import annotations

import gzip
import logging
import random
import zipfile

HOSTILE_TEXT = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e308",
    "-0.0",
    "1e-300",
    "99999999999999999999",
    "70,5",
    "--5",
    "\x1b[2J",
    "\u202eevil",
    "=cmd|'/C calc'!A0",
    "[/red]",
    "../../../etc/passwd",
    "a\\b\\c",
    "x" * 5000,
    "\x00",
    "2001-99-99",
    "é",
)
HOSTILE_YAML = (
    "2001-99-99",
    ".nan",
    ".inf",
    "-1",
    "1e999",
    "[]",
    "{}",
    "null",
    "yes",
    "''",
    "*a",
    "&a [*a]",
    "!!python/object/apply:os.system [ls]",
    "!!timestamp x",
    "!!int ''",
    "[" * 200,
    "? [a]",
    "'" + "x" * 3000 + "'",
    "\t",
    "{a: {b: {c: 1}}}",
    "[1, 2, 3, 4, 5, 6, 7]",
    "99999999999999999999999",
    "&a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]",
)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, repeated, overwritten or inserted bytes; more often near the beginning, where headers are."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        reach = len(content) if rng.random() < 0.5 else min(len(content), 400)
        at, length = rng.randrange(reach), rng.choice((1, 2, 4, 8, 64, 1000))
        action = rng.randrange(6)
        if action == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif action == 2:
            del content[at:]
        elif action == 3:
            del content[at : at + length]
        elif action == 4:
            content[at:at] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
        else:
            content[at : at + length] = content[max(0, at - length) : at]
    return bytes(content)


def mutated_dicom(data: bytes, rng: random.Random) -> bytes:
    """An element deleted, emptied, repeated or given a hostile value; bytes where that cannot be written."""
    import io
    import warnings

    import pydicom

    if rng.random() < 0.4:
        return mutated_bytes(data, rng)
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    data_set = pydicom.dcmread(io.BytesIO(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holders = [data_set, *_items(data_set)]
        holder = rng.choice(holders[:1] * 3 + holders)
        elements = [e for e in holder if e.tag.group != 2]
        if not elements:
            continue
        element = rng.choice(elements)
        action = rng.randrange(5)
        try:
            if action == 0:
                del holder[element.tag]
            elif element.VR == "SQ":
                element.value = rng.choice(([], list(element.value) * 2, list(element.value)[:1]))
            elif action == 1:
                element.value = None
            elif element.VR in ("OB", "OW", "OB or OW", "UN"):
                element.value = mutated_bytes(bytes(element.value), rng)
            elif element.VR in ("US", "UL", "SS", "SL", "FL", "FD"):
                element.value = rng.choice((0, 1, 2, 3, 16, 65535, 32767))
            else:
                raw = rng.choice(HOSTILE_TEXT).encode("utf-8")
                if action == 2 and element.VM > 1:
                    raw = b"\\".join([raw] * element.VM)
                holder[element.tag] = pydicom.DataElement(element.tag, "UN", raw)
                holder[element.tag].VR = "LT" if rng.random() < 0.5 else "UT"
                holder[element.tag].value = raw.decode("utf-8")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            continue
    out = io.BytesIO()
    try:
        pydicom.dcmwrite(out, data_set, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - what cannot be written is no case
        return mutated_bytes(data, rng)
    return out.getvalue()


def _items(data_set: object) -> list[object]:
    found = []
    for element in data_set:  # type: ignore[attr-defined]
        if element.VR == "SQ":
            for item in element.value:
                found += [item, *_items(item)]
    return found


def mutated_yaml(text: str, rng: random.Random) -> bytes:
    """A line deleted, repeated, moved or indented, or a value replaced by a hostile one."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        action = rng.randrange(6)
        if action == 0 and len(lines) > 1:
            del lines[at]
        elif action == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif action == 2:
            lines[at] = " " * rng.randrange(1, 5) + lines[at]
        elif action == 3:
            return mutated_bytes("\n".join(lines).encode(), rng)
        else:
            key, separator, _ = lines[at].partition(":")
            value = rng.choice(HOSTILE_YAML)
            lines[at] = f"{key}: {value}" if separator else f"{value}"
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def mutated_mask(name: str, data: bytes, rng: random.Random) -> bytes:
    """As bytes; of compressed files also what is inside, so that no checksum gives it away."""
    if name == "seg.dcm":
        return mutated_dicom(data, rng)
    inside = rng.random() < 0.6
    if inside and name.endswith(".nii.gz"):
        return gzip.compress(mutated_bytes(gzip.decompress(data), rng), 1)
    if inside and name.endswith(".npz"):
        return _npz_again(data, rng)
    if inside and b"\n\n" in data:
        end = data.index(b"\n\n")
        return mutated_yaml(data[:end].decode("latin-1"), rng) + b"\n" + data[end + 2 :]
    return mutated_bytes(data, rng)


def _npz_again(data: bytes, rng: random.Random) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, mutated_bytes(content, rng) if rng.random() < 0.7 else content)
    return out.getvalue()
