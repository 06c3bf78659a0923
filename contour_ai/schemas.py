"""The JSON schema of a dataclass: types, required keys, and the docstrings of its fields."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from contour_ai.settings import field_docs, is_named_tuple

Schema = dict[str, object]
"""A part of a JSON schema."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

PLAIN: Mapping[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


def json_schema(cls: type, title: str) -> Schema:
    """The schema of what `to_mapping` gives for a dataclass; keys that it does not have are not allowed."""
    return {"$schema": DIALECT, "title": title, **_object(cls)}


def _object(cls: type) -> Schema:
    hints, docs = get_type_hints(cls), field_docs(cls)
    properties, required = {}, []
    for one in dataclasses.fields(cls):
        properties[one.name] = _type(hints[one.name])
        if docs.get(one.name):
            properties[one.name]["description"] = docs[one.name]
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            required.append(one.name)
    description = (cls.__doc__ or "").strip().split("\n")[0]
    found: Schema = {"type": "object", "description": description, "properties": properties}
    return {**found, **({"required": required} if required else {}), "additionalProperties": False}


def _type(wanted: object) -> Schema:
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted in PLAIN:
        return dict(PLAIN[wanted])
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(choice) for choice in args]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type(args[1])}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _type(args[0])}
    if origin is tuple or is_named_tuple(wanted):
        args = args or tuple(get_type_hints(wanted).values())
        return {
            "type": "array",
            "prefixItems": [_type(item) for item in args],
            "minItems": len(args),
            "maxItems": len(args),
        }
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return _object(wanted)
    raise TypeError(f"No JSON schema for {wanted!r}.")
