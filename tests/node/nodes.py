"""A node for tests: on free ports of this machine, with a receiving peer beside it and a worker that is quick."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage, RTStructureSetStorage
from pynetdicom import AE, evt

from contour_ai.node.config import Caller, Destination, NodeConfig, Rule, Web
from contour_ai.node.sending import settle
from contour_ai.node.service import Node

CALLER = "MODALITY"
WAIT_S = 300.0


class Peer:
    """A planning system: keeps what is sent to it, and answers as it is told."""

    def __init__(self, status: int = 0x0000) -> None:
        self.status = status
        self.received: list[Dataset] = []
        ae = AE(ae_title="TPS")
        ae.add_supported_context(RTStructureSetStorage)
        ae.add_supported_context(CTImageStorage)
        ae.add_supported_context("1.2.840.10008.1.1")
        self._server: Any = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = int(self._server.socket.getsockname()[1])

    def _store(self, event: Any) -> int:
        if self.status in (0x0000, 0xB000):
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.received.append(dataset)
        return self.status

    @property
    def uids(self) -> list[str]:
        return [str(d.SOPInstanceUID) for d in self.received]

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()


@contextmanager
def peer(status: int = 0x0000) -> Iterator[Peer]:
    """A peer that is closed at the end."""
    one = Peer(status)
    try:
        yield one
    finally:
        one.close()


def config_for(tmp_path: Path, to: Peer | None = None, **changes: Any) -> NodeConfig:
    """A configuration that contours every series with the phantom model and sends it to `to`."""
    destinations = {}
    if to is not None:
        destinations = {"TPS": Destination(ae_title="TPS", host="127.0.0.1", port=to.port)}
    rule = Rule(model="phantom-headneck", send_to=tuple(destinations))
    config = NodeConfig(
        port=0,
        storage=str(tmp_path / "storage"),
        callers=(Caller(ae_title=CALLER),),
        quiet_s=0.3,
        rules=(rule,),
        destinations=destinations,
        web=Web(port=0),
        devices=("cpu",),
    )
    return replace(config, **changes)


@contextmanager
def running(config: NodeConfig) -> Iterator[Node]:
    """A started node, stopped at the end."""
    node = Node(config)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def send(
    node: Node,
    paths: list[Path],
    *,
    calling: str = CALLER,
    called: str = "CONTOURAI",
    abort: bool = False,
    edit: Callable[[Dataset], None] | None = None,
) -> list[int]:
    """C-STOREs files and gives the statuses (-1 where there was no association, or no answer)."""
    ae = AE(ae_title=calling)
    for sop_class in (CTImageStorage, RTStructureSetStorage):
        ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", node.port, ae_title=called)
    if not association.is_established:
        return [-1] * len(paths)
    statuses = []
    for path in paths:
        dataset = dcmread(path)
        if edit is not None:
            edit(dataset)
        settle(association)
        if not association.is_established:
            statuses.append(-1)
            continue
        answer = association.send_c_store(dataset)
        statuses.append(int(answer.Status) if answer else -1)
    if abort:
        association.abort()
    else:
        association.release()
    return statuses


def wait_for(condition: Callable[[], object], limit_s: float = WAIT_S) -> Any:
    """What a condition gives once it is true; fails the test after the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {limit_s} s")


def states(node: Node, table: str = "jobs") -> list[str]:
    """The states of jobs or series, in the order in which they came."""
    return [row["state"] for row in node.database.rows(f"SELECT state FROM {table} ORDER BY rowid")]


def quick_workers(monkeypatch: Any) -> None:
    """Workers that answer at once with a small structure set, for tests of everything but contouring."""
    import sys

    script = Path(__file__).with_name("quick_worker.py")
    monkeypatch.setattr("contour_ai.node.workers.COMMAND", (sys.executable, str(script)))
