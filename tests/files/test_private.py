"""What holds patients' data is for its owner alone; what a planning system imports follows the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contour_ai.csv_files import write_csv
from contour_ai.files import atomic_file, atomic_folder, private_folder, restrict

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has lists of permissions on folders")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_private_files_were_never_readable_to_others(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with atomic_file(tmp_path / "a.json", overwrite=overwrite, private=True) as path:
            assert mode(path) == 0o600
            path.write_text("x", encoding="utf-8")
        assert mode(tmp_path / "a.json") == 0o600
    with atomic_file(tmp_path / "rs.dcm") as path:
        path.write_text("x", encoding="utf-8")
    assert mode(tmp_path / "rs.dcm") == 0o644
    write_csv(tmp_path / "a.csv", ["patient"], [["P1"]])
    assert mode(tmp_path / "a.csv") == 0o600


def test_private_folders(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a", private=True) as folder:
        assert mode(folder) == 0o700
        (folder / "within").mkdir()
        (folder / "within" / "page.html").write_text("x", encoding="utf-8")
    assert [mode(p) for p in (tmp_path / "a", tmp_path / "a" / "within")] == [0o700, 0o700]
    assert {mode(p) for p in (tmp_path / "a").rglob("*") if p.is_file()} == {0o600}
    with atomic_folder(tmp_path / "b") as folder:
        (folder / "rs.dcm").write_text("x", encoding="utf-8")
    assert mode(tmp_path / "b") == 0o755 and mode(tmp_path / "b" / "rs.dcm") == 0o644
    private_folder(tmp_path / "c" / "d")
    assert mode(tmp_path / "c" / "d") == 0o700
    private_folder(tmp_path / "b")
    assert mode(tmp_path / "b") == 0o755, "a folder that was there keeps its permissions"


def test_restrict_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x", encoding="utf-8")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "link").symlink_to(tmp_path / "theirs")
    restrict(tmp_path / "ours")
    assert mode(tmp_path / "theirs") == 0o644
