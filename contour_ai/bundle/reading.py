"""Finds bundles by name or folder and reads them, checked; torch is not imported."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from contour_ai.bundle.description import DESCRIPTION_FILE, ModelBundle
from contour_ai.bundle.records import results_from_mapping
from contour_ai.errors import ConfigError, ModelError
from contour_ai.files import is_temporary
from contour_ai.settings import from_mapping
from contour_ai.yaml_files import read_yaml

logger = logging.getLogger(__name__)
FORMAT = 1
"""Version of the layout of `model.yaml`."""
MODELS_VARIABLE = "CONTOUR_AI_MODELS"
"""Environment variable with further folders of bundles, separated as in PATH; they are searched first."""


def load_bundle(name_or_path: str | Path) -> ModelBundle:
    """A bundle by its name or by its folder, with its weights' SHA-256 checked.

    Names are looked for in the folders of $CONTOUR_AI_MODELS, then in `models/` of a checkout or of the
    installed package.

    Raises:
        ModelError: unknown, incomplete, damaged, or described by what cannot be understood.
    """
    bundle = read_description(find_bundle(name_or_path))
    read_weights(bundle)
    if bundle.second_reader is not None:
        read_second_reader(bundle)
    return bundle


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle, not yet read.

    Raises:
        ModelError: there is none of that name.
    """
    path = Path(name_or_path)
    if (path / DESCRIPTION_FILE).is_file():
        return path
    if path.name == DESCRIPTION_FILE and path.is_file():
        return path.parent
    if path.is_dir() and path.name != str(name_or_path):
        raise ModelError(
            "This folder is no model bundle.", where=path, expected=f"a {DESCRIPTION_FILE} in it"
        )
    for folder in model_folders():
        if path.name == str(name_or_path) and (folder / path / DESCRIPTION_FILE).is_file():
            return folder / path
    names = [b.name for b in list_bundles()]
    raise ModelError(
        "There is no such model.",
        found=str(name_or_path),
        expected=f"a folder with a {DESCRIPTION_FILE}, or one of: {', '.join(names) or 'none installed'}",
        fix="`contour-ai models` lists what is installed",
    )


def read_description(folder: Path) -> ModelBundle:
    """A bundle's `model.yaml`, validated; the weights are not touched and torch is not imported.

    Raises:
        ModelError: it cannot be read.
        ConfigError: unknown or missing keys, or values that do not fit.
    """
    path = folder / DESCRIPTION_FILE
    content = read_yaml(path, "The model's description", fix="get the bundle again, as a whole")
    if not isinstance(content, dict):
        raise ModelError("The model's description is not a mapping of keys to values.", where=path)
    found = content.pop("format", None)
    if found != FORMAT:
        raise ModelError(
            "This bundle has another format than this version of contour-ai reads.",
            where=path,
            found=found,
            expected=FORMAT,
            fix="install the version of contour-ai that made it",
        )
    if "folder" in content:
        raise ConfigError("Unknown key 'folder'.", where=path, fix="remove it")
    if "results" in content:
        content["results"] = results_from_mapping(content["results"])
    if content.get("kind") == "clinical":  # what contour-ai 0.1 called models trained on patients
        content["kind"] = "research"
    training = content.get("training")
    if isinstance(training, dict) and "filled_in" in training:  # its name in contour-ai 0.1
        training = {k: v for k, v in training.items() if k != "filled_in"}
        content["training"] = {**training, "pseudo_labels": content["training"]["filled_in"]}
    return from_mapping(ModelBundle, {**content, "folder": folder}, where=path)


def list_bundles() -> tuple[ModelBundle, ...]:
    """Every readable bundle, by name; of two of the same name the first in the order of the search.

    One that cannot be read is named in a warning of the log.
    """
    found: dict[str, ModelBundle] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*/{DESCRIPTION_FILE}")):
            if is_temporary(path.parent.name):
                continue
            try:
                bundle = read_description(path.parent)
            except ModelError as error:
                logger.warning("Left out of the list of models: %s", error)
                continue
            except Exception as error:  # noqa: BLE001 - one broken bundle must not hide the others
                logger.warning("Left out of the list of models: %s: %s %s", path, type(error).__name__, error)
                continue
            found.setdefault(path.parent.name, bundle)
    return tuple(found[name] for name in sorted(found))


def default_bundle() -> ModelBundle:
    """The bundle that is marked as the default, with its weights checked.

    Raises:
        ModelError: there is none, or more than one.
    """
    bundles = list_bundles()
    marked = [b for b in bundles if b.default]
    if len(marked) == 1:
        return load_bundle(marked[0].folder)
    if marked:
        raise ModelError(
            "More than one model is marked as the default.",
            found=", ".join(str(b.folder) for b in marked),
            fix="choose one with --model",
        )
    raise ModelError(
        "No model trained on patients is installed that could be the default.",
        found=", ".join(f"{b.name} ({b.kind})" for b in bundles) or "no models at all",
        fix="name one with --model; a phantom model fits phantoms only",
    )


def model_folders() -> tuple[Path, ...]:
    """The folders in which bundles are looked for, in order; only those that exist."""
    package = Path(__file__).parents[1]
    named = [Path(p) for p in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if p]
    checkout = [package.parent / "models"] if (package.parent / "pyproject.toml").is_file() else []
    return tuple(p for p in (*named, *checkout, package / "_models") if p.is_dir())


def read_weights(bundle: ModelBundle) -> bytes:
    """The bytes of the weights file, which match the SHA-256 of the description.

    Raises:
        ModelError: missing, or other than when the bundle was made.
    """
    return _matching(bundle.weights_path, bundle.weights_sha256, bundle.name)


def read_second_reader(bundle: ModelBundle) -> bytes:
    """The same of the second reader's weights, of a bundle that has one."""
    assert bundle.second_reader is not None
    return _matching(bundle.second_reader_path, bundle.second_reader.weights_sha256, bundle.name)


def _matching(path: Path, sha256: str, model: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(model, path, f"cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        if content.startswith(b"version https://git-lfs"):
            raise damaged(model, path, "a Git LFS pointer, not the file", "run `git lfs pull`")
        raise damaged(model, path, f"SHA-256 {digest}, {len(content)} bytes", expected=f"SHA-256 {sha256}")
    return content


def damaged(
    model: str,
    path: Path,
    found: str,
    fix: str = "get the bundle again, as a whole",
    expected: str | None = None,
) -> ModelError:
    return ModelError(
        f"The weights of the model {model} are missing or damaged.",
        where=path,
        found=found,
        expected=expected,
        fix=fix,
    )
