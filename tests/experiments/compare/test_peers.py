from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emonet.targets import EMOTIONS
from experiments.compare.clips import open_clips
from experiments.compare.scorers import open_scorers, score
from tests.peer_servers import Says, peer_server


def test_a_service_and_a_table_are_models_of_a_comparison(
    make_wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{n},{make_wav(f'{n}.wav', seconds=0.5, hertz=200 + n).name},s{n},test,{n}" for n in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["id,audio,speaker,split,anger", *rows]))
    clips = open_clips(f"manifest:{tmp_path / 'm.csv'}", "test", tmp_path / "runs", EMOTIONS)
    ids = clips.table["id"].tolist()
    (tmp_path / "p.csv").write_text("\n".join(["id,anger", *(f"{one},{n}" for n, one in enumerate(ids[:2]))]))
    with peer_server(lambda _: Says({"anger": 0.5})) as server:
        row = {"url": server.url, "model": "mine@1", "scores": {"anger": "/anger"}, "scale": [0, 1]}
        (tmp_path / "peer.yaml").write_text(json.dumps({**row, "calls": {"requests_per_minute": 60_000}}))
        scorers = open_scorers(["scorer:http:peer.yaml", "scorer:table:p.csv"])
        found = score(scorers, clips, ids, ["anger"])
    assert found.ids == ids[:2]
    assert found.predicted["scorer:http:peer.yaml"].scores.tolist() == [[2.0], [2.0]]
    assert found.predicted["scorer:table:p.csv"].scores.tolist() == [[0.0], [1.0]]
    assert "p.csv has no row of it" in found.notes[0]
    facts = scorers[0].facts(1.0)
    assert facts.details["service"] == "http:mine@1"
    assert facts.details["answers"] == "runs/peers/http-mine-1.jsonl"
    assert (tmp_path / facts.details["answers"]).is_file()
    assert scorers[0].identity != scorers[1].identity
