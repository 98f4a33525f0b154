from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import emonet.audio


@pytest.fixture(scope="session", autouse=True)
def _blocks() -> Iterator[None]:
    """Until `emonet.audio` streams, a recording is one block."""
    if hasattr(emonet.audio, "stream_blocks"):
        yield
        return

    def stream_blocks(audio: Path) -> list[SimpleNamespace]:
        return [SimpleNamespace(samples=emonet.audio.decode(audio, seconds=1e6).samples, start=0.0)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emonet.audio, "stream_blocks", stream_blocks, raising=False)
        yield
