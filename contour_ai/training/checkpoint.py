"""Files of tensors and plain values: written as a whole or not at all, read without pickle's code execution."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from contour_ai.errors import ModelError
from contour_ai.files import atomic_file, clear_left_behind

T = TypeVar("T")
LAST = "last.pt"


@dataclass(frozen=True)
class RandomState:
    """The state of torch's generators: what dropout draws from."""

    cpu: Tensor
    cuda: list[Tensor] = field(default_factory=list)
    """One of each GPU."""


@dataclass(frozen=True)
class BestWeights:
    """The weights of the best validation, and its mean Dice."""

    model: dict[str, Tensor]
    step: int
    dice: float


def save_checkpoint(path: Path, content: Mapping[str, object]) -> None:
    """Writes tensors, numbers, text, lists and dicts of them; an older file stays until the new one is complete.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(path, overwrite=True, private=True) as temporary:
        torch.save(dict(content), temporary)


def save_best(folder: Path, best: BestWeights) -> None:
    """Writes the best weights; errors as in `save_checkpoint`."""
    save_checkpoint(best_path(folder, best.step), vars(best))


def load_best(folder: Path, step: int) -> BestWeights:
    """What `save_best` wrote.

    Raises:
        ModelError: it is not there, cannot be read, or is no such file.
    """
    path = best_path(folder, step)
    return record_of(BestWeights, load_checkpoint(path), path)


def best_path(folder: Path, step: int) -> Path:
    """The best weights, of a step: until `LAST` names another one they must stay, whenever the process is killed."""
    return folder / f"best-{step}.pt"


def remove_others(folder: Path, best_step: int) -> None:
    """Removes best weights that are no longer the best, and what a process that was killed left half-written."""
    clear_left_behind(folder, exclusive=True)
    for path in folder.glob("best-*.pt"):
        if path != best_path(folder, best_step):
            path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, object]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        ModelError: it is not there or cannot be read.
    """
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            "No checkpoint to resume from.", where=path, fix="start the training without --resume"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            "The checkpoint cannot be read.",
            where=path,
            found=f"{error}".partition("\n")[0][:200],
            fix="put back a copy of it, or start anew with another --out",
        ) from error
    if not isinstance(content, dict):
        raise ModelError("The file is no checkpoint.", where=path, found=type(content).__name__)
    return content


def time_left_s(path: Path) -> float | None:
    """What was left of the time budget when a checkpoint was written; None where there is none, or no checkpoint."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001 - only asked to tell people; whatever is wrong with it is said when it is loaded
        return None
    left = content.get("budget_left_s") if isinstance(content, dict) else None
    return left if isinstance(left, float) else None


def random_state() -> RandomState:
    """The state as it is now."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return RandomState(torch.get_rng_state(), cuda)


def restore_random_state(state: RandomState) -> None:
    """Sets torch's generators; those of GPUs only where there are as many now as then."""
    torch.set_rng_state(state.cpu)
    if torch.cuda.is_available() and len(state.cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state.cuda)


def record_of(cls: type[T], content: Mapping[str, object], path: Path) -> T:
    """A dataclass from a part of a checkpoint, whose numbers may be infinite or NaN.

    Raises:
        ModelError: a key is unknown (the nearest valid one is named) or missing, or a value is of another type.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    types = get_type_hints(cls)
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ModelError(
                f"The checkpoint has an unknown key {key!r}.",
                where=path,
                expected=near[0] if near else ", ".join(known),
                fix="resume with the version of contour-ai that wrote it, or start anew with another --out",
            )
        if not _fits(value, types[key]):
            raise ModelError(
                f"The value of {key!r} in the checkpoint does not fit.",
                where=path,
                found=type(value).__name__,
                expected=getattr(types[key], "__name__", types[key]),
                fix="start anew with another --out",
            )
    required = (n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING)
    missing = [name for name in required if name not in content]
    if missing:
        raise ModelError(
            "The checkpoint is not complete.",
            where=path,
            found=f"no {', '.join(missing)}",
            fix="start anew with another --out",
        )
    return cls(**content)


def _fits(value: object, wanted: object) -> bool:
    """Whether a value is of an annotated type; what a container holds is not looked at."""
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in get_args(wanted))
    if wanted in (int, float):
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    kind = origin or wanted
    return isinstance(kind, type) and isinstance(value, kind)
