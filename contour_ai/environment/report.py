"""Examines an installation, one check after the other; nothing is raised, every fault becomes a line."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from contour_ai import __version__
from contour_ai.cores import available_cores
from contour_ai.dicom.seg_write import how_to_install_seg

Outcome = Literal["ok", "note", "problem"]

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pydicom",
    "python-gdcm",
    "rt-utils",
    "scikit-image",
    "pillow",
    "click",
    "rich",
    "PyYAML",
    "safetensors",
)
"""What every command may need, by the name under which it is installed."""

EXTRAS = {
    "node": ("pynetdicom", "starlette", "uvicorn", "jinja2"),
    "seg": ("highdicom",),
    "anonymise": ("dicognito",),
}
"""Extra of the installation: the packages it brings, by the name under which they are installed."""

LEAST_FREE_GB = 2.0
"""Temporary files of a long CT and its pictures, and the cache of a small training."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentCheck:
    """What one check found.

    Args:
        topic: heading under which it is shown.
        name: what was looked at.
        outcome: ok, note (works, but worth knowing) or problem.
        found: what was there, in words.
        fix: what to do about a problem or a note.
        exit_status: of a problem: 2 for a folder, 4 for what is installed.
    """

    topic: str
    name: str
    outcome: Outcome
    found: str
    fix: str = ""
    exit_status: int = 0


@dataclass(frozen=True)
class EnvironmentReport:
    """All checks, in the order in which they are shown."""

    checks: tuple[EnvironmentCheck, ...]

    @property
    def problems(self) -> tuple[EnvironmentCheck, ...]:
        """The checks that found something wrong."""
        return tuple(check for check in self.checks if check.outcome == "problem")

    @property
    def exit_status(self) -> int:
        """0 without problems, else that of the worst."""
        return max((check.exit_status for check in self.problems), default=0)

    def as_json(self) -> dict[str, object]:
        """Plain values, for a bug report. The user's home folder is written as ~."""
        return {
            "contour_ai": __version__,
            "status": self.exit_status,
            "checks": [asdict(check) for check in self.checks],
        }


def examine_environment(out_dir: Path | None = None) -> EnvironmentReport:
    """Runs every check; `out_dir` is a folder in which results are to be written (default: the current one)."""
    topics: tuple[tuple[str, Callable[[], Iterator[EnvironmentCheck]]], ...] = (
        ("software", _software),
        ("packages", _packages),
        ("processor", _processor),
        ("GPU", _gpu),
        ("decoders", _decoders),
        ("models", _models),
        ("folders", lambda: _folders(Path.cwd() if out_dir is None else out_dir)),
    )
    checks: list[EnvironmentCheck] = []
    for topic, run in topics:
        try:
            checks.extend(run())
        except Exception as error:  # noqa: BLE001 - a broken package may fail in any way; the page must still appear
            found = f"the check failed: {type(error).__name__}: {error}"
            checks.append(
                EnvironmentCheck(topic=topic, name=topic, outcome="problem", found=found, exit_status=4)
            )
    return EnvironmentReport(tuple(checks))


def _software() -> Iterator[EnvironmentCheck]:
    yield _ok("software", "contour-ai", f"{__version__} in {_short(Path(__file__).parents[1])}")
    yield _ok("software", "Python", f"{platform.python_version()}, {_short(Path(sys.executable))}")
    yield _ok("software", "system", platform.platform())
    encoding = sys.stdout.encoding or "unknown"
    yield _ok("software", "console encoding", f"{encoding}; file names {sys.getfilesystemencoding()}")


def _packages() -> Iterator[EnvironmentCheck]:
    for package in PACKAGES:
        version = _version(package)
        if version is None:
            yield EnvironmentCheck(
                topic="packages",
                name=package,
                outcome="problem",
                found="not installed",
                fix=f"pip install {package}",
                exit_status=4,
            )
        else:
            yield _ok("packages", package, version)
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        found = f"lacks {', '.join(missing)}" if missing else "installed"
        command = how_to_install_seg() if extra == "seg" else f'pip install "contour-ai[{extra}]"'
        fix = f"{command}, if it is wanted" if missing else ""
        outcome: Outcome = "note" if missing else "ok"
        yield EnvironmentCheck(topic="packages", name=f"extra {extra}", outcome=outcome, found=found, fix=fix)


def _processor() -> Iterator[EnvironmentCheck]:
    import torch

    from contour_ai.inference import autocast_dtype

    allowed = available_cores()
    yield _ok("processor", "cores", f"{allowed} usable, {torch.get_num_threads()} threads in torch")
    yield _ok("processor", "vector units", torch.backends.cpu.get_cpu_capability())
    half = autocast_dtype(torch.device("cpu"))
    yield _ok(
        "processor",
        "bfloat16",
        "has units for it: networks compute in bfloat16"
        if half is not None
        else "no units for it: networks compute in float32, slower",
    )


def _gpu() -> Iterator[EnvironmentCheck]:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        found = f"none; torch {torch.__version__} is built for " + (
            f"CUDA {built}" if built else "the CPU alone"
        )
        fix = "check the driver with nvidia-smi" if built else "for an NVIDIA GPU install torch for CUDA"
        yield EnvironmentCheck(topic="GPU", name="CUDA", outcome="note", found=found, fix=fix)
        return
    from contour_ai.inference import autocast_dtype

    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        free, total = torch.cuda.mem_get_info(device)
        half = "bfloat16" if autocast_dtype(device) is not None else "float32 only"
        x = torch.ones(8, 8, device=device)
        works = bool((x @ x == 8).all())
        found = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, {half}"
        name = f"cuda:{index}"
        if works:
            yield _ok("GPU", name, found)
        else:
            yield EnvironmentCheck(
                topic="GPU",
                name=name,
                outcome="problem",
                found=f"{found}; computes wrongly",
                fix="reinstall the driver, or use --device cpu",
                exit_status=4,
            )


def _decoders() -> Iterator[EnvironmentCheck]:
    from contour_ai.environment.decoders import compressed_samples, decoding_error

    for sample in compressed_samples():
        error = decoding_error(sample)
        if error is None:
            yield _ok("decoders", sample.name, "a compressed CT was read exactly")
        else:
            yield EnvironmentCheck(
                topic="decoders",
                name=sample.name,
                outcome="problem",
                found=error,
                fix="pip install --force-reinstall python-gdcm, or export CTs uncompressed",
                exit_status=4,
            )


def _models() -> Iterator[EnvironmentCheck]:
    from contour_ai.bundle import DESCRIPTION_FILE, load_bundle, model_folders
    from contour_ai.errors import ContourAIError

    folders = [path.parent for root in model_folders() for path in sorted(root.glob(f"*/{DESCRIPTION_FILE}"))]
    seen: set[str] = set()
    for folder in folders:
        if folder.name in seen:
            continue
        seen.add(folder.name)
        try:
            bundle = load_bundle(folder)
        except ContourAIError as error:
            found = f"{error.what} {error.found or ''}".strip()
            fix = error.fix or "get the bundle again, as a whole"
            yield EnvironmentCheck(
                topic="models", name=folder.name, outcome="problem", found=found, fix=fix, exit_status=4
            )
            continue
        default = ", the default" if bundle.default else ""
        yield _ok(
            "models",
            bundle.name,
            f"{bundle.version}, {bundle.kind}{default}, SHA-256 {bundle.weights_sha256[:16]}, {_short(folder)}",
        )
    if not folders:
        yield EnvironmentCheck(
            topic="models",
            name="models",
            outcome="problem",
            found="none",
            fix="train one with `contour-ai train`, or set CONTOUR_AI_MODELS to the folder that has them",
            exit_status=4,
        )


def _folders(out_dir: Path) -> Iterator[EnvironmentCheck]:
    yield _folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder with free space")
    yield _folder("results", out_dir, "choose a folder you may write to, with free space")


def _folder(name: str, folder: Path, fix: str) -> EnvironmentCheck:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"contour-ai")
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        found = f"{_short(folder)}: {error.strerror or error}"
        return EnvironmentCheck(
            topic="folders", name=name, outcome="problem", found=found, fix=fix, exit_status=2
        )
    found = f"{_short(folder)}, writable, {free:.1f} GB free"
    if free < LEAST_FREE_GB:
        found = f"{found} (a long CT with its pictures, or a training, wants {LEAST_FREE_GB:g} GB)"
        return EnvironmentCheck(
            topic="folders", name=name, outcome="problem", found=found, fix=fix, exit_status=2
        )
    return EnvironmentCheck(topic="folders", name=name, outcome="ok", found=found)


def _ok(topic: str, name: str, found: str) -> EnvironmentCheck:
    return EnvironmentCheck(topic=topic, name=name, outcome="ok", found=found)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _short(path: Path) -> str:
    """A path with the user's home folder as ~: a bug report should not carry a person's name."""
    try:
        return str(Path("~") / path.resolve().relative_to(Path.home().resolve()))
    except (ValueError, RuntimeError):
        return str(path)
