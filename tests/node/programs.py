"""Real peers for tests: dcmtk's tools and an Orthanc server; a test is skipped where they are not installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nodes import wait_for


def program(name: str, package: str) -> str:
    """Path of a program, or a skipped test; CONTOUR_AI_<NAME> names one that is not on the PATH."""
    variable = f"CONTOUR_AI_{name.upper()}"
    path = os.environ.get(variable) or shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not on the PATH, and {variable} is not set (apt install {package})")
    return path


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@functools.cache
def dcmtk_program(name: str) -> str:
    """Path of one of dcmtk's tools; pynetdicom brings programs of the same names, which do not count here."""
    own = os.environ.get(f"CONTOUR_AI_{name.upper()}")
    found = [own] if own else [str(Path(d) / name) for d in os.get_exec_path() if (Path(d) / name).is_file()]
    for path in found:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=120)
        if "dcmtk" in said.stdout:
            return path
    pytest.skip(f"dcmtk's {name} is not on the PATH (apt install dcmtk)")


def dcmtk(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs one of dcmtk's tools to its end."""
    command = [dcmtk_program(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@contextmanager
def storescp(folder: Path, port: int, *more: str) -> Iterator[None]:
    """dcmtk's receiver: files of what it is sent lie in the folder."""
    folder.mkdir()
    command = [dcmtk_program("storescp"), "-aet", "TPS", "-od", str(folder), *more, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port), 30)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Orthanc:
    """An archive: address of its REST interface, DICOM port."""

    address: str
    port: int

    def get(self, path: str) -> Any:
        """JSON of the REST interface."""
        return json.loads(self.bytes(path))

    def bytes(self, path: str) -> bytes:
        """What the REST interface gives."""
        with urllib.request.urlopen(self.address + path, timeout=120) as answer:
            content: bytes = answer.read()
            return content

    def post(self, path: str, content: object) -> Any:
        """Has something done."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def instances(self, modality: str) -> list[str]:
        """Its numbers of the instances of a modality."""
        series = [self.get(f"/series/{one}") for one in self.get("/series")]
        return [i for s in series if s["MainDicomTags"]["Modality"] == modality for i in s["Instances"]]


@contextmanager
def orthanc(folder: Path, peers: dict[str, Sequence[object]], *, port: int = 0) -> Iterator[Orthanc]:
    """An Orthanc server that lives as long as the test.

    Args:
        peers: its DicomModalities, such as {"node": ["CONTOURAI", "127.0.0.1", 11112]}.
        port: for DICOM; 0 for a free one.
    """
    server = program("Orthanc", "orthanc")
    folder.mkdir()
    port, http = port or free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "HttpPort": http,
        "DicomPort": port,
        "DicomAet": "ORTHANC",
        "DicomModalities": peers,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([server, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            if answers(http) and answers(port):
                break
            time.sleep(0.1)
        yield Orthanc(f"http://127.0.0.1:{http}", port)
    finally:
        process.terminate()
        process.wait(60)
