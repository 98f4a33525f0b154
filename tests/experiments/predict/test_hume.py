"""`emonet predict --format hume`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.cli import main
from tests.emonet.peers.test_hume_form import checked

pytestmark = pytest.mark.numeric


def test_files_and_segments_in_humes_form(
    voice: Path, make_wav: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, broken = make_wav("a.wav", seconds=3.0), tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert main(["predict", str(one), str(broken), "--model", str(voice), "--format", "hume"]) == 1
    out, err = capsys.readouterr()
    whole, none = map(checked, json.loads(out))
    (group,) = whole.results.predictions[0].models.prosody.grouped_predictions
    assert (group.id, group.predictions[0].time.begin, group.predictions[0].time.end) == ("unknown", 0.0, 1.0)
    assert [one.name for one in group.predictions[0].emotions] == ["Anger", "Fear", "Horror", "Sadness"]
    assert (none.results.predictions, len(none.results.errors)) == ([], 1)
    assert "hume: 4 of its 48 names have an expert here; left out: Admiration, Adoration" in " ".join(err.split())
    segments = tmp_path / "s.csv"
    segments.write_text("start,end,speaker\n0,1,anna\n1.5,2.5,ben\n2.5,3,anna\n")
    assert main(["predict", str(one), "--segments", str(segments), "--model", str(voice), "--format", "hume"]) == 0
    (source,) = map(checked, json.loads(capsys.readouterr().out))
    anna, ben = source.results.predictions[0].models.prosody.grouped_predictions
    assert (anna.id, ben.id) == ("anna", "ben")
    assert [(one.time.begin, one.time.end) for one in anna.predictions] == [(0.0, 1.0), (2.5, 3.0)]
