"""A rule's recipe and template: tried by the check, and given to the prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai.node.checks import check_node
from contour_ai.node.config import NodeConfig, Rule
from contour_ai.node.worker import Models, Order, carry_out
from contour_ai.pipeline import _predict


def test_the_check_reads_recipe_and_template(tmp_path: Path) -> None:
    template = tmp_path / "t.csv"
    template.write_text("name,dose\nA,60\n", encoding="utf-8")

    def faults(**rule: str) -> list[str]:
        config = NodeConfig(storage=str(tmp_path / "store"), rules=(Rule(**rule),))  # type: ignore[arg-type]
        return [f.text for f in check_node(config) if f.status == 4 and "rule" in f.text.lower()]

    assert not faults(derive="headneck")
    assert any("No such recipe" in text for text in faults(derive="hedaneck"))
    assert any("Unknown column" in text for text in faults(template=str(template)))


def test_a_job_derives_and_styles_as_its_rule_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(_predict, "predict", lambda images, model, out, options, begun: given.append(options))
    monkeypatch.setattr(Models, "get", lambda self, name: name)
    order = Order(
        job=1,
        images=str(tmp_path),
        out_dir=str(tmp_path / "out"),
        model="m",
        rois=None,
        profile="generic",
        derive="headneck",
        template=str(tmp_path / "t.csv"),
        uids_from="x",
    )
    carry_out(order, Models("cpu"))
    assert given[0].derive == "headneck" and given[0].template == tmp_path / "t.csv"
