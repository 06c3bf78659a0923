"""Records of the package: keyword-only from four fields on, and no two classes of one name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import contour_ai

PACKAGE = Path(contour_ai.__file__).parent

POSITIONAL: dict[str, str] = {}
"""{class of four or more fields that may be called by position: why}."""


def modules() -> Iterator[str]:
    """Every module of the package but those that run as they are imported."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "contour_ai."):
        if not module.name.endswith("__main__") and "._models" not in module.name:
            yield module.name


def records() -> dict[str, type]:
    """{full name: dataclass} of all that the package defines."""
    found = {}
    for name in modules():
        for one in vars(importlib.import_module(name)).values():
            if inspect.isclass(one) and dataclasses.is_dataclass(one) and one.__module__ == name:
                found[f"{name}.{one.__qualname__}"] = one
    return found


def test_records_of_four_fields_are_keyword_only() -> None:
    every = records()
    assert len(every) > 200, "the test looks at the wrong folder"
    positional = {
        name
        for name, one in every.items()
        if sum(f.init for f in dataclasses.fields(one)) >= 4
        and not all(f.kw_only for f in dataclasses.fields(one) if f.init)
    }
    assert positional == set(POSITIONAL), "write @dataclass(kw_only=True)"


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path.relative_to(PACKAGE).as_posix())
    assert {name: sorted(paths) for name, paths in places.items() if len(paths) > 1} == {}
