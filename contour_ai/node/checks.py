"""Tries what a node needs: destinations, models, profiles, storage, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contour_ai.bundle.commissioned_record import record_of, records_folder
from contour_ai.derived.recipe import load_recipe
from contour_ai.dicom.profile import load_profile
from contour_ai.errors import ContourAIError
from contour_ai.node.config import NodeConfig, Rule, rule_name
from contour_ai.node.receiver import server_context
from contour_ai.node.requirements import model_of, unmet
from contour_ai.node.sending import echo
from contour_ai.structures.template_files import load_template


@dataclass(frozen=True)
class Found:
    """One line of the check; `status` is 0, or the exit status that stands for the fault."""

    text: str
    status: int = 0


def check_node(config: NodeConfig) -> Iterator[Found]:
    """Everything that can be tried without a patient."""
    yield from _storage(config)
    if config.tls is not None:
        try:
            server_context(config.tls)
            yield Found("certificate for receiving")
        except ContourAIError as error:
            yield Found(f"certificate for receiving: {error.what} {error.found}", 4)
    if not config.callers:
        yield Found("nobody may send: `callers` is empty", 0 if config.watch else 4)
    for number, rule in enumerate(config.rules, start=1):
        yield from _rule(rule_name(number, rule), rule)
    if not config.rules:
        yield Found("nothing will be contoured: `rules` is empty", 4)
    for name, destination in config.destinations.items():
        answer = echo(destination, config.ae_title)
        where = f"destination {name} ({destination.ae_title}@{destination.host}:{destination.port})"
        yield Found(f"{where} answers to C-ECHO") if answer is None else Found(f"{where}: {answer}", 2)
    for watch in config.watch:
        exists = Path(watch.folder).is_dir()
        yield Found(
            f"watched folder {watch.folder}" + ("" if exists else " is not there"), 0 if exists else 2
        )


def _storage(config: NodeConfig) -> Iterator[Found]:
    import shutil

    storage = Path(config.storage)
    try:
        storage.mkdir(parents=True, exist_ok=True, mode=0o700)
        trial = storage / ".tmp-check"
        trial.write_bytes(b"contour-ai")
        trial.unlink()
        free = shutil.disk_usage(storage).free / 1e9
    except OSError as error:
        yield Found(f"storage {storage}: {error.strerror or error}", 2)
        return
    enough = free >= config.keep.free_gb
    yield Found(f"storage {storage}: {free:.1f} GB free, wanted {config.keep.free_gb:g}", 0 if enough else 2)


def _rule(name: str, rule: Rule) -> Iterator[Found]:
    try:
        bundle = model_of(rule)
        unknown = [roi for roi in rule.rois or () if roi not in (*bundle.roi_names, "Body")]
        load_profile(rule.profile)
        if rule.derive:
            load_recipe(rule.derive)
        if rule.template:
            load_template(rule.template)
        record = record_of(bundle)
    except ContourAIError as error:
        yield Found(f"{name}: {error.what} {error.found or ''}".strip(), 4)
        return
    if unknown:
        yield Found(f"{name}: model {bundle.name} has no ROI {', '.join(unknown)}", 4)
    if reason := unmet(rule):
        yield Found(f"{name}: {reason}; records are looked for in {records_folder()}", 4)
        return
    phantom = " (a phantom model: never for patients)" if bundle.kind == "phantom" else ""
    commissioned = "not commissioned on this machine" if record is None else f"commissioned {record}"
    yield Found(
        f"{name}: model {bundle.name} {bundle.version}{phantom}, {commissioned}, profile {rule.profile}"
    )
