"""Rules of the code that no linter knows: faults that came back."""

from __future__ import annotations

import re
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
