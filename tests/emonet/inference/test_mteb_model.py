"""Real tasks of mteb on a small random encoder; most need mteb, which is an extra."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from emonet.audio import pad
from emonet.encoders import open_encoder
from emonet.errors import AudioError, RequestError
from emonet.inference import EmotionPipeline, MtebEncoder, mteb_encoder
from emonet.inference.mteb_model import _form
from tests.tiny import write_wav2vec2


@pytest.fixture
def mteb() -> Any:
    return pytest.importorskip("mteb", reason="mteb is an extra: pip install 'emonet[mteb]'")


@pytest.fixture(scope="module")
def encoder(voice_parts: tuple[Path, Path]) -> str:
    """Whisper's form, with a window of 1 s."""
    return str(voice_parts[0])


def _tone(hertz: float, *, seconds: float = 0.5, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return (0.3 * np.sin(2 * np.pi * hertz * time) + noise).astype(np.float32)


def _file(samples: np.ndarray, rate: int = 16_000, kind: str = "FLAC") -> dict[str, Any]:
    file = io.BytesIO()
    sf.write(file, samples, rate, format=kind, subtype="PCM_24" if kind == "FLAC" else "FLOAT")
    return {"bytes": file.getvalue(), "path": None}


def _task(base: Any, kind: str, score: str, rows: dict[str, list[dict[str, Any]]], labels: dict[str, list[int]]) -> Any:
    """A task of mteb over clips in memory: files as corpora are published, or samples."""
    import datasets
    from mteb.abstasks.task_metadata import TaskMetadata

    nothing = dict.fromkeys(("reference", "date", "domains", "task_subtypes", "license", "annotations_creators"))
    nothing |= dict.fromkeys(("dialect", "sample_creation", "bibtex_citation"))
    about = TaskMetadata(
        name=f"Tones{kind}", description="Low and high tones", type=kind, category="a2c", modalities=["audio"],
        dataset={"path": "memory", "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"], main_score=score, **nothing,
    )  # fmt: skip

    class Tones(base):  # type: ignore[misc]
        metadata = about
        input_column_name = "audio"
        label_column_name = "label"
        samples_per_label = 4
        n_experiments = 2
        max_fraction_of_documents_to_embed = None

        def load_data(self, **_: Any) -> None:
            made = {}
            for split, clips in rows.items():
                made[split] = datasets.Dataset.from_dict({"audio": clips, "label": labels[split]})
                if "bytes" in clips[0]:
                    made[split] = made[split].cast_column("audio", datasets.Audio())
            self.dataset = datasets.DatasetDict(made)
            self.data_loaded = True

    return Tones()


def _encoded(model: MtebEncoder, clips: Sequence[dict[str, Any]], batch_size: int = 2, **options: Any) -> np.ndarray:
    """The embeddings of clips, as tasks ask for them."""
    from mteb._create_dataloaders import create_dataloader
    from mteb.abstasks import AbsTaskClassification

    rows = {"test": list(clips)}
    task = _task(AbsTaskClassification, "AudioClassification", "accuracy", rows, {"test": [0] * len(clips)})
    task.load_data()
    loader = create_dataloader(
        task.dataset["test"], task_metadata=task.metadata, input_column="audio", batch_size=batch_size
    )
    options = {"show_progress_bar": False, **options}
    return model.encode(loader, task_metadata=task.metadata, hf_split="test", hf_subset="default", **options)


@pytest.mark.parametrize("as_files", [True, False])
def test_a_classification_task_is_solved(mteb: Any, encoder: str, as_files: bool, tmp_path: Path) -> None:
    from mteb.abstasks import AbsTaskClassification

    def clips(count: int, first: int) -> list[dict[str, Any]]:
        made = [_tone(200 if n % 2 else 2500, rate=8_000 * (1 + n % 3), seed=first + n) for n in range(count)]
        rates = [8_000 * (1 + n % 3) for n in range(count)]
        if as_files:
            return [_file(samples, rate) for samples, rate in zip(made, rates, strict=True)]
        return [{"array": samples, "sampling_rate": rate} for samples, rate in zip(made, rates, strict=True)]

    rows = {"train": clips(12, 0), "test": clips(5, 100)}
    labels = {split: [n % 2 for n in range(len(found))] for split, found in rows.items()}
    task = _task(AbsTaskClassification, "AudioClassification", "accuracy", rows, labels)
    cache = mteb.ResultCache(tmp_path)
    model = mteb_encoder(encoder, layers="last", pool="moments")
    result = mteb.evaluate(model, task, cache=cache, show_progress_bar=False)
    assert result.task_results[0].scores["test"][0]["accuracy"] == 1.0
    assert result.model_name == "emonet/encoder"
    kept = [path.relative_to(tmp_path) for path in tmp_path.rglob("TonesAudioClassification.json")]
    assert len(kept) == 1
    assert kept[0].parent.name == model.mteb_model_meta.revision


def test_a_clustering_task_of_another_kind_of_encoder(mteb: Any, tmp_path: Path) -> None:
    from mteb.abstasks import AbsTaskClustering

    rows = {"test": [_file(_tone(200 if n % 2 else 2500, seed=n)) for n in range(10)]}
    task = _task(AbsTaskClustering, "AudioClustering", "v_measure", rows, {"test": [n % 2 for n in range(10)]})
    model = mteb_encoder(str(write_wav2vec2(tmp_path)), layers=(1, 2), window_seconds=1.0)
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    assert result.task_results[0].scores["test"][0]["v_measure"] > 0.9
    assert model.mteb_model_meta.embed_dim == 32


def test_it_keeps_the_protocol_of_mteb(mteb: Any, encoder: str) -> None:
    from mteb.models import EncoderProtocol

    model = mteb_encoder(encoder, precision="float32")
    assert isinstance(model, EncoderProtocol)
    meta = model.mteb_model_meta
    assert (meta.modalities, meta.embed_dim) == (["audio"], 32)
    assert meta.revision == f"{model.encoder.digest[:16]}-layers-1-1s-mean-float32"
    assert meta.n_parameters == model.encoder.parameters
    vectors = np.eye(3, dtype=np.float32)[:2] * 7
    assert model.similarity(vectors, vectors).tolist() == [[1, 0], [0, 1]]
    assert model.similarity_pairwise(vectors, vectors).tolist() == [1, 1]


def test_other_settings_are_kept_elsewhere(mteb: Any, encoder: str) -> None:
    choices: tuple[dict[str, Any], ...] = ({}, {"pool": "moments"}, {"pool": "statistics"}, {"window_seconds": 0.5})
    models = [mteb_encoder(encoder, **choice) for choice in choices]
    assert len({model.mteb_model_meta.revision for model in models}) == len(choices)
    assert {model.mteb_model_meta.name for model in models} == {"emonet/encoder"}


def test_a_clip_is_the_statistics_of_the_states_that_hear_it(mteb: Any, encoder: str) -> None:
    ready = open_encoder(encoder, precision="float32")
    clips = [_tone(200 + 100 * n, seconds=0.3 + 0.1 * n, seed=n) for n in range(5)]
    states = ready.states(pad(clips, ready.window)).float().numpy()
    heard = [some[: round(50 * (0.3 + 0.1 * n))] for n, some in enumerate(states)]
    expected = np.stack([[one.mean(0), one.min(0), one.max(0), one.std(0, ddof=1)] for one in heard])
    taken = {"mean": [0], "moments": [0, 3], "statistics": [0, 1, 2, 3]}
    for pool, parts in taken.items():
        model = MtebEncoder(ready, "emonet/tiny", pool=pool)
        wanted = expected[:, parts].reshape(5, -1)
        found = _encoded(model, [_file(clip, kind="WAV") for clip in clips])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        arrays = [{"array": clip, "sampling_rate": 16_000} for clip in clips]
        np.testing.assert_array_equal(_encoded(model, arrays, batch_size=3), found)


def test_channels_of_samples_become_one(mteb: Any, encoder: str) -> None:
    clip = _tone(300)
    model = mteb_encoder(encoder, precision="float32")
    both = [{"array": np.stack([clip, clip]), "sampling_rate": 16_000}]
    alone = [{"array": clip, "sampling_rate": 16_000}]
    np.testing.assert_allclose(_encoded(model, both), _encoded(model, alone), atol=1e-5)


def test_a_long_clip_is_heard_from_its_beginning_and_told(mteb: Any, encoder: str) -> None:
    model = mteb_encoder(encoder, precision="float32")
    long = _tone(300, seconds=2.5)
    long[20_000:] = 0
    cut = (
        r"TonesAudioClassification, default, test: 1 of 2 clips are longer than the window, and heard for its 1 s alone"
    )
    with pytest.warns(UserWarning, match=cut):
        found = _encoded(model, [_file(long), _file(long[:16_000])])
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_broken_clip_is_named(mteb: Any, encoder: str) -> None:
    clips = [*(_file(_tone(200)) for _ in range(3)), {"bytes": b"no sound at all", "path": None}]
    with pytest.raises(AudioError, match=r"(?s)not readable.*row 3 of TonesAudioClassification, default, test"):
        _encoded(mteb_encoder(encoder), clips)


def test_texts_are_refused(mteb: Any, encoder: str) -> None:
    import datasets
    from torch.utils.data import DataLoader

    loader = DataLoader(datasets.Dataset.from_dict({"text": ["a", "b"]}))
    about = types.SimpleNamespace(name="Texts")
    with pytest.raises(RequestError, match=r"(?s)hears audio alone.*Texts.*found: +text"):
        mteb_encoder(encoder).encode(loader, task_metadata=about, hf_split="test", hf_subset="default")


def test_other_precisions_of_embeddings_are_refused(mteb: Any, encoder: str) -> None:
    with pytest.raises(RequestError, match=r"(?s)embeddings are float32.*precision='int8'"):
        _encoded(mteb_encoder(encoder), [_file(_tone(200))], precision="int8")


def test_the_encoder_of_a_voice_model(mteb: Any, voice: Path, encoder: str) -> None:
    model = MtebEncoder(EmotionPipeline.from_folder(voice).encoder, "somebody/voice")
    assert model.mteb_model_meta.name == "somebody/voice"
    found = _encoded(model, [_file(_tone(300))])
    assert torch.equal(torch.from_numpy(found), torch.from_numpy(_encoded(mteb_encoder(encoder), [_file(_tone(300))])))


@pytest.mark.parametrize("name", ["voice", "me/", "a/b/c"])
def test_a_name_of_another_form_is_refused(mteb: Any, encoder: str, name: str) -> None:
    with pytest.raises(RequestError, match=rf"(?s)under this name.*ORGANISATION/NAME.*{name}"):
        MtebEncoder(open_encoder(encoder), name)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(RequestError, match=r"(?s)no such pooling.*mean, moments, statistics.*median"):
        _form("median")


def test_without_mteb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(RequestError, match=r"(?s)mteb is not installed.*pip install 'emonet\[mteb\]'"):
        mteb_encoder("no/encoder")  # said before it is looked for


@pytest.mark.parametrize("version", ["2.7.9", "1.39.0"])
def test_an_old_mteb_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("mteb")
    old.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mteb", old)
    with pytest.raises(RequestError, match=rf"(?s)too old.*2\.8 or newer.*{version}.*pip install"):
        mteb_encoder("no/encoder")
