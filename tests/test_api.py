"""The public API: typed, loaded when it is used, and never hidden by a module of the same name."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import contour_ai
from contour_ai.settings import field_docs

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


def described_parameters(text: str) -> set[str]:
    """The names that stand under Args of a docstring."""
    block = re.search(r"^ *Args:\n((?: .*\n|\n)+)", text + "\n", flags=re.MULTILINE)
    return set() if block is None else set(re.findall(r"^ +(\w+): ", block[1], flags=re.MULTILINE))


FUNCTIONS = [name for name in contour_ai.__all__ if inspect.isfunction(getattr(contour_ai, name))]
RECORDS = [name for name in contour_ai.__all__ if dataclasses.is_dataclass(getattr(contour_ai, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_result_and_error_of_a_function_is_described(name: str) -> None:
    function = getattr(contour_ai, name)
    text = inspect.getdoc(function) or ""
    assert set(inspect.signature(function).parameters) - described_parameters(text) == set()
    assert "\nReturns:\n" in text and "\nRaises:\n" in text


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_described(name: str) -> None:
    record = getattr(contour_ai, name)
    described = described_parameters(inspect.getdoc(record) or "") | set(field_docs(record))
    assert {field.name for field in dataclasses.fields(record)} - described == set()


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
