"""`require: commissioned`: a rule whose model has no record contours nothing, and that is said wherever rules are."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import config_for, peer, running, send, states, wait_for

from contour_ai.bundle import load_bundle
from contour_ai.bundle.commissioned_record import RECORDS_VARIABLE, CommissionedRecord, save_record
from contour_ai.errors import ConfigError
from contour_ai.node.checks import check_node
from contour_ai.node.config import NodeConfig, Rule, load_node_config
from contour_ai.node.explain import explain_folder

PHANTOM = Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01" / "ct"
RULE = Rule(name="head", model="phantom-headneck", require="commissioned")
MISSING = "is not commissioned on this machine"


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of records, for this process and the workers."""
    monkeypatch.setenv(RECORDS_VARIABLE, str(tmp_path / "records"))
    return tmp_path / "records"


def commission() -> None:
    """As `commission --signed-by` does."""
    bundle = load_bundle("phantom-headneck")
    record = CommissionedRecord(
        model=bundle.name,
        version=bundle.version,
        fingerprint=bundle.inference_fingerprint,
        signed_by="A. Physicist",
        date="2026-05-01T10:00:00+00:00",
        series=("1.2.3",),
        limits=("Brainstem: Dice at least 0.8",),
    )
    save_record(record)


def test_the_check_names_the_missing_record_and_the_folder_where_it_was_looked_for(
    tmp_path: Path, records: Path
) -> None:
    config = NodeConfig(storage=str(tmp_path / "store"), rules=(RULE,))

    def of_rule() -> tuple[str, int]:
        (found,) = [f for f in check_node(config) if f.text.startswith("head")]
        return found.text, found.status

    text, status = of_rule()
    assert status == 4 and MISSING in text and str(records) in text
    commission()
    text, status = of_rule()
    assert status == 0 and "commissioned by A. Physicist on 2026-05-01" in text


def test_an_explanation_says_that_the_series_would_be_set_aside(tmp_path: Path) -> None:
    config = NodeConfig(storage=str(tmp_path / "store"), rules=(RULE,))
    lines = list(explain_folder(config, PHANTOM))
    assert any("set aside, and nothing sent" in line and MISSING in line for line in lines)
    commission()
    assert not any(MISSING in line for line in explain_folder(config, PHANTOM))


def test_a_wrong_requirement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("rules: [{require: comissioned}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="commissioned"):
        load_node_config(path)


def test_a_job_of_an_uncommissioned_model_is_set_aside_and_goes_once_there_is_a_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with peer() as tps:
        rule = replace(RULE, send_to=("TPS",))
        config = config_for(tmp_path, tps, rules=(rule,))
        with caplog.at_level(logging.WARNING), running(config) as node:
            assert "head would set every series aside: The model phantom-headneck" in caplog.text
            node._reload = lambda: config
            assert MISSING in node.reload()
            send(node, sorted(PHANTOM.iterdir()))
            wait_for(lambda: states(node) == ["failed"])
            (job,) = node.database.rows("SELECT message, structure_set FROM jobs")
            assert MISSING in job["message"] and not job["structure_set"]
            assert tps.received == [] and list(node.storage.rglob("RS.*.dcm")) == []
            commission()
            assert node.reload() == "taken up"
            series = node.database.row("SELECT * FROM series")
            assert series is not None
            node.intake.contour(series, rule, "head", again="asked for on the page")
            wait_for(lambda: states(node) == ["failed", "sent"])
            assert len(tps.received) == 1
