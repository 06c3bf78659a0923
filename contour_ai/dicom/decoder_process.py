"""The process that decodes compressed pixels for `contour_ai.dicom.decoder`; it may die without harm.

Run as `python -m contour_ai.dicom.decoder_process`: paths come in on stdin, stored values go out on stdout.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.decoder import receive, send
from contour_ai.dicom.header import UNREADABLE

KEYWORDS = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""What pixels are decoded by."""

CHECK_BYTES = 64
"""Slack between what the header promises and what is decoded, before it is refused."""


def main() -> None:
    """Answers until stdin ends."""
    # Whatever a decoder prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program; it closes stdin when it ends
    while (asked := receive(sys.stdin.buffer)) is not None:
        path = Path(os.fsdecode(str(asked["path"]).encode("latin-1")))
        try:
            pixels = _decoded(path)
        except (RuntimeError, *UNREADABLE) as error:
            send(answers, {"error": f"{error}" or type(error).__name__})
            continue
        promised = int(str(asked["bytes"]))
        if pixels.nbytes > promised + CHECK_BYTES:
            send(answers, {"error": f"{pixels.nbytes} bytes of pixels, expected {promised}"})
            continue
        message = {
            "dtype": pixels.dtype.str,
            "shape": " ".join(map(str, pixels.shape)),
            "bytes": pixels.nbytes,
        }
        send(answers, message, np.ascontiguousarray(pixels).data.cast("B"))


def _decoded(path: Path) -> NDArray[np.generic]:
    """(row, column) or (frame, row, column) stored values."""
    from pydicom.filereader import dcmread

    pixels: NDArray[np.generic] = dcmread(path, force=True, specific_tags=list(KEYWORDS)).pixel_array
    return pixels


if __name__ == "__main__":
    main()
