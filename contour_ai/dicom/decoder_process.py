"""The process that decodes compressed pixels for `contour_ai.dicom.decoder`; it may die without harm.

`contour_ai.dicom.decoder.START` begins it: questions come in on stdin, answers go out on stdout.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contour_ai.dicom.decoder import CHECK_BYTES, exactly, receive, send
from contour_ai.dicom.header import UNREADABLE
from contour_ai.dicom.shared_buffer import attached
from contour_ai.interrupts import ignore_interrupts


def main() -> None:
    """Answers until stdin ends."""
    # Whatever a decoder prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    ignore_interrupts()  # they are for the program; it closes stdin when it ends
    questions = sys.stdin.buffer
    address, shared = "", None
    while (question := receive(questions)) is not None:
        if question["buffer"] != address:
            address = str(question["buffer"])
            shared = attached(address) if address else None
        length = int(str(question["bytes"]))
        data = exactly(questions, length) if shared is None else shared[:length]
        try:
            pixels = _decoded(str(question["syntax"]), data, question["options"])
        except (RuntimeError, *UNREADABLE) as error:
            send(answers, {"error": f"{error}" or type(error).__name__})
            continue
        most = int(str(question["most"]))
        if pixels.nbytes > most + CHECK_BYTES:
            send(answers, {"error": f"{pixels.nbytes} bytes of pixels, expected {most}"})
            continue
        shape = " ".join(map(str, pixels.shape))
        message = {"dtype": pixels.dtype.str, "shape": shape, "bytes": pixels.nbytes}
        if shared is None:
            send(answers, message, np.ascontiguousarray(pixels).data.cast("B"))
        else:
            _put(shared, pixels)
            send(answers, message)


def _put(shared: mmap.mmap, pixels: NDArray[np.generic]) -> None:
    """Writes an array to the start of shared memory."""
    np.copyto(np.frombuffer(shared, pixels.dtype, count=pixels.size).reshape(pixels.shape), pixels)


def _decoded(syntax: str, data: bytes, options: Any) -> NDArray[np.generic]:
    """(row, column) or (frame, row, column) stored values."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    if "extended_offsets" in options:
        options["extended_offsets"] = tuple(bytes.fromhex(text) for text in options["extended_offsets"])
    options |= {"pixel_keyword": "PixelData", "pixel_vr": "OB"}
    pixels: NDArray[np.generic] = get_decoder(UID(syntax)).as_array(data, **options)[0]
    return pixels


if __name__ == "__main__":
    main()
