"""Imports go one way, and heavy packages stay in the modules that need them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "contour_ai"

LAYERS = (
    (
        "cores",
        "interrupts",
        "errors",
        "faults",
        "files",
        "progress",
        "settings",
        "schemas",
        "visible_text",
        "yaml_files",
        "csv_files",
        "text_files",
    ),
    ("box", "grid", "holes", "mask_agreement", "polygons"),
    ("slice_names",),
    ("volume",),
    ("structures",),
    ("derived",),
    (
        "dicom",
        "mask_files",
        "render",
        "network_config",
        "network",
        "device_transfer",
        "losses",
        "preprocess",
        "surfaces",
    ),
    ("anonymisation", "evaluation", "quality", "sample"),
    ("report",),
    ("bundle",),
    ("inference", "postprocess", "device_resampling", "second_reading"),
    ("training",),
    ("pipeline",),
    ("environment", "monitoring", "node"),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a module may import its own layer and the layers before it."""

LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}

FORBIDDEN = {
    "torch": (
        "dicom",
        "polygons",
        "preprocess",
        "postprocess",
        "render",
        "mask_files",
        "evaluation",
        "quality",
        "report",
        "surfaces",
        "structures",
        "sample",
        "derived",
    ),
    "pydicom": (
        "network",
        "losses",
        "inference",
        "second_reading",
        "training",
        "polygons",
        "preprocess",
        "postprocess",
        "evaluation",
        "quality",
        "report",
        "bundle",
        "derived",
    ),
    "rich": tuple(module for module in LEVEL if module != "cli"),
    "click": tuple(module for module in LEVEL if module != "cli"),
}


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "_models" not in p.parts
    )


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    module = module_of(path)
    assert module in LEVEL, (
        f"{module} has no layer: give it one in tests/test_layering.py and ARCHITECTURE.md"
    )
    for name, line in imported_names(path):
        parts = name.split(".")
        if parts[0] == "contour_ai" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[module], f"{path}:{line}: {module} must not import {parts[1]}"
        banned = FORBIDDEN.get(parts[0], ())
        assert module not in banned, f"{path}:{line}: {module} must not import {parts[0]}"


def test_architecture_names_what_is_there() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8").split("\n## Decisions")[0]
    named = set(re.findall(r"`(\w+)`", text))
    packages = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert packages - {"__init__", "__main__", "_models"} <= named
    for path in re.findall(r"`(\w+/\w+\.py)`", text):
        assert path.startswith("tests/") or (PACKAGE / path).is_file(), (
            f"ARCHITECTURE.md names {path}, which is not there"
        )


def test_one_file_imports_rt_utils() -> None:
    importers = [
        p.name for p in modules() if any(n.split(".")[0] == "rt_utils" for n, _ in imported_names(p))
    ]
    assert importers == ["rtstruct_header.py"]


def test_the_test_sees_a_forbidden_import(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from torch import nn\n    import pydicom.uid\n", encoding="utf-8")
    assert [name for name, _ in imported_names(path)] == ["torch.nn", "pydicom.uid"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_nothing_is_printed_as_markup(path: Path) -> None:
    """`[left]` and `[/red]` stand in names of ROIs and patients: the console prints every text as it is."""
    text = path.read_text(encoding="utf-8")
    for used in ("rich.markup", "[/]", "[red]", "[yellow]", "[green]", "[bold]", "[dim]", "markup=True"):
        assert used not in text, (
            f"{path.name}: {used} is printed as it stands; use console.styled or print_note"
        )


NEWER_THAN_3_10 = frozenset(
    {"enum.StrEnum", "datetime.UTC", "typing.Self", "typing.Never", "typing.assert_never", "typing.override"}
    | {"contextlib.chdir", "hashlib.file_digest", "itertools.batched", "tomllib", "asyncio.TaskGroup"}
)
"""Names of the standard library that Python 3.10 does not have, where pyproject.toml promises that it will do."""


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_python_3_10_has_every_name(path: Path) -> None:
    newer = {name for name, _ in imported_names(path)} & NEWER_THAN_3_10
    assert newer == set()


def test_no_module_is_named_like_a_function_or_class_in_it() -> None:
    clashes = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "__init__.py" or path == PACKAGE / "cli" / "main.py":
            continue  # the entry point `contour_ai.cli:main` keeps its usual name
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        if path.stem in names:
            clashes.append(path.relative_to(PACKAGE).as_posix())
    assert clashes == []


def test_no_file_is_longer_than_400_lines() -> None:
    long = {p.name: n for p in modules() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}, "split it by its reasons to change"
