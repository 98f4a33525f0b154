from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

import emonet
from emonet import EmotionPipeline
from emonet.checkpoints import ExpertsInfo
from emonet.checkpoints.files import load_bank, save_bank
from emonet.configs import HIDDEN
from emonet.errors import RequestError
from emonet.experts import ExpertBank
from emonet.inference import assemble
from emonet.registry import register_voice, resolve
from emonet.serving import VoiceModel, _load_pyfunc
from emonet.serving.sources import SourceRules
from emonet.tracking import default_uri, start_run
from tests.media_files import media_file

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def model(voice: Path) -> VoiceModel:
    return _load_pyfunc(str(voice))


def as_text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_path_base64_and_bytes_get_the_same_scores(model: VoiceModel, make_wav: Callable[..., Path]) -> None:
    path = make_wav()
    forms = [str(path), path, as_text(path), f"data:audio/wav;base64,{as_text(path)}", path.read_bytes()]
    frame = model.predict(pd.DataFrame({"audio": pd.Series(forms, dtype=object)}))
    assert list(frame.columns) == [*model.pipeline.targets, "notices", "error"]
    assert frame["error"].tolist() == [None] * 5
    assert frame.dtypes.drop(["notices", "error"]).eq(np.float64).all()
    expected = pd.Series(model.pipeline(path))[list(model.pipeline.targets)]
    for _, row in frame.drop(columns=["notices", "error"]).iterrows():
        assert row.to_dict() == pytest.approx(expected.to_dict(), abs=2e-2)  # bf16 rounds otherwise in a batch


def test_one_wrong_row_costs_no_other(model: VoiceModel, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    good = str(make_wav())
    rows = [
        good,
        str(tmp_path / "empty.wav"),
        None,
        "x" * 5000 + "!",
        "https://a.org/x.wav",
        as_text(make_wav("b.wav")),
    ]
    frame = model.predict(pd.DataFrame({"audio": rows, "id": range(6)}, index=list("abcdef")))
    assert list(frame.index) == list("abcdef")
    reasons = frame["error"].tolist()
    assert reasons[0] is reasons[5] is None
    assert reasons[1:3] == ["0 bytes", "no audio: nothing"]
    assert reasons[3].startswith("not base64")
    assert reasons[4] == "URLs of a.org are not allowed"
    scores = frame.drop(columns=["notices", "error"])
    assert scores.loc[["b", "c", "d", "e"]].map(lambda value: value is None).all(axis=None)
    assert np.isfinite(scores.loc[["a", "f"]].astype(float)).all(axis=None)
    json.dumps(frame.to_dict(orient="records"), allow_nan=False)  # what MLflow's server sends is JSON


@pytest.mark.parametrize(
    "asked",
    [
        lambda p: p,
        lambda p: [p],
        lambda p: np.array([p]),
        lambda p: pd.Series([p]),
        lambda p: {"audio": [p]},
        lambda p: {"audio": p},
        lambda p: pd.DataFrame({"audio": [[p]]}),
        lambda p: Path(p).read_bytes(),
    ],
)
def test_one_recording_in_any_wrapping(
    model: VoiceModel, make_wav: Callable[..., Path], asked: Callable[[str], object]
) -> None:
    frame = model.predict(asked(str(make_wav())))
    assert frame.shape == (1, 5)
    assert frame["error"].tolist() == [None]


def test_each_row_has_one_answer(model: VoiceModel, make_wav: Callable[..., Path]) -> None:
    path = str(make_wav())
    several = pd.Series([[path, path], path, [path], [], pd.NA, pd.NaT], dtype=object)
    errors = model.predict(pd.DataFrame({"audio": several}))["error"].tolist()
    assert errors == ["no audio: list", None, None, "no audio: list", "no audio: nothing", "no audio: nothing"]
    assert model.predict({"audio": [path, None]})["error"].tolist() == [None, "no audio: nothing"]
    assert len(model.predict(pd.DataFrame({"audio": [[path, path]]}))) == 2


def test_nothing_asked(model: VoiceModel) -> None:
    assert model.predict(pd.DataFrame({"audio": []})).shape == (0, 5)
    with pytest.raises(RequestError, match=r"(?s)no column 'audio'.*dataframe_records.*found: +path, id"):
        model.predict(pd.DataFrame({"path": ["a"], "id": [1]}))


def test_more_rows_than_are_opened_at_a_time(
    model: VoiceModel, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emonet.serving.pyfunc.AHEAD", 2)
    rows = ["no.wav", str(make_wav()), "no.wav", "no.wav", str(make_wav())]
    frame = model.predict(rows)
    assert frame["error"].tolist() == ["no such file", None, "no such file", "no such file", None]
    assert frame["anger"].isna().tolist() == [True, False, True, True, False]


def test_rules_are_heeded(voice: Path, make_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_wav()
    model = VoiceModel(EmotionPipeline.from_folder(voice), SourceRules("off"))
    assert model.predict([str(path)])["error"].tolist() == ["paths are not allowed here"]
    assert model.predict([as_text(path)])["error"].tolist() == [None]
    monkeypatch.setenv("EMONET_ALLOW_PATHS", str(path.parent))
    monkeypatch.setenv("EMONET_EXPERTS_PRECISION", "bf16")
    inside = _load_pyfunc(str(voice), {"allow_paths": "off"})
    assert inside.predict(["a.wav", "/a.wav"])["error"].tolist() == [
        None,
        "outside of the folder that paths are allowed in",
    ]
    monkeypatch.setenv("EMONET_EXPERTS_PRECISION", "int4")
    with pytest.raises(RequestError, match=r"EMONET_EXPERTS_PRECISION"):
        _load_pyfunc(str(voice))


def test_a_server_may_round_experts(
    voice_parts: tuple[Path, Path], make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    _, info = load_bank(voice_parts[1])
    info = ExpertsInfo.model_validate({**info.model_dump(), "form": "flatten", "pool_over": "all"})
    save_bank(ExpertBank(info.spec, info.target_spec.ids, HIDDEN["small"]), info, tmp_path / "experts")
    voice = str(assemble(voice_parts[0], tmp_path / "experts", tmp_path / "voice"))
    frame = pd.DataFrame({"audio": [str(make_wav())]})
    exact = _load_pyfunc(voice).predict(frame).drop(columns=["notices", "error"])
    rounded = _load_pyfunc(voice, {"experts_precision": "bf16"}).predict(frame).drop(columns=["notices", "error"])
    assert not rounded.equals(exact)
    np.testing.assert_allclose(rounded, exact, atol=0.02)
    with pytest.raises(RequestError, match=r"(?s)no such precision of experts.*float32, bf16, int8.*'int4'"):
        _load_pyfunc(voice, {"experts_precision": "int4"})


def test_mlflow_passes_bytes_and_settings_on(voice: Path, runs: Path, make_wav: Callable[..., Path]) -> None:
    import mlflow

    uri = default_uri(runs)
    with start_run(uri, experiment="toy", name="x", artifacts=runs / "mlartifacts", config={}, tags={}) as run:
        register_voice(run, voice, ("anger", "fear", "sadness"), {})
    folder = resolve("models:/emonet-voice/1", uri)
    path = make_wav()
    loaded = mlflow.pyfunc.load_model(folder, model_config={"allow_paths": "off"})
    frame = loaded.predict(pd.DataFrame({"audio": pd.Series([path.read_bytes(), str(path)], dtype=object)}))
    assert frame["error"].tolist() == [None, "paths are not allowed here"]
    requirements = Path(folder, "requirements.txt").read_text()
    assert {"torch", "soundfile", "mlflow"} <= {line.partition("==")[0] for line in requirements.splitlines()}
    assert "torchaudio" not in requirements
    shutil.rmtree(folder)
    with pytest.raises(RequestError, match=r"(?s)its files are not found.*emonet registry list"):
        resolve("models:/emonet-voice@champion", uri)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_version_with_other_code_than_what_runs_is_told(voice: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(voice, model / "data" / "voice")
    code = model / "code" / "emonet"
    shutil.copytree(Path(emonet.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    _load_pyfunc(str(model / "data" / "voice"))  # a warning would be an error
    (code / "schema.py").write_text("# of another release")
    with pytest.warns(UserWarning, match=rf"registered with other code \({code}\).*has imported emonet from"):
        _load_pyfunc(str(model / "data" / "voice"))


def test_a_requests_container_is_heard_and_opens_nothing_else(model: VoiceModel, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=0.8)
    sound, rate = sf.read(path, dtype="float32")
    m4a = media_file(sound, rate, "ipod", "alac")
    lists = [
        b"#EXTM3U\n#EXTINF:1,\n%s\n",
        b"ffconcat version 1.0\nfile '%s'\n",
        b"v=0\nc=IN IP4 %s\nm=audio 9 RTP/AVP 0\n",
    ]
    texts = [base64.b64encode(m4a).decode(), *(base64.b64encode(text % bytes(path)).decode() for text in lists)]
    frame = model.predict(pd.DataFrame({"audio": [f"data:audio/mp4;base64,{text}" for text in texts]}))
    assert frame["error"].notna().tolist() == [False, True, True, True]
    scores = frame.drop(columns=["notices", "error"]).iloc[0].to_dict()
    assert scores == pytest.approx(model.pipeline(path), abs=2e-2)
