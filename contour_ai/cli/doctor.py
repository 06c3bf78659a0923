"""`contour-ai doctor`: one page on the installation, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from contour_ai.cli import console

if TYPE_CHECKING:
    from contour_ai.environment.report import EnvironmentReport

STYLES = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, to attach to a bug report.")
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which results are to be written, to try (default: the current one).",
)
def command(as_json: bool, out_dir: Path | None) -> int:
    """Check the installation: versions, processor, GPU, decoders, models, temporary space, write access.

    Decoders are tried on small compressed CTs, models are compared with their SHA-256. Status 0 means that nothing is
    wrong; 2 a folder that cannot be written, 4 a package, decoder, GPU or model that does not work.
    """
    from contour_ai.environment.report import examine_environment

    report = examine_environment(out_dir)
    if as_json:
        import json

        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _show(report)
    return report.exit_status


def _show(report: EnvironmentReport) -> None:

    out = console.out()
    topic = ""
    for check in report.checks:
        if check.topic != topic:
            topic = check.topic
            out.print(console.styled((topic, "bold")))
        fix = f"  ({check.fix})" if check.fix else ""
        outcome = (f"{check.outcome:>7}", STYLES[check.outcome])
        out.print(console.styled("  ", outcome, f"  {check.name}: {check.found}{fix}"))
    count = len(report.problems)
    found = (f"{count} problem{'s' if count > 1 else ''}", "red")
    out.print(console.styled(found) if count else "nothing is wrong")
