"""A number with a name means one thing in the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "contour_ai"


def named_numbers() -> dict[str, dict[str, object]]:
    """{name: {module: value}} of the constants of all modules that are numbers, or tuples or mappings of numbers."""
    found: dict[str, dict[str, object]] = defaultdict(dict)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, value = node.targets[0], node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                target, value = node.target, node.value
            else:
                continue
            for name, number in _numbers(target, value):
                found[name][path.relative_to(PACKAGE).as_posix()] = number
    return found


def _numbers(target: ast.expr, value: ast.expr) -> list[tuple[str, object]]:
    try:
        known = ast.literal_eval(value)
    except ValueError:
        return []
    if isinstance(target, ast.Tuple) and isinstance(known, tuple):
        names = [one.id for one in target.elts if isinstance(one, ast.Name)]
        return [(n, v) for n, v in zip(names, known, strict=True) if _is_number(v)]
    return [(target.id, known)] if isinstance(target, ast.Name) and _is_number(known) else []


def _is_number(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_number, value))
    if isinstance(value, dict):
        return bool(value) and all(map(_is_number, value.values()))
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_numbers_of_one_name_have_one_value() -> None:
    numbers = named_numbers()
    assert len(numbers) > 500  # it found them
    differ = {
        name: places
        for name, places in numbers.items()
        if any(value != next(iter(places.values())) for value in places.values())
    }
    each_its_own = {"FORMAT", "DRAWING_VERSION", "EXTENT_MM"}  # of a kind of file, of drawings, of phantoms
    assert {name: places for name, places in differ.items() if name not in each_its_own} == {}
