"""Rules of the code that no linter knows: faults that came back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for package in ("emonet", "cache", "datamodules", "lightningmodules", "experiments", "benchmarks", "tools")
    for path in (ROOT / package).rglob("*.py")
)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"model_copy\(\s*update", "it skips validation: validate the changed fields"),
        (r"model_construct\(", "it skips validation"),
    ],
)
def test_what_is_not_to_come_back(pattern: str, why: str) -> None:
    assert len(SOURCES) > 100
    found = [str(path.relative_to(ROOT)) for path in SOURCES if re.search(pattern, path.read_text("utf-8"))]
    assert found == [], why


def test_no_database_and_no_lock_is_kept_with_the_sources() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    names = [name for name in listed.split("\0") if (ROOT / name).is_file()]
    assert len(names) > 100
    assert [name for name in names if _left_by_a_run(ROOT / name)] == []


def _left_by_a_run(path: Path) -> bool:
    with path.open("rb") as file:
        database = file.read(15) == b"SQLite format 3"
    return database or path.suffix in {".lock", ".db", ".sqlite", ".sqlite3", ".journal"}
