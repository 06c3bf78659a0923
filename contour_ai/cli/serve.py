"""`contour-ai serve`: the DICOM node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console

if TYPE_CHECKING:
    from contour_ai.node.config import NodeConfig

NODE_PACKAGES = (
    "pynetdicom",
    "starlette",
    "uvicorn",
    "jinja2",
    "multipart",
    "python_multipart",
    "itsdangerous",
)
END_S = 50.0
"""Within so many seconds the node ends; deploy/contour-ai-node.service has it killed after 60. What it has promised is
on disk at any moment."""


@click.command("serve")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="The node's configuration, node.yaml."
)
@click.option(
    "--check",
    is_flag=True,
    help="Try every destination (C-ECHO) and every model, print what is wrong, and end.",
)
@click.option(
    "--explain",
    type=click.Path(exists=True, path_type=Path),
    help="Say which rule each CT series in this folder would take, and why not the others, and end.",
)
@click.option(
    "--print-config", is_flag=True, help="Print every key with its explanation and default, and end."
)
@click.option(
    "--hash-password", is_flag=True, help="Ask for a password, print what goes under web.users, and end."
)
@click.option(
    "--backup",
    type=click.Path(path_type=Path, file_okay=False),
    help="Copy database and files of the storage to this new folder, also while the node runs, and end.",
)
@click.option(
    "--restore",
    type=click.Path(exists=True, path_type=Path, file_okay=False),
    help="Bring a --backup back as the storage, which must not exist, and end.",
)
def command(
    config_path: Path | None,
    check: bool,
    explain: Path | None,
    print_config: bool,
    hash_password: bool,
    backup: Path | None,
    restore: Path | None,
) -> int:
    """Run a DICOM node: CT in over C-STORE or from a watched folder, structure set out to the planning system.

    An image is acknowledged once it is on disk. A series is contoured when it is complete and a rule fits; the result
    is sent, and sent again until it is there. The page at http://127.0.0.1:8104 shows what arrived, waits, was sent,
    was stopped or failed. SIGHUP reads the configuration anew. Requires: pip install "contour-ai[node]".
    """
    from contour_ai.cli.extras import needs_extra

    if print_config:
        _print_config()
        return 0
    if hash_password:
        return _hash_password()
    if config_path is None:
        raise click.UsageError(
            "give --config node.yaml; `contour-ai serve --print-config` prints one to start from"
        )
    from contour_ai.node.config import load_node_config

    config = load_node_config(config_path)
    if backup is not None or restore is not None:
        return _copy_storage(config, backup, restore)
    with needs_extra("node", *NODE_PACKAGES):
        if explain is not None:
            return _explain(config, explain)
        if check:
            return _check(config)
        return _serve(config, config_path)


def _print_config() -> None:
    from contour_ai.node.example import example_yaml

    click.echo(example_yaml(), nl=False)


def _hash_password() -> int:
    from contour_ai.node.passwords import hashed

    user = click.prompt("user name", err=True)
    password = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    click.echo(f"{user}: {hashed(password)}")
    return 0


def _copy_storage(config: NodeConfig, backup: Path | None, restore: Path | None) -> int:
    from contour_ai.node.backup import back_up, bring_back

    storage = Path(config.storage)
    if backup is not None:
        back_up(storage, backup)
        console.err().print(f"{storage} is saved in {backup}", markup=False)
    if restore is not None:
        bring_back(restore, storage)
        console.err().print(f"{restore} is brought back as {storage}", markup=False)
    return 0


def _explain(config: NodeConfig, folder: Path) -> int:
    from contour_ai.node.explain import explain_folder

    for line in explain_folder(config, folder):
        console.out().print(line, markup=False)
    return 0


def _check(config: NodeConfig) -> int:
    from contour_ai.node.checks import check_node

    worst = 0
    for found in check_node(config):
        style = "green" if found.status == 0 else "red"
        console.out().print(
            f"{'ok' if found.status == 0 else 'problem'}: {found.text}", style=style, markup=False
        )
        worst = max(worst, found.status)
    return worst


class _Asked:
    """What signals asked for. Not events: their locks may be held by the thread that a signal interrupts."""

    end = False
    reload = False


def _listen_for_signals(asked: _Asked) -> None:
    import signal

    from contour_ai.interrupts import INTERRUPTS

    def end(_number: int, _frame: FrameType | None) -> None:
        asked.end = True

    def reload(_number: int, _frame: FrameType | None) -> None:
        asked.reload = True

    for number in INTERRUPTS:
        signal.signal(number, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, reload)


def _serve(config: NodeConfig, config_path: Path) -> int:
    import time

    from contour_ai.node.config import load_node_config
    from contour_ai.node.service import LOOK_S, Node
    from contour_ai.node.web.app import PageServer

    asked = _Asked()
    _listen_for_signals(asked)
    node = Node(config, reload=lambda: load_node_config(config_path))
    page = None
    try:
        node.start()
        page = PageServer(node) if config.web.port else None
        shown = f"; page at {page.address}" if page else ""
        console.err().print(f"{config.ae_title} listens on {config.host}:{node.port}{shown}", markup=False)
        while not asked.end:
            time.sleep(LOOK_S)
            if asked.reload:
                asked.reload = False
                console.err().print(f"configuration {node.reload()}", markup=False)
    finally:
        with _at_most(END_S):
            if page is not None:
                page.stop()
            node.stop()
    console.err().print("ended; what waits is taken up at the next start", markup=False)
    return 0


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Ends the process, with status 1, where the block takes longer; what its threads were at goes to stderr."""
    import faulthandler
    import sys

    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
