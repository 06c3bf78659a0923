"""`contour-ai monitor` on a node's storage: what was sent, with what came back approved."""

from __future__ import annotations

import sys
from pathlib import Path

import pydicom
import pytest

from contour_ai.errors import InputError
from contour_ai.monitoring.measure import measure_edits
from contour_ai.monitoring.pairs import is_node_storage, pairs_of_node

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
        storage = node.storage
    assert is_node_storage(storage)
    pairs, notes = pairs_of_node(storage)
    assert notes == [] and len(pairs) == 1
    edits, unread = measure_edits(pairs)
    assert unread == [] and sum(not e.untouched for e in edits) == 1
    (edited,) = [e for e in edits if not e.untouched]
    assert (
        edited.edited_slices == 1 and edited.date == "2026-02-03" and edited.model == "phantom-headneck 1.0"
    )
