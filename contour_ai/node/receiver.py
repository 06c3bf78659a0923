"""Receives images over DICOM: Storage and Verification SCP, for known callers only."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pydicom.uid import (
    AllTransferSyntaxes,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from contour_ai.errors import ConfigError, InputError
from contour_ai.node.audit import AuditLog
from contour_ai.node.config import Caller, NodeConfig, Tls
from contour_ai.node.database import Database, now
from contour_ai.node.store import Arrival, ImageStore, Receipt, Stored

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
NOT_AUTHORISED = 0x0124
KEPT_ASIDE = 0xB000
"""Warning: the instance is kept, but not used (PS3.4 table B.2-1: "coercion of data elements" is the nearest)."""

STORAGE_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RTStructureSetStorage,
)
CLOSE = "UPDATE associations SET state = ?, closed_at = ?, last_opened = (SELECT MAX(id) FROM associations)"
"""Which association was opened last when one is closed: the order of events does not depend on the clock."""
NETWORK_TIMEOUT_S = 60
ACSE_TIMEOUT_S = 30


class Receiver:
    """The listening half of the node. Every association and its end stand in the database."""

    def __init__(
        self,
        config: Callable[[], NodeConfig],
        database: Database,
        store: ImageStore,
        audit: AuditLog,
        on_receipt: Callable[[Receipt], None],
    ) -> None:
        self._config, self.database, self.store, self.audit = config, database, store, audit
        self.on_receipt = on_receipt
        self._numbers: dict[Association, int] = {}
        self._server: ThreadedAssociationServer | None = None

    @property
    def config(self) -> NodeConfig:
        """The configuration as it is now: callers and rules may be read anew while the node runs."""
        return self._config()

    def start(self) -> int:
        """Listens; returns the port.

        Raises:
            ConfigError: the port cannot be opened, or a certificate cannot be used.
        """
        # What was open when the node last ended was not released: its series may lack slices.
        self.database.execute(f"{CLOSE} WHERE state = 'open'", "aborted", now())
        ae = AE(ae_title=self.config.ae_title)
        ae.maximum_associations = self.config.max_associations
        ae.maximum_pdu_size = 0
        ae.network_timeout, ae.acse_timeout, ae.dimse_timeout = (
            NETWORK_TIMEOUT_S,
            ACSE_TIMEOUT_S,
            NETWORK_TIMEOUT_S,
        )
        ae.add_supported_context(Verification)
        for sop_class in STORAGE_CLASSES:
            ae.add_supported_context(sop_class, list(AllTransferSyntaxes))
        # The archive that reports a commitment is the provider of that service, although it opens the connection.
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_N_EVENT_REPORT, self._committed),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._opened),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            server = ae.start_server(
                (self.config.host, self.config.port),
                block=False,
                evt_handlers=handlers,
                ssl_context=None
                if self.config.tls is None
                else server_context(self.config.tls, self._no_tls),
            )
        except OSError as error:
            raise ConfigError(
                "The node cannot listen on this address.",
                where=f"{self.config.host}:{self.config.port}",
                found=error.strerror or error,
                fix="end the program that uses the port, or choose another `port`",
            ) from error
        assert server is not None and server.socket is not None  # it listens
        self._server = server
        return int(server.socket.getsockname()[1])

    def stop(self) -> None:
        """Ends all associations and stops listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    # -- associations ---------------------------------------------------------------------------------------

    def _no_tls(self, host: str, reason: str) -> None:
        """A peer whose handshake failed has no title yet."""
        self.audit.write(host, "rejected", reason=f"TLS: {reason}")

    def _requested(self, event: evt.Event) -> None:
        """Rejects strangers and wrong titles (PS3.8 9.3.4)."""
        peer = _peer(event)
        if peer.called_ae not in self.config.called_ae_titles:
            self.audit.write(f"{peer}", "rejected", reason=f"called {peer.called_ae}")
            event.assoc.acse.send_reject(0x01, 0x01, 0x07)  # called AE title not recognised
            event.assoc.kill()
        elif not self._may_store(peer) and not self._may_report(peer.calling_ae):
            self.audit.write(f"{peer}", "rejected", reason="not among the callers")
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # calling AE title not recognised
            event.assoc.kill()

    def _may_store(self, peer: Peer) -> bool:
        return any(_may_call(caller, peer.calling_ae, peer.host) for caller in self.config.callers)

    def _may_report(self, calling: str) -> bool:
        """Whether this is a destination that was asked for storage commitment: it may say so, and nothing else."""
        return any(d.commitment and d.ae_title.strip() == calling for d in self.config.destinations.values())

    def _opened(self, event: evt.Event) -> None:
        peer = _peer(event)
        self._numbers[event.assoc] = self.database.insert(
            "INSERT INTO associations (calling_ae, called_ae, host, state, opened_at) VALUES (?, ?, ?, 'open', ?)",
            peer.calling_ae,
            peer.called_ae,
            peer.host,
            now(),
        )

    def _released(self, event: evt.Event) -> None:
        self._close(event, "released")

    def _aborted(self, event: evt.Event) -> None:
        self._close(event, "aborted")

    def _closed(self, event: evt.Event) -> None:
        """The connection is gone. One that never asked for an association frees its place at once.

        pynetdicom 3.0 would keep waiting for the request, for ACSE_TIMEOUT_S: a few port scans would fill all places.
        """
        self._close(event, "aborted")
        if not event.assoc.is_established and event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]  # read as "nothing came"

    def _close(self, event: evt.Event, state: str) -> None:
        number = self._numbers.pop(event.assoc, None)
        if number is not None:
            self.database.execute(f"{CLOSE} WHERE id = ?", state, now(), number)

    # -- services -------------------------------------------------------------------------------------------

    def _echo(self, event: evt.Event) -> int:
        return SUCCESS

    def _committed(self, event: evt.Event) -> tuple[int, None]:
        """A destination says which instances it commits to keep (PS3.4 J.3.3)."""
        title = _peer(event).calling_ae
        for item in event.event_information.get("ReferencedSOPSequence") or ():
            self.database.execute(
                "INSERT OR REPLACE INTO commitments (sop_uid, ae_title, at) VALUES (?, ?, ?)",
                str(item.get("ReferencedSOPInstanceUID", "")),
                title,
                now(),
            )
        return SUCCESS, None

    def _store(self, event: evt.Event) -> int:
        """Answers with success only when the instance is on disk."""
        number = self._numbers.get(event.assoc)
        if (
            number is None
        ):  # the database was locked when the connection was opened: its end would not be seen
            return OUT_OF_RESOURCES
        peer = _peer(event)
        arrival = Arrival(association=number, calling_ae=peer.calling_ae, called_ae=peer.called_ae)
        who = f"{peer}"
        if not self._may_store(peer):
            return NOT_AUTHORISED
        try:
            if self.store.free_gb() < self.config.keep.free_gb / 10:
                raise OSError(errno.ENOSPC, "free space is below the limit")
            receipt = self.store.add(event.encoded_dataset(), arrival)
        except InputError as error:
            logger.warning("refused an instance of %s: %s", who, error)
            return CANNOT_UNDERSTAND
        except OSError as error:
            logger.error("an instance of %s could not be stored: %s", who, error)
            self.audit.write(who, "not stored", reason=str(error.strerror or error))
            return OUT_OF_RESOURCES
        except Exception:
            logger.exception("an instance of %s could not be stored", who)
            return OUT_OF_RESOURCES
        self.on_receipt(receipt)
        if receipt.outcome is Stored.ASIDE:
            logger.warning("an instance of %s has the UID of another one and is kept aside", who)
            return KEPT_ASIDE
        return SUCCESS


class Peer(NamedTuple):
    """Who asked for an association, and by which title."""

    calling_ae: str
    called_ae: str
    host: str

    def __str__(self) -> str:
        return f"{self.calling_ae}@{self.host}"


def _peer(event: evt.Event) -> Peer:
    requestor = event.assoc.requestor
    asked = requestor.primitive
    assert asked is not None  # no such event comes before the request
    return Peer(_title(asked.calling_ae_title), _title(asked.called_ae_title), str(requestor.address))


def server_context(tls: Tls, on_failure: Callable[[str, str], None] = lambda *_: None) -> ssl.SSLContext:
    """TLS for the listening side: every peer has to show a certificate.

    Args:
        tls: certificate, key, trusted authorities.
        on_failure: told of every handshake that fails: the peer's address, the reason.

    Raises:
        ConfigError: a file is missing or does not fit.
    """
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = _ServerSocket
    context.on_failure = on_failure
    return _with_certificates(context, tls)


class _ServerContext(ssl.SSLContext):
    """Leaves the handshake to the first read.

    pynetdicom 3.0 wraps a connection in the thread that accepts all of them: a peer that connects and says nothing
    would keep everybody else out.
    """

    on_failure: Callable[[str, str], None]

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """A socket that makes its handshake when its own thread reads from it, and gives up after a while."""
        sock.settimeout(NETWORK_TIMEOUT_S)
        return super().wrap_socket(
            sock,
            server_side=server_side,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
            session=session,
        )


class _ServerSocket(ssl.SSLSocket):
    """Reports a handshake that fails: it is made by the first read."""

    def read(self, len: int = 1024, buffer: WriteableBuffer | None = None) -> bytes:
        """As `ssl.SSLSocket.read`."""
        try:
            return super().read(len, buffer)
        except ssl.SSLError as error:
            if self.version() is None and isinstance(self.context, _ServerContext):
                self.context.on_failure(_address(self), error.reason or str(error))
            raise


def _address(connection: ssl.SSLSocket) -> str:
    try:
        return str(connection.getpeername()[0])
    except OSError:  # it has hung up
        return "unknown address"


def client_context(tls: Tls) -> ssl.SSLContext:
    """TLS for the calling side. Peers are named by address in hospitals, so the authority is checked, not the name.

    Raises:
        ConfigError: a file is missing or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _with_certificates(context, tls)


def _with_certificates(context: ssl.SSLContext, tls: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "A TLS certificate or key cannot be used.",
            where=f"{tls.certificate}, {tls.key}, {tls.ca}",
            found=error,
            expected="PEM files: certificate with chain, its private key, trusted authorities",
        ) from error
    return context


def _may_call(caller: Caller, calling: str, host: str) -> bool:
    return caller.ae_title.strip() == calling and caller.host in (None, host)


def _title(value: object) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip()
