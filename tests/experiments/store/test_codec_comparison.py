from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.maintenance import transcode, verify
from cache.store import FeatureStore
from cache.writing import StoreWriter
from emonet.clips import Corpus
from emonet.configs import EvaluationConfig
from emonet.corpora import open_corpus
from emonet.errors import RequestError
from emonet.evaluation import difference, evaluate
from experiments import extract
from experiments.core import Experiment, console
from experiments.heads import verb as heads
from experiments.store import codec_comparison as codecs
from experiments.store.codec_comparison import CodecScores, CodecsResult

pytestmark = pytest.mark.numeric


def changed(experiment: Experiment, section: str = "extraction", **changes: object) -> Experiment:
    fields = experiment.model_dump()
    return Experiment.model_validate(fields | {section: fields[section] | changes})


@pytest.mark.slow
def test_every_way_to_keep_states_is_compared(mini_experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    extract.run(mini_experiment)
    result = codecs.run(mini_experiment)
    assert list(result.ways) == ["lossless", "bfloat", "int8", "lossless-speech", "int8-speech"]
    lossless, bfloat, int8, speech, both = result.ways.values()
    assert (lossless.largest_error, lossless.rms_error) == (0, 0)
    assert lossless.test == heads.run(mini_experiment).test  # the same experts on the same states
    assert 0 < bfloat.rms_error < 0.004  # half a step of 8 significant bits, uniform: 0.0011 to 0.0023
    assert 0 < int8.rms_error < 0.05
    assert speech.rms_error > 0
    assert int8.bytes_per_clip < bfloat.bytes_per_clip < lossless.bytes_per_clip
    assert both.bytes_per_clip < speech.bytes_per_clip < lossless.bytes_per_clip
    for way in result.ways.values():
        change = way.test.mae.mean.value - lossless.test.mae.mean.value  # type: ignore[operator]
        assert way.mae_change.value == pytest.approx(change, abs=1e-6)
        assert way.mae_change.low <= way.mae_change.value <= way.mae_change.high  # type: ignore[operator]
    assert not (mini_experiment.folder / "codecs").exists()
    assert (mini_experiment.folder / "codecs.json").exists()
    codecs.show(result)
    shown = capsys.readouterr().err
    assert "lossless-speech" in shown
    assert codecs.run(mini_experiment) == result  # up to date


def extract_again(store: Path, corpus: Corpus) -> None:
    """Other states under the same record, as after a change of machine."""
    former = FeatureStore.open(store)
    states, clips = former.read(former.rows()), former.clips
    place = dict(zip(former.rows().tolist(), range(len(states)), strict=True))
    with StoreWriter(store, former.record, corpus, force=True) as writer:
        for shard in writer.claims():
            sink = writer.begin(shard)
            for position, row in enumerate(sink.rows):
                if row in place:
                    sink.put(position, states[place[row]] * np.float16(2), float(clips["seconds"][row]))
                else:
                    sink.fail(position, clips["failed"][row])
            sink.commit()
        writer.finish()


@pytest.mark.slow
def test_what_a_stopped_comparison_left_is_not_taken_for_another_store(
    mini_experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = changed(mini_experiment, "heads", inputs=["statistics"], epochs=1)
    extract.run(experiment)
    folder = experiment.folder / "codecs"
    folder.mkdir()
    (folder / ".int8.zarr.lock").touch()  # as an older release left it
    seen, train = [], codecs.train_forms

    def stopped(job: Any, data: Any, scratch: Path, *, prefix: str = "") -> Any:
        seen.append(data.store.path)
        if prefix == "int8/":
            raise KeyboardInterrupt
        return train(job, data, scratch, prefix=prefix)

    monkeypatch.setattr(codecs, "train_forms", stopped)
    with pytest.raises(KeyboardInterrupt):
        codecs.run(experiment)
    monkeypatch.setattr(codecs, "train_forms", train)
    assert seen[0] == experiment.folder / "store.zarr"
    left = [path.name for path in folder.rglob("*.zarr")]
    assert left == ["int8.zarr"]  # a way that is scored takes no space any more

    corpus, store = open_corpus(experiment.corpus), experiment.folder / "store.zarr"
    extract_again(store, corpus)
    result = codecs.run(experiment)
    transcode(FeatureStore.open(store), corpus, tmp_path / "int8.zarr", "int8")
    assert result.ways["int8"].largest_error == verify(tmp_path / "int8.zarr").largest_error > 0
    assert not folder.exists()


@pytest.mark.slow
def test_other_weights_are_compared_anew_and_banks_are_let_go(
    mini_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = changed(mini_experiment, "heads", inputs=["statistics"], epochs=1)
    extract.run(experiment)
    trained: list[weakref.ref[object]] = []
    train = codecs.train_forms

    def watched(job: Any, data: Any, scratch: Path, *, prefix: str = "") -> Any:
        gc.collect()
        assert [one() for one in trained] == [None] * len(trained), "a way that is scored takes no memory any more"
        forms = train(job, data, scratch, prefix=prefix)
        trained.extend(weakref.ref(form.trained) for form in forms.values())
        return forms

    monkeypatch.setattr(codecs, "train_forms", watched)
    first = codecs.run(experiment)
    assert len(trained) == len(codecs.WAYS)
    assert codecs.run(experiment).run_id == first.run_id
    manifest = Path(experiment.corpus.removeprefix("manifest:"))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(row | {"weight": 1 + number % 3}) + "\n" for number, row in enumerate(rows)))
    second = codecs.run(experiment)
    assert second.run_id != first.run_id
    assert second.ways["lossless"].test != first.ways["lossless"].test


def test_figures_that_are_undefined_are_shown_as_a_dash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all test clips have the same score there is nothing to correlate."""
    truth, predictions = np.ones((6, 1)), np.arange(6.0)[:, None]
    options: dict[str, Any] = {"speakers": list("aabbcc"), "config": EvaluationConfig(resamples=5)}
    changes = {
        f"{metric}_change": difference(truth, predictions, predictions, metric=metric, **options)  # type: ignore[arg-type]
        for metric in ("mae", "pearson")
    }
    scores = evaluate(truth, predictions, targets=["anger"], **options)
    assert scores.pearson.mean.value is None
    way = CodecScores(
        bytes_per_clip=10, share=0.5, largest_error=0, rms_error=0, form="statistics", test=scores, **changes
    )
    monkeypatch.setattr(console.console, "width", 160)
    codecs.show(CodecsResult(stage="codecs", experiment="x", inputs="0", run_id="0", seconds=0, ways={"lossless": way}))
    row = next(line for line in capsys.readouterr().err.splitlines() if "lossless" in line and "50.0%" in line)
    assert [cell.strip() for cell in row.split("│")][-3:-1] == ["–", "–"]


def test_a_store_that_lost_something_is_no_reference(mini_experiment: Experiment) -> None:
    experiment = changed(mini_experiment, codec="int8", max_failed=1.0)
    extract.run(experiment)
    with pytest.raises(RequestError, match=r"(?s)lost nothing.*found: +codec int8.*--codec lossless"):
        codecs.run(experiment)
