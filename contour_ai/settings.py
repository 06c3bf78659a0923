"""Reads frozen dataclasses from plain mappings (YAML, JSON) and writes them back, typed and explained."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import json
import logging
import math
import reprlib
import textwrap
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml

from contour_ai.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_KEY_SHOWN = 80
"""Characters; comparing a longer text with every valid key takes its length squared."""


SET_BY_PROGRAM = {"set_by_program": True}
"""Metadata of a dataclass's field that no file gives."""


def from_mapping(cls: type[T], mapping: object, *, where: object = None, path: str = "") -> T:
    """A dataclass from a mapping; fields without a value keep their defaults.

    Args:
        cls: a dataclass whose `RENAMED_KEYS`, if any, are {earlier key: its name now}, and whose fields are bool,
            int, float, str, Literal, tuples, dicts with str keys, dataclasses, or one of these with None.
        mapping: what `yaml_files.read_yaml` or `to_mapping` gives.
        where: the file concerned, for messages.
        path: dotted name of the mapping inside the file, for messages.

    Raises:
        ConfigError: not a mapping, an unknown key (the nearest valid one is named), a missing key, a wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"{path or 'The file'} must be a mapping of keys to values.",
            where=where,
            found=type(mapping).__name__,
            expected=", ".join(_keys(cls)),
        )
    mapping = _under_new_names(cls, mapping, where, path)
    fields = _keys(cls)
    types_of = get_type_hints(cls)
    for key in mapping:
        if key not in fields:
            _refuse_key(str(key), list(fields), where, path)
    values = {
        name: _converted(mapping[name], types_of[name], where, _joined(path, name))
        for name in fields
        if name in mapping
    }
    for name, field in fields.items():
        if (
            name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            raise ConfigError(f"The key {_joined(path, name)} is missing.", where=where)
    try:
        return cls(**values)
    except ConfigError as error:
        if where is None or str(where) in str(error.where or ""):
            raise
        place = where if error.where is None else f"{where}, {error.where}"
        raise ConfigError(
            error.what, where=place, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The values of {path or 'the file'} do not fit together.", where=where, found=error
        ) from error


def _keys(cls: type) -> dict[str, dataclasses.Field]:  # type: ignore[type-arg]
    """{key: field} of what a file may have; fields with `SET_BY_PROGRAM` are not among them."""
    return {f.name: f for f in dataclasses.fields(cls) if f.init and not f.metadata.get("set_by_program")}


def _under_new_names(
    cls: type, mapping: Mapping[str, object], where: object, path: str
) -> Mapping[str, object]:
    """A mapping whose keys of an earlier version have the names of this one; each is logged."""
    renamed: Mapping[str, str] = getattr(cls, "RENAMED_KEYS", {})
    earlier = [key for key in mapping if key in renamed]
    if not earlier:
        return mapping
    current = dict(mapping)
    for key in earlier:
        name = renamed[key]
        if name in current:
            raise ConfigError(
                f"{_joined(path, key)} is the earlier name of {_joined(path, name)}, and both are there.",
                where=where,
                fix=f"remove {_joined(path, key)}",
            )
        current[name] = current.pop(key)
        logger.warning(
            "%s%s is now called %s; the earlier name is still read in this version",
            "" if where is None else f"{where}: ",
            _joined(path, key),
            _joined(path, name),
        )
    return current


def read_record(cls: type[T], path: Path, what: str) -> T:
    """A dataclass from a JSON file.

    Args:
        what: the file in words, to begin a message with ("The summary of a prediction").

    Raises:
        ConfigError: it cannot be read, or `from_mapping` refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} cannot be read.", where=path, found=error) from error
    return parse_record(cls, text, what, where=path)


def parse_record(cls: type[T], text: str, what: str, *, where: object = None) -> T:
    """A dataclass from the text of a JSON file; arguments and errors as in `read_record`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{what} cannot be read.", where=where, found=error) from error
    return from_mapping(cls, content, where=where)


def is_named_tuple(wanted: object) -> TypeGuard[type[tuple[Any, ...]]]:
    """Whether a type is a NamedTuple: a list in files, whose entries have names in code."""
    return isinstance(wanted, type) and issubclass(wanted, tuple) and hasattr(wanted, "_fields")


def to_mapping(value: object) -> Any:
    """A dataclass (or tuple, dict, plain value) as what YAML can hold; the inverse of `from_mapping`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_mapping(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(v) for v in value]
    return value


def to_yaml(mapping: object) -> str:
    """YAML in the order of the keys, with short lists on one line."""
    return yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def commented_yaml(value: DataclassInstance) -> str:
    """A dataclass as YAML, every key under a comment that is the docstring of its field."""
    lines: list[str] = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        lines += [f"# {line}" for line in textwrap.wrap(field_docs(type(value)).get(field.name, ""), 100)]
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            lines += [f"{field.name}:", textwrap.indent(commented_yaml(item).rstrip(), "  "), ""]
        else:
            lines += [to_yaml({field.name: to_mapping(item)}).rstrip()]
    return "\n".join(lines) + "\n"


def field_docs(cls: type) -> dict[str, str]:
    """{field name: the docstring that follows it in the source of the dataclass, or of one that it extends}."""
    docs: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if dataclasses.is_dataclass(one):
            docs.update(_docs_in_source(one))
    return docs


@functools.cache  # to find a class in its module, Python parses the whole of it
def _docs_in_source(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    docs: dict[str, str] = {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for statement, after in itertools.pairwise(statements):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[statement.target.id] = " ".join(after.value.value.split())
    return docs


class _Dumper(yaml.SafeDumper):
    """Block style for mappings and for lists of mappings, flow style for lists of plain values."""

    def represent_sequence(
        self, tag: str, sequence: Iterable[object], flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        plain = all(not isinstance(item, (dict, list)) or _short_list(item) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Text of several lines as a block."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _short_list(item: object) -> bool:
    return isinstance(item, list) and all(isinstance(x, (int, float)) for x in item)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse_key(key: str, valid: list[str], where: object, path: str) -> None:
    key = key[:MAX_KEY_SHOWN]
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    raise ConfigError(
        f"Unknown key {_joined(path, key)!r}.",
        where=where,
        expected=", ".join(valid),
        fix=f"did you mean {_joined(path, near[0])!r}?" if near else "remove it",
    )


def _wrong(value: object, expected: str, where: object, path: str) -> ConfigError:
    return ConfigError(
        f"The value of {path} does not fit.",
        where=where,
        found=f"{reprlib.repr(value)} ({type(value).__name__})",
        expected=expected,
    )


def _converted(value: object, wanted: object, where: object, path: str) -> object:
    """`value` as the annotated type `wanted`, or a ConfigError."""
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted is Any or wanted is object:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(value, args, where, path)
    if origin is Literal:
        if value in args:
            return value
        near = difflib.get_close_matches(str(value)[:MAX_KEY_SHOWN], [str(a) for a in args], n=1, cutoff=0.5)
        hint = f"{', '.join(map(str, args))}" + (f" (did you mean {near[0]}?)" if near else "")
        raise _wrong(value, hint, where, path)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return from_mapping(wanted, value, where=where, path=path)
    if is_named_tuple(wanted):
        return wanted(*_tuple(value, tuple(get_type_hints(wanted).values()), where, path))
    if origin is tuple:
        return _tuple(value, args, where, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(value, "a mapping", where, path)
        return {str(k): _converted(v, args[1], where, _joined(path, str(k))) for k, v in value.items()}
    assert isinstance(wanted, type)
    return _plain(value, wanted, where, path)


def _one_of(value: object, choices: tuple[object, ...], where: object, path: str) -> object:
    if value is None and type(None) in choices:
        return None
    errors: list[ConfigError] = []
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _converted(value, choice, where, path)
        except ConfigError as error:
            errors.append(error)
    if len(errors) > 1 and not isinstance(value, Mapping):
        keys = next((_keys(c) for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)), None)
        if keys is not None:
            raise _wrong(value, f"{errors[0].expected}, or a mapping of {', '.join(keys)}", where, path)
    raise errors[-1]


def _tuple(value: object, args: tuple[object, ...], where: object, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(value, "a list", where, path)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_converted(v, args[0], where, f"{path}[{n}]") for n, v in enumerate(value))
    if len(value) != len(args):
        raise _wrong(value, f"a list of {len(args)} values", where, path)
    return tuple(
        _converted(v, a, where, f"{path}[{n}]") for n, (v, a) in enumerate(zip(value, args, strict=True))
    )


def _number(value: object, where: object, path: str) -> float:
    # YAML 1.1 reads 1e-3 as text: a number without a dot in the mantissa is still meant as a number.
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _wrong(value, "a number", where, path) from None
        if not math.isfinite(number):
            raise _wrong(value, "a finite number", where, path)
        return number
    raise _wrong(value, "a number", where, path)


def _plain(value: object, wanted: type, where: object, path: str) -> object:
    if wanted is float:
        return _number(value, where, path)
    if wanted is int and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(value, "a whole number", where, path)
    if not isinstance(value, wanted):
        raise _wrong(
            value, {"str": "text", "bool": "true or false"}.get(wanted.__name__, wanted.__name__), where, path
        )
    return value
