from __future__ import annotations

import json
import shutil
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from emonet import EmotionPipeline, open_corpus
from emonet.audio import Decoded
from emonet.checkpoints import ExpertsInfo, LoadedBank, read_info
from emonet.checkpoints.files import load_bank, save_bank
from emonet.configs import HIDDEN
from emonet.encoders import open_encoder
from emonet.errors import AudioError, RequestError
from emonet.experts import ExpertBank
from emonet.inference import assemble, experts_of, strongest_first
from emonet.inference.pipeline import _placed
from emonet.registry import register_voice
from emonet.serving import VoiceModel, _load_pyfunc
from emonet.targets import PUBLISHED
from emonet.tracking import default_uri, start_run
from tests.tiny import write_encoder, write_wav2vec2

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice)


def test_one_recording_gives_scores_strongest_first(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    scores = pipeline(make_wav())
    assert set(scores) == {"anger", "fear", "sadness"} == set(pipeline.targets)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert np.isfinite(list(scores.values())).all()


def test_path_text_and_bytes_are_the_same_recording(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    assert pipeline(path) == pipeline(str(path)) == pipeline(path.read_bytes())


def test_scores_do_not_depend_on_the_batch(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    paths = [make_wav(f"{n}.wav", seconds=0.2 + 0.1 * n, hertz=100 + 40 * n) for n in range(7)]
    together = [p.scores for p in pipeline.predict(paths, batch_size=3)]
    for path, scores in zip(paths, together, strict=True):
        alone = pipeline(path)
        assert all(scores[name] == pytest.approx(alone[name], abs=2e-2) for name in alone)  # bf16 rounds differently
    assert pipeline.frame(paths).shape == (7, 3)


def test_an_ensemble_answers_with_its_mean_and_says_how_far_members_are_apart(
    pipeline: EmotionPipeline, ensemble_voice: Path, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ensemble = make_wav(), EmotionPipeline.from_folder(ensemble_voice)
    assert (pipeline.coverage, ensemble.coverage) == (None, 0.9)
    (single,), (several,) = (list(one.predict([path])) for one in (pipeline, ensemble))
    assert single.uncertainties == {}
    ((bank, info),) = ensemble.banks
    heard: list[torch.Tensor] = []
    scores = LoadedBank.scores

    def watched(self: LoadedBank, *states: torch.Tensor) -> torch.Tensor:
        heard.append(scores(self, *states))
        return heard[-1]

    monkeypatch.setattr(LoadedBank, "scores", watched)
    assert list(ensemble.predict([path])) == [several]
    (members,) = heard[0]
    for position, target in enumerate(ensemble.targets):
        assert members[position, 0] == pytest.approx(single.scores[target]), "the first is the expert alone"
        assert several.scores[target] == pytest.approx(float(members[position].mean()))
    spread = members.std(1)
    anger, fear = (float(spread[ensemble.targets.index(target)]) for target in ("anger", "fear"))
    assert several.uncertainties == pytest.approx({"anger": 2 * anger, "fear": 1.5 * fear})
    assert bank.targets == info.experts
    answer = VoiceModel(ensemble).predict(str(path))
    assert list(answer.columns) == [*pipeline.targets, "notices", "error"], "a server's answers stay"


def test_a_model_that_knows_its_training_clips_says_how_far_a_recording_lies_from_them(
    pipeline: EmotionPipeline, knowing_voice: Path, make_wav: Callable[..., Path]
) -> None:
    paths, knowing = [make_wav(), make_wav("b.wav", hertz=400)], EmotionPipeline.from_folder(knowing_voice)
    by_parts = EmotionPipeline.from_experts(knowing_voice / "experts", str(knowing_voice / "encoder"))
    assert (pipeline.population, pipeline.familiarity) == (None, ())
    assert knowing.population is not None
    assert by_parts.population == knowing.population
    for plain, told, parts in zip(*(one.predict(paths) for one in (pipeline, knowing, by_parts)), strict=True):
        assert (plain.standardised, plain.unfamiliarity, told.scores) == ({}, None, plain.scores)
        assert told.standardised == {
            "anger": pytest.approx((told.scores["anger"] - 0.5) / 0.25),
            "fear": pytest.approx((told.scores["fear"] + 40) / 2),
        }
        assert told.unfamiliarity is not None
        assert told.unfamiliarity > 1
        assert parts.unfamiliarity == pytest.approx(told.unfamiliarity, rel=1e-3)
        note = f"unlike anything the model was trained on: {told.unfamiliarity:.1f} times as far"
        assert told.notices[-1].startswith(note)
        assert not any("unlike" in notice for notice in plain.notices)
    sounds = [np.sin(np.arange(16_000, dtype=np.float32) / 9), np.zeros(4_000, np.float32)]
    together, alone = knowing.score_samples(sounds), [knowing.score_samples([one])[0] for one in sounds]
    assert [one.unfamiliarity for one in together] == pytest.approx([one.unfamiliarity for one in alone], rel=1e-2)
    assert pipeline.score_samples(sounds)[0].unfamiliarity is None


def test_emotions_rank_by_standard_scores_where_these_are_given() -> None:
    spec = PUBLISHED.subset(["anger", "fear", "sadness", "age"])
    scores = {"anger": 1.0, "fear": 2.0, "sadness": 3.0, "age": 30.0}
    assert list(strongest_first(scores, spec)) == ["sadness", "fear", "anger", "age"]
    assert list(strongest_first(scores, spec, {"anger": 5.0, "sadness": -1.0})) == ["anger", "sadness", "fear", "age"]
    assert list(strongest_first(dict.fromkeys(scores, 1.0), spec)) == [*spec.ranked, *spec.apart], "equals stay"


def test_experts_that_hear_other_windows_make_no_model(ensemble_voice: Path) -> None:
    pipeline = EmotionPipeline.from_folder(ensemble_voice)
    ((bank, info),) = pipeline.banks
    other = ExpertsInfo.model_validate({**info.model_dump(), "window_seconds": 6.0})
    with pytest.raises(RequestError, match=r"(?s)trained on states of different windows.*1 s, 6 s"):
        EmotionPipeline(pipeline.encoder, [LoadedBank(bank, info), LoadedBank(bank, other)])


@pytest.mark.gpu
def test_experts_are_on_the_encoders_gpu(voice: Path, make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    fast, plain = (EmotionPipeline.from_folder(voice, device=device) for device in ("cuda:0", "cpu"))
    assert {tensor.device.type for bank, _ in fast.banks for tensor in bank.state_dict().values()} == {"cuda"}
    assert fast(path) == pytest.approx(plain(path), abs=2e-2)  # bf16 rounds otherwise there


def test_experts_that_a_gpu_cannot_hold_stay_with_the_processor(voice: Path, make_wav: Callable[..., Path]) -> None:
    class Large(ExpertBank):
        def to(self, device: Any) -> Any:
            if str(device) != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().to(device)

    bank, info = load_bank(voice / "experts")
    bank.__class__ = Large
    ((placed, _),) = _placed([LoadedBank(bank, info)], torch.device("meta"))
    assert next(placed.parameters()).device.type == "cpu"


def test_there_is_no_such_device(voice: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)no such device.*cuda:99"):
        EmotionPipeline.from_folder(voice, device="cuda:99")


class Crash(type(Path())):  # type: ignore[misc]
    """A recording that kills the process that decodes it, as damaged ones kill libmpg123."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return signal.raise_signal, (signal.SIGSEGV,)


def test_a_recording_that_crashes_the_decoder_costs_itself_only(
    pipeline: EmotionPipeline, make_wav: Callable[..., Path]
) -> None:
    path = make_wav()
    first, crashed, last = pipeline.predict([path, Crash(path), path])
    assert crashed.error is not None
    assert "the decoder crashed (signal 11, SIGSEGV)" in crashed.error
    assert first.scores == last.scores != {}
    with pytest.raises(AudioError, match="SIGSEGV"):
        pipeline(Crash(path))
    served = VoiceModel(pipeline).predict(pd.DataFrame({"audio": [Crash(path), path]}))
    assert served["error"].isna().tolist() == [False, True]


def test_decoded_recordings_do_not_pile_up(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    kept: weakref.WeakSet[Decoded] = weakref.WeakSet()
    score = pipeline.predictions

    def counting(names: Any, heard: Any) -> Any:
        kept.update(one for one in heard if isinstance(one, Decoded))
        yield from score(names, heard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "predictions", counting)
        alive = [len(kept) for _ in pipeline.predict([path] * 60, batch_size=2)]
    assert max(alive) <= 6


def test_how_much_was_heard_and_what_is_odd_is_told(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=5.0)
    samples, rate = sf.read(path)
    sf.write(path, np.stack([samples, -samples], 1), rate)
    (found,) = pipeline.predict([path])
    assert (found.seconds, found.total) == (1.0, 5.0)
    assert "only the first 1.0 of 5.0 s are heard" in found.notices
    assert any("channels cancel each other" in notice for notice in found.notices)


def test_what_cannot_be_used_is_reported_and_the_rest_is_done(
    pipeline: EmotionPipeline, make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    empty, text = tmp_path / "empty.wav", tmp_path / "text.wav"
    empty.write_bytes(b"")
    text.write_text("not audio")
    calls: list[tuple[int, int]] = []
    files = [empty, make_wav(), text, tmp_path / "missing.wav"]
    found = list(pipeline.predict(files, batch_size=2, progress=lambda done, total: calls.append((done, total))))
    assert [p.error is None for p in found] == [False, True, False, False]
    assert all(p.error and not p.scores for p in (found[0], found[2], found[3]))
    assert found[1].seconds == 1.0
    assert calls == [(0, 4), (2, 4), (4, 4)]
    with pytest.raises(AudioError, match=r"empty\.wav"):
        pipeline(empty)
    with pytest.raises(AudioError, match=r"text\.wav"):
        pipeline.frame([text])


def test_nothing_asked_nothing_given(pipeline: EmotionPipeline) -> None:
    assert list(pipeline.predict([])) == []
    assert pipeline.frame([]).shape == (0, 3)


def test_experts_of_another_encoder_are_refused(voice_parts: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, experts = voice_parts
    changed = tmp_path / "experts"
    shutil.copytree(experts, changed)
    info = json.loads((changed / "experts.json").read_text())
    (changed / "experts.json").write_text(json.dumps(info | {"encoder_digest": "f" * 64}))
    with pytest.raises(RequestError, match=r"(?s)states of another encoder.*expected: encoder weights ffff"):
        assemble(encoder, changed, tmp_path / "voice")
    assert not (tmp_path / "voice").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["experts"]


@pytest.mark.parametrize("content", [None, "captioner"])
def test_a_folder_without_a_model(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "folder"
    if content:
        (folder / content).mkdir(parents=True)
    with pytest.raises(RequestError, match=r"(?s)holds no voice model.*emonet heads trains one"):
        EmotionPipeline.from_folder(folder)


def test_registered_it_scores_as_a_pyfunc_and_by_the_registry(
    voice: Path,
    runs: Path,
    make_wav: Callable[..., Path],
    pipeline: EmotionPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    uri = default_uri(runs)
    with start_run(uri, experiment="toy", name="heads", artifacts=runs / "mlartifacts", config={}, tags={}) as run:
        registered = register_voice(run, voice, pipeline.targets, {"test_mae": 0.5})
    assert (registered.name, registered.version) == ("emonet-voice", 1)
    path = make_wav()
    loaded = EmotionPipeline.from_registry("models:/emonet-voice@champion", tracking_uri=uri)
    assert loaded(path) == pipeline(path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # as a program that serves the model has it
    frame = mlflow.pyfunc.load_model("models:/emonet-voice/1").predict(pd.DataFrame({"audio": [str(path)]}))
    assert frame.iloc[0].drop(["notices", "error"]).to_dict() == pytest.approx(pipeline(path))
    assert _load_pyfunc(str(voice)).predict(pd.DataFrame({"audio": [str(path)]})).equals(frame)


@pytest.fixture
def two_banks(voice_parts: tuple[Path, Path], tmp_path: Path) -> Path:
    """Experts on statistics, and an attribute, an emotion and a target of one's own on flattened states."""
    folder = tmp_path / "two"
    shutil.copytree(voice_parts[1], folder / "statistics")
    _, info = load_bank(voice_parts[1])
    own = {"id": "stress", "name": "Stress", "low": 0, "high": 9, "meaning": "how stressed"}
    targets = [*PUBLISHED.subset(["awe", "valence"]).to_json(), own]
    changed = {"form": "flatten", "pool_over": "all", "targets": targets, "store_fingerprint": None}
    info = ExpertsInfo.model_validate({**info.model_dump(), **changed})
    save_bank(ExpertBank(info.spec, info.target_spec.ids, HIDDEN["small"]), info, folder / "flatten")
    return folder


def test_several_banks_hear_the_same_states(
    two_banks: Path,
    voice_parts: tuple[Path, Path],
    pipeline: EmotionPipeline,
    make_wav: Callable[..., Path],
    tmp_path: Path,
) -> None:
    together = EmotionPipeline.from_folder(assemble(voice_parts[0], two_banks, tmp_path / "voice"))
    path = make_wav()
    scores, alone = together(path), pipeline(path)
    assert set(scores) == {"awe", "valence", "stress", *alone} == set(together.targets)
    assert {name: scores[name] for name in alone} == alone
    assert set(list(scores)[-2:]) == {"valence", "stress"}  # on scales of their own
    ranked = list(scores.values())[:-2]
    assert ranked == sorted(ranked, reverse=True)
    assert together.frame([path]).iloc[0].to_dict() == scores
    assert together.target_spec["stress"].high == 9
    straight = EmotionPipeline.from_experts(two_banks, str(voice_parts[0]))
    assert straight(path) == scores
    rounded = EmotionPipeline.from_folder(tmp_path / "voice", experts_precision="int8")(path)
    assert rounded == pytest.approx(scores, abs=0.02)
    assert {name: rounded[name] for name in alone} == alone
    assert rounded["awe"] != scores["awe"]


def test_experts_are_found_within_a_voice(voice: Path, two_banks: Path, voice_parts: tuple[Path, Path]) -> None:
    assert experts_of(voice) == voice / "experts"
    assert experts_of(two_banks) == two_banks
    assert experts_of(voice_parts[1]) == voice_parts[1]
    with pytest.raises(RequestError, match="holds no voice model"):
        experts_of(voice_parts[0])


def test_two_experts_for_a_target_make_no_voice(
    two_banks: Path, voice_parts: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(two_banks / "statistics", two_banks / "again")
    with pytest.raises(RequestError, match=r"(?s)some targets have several experts.*anger.*fear.*sadness"):
        assemble(voice_parts[0], two_banks, tmp_path / "voice")
    assert not (tmp_path / "voice").exists()


def test_a_damaged_expert_makes_no_voice(two_banks: Path, voice_parts: tuple[Path, Path], tmp_path: Path) -> None:
    (two_banks / "flatten" / "awe.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(RequestError, match=r"(?s)an expert cannot be read.*awe\.safetensors"):
        assemble(voice_parts[0], two_banks, tmp_path / "voice")


def test_unusable_published_experts_are_told_before_the_encoder_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "model_Anger_best.pth").touch()
    with pytest.raises(RequestError, match=r"(?s)some published experts.*model_Anger_best\.pth: it cannot be read"):
        EmotionPipeline.from_experts(tmp_path, "nowhere")


def test_the_public_names_are_there() -> None:
    import emonet

    assert callable(open_corpus)
    assert all(getattr(emonet, name) is not None for name in emonet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        emonet.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def inner_parts(voice_parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a random encoder of two layers and 2 s, and of experts on its first layer and 1 s."""
    folder = tmp_path_factory.mktemp("inner")
    source = write_encoder(folder / "encoder", encoder_layers=2, max_source_positions=100)
    heard = open_encoder(str(source), layers=(1,), window_seconds=1.0, device="cpu")
    changed = {"encoder_layers": heard.layers, "encoder_digest": heard.digest}
    info = ExpertsInfo.model_validate({**read_info(voice_parts[1]).model_dump(), **changed})
    save_bank(ExpertBank(info.spec, info.experts, info.hidden, seed=0), info, folder / "experts")
    return source, folder / "experts"


def test_a_voice_of_inner_layers_scores_as_its_parts(
    inner_parts: tuple[Path, Path], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    encoder, experts = inner_parts
    voice = assemble(encoder, experts, tmp_path / "voice")
    whole, parts = EmotionPipeline.from_folder(voice), EmotionPipeline.from_experts(experts, str(encoder))
    narrowed = EmotionPipeline.from_experts(voice / "experts", str(voice / "encoder"))
    assert [
        (one.encoder.layers, one.encoder.depth, one.encoder.window.seconds) for one in (whole, parts, narrowed)
    ] == [((1,), 2, 1.0)] * 3
    path = make_wav(seconds=1.5)
    assert whole(path) == parts(path) == narrowed(path)


@pytest.mark.parametrize(
    ("shape", "heard", "found"),
    [
        ({"max_source_positions": 40}, (1,), r"a window of up to 0\.8 s"),
        ({}, (1, 2), r"layers 1 to 1"),
        ({}, (1,), r"encoder weights"),
    ],
)
def test_another_encoders_window_or_layers_are_told_as_such(
    inner_parts: tuple[Path, Path], tmp_path: Path, shape: dict[str, int], heard: tuple[int, ...], found: str
) -> None:
    source, experts = write_encoder(tmp_path / "encoder", **shape), tmp_path / "experts"
    shutil.copytree(inner_parts[1], experts)
    info = json.loads((experts / "experts.json").read_text())
    (experts / "experts.json").write_text(json.dumps(info | {"encoder_layers": heard}))
    expected = (
        "encoder weights" if found == "encoder weights" else f"layers {' '.join(map(str, heard))} and a window of 1 s"
    )
    message = (
        rf"(?s)^these experts were trained on the states of another encoder\n.*expected: {expected}.*found: +{found}"
        r".*try: +give the captioner that the store was extracted with$"
    )
    with pytest.raises(RequestError, match=message) as caught:
        EmotionPipeline.from_experts(experts, str(source))
    assert "--extraction" not in str(caught.value)
    with pytest.raises(RequestError, match=message):
        assemble(source, experts, tmp_path / "voice")


def test_a_voice_of_a_wav2vec2(voice_parts: tuple[Path, Path], make_wav: Callable[..., Path], tmp_path: Path) -> None:
    source = write_wav2vec2(tmp_path / "wav2vec2")
    heard = open_encoder(str(source), layers=(2,), window_seconds=1.0, device="cpu")
    changed = {"encoder_layers": heard.layers, "encoder_digest": heard.digest, "frames": heard.frames, "width": 16}
    info = ExpertsInfo.model_validate({**read_info(voice_parts[1]).model_dump(), **changed})
    save_bank(ExpertBank(info.spec, info.experts, info.hidden, seed=0), info, tmp_path / "experts")
    voice = EmotionPipeline.from_folder(assemble(source, tmp_path / "experts", tmp_path / "voice"))
    assert (voice.encoder.layers, voice.encoder.depth, voice.encoder.frames) == ((2,), 3, 49)
    parts = EmotionPipeline.from_experts(tmp_path / "experts", str(source))
    path, short = make_wav("long.wav", seconds=1.5), make_wav("short.wav", seconds=0.4)
    assert (voice(path), voice(short)) == (parts(path), parts(short))
    with pytest.raises(RequestError, match="states of another encoder"):
        EmotionPipeline.from_experts(tmp_path / "experts", str(write_wav2vec2(tmp_path / "other", seed=1)))
