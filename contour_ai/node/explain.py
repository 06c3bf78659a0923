"""Which rule the CT series of a folder would take, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from contour_ai.dicom.header import read_header
from contour_ai.dicom.scan import scan
from contour_ai.node.config import NodeConfig
from contour_ai.node.requirements import unmet
from contour_ai.node.rules import SeriesFacts, choose_rule
from contour_ai.node.series import check_files
from contour_ai.node.store import series_facts


def explain_folder(config: NodeConfig, folder: Path) -> Iterator[str]:
    """Lines for a person: every CT series with its rule, model, destinations, and why the rules before it do not fit.

    Raises:
        InputError: there is no such folder.
    """
    archive = scan(folder)
    if not archive.ct_series:
        yield f"no CT series in {folder}: {archive}"
    for series in archive.ct_series:
        header = read_header(series.paths[0])
        facts = SeriesFacts(
            texts={**series_facts(header), "called_ae": config.ae_title, "calling_ae": ""},
            slices=series.slices,
        )
        choice = choose_rule(config.rules, facts)
        yield str(series)
        for reason in choice.why_not:
            yield f"  not {reason}"
        if choice.rule is None:
            yield "  no rule fits: it would be kept and listed, not contoured"
        else:
            rule = choice.rule
            to = ", ".join(rule.send_to) or "nobody: the result stays on the page"
            yield f"  {choice.name}: model {rule.model or 'default'}, profile {rule.profile}, sent to {to}"
            if reason := unmet(rule):
                yield f"  it would be set aside, and nothing sent: {reason}"
            if rule.several != "all":
                yield f"  of several such series of a study: {rule.several}"
        state = check_files(list(series.paths))
        if not state.ready:
            yield f"  it would wait: {state.reason}"
