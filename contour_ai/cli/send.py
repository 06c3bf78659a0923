"""`contour-ai send`: C-STORE of finished files, with a report for each."""

from __future__ import annotations

import re
from pathlib import Path

import click

from contour_ai.cli import console

PEER = re.compile(r"(?P<ae>[^@]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")


@click.command("send")
@click.argument(
    "paths", metavar="FILE|DIR...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option("--to", "peer", required=True, metavar="AET@HOST:PORT", help="Where to.")
@click.option("--from", "calling_ae", default="CONTOURAI", show_default=True, help="Calling AE title.")
@click.option("--tls", is_flag=True, help="Use TLS with the three files that follow.")
@click.option(
    "--certificate", type=click.Path(exists=True, path_type=Path), help="This side's certificate (PEM)."
)
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="Its private key (PEM).")
@click.option("--ca", type=click.Path(exists=True, path_type=Path), help="Trusted authorities (PEM).")
@click.option("--commitment", is_flag=True, help="Ask for storage commitment, too.")
def command(
    paths: tuple[Path, ...],
    peer: str,
    calling_ae: str,
    tls: bool,
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    commitment: bool,
) -> int:
    """Send DICOM files to another node by C-STORE, and say for each what the peer answered.

    Of a folder every DICOM file below it is sent. Status 0 where the peer has all of them, else 5. Requires:
    pip install "contour-ai[node]".
    """
    from contour_ai.cli.extras import needs_extra
    from contour_ai.cli.serve import NODE_PACKAGES
    from contour_ai.errors import InputError

    match = PEER.fullmatch(peer)
    if match is None:
        raise click.BadParameter(f"{peer!r} is not AET@HOST:PORT", param_hint="--to")
    if tls and not (certificate and key and ca):
        raise click.UsageError("--tls needs --certificate, --key and --ca")
    with needs_extra("node", *NODE_PACKAGES):
        from contour_ai.node.config import Destination, Tls
        from contour_ai.node.sending import Sent, send_files

        destination = Destination(
            ae_title=match["ae"],
            host=match["host"].strip("[]"),
            port=int(match["port"]),
            tls=Tls(certificate=str(certificate), key=str(key), ca=str(ca)) if tls else None,
            commitment=commitment,
        )
    files = _files(paths)
    if not files:
        raise InputError("There is no file to send.", where=", ".join(map(str, paths)))

    def show(sent: Sent) -> None:
        console.out().print(
            f"{'sent' if sent.stored else 'NOT SENT'}: {sent.path}: {sent.message}", markup=False
        )

    results = send_files(files, destination, calling_ae, show)
    failed = sum(not sent.stored for sent in results)
    console.err().print(f"{len(results) - failed} of {len(results)} files are at {peer}", markup=False)
    return 5 if failed else 0


def _files(paths: tuple[Path, ...]) -> list[Path]:
    """Every DICOM file, once; a file that was named is taken whatever it is."""
    from contour_ai.dicom.scan import scan

    files: dict[Path, None] = {}
    for path in paths:
        if path.is_file():
            files[path] = None
            continue
        archive = scan(path)
        found = [p for series in archive.ct_series for p in series.paths]
        found += [s.path for s in archive.structure_sets] + [o.path for o in archive.others]
        files.update(dict.fromkeys(sorted(found)))
    return list(files)
