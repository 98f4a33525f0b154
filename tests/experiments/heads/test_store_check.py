from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from cache.store import ExtractionRecord
from emonet.clips import Corpus
from emonet.corpora import open_corpus
from emonet.encoders import weights_identity
from emonet.errors import RequestError
from experiments.core import Experiment
from experiments.extract import ExtractResult
from experiments.heads import open_corpus_of

Extracted = Callable[..., ExtractResult]


def changed(experiment: Experiment, **extraction: object) -> Experiment:
    values = experiment.model_dump()
    return Experiment.model_validate(values | {"extraction": values["extraction"] | extraction})


@pytest.fixture
def extracted(fill_store: Callable[..., str]) -> Extracted:
    """What an extraction of the experiment's corpus leaves, without an encoder that runs."""

    def make(experiment: Experiment, source: str) -> ExtractResult:
        corpus: Corpus = open_corpus(experiment.corpus)
        record = ExtractionRecord(
            corpus=corpus.name,
            corpus_fingerprint=corpus.fingerprint,
            clips=len(corpus),
            encoder=source,
            encoder_digest="d" * 64,
            window_seconds=1.0,
            frames=50,
            width=2,
            mels=80,
            precision="float32",
            batch_size=8,
            shard_clips=64,
        )
        path = experiment.folder / "store.zarr"
        states = torch.ones(len(corpus), 50, 2, dtype=torch.float16).numpy()
        fingerprint = fill_store(path, record, corpus, states)
        values = {
            "stage": "extract",
            "experiment": experiment.name,
            "inputs": "i",
            "run_id": "r",
            "seconds": 1,
            "complete": True,
            "clips": len(corpus),
            "failed": 0,
            "failures": (),
            "shape": record.shape,
            "bytes_raw": 0,
            "bytes_stored": 0,
            "codec": "lossless",
            "largest_error": 0,
            "rms_error": 0,
            "clips_per_second": 0,
            "encoder_tflops": 0,
            "encoder_share": 0,
            "megabytes_per_second": 0,
            "batch_size": 8,
            "precision": "float32",
            "workers": 1,
            "fingerprint": fingerprint,
            "store": path,
            "corpus": corpus.fingerprint,
            "captioner": weights_identity(source),
        }
        return ExtractResult.model_validate(values)

    return make


def refused(experiment: Experiment, extracted: ExtractResult) -> dict[str, str]:
    """The lines of the message, by their labels."""
    with pytest.raises(RequestError) as told:
        open_corpus_of(experiment, extracted)
    what, *lines = str(told.value).splitlines()
    return {"what": what} | {label.strip(): text.strip() for label, _, text in (line.partition(": ") for line in lines)}


def test_the_same_corpus_and_captioner_pass(mini_experiment: Experiment, extracted: Extracted) -> None:
    result = extracted(mini_experiment, str(mini_experiment.extraction.captioner))
    assert open_corpus_of(mini_experiment, result).fingerprint == result.corpus


def test_a_captioner_that_was_left_out_is_named_with_its_flag(
    mini_experiment: Experiment, extracted: Extracted
) -> None:
    source = str(mini_experiment.extraction.captioner)
    told = refused(changed(mini_experiment, captioner=None), extracted(mini_experiment, source))
    own = mini_experiment.folder / "captioner"
    assert told["what"] == "the feature store was extracted from another captioner"
    assert told["expected"] == source
    assert told["found"] == f"the experiment's own captioner {own}, which does not exist"
    assert told["try"].startswith(f"--extraction.captioner {source}, as the store; or emonet extract --force")


def test_a_captioner_that_was_not_asked_for_before_is_to_be_left_out(
    mini_experiment: Experiment, extracted: Extracted
) -> None:
    source, own = str(mini_experiment.extraction.captioner), mini_experiment.folder / "captioner"
    shutil.copytree(source, own)
    result = extracted(mini_experiment, str(own))
    retrain(Path(source))
    told = refused(mini_experiment, result)
    assert (told["expected"], told["found"]) == (str(own), source)
    assert told["try"].startswith("leave out --extraction.captioner")
    shutil.rmtree(own)
    told = refused(changed(mini_experiment, captioner=None), result)
    assert told["found"].endswith(", which does not exist")
    assert told["try"].startswith("put it back as it was; or emonet pretrain")


def test_weights_that_changed_in_place_are_told(mini_experiment: Experiment, extracted: Extracted) -> None:
    source = str(mini_experiment.extraction.captioner)
    result = extracted(mini_experiment, source)
    retrain(Path(source))
    told = refused(mini_experiment, result)
    assert (told["expected"], told["found"]) == (source, f"{source}: its weights have changed since")
    assert told["try"] == "emonet extract --force to make the store anew"


def test_another_corpus_is_named_and_the_harmless_way_comes_first(
    mini_experiment: Experiment, extracted: Extracted, tmp_path: Path
) -> None:
    result = extracted(mini_experiment, str(mini_experiment.extraction.captioner))
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    (tmp_path / "less.jsonl").write_text("\n".join(lines[:-1]))
    other = Experiment.model_validate(mini_experiment.model_dump() | {"corpus": f"manifest:{tmp_path}/less.jsonl"})
    told = refused(other, result)
    assert told["what"] == "the feature store was extracted from another corpus"
    assert told["expected"] == f"{mini_experiment.corpus}, 36 clips"
    assert told["found"] == f"manifest:{tmp_path}/less.jsonl, 35 clips"
    harmless, second, force = told["try"].split("; or ")
    assert harmless == f"--corpus {mini_experiment.corpus}, as the store"
    assert second == "--name NEW with every stage, for a second store"
    assert force == "emonet extract --force to make the store anew"


def test_a_corpus_that_changed_under_its_name_is_told(
    mini_experiment: Experiment, extracted: Extracted, tmp_path: Path
) -> None:
    result = extracted(mini_experiment, str(mini_experiment.extraction.captioner))
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(manifest.read_text().replace('"anger": 3', '"anger": 2'))
    told = refused(mini_experiment, result)
    assert told["found"].endswith("36 clips: its clips, scores, splits or captions have changed since")
    assert told["try"].startswith("put it back as it was; or --name NEW")


def retrain(folder: Path) -> None:
    encoder = WhisperEncoder.from_pretrained(folder)
    with torch.no_grad():
        encoder.layer_norm.bias.add_(0.5)
    encoder.save_pretrained(folder)
