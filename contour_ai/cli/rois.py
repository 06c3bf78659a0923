"""``contour-ai rois``: the ROI names of an archive, what they are, and a map to start from."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from contour_ai.cli.console import err, out, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contour_ai.dicom.census import Census, RoiCount
    from contour_ai.structures.roi_map import RoiMap

EXAMPLES = 4
"""Names shown of each group that is set aside."""


@click.command("rois")
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option(
    "--out", "output", type=click.Path(path_type=Path), help="Write a ROI map to edit, for train --roi-map."
)
@click.option(
    "--roi-map",
    "map_path",
    type=click.Path(path_type=Path),
    help="Show what each entry of this map catches, and which names are left.",
)
@click.option("--all", "show_all", is_flag=True, help="List every name that was set aside.")
@click.option("--no-volumes", is_flag=True, help="Only count names, without measuring: faster.")
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path),
    help="Write a page of all names, with counts, rules and volumes (HTML).",
)
@click.option("--overwrite", is_flag=True, help="Replace the map and the page if they exist.")
def command(
    data_dir: Path,
    output: Path | None,
    map_path: Path | None,
    show_all: bool,
    no_volumes: bool,
    report_path: Path | None,
    overwrite: bool,
) -> None:
    """List every ROI name in DATA_DIR with the TG-263 name proposed, why it is set aside, or that you have to decide.

    DATA_DIR may also be a list of names: a CSV file of names and numbers of structure sets, or a text file with one
    name in a line. Left and right are never guessed: a name that does not say its side gets no proposal.
    """
    from contour_ai.errors import OutputError
    from contour_ai.structures.roi_map import RoiMap

    for path, option in ((output, "--out"), (report_path, "--report")):
        if path is not None and path.exists() and not overwrite:
            raise OutputError(
                "The output exists already.",
                where=path,
                fix=f"give --overwrite to replace it, or another {option}",
            )
    roi_map = None if map_path is None else RoiMap.load(map_path)
    census = _census(data_dir, no_volumes)
    if roi_map is not None:
        _print_map(census, roi_map)
    else:
        _print_mapped(census)
        _print_set_aside(census, show_all)
        _print_undecided(census.undecided)
    for remark in census.remarks:
        out().print(f"told apart by volume: {remark}")
    for problem in census.problems:
        err().print(f"note: {problem}", style="yellow")
    if census.without_structure_set:
        out().print(f"without a structure set: {', '.join(census.without_structure_set)}")
    if output is not None:
        _write_map(census, output, overwrite)
    if report_path is not None:
        from contour_ai.report.roi_names import write_names_page

        write_names_page(report_path, census, data_dir.name, overwrite=overwrite)
        out().print(f"page: {report_path}")
    if roi_map is None:
        _print_total(len(census.mapped), len(census.set_aside), len(census.undecided))


def _census(data_dir: Path, no_volumes: bool) -> Census:
    from contour_ai.dicom.census import count_names, count_rois
    from contour_ai.structures.name_lists import read_name_list

    if data_dir.is_file() and data_dir.suffix.lower() in (".csv", ".txt"):
        return count_names(read_name_list(data_dir))
    with progress_bar() as on_progress:
        return count_rois(data_dir, volumes=not no_volumes, on_progress=on_progress)


def _print_total(mapped: int, set_aside: int, undecided: int) -> None:
    total = mapped + set_aside + undecided
    out().print(
        f"{total} names: {mapped} mapped, {set_aside} set aside, {undecided} to decide",
    )


def _print_mapped(census: Census) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("ROI name", overflow="fold")
    table.add_column("patients" if census.patients else "structure sets", justify="right")
    table.add_column("TG-263 name", overflow="fold")
    table.add_column("median cm³", justify="right")
    table.add_column("min - max", justify="right")
    table.add_column("", overflow="fold")
    for roi in census.mapped:
        note = "" if roi.found.rule == "an organ" else roi.found.rule
        table.add_row(Text(roi.name), str(roi.patients), Text(roi.roi or "-"), *_volumes(roi), Text(note))
    if census.mapped:
        out().print(table)


def _print_set_aside(census: Census, show_all: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    groups: dict[tuple[str, str], list[RoiCount]] = {}
    for roi in census.set_aside:
        groups.setdefault((roi.found.kind.value, roi.found.rule), []).append(roi)
    if not groups:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title="set aside", title_justify="left")
    for column in ("what", "rule"):
        table.add_column(column, overflow="fold")
    table.add_column("names", justify="right")
    table.add_column("structure sets", justify="right")
    table.add_column("names" if show_all else "as in", overflow="fold")
    for (kind, rule), rois in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = rois if show_all else rois[:EXAMPLES]
        names = ", ".join(roi.name for roi in shown) + (", …" if len(shown) < len(rois) else "")
        sets = sum(roi.structure_sets for roi in rois)
        table.add_row(kind, Text(rule), str(len(rois)), str(sets), Text(names))
    out().print()
    out().print(table)


def _print_undecided(undecided: Sequence[RoiCount]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not undecided:
        out().print()
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title="to decide", title_justify="left")
    table.add_column("ROI name", overflow="fold")
    table.add_column("structure sets", justify="right")
    table.add_column("median cm³", justify="right")
    table.add_column("why", overflow="fold")
    for roi in undecided:
        table.add_row(Text(roi.name), str(roi.structure_sets), _volumes(roi)[0], Text(roi.found.rule))
    out().print()
    out().print(table)
    out().print()


def _print_map(census: Census, roi_map: RoiMap) -> None:
    """What each entry of a map catches in this archive."""
    from rich.table import Table
    from rich.text import Text

    from contour_ai.structures.name_patterns import is_pattern

    applied = roi_map.apply([roi.name for roi in census.rois])
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("ROI", overflow="fold")
    table.add_column("entry", overflow="fold")
    table.add_column("names", justify="right")
    table.add_column("structure sets", justify="right")
    table.add_column("as in", overflow="fold")
    entries = [(roi, text) for roi, texts in roi_map.rois.items() for text in dict.fromkeys((roi, *texts))]
    for roi, text in (*entries, *(("ignored", text) for text in roi_map.ignore)):
        caught = applied.caught.get(text, ())
        examples = ", ".join(caught[:EXAMPLES]) if is_pattern(text) else ""
        table.add_row(
            Text(roi), Text(text), str(len(caught)), str(census.structure_sets_of(caught)), Text(examples)
        )
    out().print(table)
    unmapped = set(applied.unmapped)
    _print_undecided([roi for roi in census.rois if roi.name in unmapped])
    _print_total(len(applied.rois), len(applied.ignored), len(applied.unmapped))


def _volumes(roi: RoiCount) -> tuple[str, str]:
    if not roi.volumes_cm3:
        return "-", ""
    return f"{median(roi.volumes_cm3):.1f}", f"{roi.volumes_cm3[0]:.1f} - {roi.volumes_cm3[-1]:.1f}"


def _write_map(census: Census, output: Path, overwrite: bool) -> None:
    from contour_ai.structures.name_patterns import entry_for

    roi_map = census.proposed_map()
    comments = {}
    for roi in census.mapped:
        volume = f", median {_volumes(roi)[0]} cm3" if roi.volumes_cm3 else ""
        comments[entry_for(roi.name)] = _count(roi, census) + volume
    for rule in census.ignore_rules():
        names = len(rule.names)
        sets = census.structure_sets_of(rule.names)
        comments[rule.text] = f"{names} name{'s' * (names > 1)}, {sets} structure set{'s' * (sets != 1)}"
    undecided = census.undecided
    comments |= {roi.name: f"{_count(roi, census)}; {roi.found.rule}" for roi in undecided}
    roi_map.save(output, comments=comments, undecided=[roi.name for roi in undecided], overwrite=overwrite)
    out().print(f"wrote {output}: {len(roi_map.rois)} ROIs, {len(roi_map.ignore)} entries to ignore")
    if undecided:
        err().print(
            f"{len(undecided)} name{'s' * (len(undecided) > 1)} to decide: map or ignore them in {output}. "
            "Training refuses those that may be a ROI it learns",
            style="yellow",
        )


def _count(roi: RoiCount, census: Census) -> str:
    if not census.patients:
        return f"{roi.structure_sets} structure sets"
    return f"{roi.patients} of {census.patients} patients"
