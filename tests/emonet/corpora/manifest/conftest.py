from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def folder(make_wav: Callable[..., Path], tmp_path: Path) -> Path:
    for name in "abcd":
        make_wav(f"audio/{name}.wav", seconds=2)
    return tmp_path
