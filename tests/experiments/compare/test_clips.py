from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from cache.store import ExtractionRecord
from emonet.corpora import open_corpus
from emonet.targets import EMOTIONS
from experiments.compare.clips import open_clips


@pytest.mark.parametrize(
    ("classes", "rated"),
    [({"cross": "anger", "angry": "anger"}, {"a.wav": 4.0, "b.wav": 4.0}), ({}, {})],
    ids=["with a file of labels", "without one"],
)
def test_the_corpus_behind_a_store_is_found_again_where_only_some_labels_have_a_file(
    classes: Mapping[str, str | None],
    rated: dict[str, float],
    make_wav: Callable[..., Path],
    fill_store: Callable[..., str],
    tmp_path: Path,
) -> None:
    """An acted corpus knows its labels by itself; whether a manifest's are scored by them is the file's affair."""
    (tmp_path / "acted").mkdir()
    for name in ("03-01-01-01-01-01-01", "03-01-05-01-01-01-20", "03-01-04-01-01-01-02"):
        make_wav(f"acted/{name}.wav")
    manifest = tmp_path / "m.csv"
    rows = ["a.wav,a,train,cross", "b.wav,b,test,angry", "c.wav,c,validation,"]
    for row in rows:
        make_wav(row.partition(",")[0])
    manifest.write_text("\n".join(["audio,speaker,split,label", *rows]))
    spec = f"ravdess:{tmp_path / 'acted'}+manifest:{manifest}"
    corpus = open_corpus(spec, classes=classes)
    assert {clip.id: clip.scores["anger"] for clip in corpus.clips if clip.id in "a.wav b.wav" and clip.scores} == rated
    record = ExtractionRecord(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        clips=len(corpus),
        encoder="nobody",
        encoder_digest="d" * 64,
        window_seconds=1.0,
        frames=50,
        width=2,
        mels=80,
        precision="float32",
        batch_size=8,
        shard_clips=64,
    )
    fill_store(tmp_path / "store.zarr", record, corpus, np.ones((len(corpus), 50, 2), np.float16))
    found = open_clips(str(tmp_path / "store.zarr"), "test", tmp_path, EMOTIONS)
    assert found.corpus is not None
    assert found.corpus.fingerprint == corpus.fingerprint
    assert found.classes == corpus.classes
