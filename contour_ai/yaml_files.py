"""Reads YAML files that anyone may have written: bounded in size, depth and aliases, every fault a message."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from contour_ai.errors import ConfigError
from contour_ai.text_files import read_text_file

MAX_YAML_BYTES = 32 << 20
MAX_YAML_DEPTH = 64
MAX_MERGED_KEYS = 10_000
MAX_YAML_NODES = 2_000_000
"""Far above any file of a person or of this program; a hostile one reaches 1e30 with ten lines of aliases."""

BACKSLASH = "a backslash within double quotes begins an escape: write a path without quotes, in single ones, or with /"
"""Advice for paths of Windows."""

_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """Refuses what the ordinary loader drops or multiplies in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """A mapping without a key twice, of which PyYAML keeps the last."""
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if key.tag == _MERGE_TAG or not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (<<) copy what they name: with aliases of aliases more than memory holds."""
        merges = any(key.tag == _MERGE_TAG for key, _ in node.value)
        super().flatten_mapping(node)
        if merges and len(node.value) > MAX_MERGED_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "merge keys that multiply", node.start_mark)


def read_yaml(path: Path, what: str, *, fix: str | None = None) -> Any:
    """The content of a YAML file, as `parse_yaml` gives it.

    Args:
        path: the file.
        what: what it is, for messages: "The ROI map".
        fix: what to do where it cannot be read.

    Raises:
        ConfigError: it cannot be read, is not YAML, or would not end.
    """
    try:
        size = path.stat().st_size
        if size > MAX_YAML_BYTES:
            raise ConfigError(
                f"{what} is too large.",
                where=path,
                found=f"{size} bytes",
                expected=f"at most {MAX_YAML_BYTES}",
            )
        return parse_yaml(read_text_file(path))
    except OSError as error:
        raise ConfigError(
            f"{what} cannot be read.", where=path, found=error.strerror or error, fix=fix
        ) from error
    except UnicodeError as error:
        raise ConfigError(f"{what} cannot be read.", where=path, found=error) from error
    except ValueError as error:
        raise ConfigError(f"{what} cannot be read: it is not valid YAML.", where=path, found=error) from error


def parse_yaml(text: str) -> Any:
    """Plain values of a YAML text: mappings, lists, text, numbers, dates.

    Raises:
        ValueError: not YAML, dates and numbers that are none, a key twice, too deep, or aliases that multiply into more
            than `MAX_YAML_NODES` values.
    """
    try:
        if _may_be_deep(text):
            _refuse_depth(text)
        content = yaml.load(text, Loader=_Loader)
        _refuse_size(content)
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())
        if "escape" in message or "hexdecimal" in message:
            message += f"; {BACKSLASH}"
        raise ValueError(message) from error
    except RecursionError:
        raise ValueError(f"nested more than {MAX_YAML_DEPTH} levels deep") from None
    # What PyYAML's constructors raise where a value does not fit its tag, as in `!!int ""` or 2001-99-99.
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"a value that does not fit its type: {error}") from error
    return content


def _may_be_deep(text: str) -> bool:
    """Whether a text could nest beyond the limit: brackets, or many lines of lists, or indented lines."""
    return (
        text.count("[") + text.count("{") > MAX_YAML_DEPTH
        or text.count("- -") + text.count("? ?") + text.count(": ?") > MAX_YAML_DEPTH // 2
        or " " * MAX_YAML_DEPTH in text
    )


def _refuse_depth(text: str) -> None:
    """libyaml composes and Python constructs by recursion: the depth is counted on events, which need none."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_YAML_DEPTH:
            raise ValueError(f"nested more than {MAX_YAML_DEPTH} levels deep")


def _refuse_size(content: object) -> None:
    """An alias costs nothing to parse, but what reads the values goes through each as often as it is named."""
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if isinstance(value, (dict, list, tuple, set)):
            items = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
            count += len(items)
            waiting += [(item, depth + 1) for item in items if isinstance(item, (dict, list, tuple, set))]
        if depth > MAX_YAML_DEPTH:
            raise ValueError(f"nested more than {MAX_YAML_DEPTH} levels deep")
        if count > MAX_YAML_NODES:
            raise ValueError(f"aliases that multiply into more than {MAX_YAML_NODES} values")
