"""Decodes compressed pixels in a process of its own, which a damaged file may kill without taking the program along.

The decoders for JPEG, JPEG-LS and JPEG 2000 are C and C++ libraries; some damaged files end them with an abort or a
segmentation fault. The process is this interpreter with `-m contour_ai.dicom.decoder_process`, started at the first
compressed file and used for all that follow. Compressed bytes go in and pixels come back in shared memory, or over
pipes where the system gives none; what they are decoded by goes over pipes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from contour_ai.cores import available_cores
from contour_ai.dicom.shared_buffer import SharedBuffer

PLACE = str(Path(__file__).parents[2])
"""The folder that this package was imported from."""
START = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
if sys.argv[1] not in sys.path:
    packages = [n for n, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages"))]
    sys.path.insert(packages[0] if packages else len(sys.path), sys.argv[1])
from contour_ai.dicom.decoder_process import main
main()
"""
"""Finds this package after the standard library, where PYTHONPATH would put its folder before it: in an installed
package that is site-packages, whose modules (`dataclasses`, which rt-utils brings) must not hide Python's own. The
current folder is no place for modules."""
COMMAND = (sys.executable, "-c", START, PLACE)
LONGEST_S = 120.0
"""A file that takes longer is taken for one on which the decoder does not end; a slice takes milliseconds."""
ENDS_S = 2.0
"""A process that has closed its end of the pipe is given so long to end."""
LENGTH_BYTES = 8
WATCH_S = 0.5
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}
"""Settings of glibc, ignored elsewhere: memory for the next slice is kept instead of asked for again, which took a
third of the decoder's time."""
MOST_PROCESSES = 4
"""As many as the threads that read a series."""
PIPE_BYTES = 1 << 20
"""Where the system lets pipes be so large, a slice goes through in one piece."""


CHECK_BYTES = 64
"""Slack between what the header promises and what is decoded, before it is refused."""


class DecodingError(Exception):
    """Pixels that cannot be decoded; the text says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encapsulated:
    """Compressed pixels of a file.

    Args:
        data: the value of PixelData.
        syntax: transfer syntax UID.
        options: what they are decoded by, as `pydicom.pixels.as_pixel_options` gives it.
        frames: number of frames that the header promises.
        size_bytes: of all pixels, as the header promises; more is not accepted.
    """

    data: bytes
    syntax: str
    options: Mapping[str, object]
    frames: int
    size_bytes: int


class Decoder:
    """A process that decodes one file at a time; started when it is first needed, and again after it died.

    Args:
        command: what to start.
        longest_s: seconds for one file.
    """

    def __init__(self, command: Sequence[str] = COMMAND, longest_s: float = LONGEST_S) -> None:
        self._command = tuple(command)
        self._longest_s = longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer: SharedBuffer | None = None
        self._has_no_buffer = False
        self._turn = threading.Lock()
        self._deadline: float | None = None

    def decode(self, compressed: Encapsulated) -> NDArray[np.integer]:
        """(frame, row, column) stored values of a file.

        Raises:
            DecodingError: the pixels cannot be decoded, or the process died or hung on them.
        """
        with self._turn:
            process = self._started()
            self._deadline = time.monotonic() + self._longest_s
            try:
                answer = self._ask(process, compressed)
            except (OSError, EOFError, ValueError) as error:
                late = time.monotonic() >= self._deadline
                with contextlib.suppress(subprocess.TimeoutExpired):  # how it ended by itself is what to tell
                    process.wait(ENDS_S)
                self._stop()
                if late:
                    raise DecodingError(f"the decoder did not end within {self._longest_s:g} s") from error
                raise DecodingError(f"the decoder crashed on it ({_ended(process)})") from error
            except (
                BaseException
            ):  # interrupted between question and answer: the next question must not get this answer
                self._stop()
                raise
            finally:
                self._deadline = None
        if isinstance(answer, str):
            raise DecodingError(answer)
        return answer if answer.ndim == 3 else answer.reshape(compressed.frames, *answer.shape[-2:])

    def _ask(self, process: subprocess.Popen[bytes], compressed: Encapsulated) -> NDArray[np.integer] | str:
        """The pixels, or why there are none."""
        assert process.stdin is not None and process.stdout is not None
        buffer = self._reserved(max(len(compressed.data), compressed.size_bytes + CHECK_BYTES))
        question = {
            "syntax": compressed.syntax,
            "options": dict(compressed.options),
            "most": compressed.size_bytes,
            "bytes": len(compressed.data),
            "buffer": buffer.address if buffer else "",
        }
        if buffer:
            buffer.write(compressed.data)
        send(process.stdin, question, b"" if buffer else compressed.data)
        reply = receive(process.stdout)
        if reply is None:
            raise EOFError
        if "error" in reply:
            return str(reply["error"])
        dtype, shape = np.dtype(str(reply["dtype"])), tuple(int(n) for n in str(reply["shape"]).split())
        if buffer:
            return buffer.array(dtype, shape)
        array: NDArray[np.integer] = np.frombuffer(exactly(process.stdout, int(str(reply["bytes"]))), dtype)
        return array.reshape(shape)

    def _reserved(self, size_bytes: int) -> SharedBuffer | None:
        """Shared memory of a size; None where the system gives none."""
        if self._buffer is not None:
            try:
                self._buffer.reserve(size_bytes)
            except OSError:
                self._buffer, self._has_no_buffer = None, True
        return self._buffer

    def close(self) -> None:
        """Ends the process, if there is one, also while it decodes."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            if self._buffer is None and not self._has_no_buffer:
                try:
                    self._buffer = SharedBuffer()
                except OSError:
                    self._has_no_buffer = True
            inherited = self._buffer.inherited if self._buffer else ()
            try:
                try:
                    self._process = _start(self._command, PIPE_BYTES, inherited)
                except PermissionError:  # a user may have used up what pipes may take
                    self._process = _start(self._command, -1, inherited)
            except OSError as error:
                raise DecodingError(f"the decoder's process cannot be started: {error}") from error
            threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
        return self._process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Ends a process that does not end with a file; runs in a thread as long as the process does."""
        while process.poll() is None:
            deadline = self._deadline
            if deadline is not None and time.monotonic() >= deadline:
                process.kill()
            time.sleep(min(WATCH_S, self._longest_s))

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # of what was still to be sent to a process that is gone
                    stream.close()


class DecoderPool:
    """Several decoders, one for each thread that waits for one at the same time, up to a number of them."""

    def __init__(self, most: int, command: Sequence[str] = COMMAND) -> None:
        self._idle: queue.LifoQueue[Decoder] = queue.LifoQueue()  # the one used last is warm
        self._all = [Decoder(command) for _ in range(most)]
        for decoder in reversed(self._all):
            self._idle.put(decoder)

    def decode(self, compressed: Encapsulated) -> NDArray[np.integer]:
        """As `Decoder.decode`, by the first decoder that is free."""
        decoder = self._idle.get()
        try:
            return decoder.decode(compressed)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """Ends all processes, also while they decode."""
        for decoder in self._all:
            decoder.close()


@cache
def shared_decoder() -> DecoderPool:
    """The decoders of this program, for all threads; no process is started before there is something to decode."""
    pool = DecoderPool(min(MOST_PROCESSES, available_cores()))
    atexit.register(pool.close)
    return pool


def send(stream: IO[bytes], message: dict[str, object], pixels: memoryview | bytes = b"") -> None:
    """Writes a message, and bytes behind it."""
    text = json.dumps(message).encode()
    stream.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
    stream.write(pixels)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, object] | None:
    """Reads a message; None at the end of the stream.

    Raises:
        EOFError: the stream ends within a message.
        ValueError: it is no message.
    """
    length = stream.read(LENGTH_BYTES)
    if not length:
        return None
    message = json.loads(exactly(stream, int.from_bytes(length, "little")))
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


def exactly(stream: IO[bytes], count: int) -> bytes:
    """Reads a number of bytes.

    Raises:
        EOFError: there are fewer.
    """
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _start(command: Sequence[str], pipe_bytes: int, inherited: tuple[int, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        pipesize=pipe_bytes,
        pass_fds=inherited,
    )


def _environment() -> dict[str, str]:
    """The environment in which the process finds no modules in the current folder."""
    return {**MALLOC, **os.environ, "PYTHONSAFEPATH": "1"}


def _ended(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, in words."""
    status = process.wait()
    return f"signal {-status}" if status < 0 else f"status {status}"
