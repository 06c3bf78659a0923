"""One small compressed slice per transfer syntax, to try the decoders of an installation."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contour_ai.dicom.ct import read_ct
from contour_ai.dicom.ct_write import PatientIdentity, write_ct
from contour_ai.dicom.scan import find_patient
from contour_ai.errors import ContourAIError
from contour_ai.grid import Grid
from contour_ai.volume import Volume

SLICES = 3


@dataclass(frozen=True)
class CompressedSample:
    """A slice of 16 x 16 stored values, 4 n + 24 for pixel n in row order, 16 bits signed.

    Args:
        name: of the compression, in words.
        transfer_syntax_uid: of PS3.5 annex A.4.
        frame: the compressed frame, as it stands in the encapsulated pixel data.
    """

    name: str
    transfer_syntax_uid: str
    frame: bytes


def decoding_error(sample: CompressedSample) -> str | None:
    """Writes a CT with the sample in every slice, reads it as `predict` does and compares; None where all is right."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    expected = _expected_hu()
    with tempfile.TemporaryDirectory(prefix="contour-ai-doctor-") as folder:
        ct_folder = Path(folder) / "ct"
        grid = Grid.axial(expected.shape, (3.0, 1.0, 1.0))
        write_ct(
            ct_folder,
            Volume(expected, grid),
            PatientIdentity(patient_id="doctor", patient_name="", study_date="20000101"),
            uid_seed=sample.name,
        )
        for path in sorted(ct_folder.iterdir()):
            data_set = dcmread(path)
            data_set.PixelData = encapsulate([sample.frame])
            data_set["PixelData"].VR = "OB"
            data_set["PixelData"].is_undefined_length = True
            data_set.file_meta.TransferSyntaxUID = UID(sample.transfer_syntax_uid)
            data_set.save_as(path, enforce_file_format=True)
        try:
            volume = read_ct(find_patient(ct_folder).ct).volume
        except ContourAIError as error:
            return f"{error.what} {error.found or ''}".strip()
    if volume is None or not np.array_equal(volume.hu, expected):
        return "decoded to other values than were compressed"
    return None


def _expected_hu() -> np.ndarray[tuple[int, int, int], np.dtype[np.int16]]:
    ramp = np.arange(16 * 16, dtype=np.int16).reshape(16, 16) * 4 - 1000
    return np.stack([ramp] * SLICES)


def compressed_samples() -> tuple[CompressedSample, ...]:
    """All samples, made with GDCM from the same slice."""
    return tuple(
        CompressedSample(name, uid, base64.b64decode(frame)) for name, (uid, frame) in _FRAMES.items()
    )


_FRAMES = {
    "JPEG lossless": (
        "1.2.840.10008.1.2.4.57",
        "/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwcP/9oACAEBAAEAAMAF0RERERERERKAiIiIiIiIiJQERERE"
        "RERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERE"
        "RKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJ//9kA",
    ),
    "JPEG lossless, first-order prediction": (
        "1.2.840.10008.1.2.4.70",
        "/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwcP/9oACAEBAAEAAMAF0RERERERERKAiIiIiIiIiJQERERE"
        "RERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERE"
        "RKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJQERERERERERKAiIiIiIiIiJ//9kA",
    ),
    "JPEG-LS lossless": (
        "1.2.840.10008.1.2.4.80",
        "/9j/9wALEAAQABABAREA//gADQH//wASAEMBFABA/9oACAEBAAAAAEL4DwFgOA4DAYDAYGBgYDwFgOA5AQIgNAkBQKBQCAQE"
        "BAQEBAQIj9AQECBAgQIECBAgQIEBp8gQIECCCCCCCCCCCBJ6gggggggggggggggK8QQQQQQQQQhCEIQK7QhCEIQhCEIQhArp"
        "CEIQhCEIQhEQC5REREREREREAuERERERERERAW6IkkkkkkgLZJJJJJJJAWqSSSqqoC0VVVVVAc1VVX4Dk/98AP/Z",
    ),
    "JPEG 2000 lossless": (
        "1.2.840.10008.1.2.4.90",
        "/0//UQApAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABjwEB/1IADAAAAAEAAwQEAAH/XAANQICIiJCIiJCI"
        "iJD/ZAAqAAFDcmVhdGVkIGJ5IEdEQ00vT3BlbkpQRUcgdmVyc2lvbiAyLjMuMP+QAAoAAAAAAEoAAf+TwH7AwAs/KE/GTMAB"
        "84SAPzBADQH/fws9hRfAAPkCQA/AFCIaCF8Df91STcAAfCJAB9oKNqGZvz2mNGC//9k=",
    ),
    "RLE lossless": (
        "1.2.840.10008.1.2.5",
        "AgAAAEAAAABoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPEA8QDxAPcA"
        "+wHxAfEB8QH3AfsC8QLxAvEC9wL7A/ED8QPxA/cD+wQPGBwgJCgsMDQ4PEBESExQVA9YXGBkaGxwdHh8gISIjJCUD5icoKSo"
        "rLC0uLzAxMjM0NQP2Nzg5Ojs8PT4/AAECAwQFA8YHCAkKCwwNDg8QERITFBUD1hcYGRobHB0eHyAhIiMkJQPmJygpKissLS4"
        "vMDEyMzQ1A/Y3ODk6Ozw9Pj8AAQIDBAUDxgcICQoLDA0ODxAREhMUFQPWFxgZGhscHR4fICEiIyQlA+YnKCkqKywtLi8wMTI"
        "zNDUD9jc4OTo7PD0+PwABAgMEBQPGBwgJCgsMDQ4PEBESExQVA9YXGBkaGxwdHh8gISIjJCUD5icoKSorLC0uLzAxMjM0NQP"
        "2Nzg5Ojs8PT4/AAECAwQFA==",
    ),
}
"""Name: transfer syntax UID and compressed frame in base64."""
