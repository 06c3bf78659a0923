"""Structure templates of three kinds, and what they make of ROIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from contour_ai.errors import ConfigError
from contour_ai.structures import roi_info
from contour_ai.structures.template import StructureTemplate, TemplateRoi, styled
from contour_ai.structures.template_files import load_template

ECLIPSE = """<?xml version="1.0" encoding="utf-8"?>
<StructureTemplate Version="1.2" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Preview ID="H&amp;N" ApprovalStatus="Approved" Type="Structure" />
  <Structures>
    <Structure ID="BODY" Name="BODY"><Identification><VolumeID /><VolumeType>Body</VolumeType></Identification>
      <TypeIndex>2</TypeIndex><ColorAndStyle>Skin Rendering</ColorAndStyle>
      <DVHLineColor>-16777216</DVHLineColor></Structure>
    <Structure ID="Cord" Name="Spinal cord"><Identification><VolumeType>Organ</VolumeType></Identification>
      <ColorAndStyle>Segment - Cyan</ColorAndStyle></Structure>
    <Structure ID="PTV_60" Name="PTV_60"><Identification><VolumeType>PTV</VolumeType></Identification>
      <ColorAndStyle>RGB255  0 16</ColorAndStyle></Structure>
    <Structure ID="Odd" Name="Odd"><Identification><VolumeType>Strange</VolumeType></Identification>
      <ColorAndStyle>Plaid</ColorAndStyle></Structure>
  </Structures>
</StructureTemplate>
"""


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_an_eclipse_template(tmp_path: Path) -> None:
    template = load_template(written(tmp_path / "t.xml", ECLIPSE))
    assert [(r.name, r.type, r.color) for r in template.structures] == [
        ("BODY", "EXTERNAL", "#ffcdaa"),
        ("Cord", "ORGAN", "#00ffff"),
        ("PTV_60", "PTV", "#ff0010"),
        ("Odd", None, None),
    ]
    assert template.structures[1].aliases == ("Spinal cord",)
    assert template.notes == (
        "Odd: the colour 'Plaid' is not known",
        "Odd: the type 'Strange' is not one of DICOM's",
    )


def test_an_eclipse_template_in_utf16(tmp_path: Path) -> None:
    text = ECLIPSE.replace("utf-8", "utf-16")
    assert len(load_template(written(tmp_path / "t.xml", text, "utf-16")).structures) == 4


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["Name", "Type", "Colour", "Required", "Order"],
        ["Cord", "Organ", "0 255 255", "yes", "2"],
        ["BODY", "External", "#00ff00", "no", "1"],
        ["Lens_L", "", "lt green", "", ""],
    ]
    text = "\n".join(delimiter.join(row) for row in rows)
    template = load_template(written(tmp_path / "t.csv", text, "utf-8-sig"))
    assert [(r.name, r.type, r.color, r.required) for r in template.structures] == [
        ("BODY", "EXTERNAL", "#00ff00", False),
        ("Cord", "ORGAN", "#00ffff", True),
        ("Lens_L", None, "#90ee90", False),
    ]


@pytest.mark.parametrize("color", ["[0, 255, 0]", "'0 255 0'", "lime", "'#00FF00'"])
def test_colours_of_yaml_are_written_as_in_the_other_formats(tmp_path: Path, color: str) -> None:
    template = load_template(written(tmp_path / "t.yaml", f"structures: [{{name: A, color: {color}}}]"))
    assert [str(roi.color).lower() for roi in template.structures] == ["#00ff00"]


@pytest.mark.parametrize("color", ["[0, 256, 0]", "plaid", "7"])
def test_an_unknown_colour_of_yaml_is_refused_with_the_ways_to_write_one(tmp_path: Path, color: str) -> None:
    with pytest.raises(ConfigError, match="colour of a ROI") as caught:
        load_template(written(tmp_path / "t.yaml", f"[{{name: A, color: {color}}}]"))
    assert "#ff8800" in str(caught.value.expected) and "A" in str(caught.value.where)


def test_yaml_with_aliases(tmp_path: Path) -> None:
    text = (
        "structures:\n- {name: Cord, aliases: [Myelon], required: false}\n- {name: PTV, color: '#ff0000'}\n"
    )
    template = load_template(written(tmp_path / "t.yaml", text))
    assert template.structures[0] == TemplateRoi(name="Cord", aliases=("Myelon",), required=False)
    assert load_template(written(tmp_path / "l.yml", "- {name: A}\n")).structures[0].name == "A"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.xml", "<StructureTemplate>", "not valid XML"),
        ("t.xml", "<Plan><X/></Plan>", "has no structures"),
        ("t.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "defines entities"),
        ("t.xml", '<T><Structure ID=""/></T>', "1-1024 characters"),
        ("t.csv", "Name,Dose\nA,60", "Unknown column"),
        ("t.csv", "ROI_,Type\nA,60", "does not name its columns"),
        ("t.csv", "Name,Type\nA,Organn", "Unknown RT ROI interpreted type"),
        ("t.csv", "Name,Color\nA,plaid", "cannot be used"),
        ("t.csv", "Name\nA\na", "twice"),
        ("t.yaml", "structures: [{name: A, colour: '#ff0000'}]", "Unknown key"),
        ("t.yaml", "structures: []", "no structures"),
        ("t.yaml", "[{name: A, aliases: [Cord]}, {name: B, aliases: [cord]}]", "stands for two structures"),
        ("t.txt", "A", "XML, CSV or YAML"),
    ],
)
def test_what_no_template_can_mean_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_template(written(tmp_path / name, text))


def test_types_may_be_written_in_any_case(tmp_path: Path) -> None:
    for name, text in (("t.yaml", "- {name: A, type: organ}\n"), ("t.csv", "name,type\nA,Organ\n")):
        assert load_template(written(tmp_path / name, text)).structures[0].type == "ORGAN"


def template(*rois: TemplateRoi) -> StructureTemplate:
    return StructureTemplate(structures=rois, source="department.yaml")


def test_names_colours_types_and_order_are_the_templates() -> None:
    of = template(
        TemplateRoi(name="PTV_60", type="PTV", color="#ff0010", required=False),
        TemplateRoi(name="Cord", color="#00ffff"),
        TemplateRoi(name="Glandula", aliases=("Parotid_L",)),
        TemplateRoi(name="BODY", type="EXTERNAL"),
        TemplateRoi(name="Lens_L", type="ORGAN"),
    )
    style = styled(of, [roi_info(n) for n in ("Body", "Parotid_L", "SpinalCord", "Brainstem")])
    assert style.order == ("Cord", "Glandula", "BODY", "Lens_L", "Brainstem")
    assert {old: info.name for old, info in style.infos.items()} == {
        "SpinalCord": "Cord",
        "Parotid_L": "Glandula",
        "Body": "BODY",
        "Brainstem": "Brainstem",
    }
    assert style.infos["SpinalCord"].color == (0, 255, 255)
    assert [e.name for e in style.empty] == ["Lens_L"] and style.missing == ("PTV_60", "Lens_L")
    assert "ROI SpinalCord is called Cord, as in the template" in style.notes
    assert "created empty, as the template requires them: Lens_L" in style.notes
    assert "in the template, but not here: PTV_60" in style.notes
    assert "ROI Brainstem is not in the template and keeps its name" in style.notes


def test_the_surest_match_comes_first() -> None:
    """A weaker match earlier in the template does not take a ROI from the entry that has its very name."""
    of = template(TemplateRoi(name="Myelon"), TemplateRoi(name="SpinalCord"))
    style = styled(of, [roi_info("SpinalCord")])
    assert style.infos["SpinalCord"].name == "SpinalCord" and style.missing == ("Myelon",)


def test_what_the_file_has_already_is_not_created_empty() -> None:
    style = styled(template(TemplateRoi(name="Heart")), [roi_info("Body")], already=["HEART"])
    assert not style.empty and not style.missing
