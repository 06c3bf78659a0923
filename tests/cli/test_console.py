"""Names are printed as they are, whatever a console could take them for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table
from synthetic import axial, box_contours, write_stack, write_structure_set

from contour_ai.cli import console
from contour_ai.cli.main import cli

NAMES = ("parotid [left]", "[/red]", "[bold]", ":heart:", "[link=file:///x]y", "a\\[b]", "\\")


@pytest.mark.parametrize("name", NAMES)
def test_text_tables_and_styled_parts_keep_every_character(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.err.cache_clear()
    table = Table(name, title=name)
    table.add_row(name)
    console.err().print(name)
    console.err().print(table)
    console.err().print(console.styled(("note", "yellow"), f": {name}"))
    console.print_note(name)
    console.print_warning(name)
    console.err.cache_clear()
    printed = capsys.readouterr().err
    assert printed.count(name) == 7, printed


def test_the_commands_print_names_with_brackets(tmp_path: Path) -> None:
    stack = axial(6, shape_ij=(24, 20), patient_id="Doe[/red]")
    write_stack(tmp_path / "p" / "ct", stack)
    roi = "parotid [left]"
    write_structure_set(tmp_path / "p" / "rs.dcm", stack, {roi: box_contours(stack, [2, 3]), "[/x]": []})
    write_structure_set(tmp_path / "ai" / "rs.dcm", stack, {roi: box_contours(stack, [2])}, label="AI")
    for arguments in (
        ["inspect", tmp_path / "p"],
        ["rois", tmp_path / "p"],
        ["to-masks", tmp_path / "p", "--out", tmp_path / "m.npz"],
        ["evaluate", tmp_path / "ai", tmp_path / "p"],
    ):
        result = CliRunner().invoke(cli, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        assert roi in result.stdout, result.output
        if arguments[0] in ("inspect", "evaluate"):
            assert "Doe[/red]" in result.stdout
