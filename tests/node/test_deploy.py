"""What `deploy/` holds is what the program takes."""

from __future__ import annotations

import configparser
from pathlib import Path

import yaml

from contour_ai.node.config import load_node_config
from contour_ai.node.passwords import fits

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_configuration_for_compose_loads_and_fits_the_compose_file() -> None:
    config = load_node_config(DEPLOY / "node.yaml")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    node, archive = compose["services"]["node"], compose["services"]["orthanc"]
    assert f"127.0.0.1:{config.port}:{config.port}" in node["ports"]
    assert f"127.0.0.1:{config.web.port}:{config.web.port}" in node["ports"]
    to = config.destinations["ORTHANC"]
    assert (to.host, str(to.port)) == ("orthanc", archive["environment"]["ORTHANC__DICOM_PORT"])
    assert (
        f'"{config.ae_title}", "node", {config.port}' in archive["environment"]["ORTHANC__DICOM_MODALITIES"]
    )
    assert config.callers[0].ae_title == archive["environment"]["ORTHANC__DICOM_AET"]
    assert f"node:{config.storage}" in node["volumes"]
    assert fits("change me", config.web.users["admin"])


def test_the_systemd_unit_starts_and_reloads_the_node() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "contour-ai-node.service", encoding="utf-8")
    assert unit["Service"]["ExecStart"].endswith("contour-ai serve --config /etc/contour-ai/node.yaml")
    assert "-HUP" in unit["Service"]["ExecReload"] and unit["Service"]["Restart"] == "always"
