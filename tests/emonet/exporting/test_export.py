from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emonet import EMOTIONS, EmotionPipeline
from emonet.checkpoints import Calibration, ExpertsInfo, LoadedBank, fit_familiarity
from emonet.encoders import FrozenEncoder, open_encoder
from emonet.errors import EmonetError, RequestError
from emonet.experts import ExpertBank
from emonet.exporting import compare, experts_graph, export_onnx, nothing_but_onnx
from emonet.exporting import files as exported_files
from emonet.inference import OnnxPipeline
from emonet.targets import PUBLISHED
from tests.tiny import random_encoder, write_wav2vec2

pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.numeric
SPEECH = [np.random.default_rng(one).normal(0, 0.1, 3_000 + 4_000 * one).astype(np.float32) for one in range(4)]


def _encoder(**shape: Any) -> FrozenEncoder:
    """Three layers, of which the first two give the states, of a window of 1 s; what it hears, its states tell."""
    network = random_encoder(**{"encoder_layers": 3, "init_std": 0.2, **shape})
    whole = FrozenEncoder(network, precision="float32", device="cpu").network
    return FrozenEncoder(whole.narrowed(layers=(1, 2)), precision="float32", device="cpu")


def _bank(
    encoder: FrozenEncoder, form: Any, pool_over: Any = "speech", *, targets: tuple[str, ...], **facts: Any
) -> LoadedBank:
    """Random experts; `picked` hear the second of the encoder's layers alone."""
    picked = facts.pop("layers", None)
    width = encoder.width // len(encoder.layers) * len(picked or encoder.layers)
    info = ExpertsInfo(
        targets=PUBLISHED.subset(targets).to_json(), form=form, pool_over=pool_over, queries=2, width=width,
        window_seconds=encoder.window.seconds, frames=encoder.frames, encoder_layers=encoder.layers, layers=picked,
        hidden=(8, 6), encoder_digest=encoder.digest, **facts,
    )  # fmt: skip
    bank = ExpertBank(info.spec, info.experts, info.hidden, seed=1)
    for parameter in bank.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) / 4
    return LoadedBank(bank.eval(), info)


def _check(pipeline: EmotionPipeline, folder: Path, **options: Any) -> OnnxPipeline:
    made = export_onnx(pipeline, folder, name="tiny", **options)
    assert made.differences.states < 1e-4
    exported = EmotionPipeline.from_onnx(folder)
    mine, theirs = (one.score_samples(SPEECH) for one in (exported, pipeline))
    spread = np.ptp([list(one.scores.values()) for one in theirs], axis=0)
    near = float(spread.max()) / 1000
    for ours, wanted in zip(mine, theirs, strict=True):
        assert ours.scores == pytest.approx(wanted.scores, abs=near)
        assert ours.uncertainties == pytest.approx(wanted.uncertainties, abs=2 * near)
        assert ours.unfamiliarity == (
            None if wanted.unfamiliarity is None else pytest.approx(wanted.unfamiliarity, 1e-3)
        )
    return exported


@pytest.mark.parametrize(
    ("form", "pool_over"),
    [("flatten", "all"), ("statistics", "all"), ("statistics", "speech"), ("moments", "speech"), ("attention", "all")],
)
def test_each_form_scores_as_on_torch(form: str, pool_over: str, tmp_path: Path) -> None:
    encoder = _encoder()
    bank = _bank(encoder, form, pool_over, targets=("anger", "fear", "age"))
    _check(EmotionPipeline(encoder, [bank]), tmp_path / "out")


def test_ensembles_layers_calibration_and_familiarity_come_along(tmp_path: Path) -> None:
    encoder = _encoder(activation_function="relu")
    several: dict[str, Any] = {"ensemble": 3, "intervals": {"factors": {"anger": 2.0, "fear": 1.5}, "coverage": 0.8}}
    population = {"medians": {"anger": 0.5}, "deviations": {"anger": 0.25}, "clips": 9}
    banks = [
        _bank(encoder, "moments", targets=("anger", "fear"), layers=(2,), population=population, **several),
        _bank(encoder, "attention", targets=("sadness",)),
    ]
    means = np.random.default_rng(0).normal(0, 1, (60, banks[0].info.width)).astype(np.float32)
    known = [fit_familiarity(means[:40], means[40:], bank.info.spec) for bank in banks[:1]]
    curve = {"predicted": (-1.0, 0.0, 1.0), "calibrated": (0.5, 1.0, 3.0), "clips": 50}
    calibration = Calibration.model_validate({"kind": "isotonic", "curves": {"fear": curve}})
    pipeline = EmotionPipeline(encoder, banks, calibration, [one for one in known if one is not None])
    exported = _check(pipeline, tmp_path / "out")
    assert (exported.coverage, exported.calibrated, exported.targets) == (0.8, True, ("fear", "anger", "sadness"))
    same = compare(pipeline, exported, SPEECH)
    assert 0 < same.uncertainties < 1e-4
    assert 0 < same.unfamiliarity < 1e-4
    without = EmotionPipeline(encoder, banks, calibration)
    assert compare(without, exported, SPEECH).worst == 1.0, "one knows what the other does not"
    several["intervals"] = {"factors": {"anger": 4.0, "fear": 1.5}, "coverage": 0.8}
    wider = _bank(encoder, "moments", targets=("anger", "fear"), layers=(2,), population=population, **several)
    found = compare(EmotionPipeline(encoder, [wider, banks[1]], calibration), exported, SPEECH)
    assert found.largest < 1e-4
    assert found.uncertainties > 1e-3
    (told,) = exported.score_samples(SPEECH[:1])
    assert set(told.uncertainties) == {"anger", "fear"}
    assert exported.population is not None
    assert exported.population.standardised(told.scores) == {"anger": (told.scores["anger"] - 0.5) / 0.25}


def test_int8_is_a_quarter_as_large_and_says_how_far_it_is_off(tmp_path: Path) -> None:
    encoder = _encoder(d_model=64, encoder_ffn_dim=256)
    pipeline = EmotionPipeline(encoder, [_bank(encoder, "statistics", targets=("anger", "fear"))])
    exact, rounded = (
        export_onnx(pipeline, tmp_path / precision, name="tiny", precision=precision)
        for precision in ("float32", "int8")
    )
    assert rounded.description.precision == "int8"
    assert exact.differences.largest < 1e-4 < rounded.differences.largest < 0.1
    layers = 2 * 4 * (4 * 64 * 64 + 2 * 64 * 256)  # bytes in float32
    saved = exact.files["encoder.onnx"].size - rounded.files["encoder.onnx"].size
    assert saved == pytest.approx(layers * 0.7, rel=0.15)
    exported = EmotionPipeline.from_onnx(tmp_path / "int8")
    (alone,), beside = exported.score_samples(SPEECH[:1]), exported.score_samples(SPEECH)
    assert alone == beside[0], "what stands beside a sound does not change its steps"


def test_the_files_say_what_they_are(voice: Path, tmp_path: Path) -> None:
    pipeline = EmotionPipeline.from_folder(voice, precision="float32", device="cpu")
    made = export_onnx(pipeline, tmp_path / "out", name="emonet-voice", version=7)
    for file in ("encoder.onnx", "experts.onnx"):
        session = onnxruntime.InferenceSession(str(tmp_path / "out" / file), providers=["CPUExecutionProvider"])
        told = json.loads(session.get_modelmeta().custom_metadata_map["emonet"])
        assert (told["name"], told["version"], told["sample_rate"], told["window_seconds"]) == (
            "emonet-voice", 7, 16_000, 1.0,
        )  # fmt: skip
        assert [one["id"] for one in told["targets"]] == list(pipeline.targets)
        assert {"waveforms", "scores"} <= set(told["units"])
    assert {name: file.size for name, file in made.files.items()} == {
        name: (tmp_path / "out" / name).stat().st_size for name in made.files
    }


def test_large_weights_lie_beside_their_graph(voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported_files, "LARGEST", 1000)
    monkeypatch.setattr(experts_graph, "LARGEST", 1000)  # an expert's first layer is larger: each has its own
    pipeline = EmotionPipeline.from_folder(voice, precision="float32", device="cpu")
    out = tmp_path / "out"
    _check(pipeline, out)
    names = {path.name for path in out.iterdir()}
    assert names == {"encoder.onnx", "encoder.onnx.data", "experts.onnx", "experts.onnx.data", "onnx.json"}
    assert nothing_but_onnx(out)
    shutil.move(out, tmp_path / "moved")
    assert EmotionPipeline.from_onnx(tmp_path / "moved").score_samples(SPEECH[:1])
    (tmp_path / "moved" / "experts.onnx.data").unlink()
    with pytest.raises(RequestError, match=r"damaged\n    - experts.onnx.data is not there"):
        EmotionPipeline.from_onnx(tmp_path / "moved")


def test_what_scores_otherwise_is_not_kept(voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emonet.exporting import encoder_graph

    monkeypatch.setattr(encoder_graph, "DYNAMIC_RANGE", 1.0)
    pipeline = EmotionPipeline.from_folder(voice, precision="float32", device="cpu")
    with pytest.raises(EmonetError, match="compute otherwise than the model"):
        export_onnx(pipeline, tmp_path / "out", name="tiny")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_encoders_and_activations_are_refused(tmp_path: Path) -> None:
    other: Any = open_encoder(
        str(write_wav2vec2(tmp_path / "wav2vec2")), window_seconds=1.0, precision="float32", device="cpu"
    )
    info = _bank(_encoder(), "moments", targets=("anger",)).info
    facts = {"encoder_digest": other.digest, "frames": other.frames, "width": other.width, "encoder_layers": None}
    wanted = ExpertsInfo.model_validate({**info.model_dump(), **facts})
    bank = LoadedBank(ExpertBank(wanted.spec, wanted.experts, wanted.hidden).eval(), wanted)
    with pytest.raises(RequestError, match=r"Whisper's encoder can be exported(.|\n)*wav2vec 2.0's family"):
        export_onnx(EmotionPipeline(other, [bank]), tmp_path / "out", name="tiny")
    odd = _encoder(activation_function="silu")
    with pytest.raises(RequestError, match=r"activation that cannot be exported(.|\n)*gelu or relu(.|\n)*silu"):
        export_onnx(EmotionPipeline(odd, [_bank(odd, "moments", targets=("anger",))]), tmp_path / "out", name="tiny")
    assert not (tmp_path / "out").exists()


def test_what_keeps_an_export_from_beginning_is_told(
    voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = EmotionPipeline.from_folder(voice, precision="bf16", device="cpu")
    with pytest.raises(ValueError, match="precision='float32'"):
        export_onnx(rounded, tmp_path / "out", name="tiny")
    monkeypatch.setitem(sys.modules, "onnx", None)  # as where it is not installed
    with pytest.raises(RequestError, match=r"onnx is not installed(.|\n)*pip install 'emonet\[onnx\]'"):
        export_onnx(rounded, tmp_path / "out", name="tiny")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_on_whisper_base_and_real_speech_the_scores_are_the_same(
    whisper_base: Path, corpora: Path, tmp_path: Path
) -> None:
    from emonet.audio import decode

    encoder: Any = open_encoder(
        str(whisper_base), layers="middle", window_seconds=6.0, precision="float32", device="cpu"
    )
    experts = _bank(encoder, "statistics", targets=EMOTIONS.ids[:12])
    # As trained ones do, they hear values of any size alike.
    state = encoder.states(torch.randn(1, encoder.window.samples) / 10).float().std((0, 1))
    experts.bank.layers[0].weight.data /= state.repeat(4) * 60
    pipeline = EmotionPipeline(encoder, [experts])
    speech = decode(corpora / "speech" / "jfk.flac").samples
    sounds = [speech[: encoder.window.samples], speech[40_000:100_000], speech[-20_000:]]
    made = export_onnx(pipeline, tmp_path / "out", name="base", sounds=sounds)
    assert made.differences.largest < 1e-3
    rounded = export_onnx(pipeline, tmp_path / "int8", name="base", precision="int8", sounds=sounds)
    assert rounded.differences.largest < 0.3
    assert sum(file.size for file in rounded.files.values()) < 0.35 * sum(file.size for file in made.files.values())
