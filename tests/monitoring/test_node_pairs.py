"""`contour-ai monitor` on a node's storage: what was sent, with what came back approved."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from contour_ai.cli.main import cli
from contour_ai.errors import InputError
from contour_ai.monitoring.kept import TABLE, kept_edits, to_text
from contour_ai.monitoring.measure import measure_edits
from contour_ai.monitoring.pairs import is_node_storage, pairs_of_node
from contour_ai.monitoring.records import Edit
from contour_ai.node.config import Alerts
from contour_ai.node.database import Database
from contour_ai.node.drift import look_for_drift, measure_returned

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))
from nodes import config_for, running, send, states, wait_for

SAMPLE = Path(__file__).parents[2] / "sample_data" / "phantom-headneck-01" / "ct"


def test_a_nodes_storage(tmp_path: Path) -> None:
    with running(config_for(tmp_path)) as node:
        send(node, sorted(SAMPLE.iterdir()))
        wait_for(lambda: states(node) == ["done"])
        with pytest.raises(InputError, match="No approved structure set"):
            pairs_of_node(node.storage)
        job = node.database.rows("SELECT * FROM jobs")[0]

        def approve(dataset: pydicom.Dataset) -> None:
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:-4]}7"
            dataset.ApprovalStatus, dataset.ReviewDate, dataset.ReviewerName = "APPROVED", "20260203", "A^B"
            del dataset.ROIContourSequence[0].ContourSequence[0]

        assert send(node, [node.book.results / job["folder"] / job["structure_set"]], edit=approve) == [0]
        wait_for(lambda: node.database.rows("SELECT * FROM returned WHERE job IS NOT NULL"))
        node.database.execute(
            "INSERT INTO ratings VALUES (?, 'Brainstem', 'minor', '', 'anna', 0)", job["id"]
        )
        storage = node.storage
        assert measure_returned(storage, node.database) == 1
        assert measure_returned(storage, node.database) == 0
    assert is_node_storage(storage)
    pairs, notes = pairs_of_node(storage)
    assert notes == [] and len(pairs) == 1
    edits, unread = measure_edits(pairs)
    assert unread == [] and sum(not e.untouched for e in edits) == 1
    (edited,) = [e for e in edits if not e.untouched]
    assert (
        edited.edited_slices == 1 and edited.date == "2026-02-03" and edited.model == "phantom-headneck 1.0"
    )

    assert {e.rating for e in edits if e.roi == "Brainstem"} == {"minor"}
    # The figures stay when the images are gone, and the command takes them up.
    kept = kept_edits(storage / "node.sqlite")
    assert [e.roi for e in kept[pairs[0].series_uid]] == [e.roi for e in edits]
    for path in pairs[0].ct:
        path.unlink()
    done = CliRunner().invoke(cli, ["monitor", str(storage), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "monitor.html").read_text(encoding="utf-8")
    assert "1 patients" in done.output and "Ratings beside edits" in page


def test_a_drift_is_alerted_once_and_names_no_patient(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.sqlite")
    database.execute(TABLE)
    rng = np.random.default_rng(3)
    for n in range(60):
        ratio = float(np.exp(rng.normal(0, 0.03) + (0.2 if n >= 40 else 0)))
        edit = Edit(
            patient=f"secret-{n}", series_uid=f"1.{n}", date=f"2026-{n // 28 + 1:02d}-{n % 28 + 1:02d}",
            roi="Parotid_L", model="m 1", scanner="s", reviewer="R", verdict="clear", status="compared",
            untouched=False, dsc=0.9, surface_dsc=float("nan"), tau_mm=2.0, hd95_mm=2.0, added_path_mm=float("nan"),
            volume_ratio=ratio, edited_slices=3, slices=20,
        )  # fmt: skip
        database.execute("INSERT INTO edits VALUES (?, ?, ?)", f"{n}.dcm", edit.series_uid, to_text([edit]))
    out = tmp_path / "alerts.txt"
    script = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read())"
    settings = Alerts(command=(sys.executable, "-c", script))
    found = look_for_drift(tmp_path, database, settings)
    assert found and all(f.startswith("drift: Parotid_L, m 1, 2026-0") for f in found)
    assert len(set(found)) == len(found) <= 2
    assert look_for_drift(tmp_path, database, settings) == []
    text = out.read_text(encoding="utf-8")
    assert (
        "volume_ratio: " in text
        and "of 60 by date" in text
        and "secret" not in text
        and "contour-ai monitor" in text
    )
    database.close()
