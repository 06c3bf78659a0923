"""Certificates for tests: an authority, and keys that it signed, made by the `openssl` program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from contour_ai.node.config import Tls


class Authority:
    """Signs certificates; everybody who trusts it trusts those."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        _run("req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", "-days", "2",
             "-keyout", self.key, "-out", self.certificate)  # fmt: skip

    def tls(self, who: str, *, trusted: Path | None = None) -> Tls:
        """Certificate and key of a node; it trusts this authority, or another one."""
        request, certificate, key = (self.folder / f"{who}.{end}" for end in ("csr", "pem", "key"))
        _run("req", *NEW_KEY, "-subj", f"/CN={who}", "-keyout", key, "-out", request)
        _run("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
             "-days", "2", "-out", certificate)  # fmt: skip
        return Tls(certificate=str(certificate), key=str(key), ca=str(trusted or self.certificate))


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _run(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
