"""`summary.json`: one record, written and read, with a schema that is current."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from contour_ai.errors import ConfigError
from contour_ai.pipeline.summary import (
    Summary,
    SummaryDerived,
    SummaryRoi,
    SummaryScores,
    read_summary,
    summary_text,
)
from contour_ai.quality.verdict_record import SummaryFlag

DOCS = Path(__file__).parents[2] / "docs"


def whole() -> Summary:
    flag = SummaryFlag(code="volume", reason="small", value=1.0, low=2.0, unit="cm3", slices_from_1=(3, 4))
    roi = SummaryRoi(name_in_file="Brain", type="ORGAN", volume_cm3=1.0, slices_from_1=(3, 9), flags=(flag,))
    return Summary(
        patient_id="P1",
        options={"tta": False, "rois": None},
        rois={"Brain": roi, "Larynx": SummaryRoi(name_in_file=None)},
        scores=SummaryScores(dice={"Brain": 0.9}, mean_dice_of_organs=0.9),
        timings_s={"total": 1.5},
    )


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    for summary in (whole(), Summary()):
        (tmp_path / "summary.json").write_text(summary_text(summary.to_json()), encoding="utf-8")
        assert read_summary(tmp_path / "summary.json") == summary
    assert "derived" not in whole().to_json() and '"slices_from_1": [3, 9]' in summary_text(whole().to_json())


def test_what_a_recipe_made_has_its_keys() -> None:
    made = SummaryDerived(
        name_in_file="PRV", volume_cm3=2.0, slices=(1, 2), description="+ 5 mm", sources=("Brain",)
    )
    content = Summary(derived={"PRV": made}, missing_of_template=()).to_json()
    assert content["derived"]["PRV"]["slices"] == [1, 2] and content["missing_of_template"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a mapping"),
        ('{"patientid": "x"}', "did you mean 'patient_id'"),
        ('{"rois": {"A": {"volume_cm3": 1}}}', "rois.A.name_in_file is missing"),
        ('{"rois": {"A": {"name_in_file": null, "volume_cm3": "much"}}}', "rois.A.volume_cm3"),
    ],
)
def test_what_is_no_summary_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_summary(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_the_schemas_in_the_documents_are_current() -> None:
    spec = importlib.util.spec_from_file_location("make_schemas", DOCS / "make_schemas.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name in script.SCHEMAS:
        assert (DOCS / name).read_text(encoding="utf-8") == script.schema_text(name), (
            "run docs/make_schemas.py"
        )


def test_the_schema_takes_a_summary_and_refuses_others() -> None:
    schema = json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8"))
    content: dict[str, Any] = json.loads(summary_text(whole().to_json()))
    assert schema["properties"].keys() >= content.keys() and schema["additionalProperties"] is False
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(content, schema)
    for broken in ({**content, "patientid": "x"}, {**content, "rois": {"A": {}}}, {**content, "flags": [1]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)
