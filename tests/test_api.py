"""The public API: typed, loaded when it is used, and never hidden by a module of the same name."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import contour_ai

PACKAGE = Path(contour_ai.__file__).parent


def typed_names() -> set[str]:
    """What type checkers see: the imports under TYPE_CHECKING."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    return {alias.name for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}


def test_the_names_are_the_same_everywhere() -> None:
    assert set(contour_ai.__all__) == set(contour_ai._MODULE_OF) == typed_names()
    assert set(contour_ai.__all__) <= set(dir(contour_ai))


@pytest.mark.parametrize("name", contour_ai.__all__)
def test_every_name_is_there_and_no_module(name: str) -> None:
    value = getattr(contour_ai, name)
    assert value.__name__ == name and callable(value)
    assert value.__module__.startswith(f"contour_ai.{contour_ai._MODULE_OF[name]}")
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = contour_ai.nothing
    with pytest.raises(ImportError, match="nothing"):
        from contour_ai import nothing  # noqa: F401


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, contour_ai\n"
        "heavy = {'torch', 'pydicom', 'numpy', 'scipy', 'PIL'}\n"
        "print(heavy & set(sys.modules))\n"
        "from contour_ai import predict, train, evaluate, commission, Grid, read_ct\n"
        "import contour_ai.pipeline._predict, contour_ai.training.config\n"
        "print('torch' in sys.modules, type(contour_ai.predict).__name__, type(contour_ai.train).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "False function function"]


def test_no_module_of_the_package_hides_a_public_name() -> None:
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    wanted = {*contour_ai.__all__, "review", "derive"}
    assert modules & wanted == set(), "import contour_ai.<module> would replace the function"


def test_the_package_says_that_it_is_typed() -> None:
    assert files("contour_ai").joinpath("py.typed").is_file()
