"""Sends files to other DICOM nodes, and says in words what the peer answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from contour_ai.dicom.header import UNREADABLE
from contour_ai.errors import without_traceback
from contour_ai.node.config import Destination
from contour_ai.node.receiver import client_context

logger = logging.getLogger(__name__)

CONNECT_S, ANSWER_S = 15, 120
COMMITMENT_WAIT_S = 30
SETTLE_S = 5
WELL_KNOWN_COMMITMENT = "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Instance (PS3.4 J.3.5)."""

STATUS_WORDS = {
    0x0000: "success",
    0x0110: "processing failure",
    0x0111: "it has this instance already, with other content",
    0x0117: "invalid SOP instance",
    0x0122: "it does not store this kind of object",
    0x0124: "not authorised",
    0xA700: "it is out of resources (full disk?)",
    0xA900: "the object does not fit its class",
    0xB000: "stored, some elements were changed",
    0xB006: "stored, some elements were dropped",
    0xB007: "stored, although it does not fit its class",
    0xC000: "it cannot understand the object",
}
"""C-STORE status (PS3.4 B.2.3, PS3.7 annex C) in words."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of one file.

    Args:
        stored: whether the peer has it.
        message: in words what the peer answered, or why it could not.
    """

    path: Path
    stored: bool
    message: str


def in_words(status: int) -> str:
    """A C-STORE status in words, with its number."""
    known = STATUS_WORDS.get(status)
    if known is None:
        for low, high, words in (
            (0xA700, 0xA7FF, "it is out of resources"),
            (0xA900, 0xA9FF, "the object does not fit its class"),
            (0xC000, 0xCFFF, "it cannot understand the object"),
            (0xB000, 0xBFFF, "stored, with a warning"),
        ):
            if low <= status <= high:
                known = words
    return f"{known or 'unknown status'} (0x{status:04X})"


def is_stored(status: int) -> bool:
    """Whether a status means that the peer has the object: success, or a warning."""
    return status == 0x0000 or 0xB000 <= status <= 0xBFFF


@dataclass
class _Commitment:
    """What a peer has reported on the association of the C-STORE (PS3.4 J.3.3)."""

    sop_uids: set[str] = field(default_factory=set)
    """The instances that it keeps."""
    answered: bool = False


def send_files(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_sent: Callable[[Sent], None] = lambda sent: None,
    is_committed: Callable[[str], bool] = lambda sop_uid: False,
) -> list[Sent]:
    """C-STOREs files over one association, and asks for storage commitment where the destination wants it.

    Every file gets an answer; nothing is raised.

    Args:
        is_committed: whether the destination has said over another connection that it keeps an instance.
    """
    results: list[Sent] = []

    def say(path: Path, stored: bool, message: str) -> None:
        results.append(Sent(path=path, stored=stored, message=message))
        on_sent(results[-1])

    headers: dict[Path, Dataset] = {}
    for path in paths:
        try:
            headers[path] = dcmread(path, stop_before_pixels=True, force=False)
            str(headers[path].SOPClassUID), str(headers[path].SOPInstanceUID)
        except UNREADABLE as error:
            headers.pop(path, None)
            say(path, False, f"not a DICOM file that can be sent: {without_traceback(error)}")
    if not headers:
        return results
    commitment = _Commitment()
    association = _associate(headers, destination, calling_ae, commitment)
    if isinstance(association, str):
        for path in headers:
            say(path, False, association)
        return results
    stored: list[Path] = []
    try:
        for path in headers:
            ok, message = _store(association, path)
            if ok and destination.commitment:
                stored.append(path)
            else:
                say(path, ok, message)
        if stored:
            committed = _commit(association, commitment, [headers[p] for p in stored], is_committed)
            for path in stored:
                ok = str(headers[path].SOPInstanceUID) in committed
                say(path, ok, "stored and committed" if ok else "stored, but not committed")
    finally:
        if association.is_established:
            association.release()
    return results


def echo(destination: Destination, calling_ae: str) -> str | None:
    """C-ECHO; None where the destination answers, else why not."""
    ae = _entity(calling_ae)
    ae.add_requested_context(Verification)
    association = _open(ae, destination, [])
    if isinstance(association, str):
        return association
    try:
        status = association.send_c_echo()
        return None if status and status.Status == 0 else "it does not answer to C-ECHO"
    finally:
        if association.is_established:
            association.release()


def _entity(calling_ae: str) -> AE:
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout, ae.acse_timeout, ae.dimse_timeout = CONNECT_S, CONNECT_S, ANSWER_S
    ae.network_timeout = ANSWER_S
    return ae


def _associate(
    headers: dict[Path, Dataset], destination: Destination, calling_ae: str, commitment: _Commitment
) -> Association | str:
    """An association for the classes and transfer syntaxes of the files; text where there is none."""
    ae = _entity(calling_ae)
    wanted = {(str(h.SOPClassUID), str(h.file_meta.TransferSyntaxUID)) for h in headers.values()}
    for sop_class, syntax in sorted(wanted):
        ae.add_requested_context(sop_class, syntax)
    for sop_class in sorted({c for c, _ in wanted}):
        ae.add_requested_context(sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    handlers: list[evt.EventHandlerType] = []
    if destination.commitment:
        ae.add_requested_context(StorageCommitmentPushModel)
        handlers.append((evt.EVT_N_EVENT_REPORT, _commitment_report, [commitment]))
    return _open(ae, destination, handlers)


def _open(ae: AE, destination: Destination, handlers: list[evt.EventHandlerType]) -> Association | str:
    connected: list[object] = []
    try:
        tls = None if destination.tls is None else (client_context(destination.tls), None)
        association = ae.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            tls_args=tls,  # type: ignore[arg-type]
            evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, connected.append)],
        )
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way; the delivery waits for its next turn
        return f"no connection to {destination.host}:{destination.port}: {error}"
    if association.is_established:
        return association
    if not connected:
        why = "not running, another port, or a firewall"
        if destination.tls is not None:
            why = "not running, another port, a firewall, or a certificate that one side does not accept"
        return f"nothing answers at {destination.host}:{destination.port} ({why})"
    where = f"{destination.ae_title}@{destination.host}:{destination.port}"
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = getattr(answer, "reason_str", "") if answer else ""
        return f"{where} rejected the association: {reason or 'no reason given'}"
    if association.is_aborted:
        return f"{where} closed the connection"
    return f"no connection to {where}"


def settle(association: Association) -> None:
    """Waits until the association's own thread goes on after the last request.

    pynetdicom 3.0 pauses that thread for a request. One that is sent before the thread has gone on finds it paused
    still, and the thread then takes the answer for a request of the peer: the answer is lost until the timeout.
    """
    end = time.monotonic() + SETTLE_S
    while association.is_established and association._is_paused and time.monotonic() < end:
        time.sleep(0.001)


def _store(association: Association, path: Path) -> tuple[bool, str]:
    settle(association)
    if not association.is_established:
        return False, "the connection was closed before this file"
    try:
        status = association.send_c_store(path)
    except Exception as error:  # noqa: BLE001 - no context, an unreadable file, a broken connection: all are said
        return False, f"could not be sent: {error}"
    if not status:
        return False, "no answer: the connection was lost or timed out"
    code = int(status.Status)
    comment = str(status.get("ErrorComment") or "")
    return is_stored(code), in_words(code) + (f": {comment}" if comment else "")


def _commit(
    association: Association,
    commitment: _Commitment,
    headers: Sequence[Dataset],
    is_committed: Callable[[str], bool],
) -> set[str]:
    """The SOP instances that the peer commits to keep (PS3.4 J.3): asked for on the association of the C-STORE, and
    answered there or, as most archives do, on one that the peer opens."""
    wanted = {str(header.SOPInstanceUID) for header in headers}
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for header in headers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    settle(association)
    try:
        status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, WELL_KNOWN_COMMITMENT)
    except Exception as error:  # noqa: BLE001 - a peer without the service: the file is stored, not committed
        logger.warning("storage commitment was not asked for: %s", error)
        return set()
    if not status or status.Status != 0:
        return set()
    end = time.monotonic() + COMMITMENT_WAIT_S
    while time.monotonic() < end and not commitment.answered:
        if all(map(is_committed, wanted)):
            break
        time.sleep(0.1)
    return commitment.sop_uids | {uid for uid in wanted if is_committed(uid)}


def _commitment_report(event: evt.Event, commitment: _Commitment) -> tuple[int, Dataset | None]:
    """N-EVENT-REPORT of storage commitment: which instances the peer keeps."""
    report = event.event_information
    commitment.sop_uids = {
        str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or ()
    }
    commitment.answered = True
    return 0x0000, None
