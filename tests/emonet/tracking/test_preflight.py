from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from emonet.errors import RequestError
from emonet.tracking import preflight
from emonet.tracking.preflight import CONFIG, artifacts_kept


def test_only_the_folders_that_were_made_for_an_artefact_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "lists_artifact", lambda *_: False)  # the server looks on a machine of its own
    own = tmp_path / "project" / "empty"
    own.mkdir(parents=True)
    place = own / "mlartifacts" / "1" / "artifacts"
    run = SimpleNamespace(artifact_uri=place.as_uri(), run_id="1")

    def log() -> None:
        with artifacts_kept("http://127.0.0.1:9", run):
            place.mkdir(parents=True)
            (place / CONFIG).write_text("{}")

    with pytest.raises(RequestError, match="of its own machine"):
        log()
    assert list(own.iterdir()) == []
