from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emonet import EmotionPipeline
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.inference import OnnxFile, OnnxManifest, OnnxPipeline

pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.numeric
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pipeline(knowing_voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(knowing_voice, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def folder(pipeline: EmotionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from emonet.exporting import export_onnx

    return export_onnx(pipeline, tmp_path_factory.mktemp("onnx") / "exported", name="tiny").folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copied")


def test_threads_of_one_file_sleep_while_the_other_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    session = onnxruntime.InferenceSession

    def kept(*given: Any, **more: Any) -> Any:
        opened.append(session(*given, **more))
        return opened[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", kept)
    EmotionPipeline.from_onnx(folder)
    key = "session.force_spinning_stop"
    assert [one.get_session_options().get_session_config_entry(key) for one in opened] == ["1", "1"]


def test_recordings_are_scored_as_on_torch(
    pipeline: EmotionPipeline, folder: Path, make_wav: Callable[..., Path], tmp_path: Path
) -> None:
    exported = EmotionPipeline.from_onnx(folder, threads=1)
    assert isinstance(exported, OnnxPipeline)
    paths: list[Any] = [make_wav(), make_wav("b.wav", seconds=2.5, hertz=400).read_bytes(), tmp_path / "missing.wav"]
    for mine, theirs in zip(exported.predict(paths), pipeline.predict(paths), strict=True):
        assert (mine.error, mine.seconds, mine.total) == (theirs.error, theirs.seconds, theirs.total)
        assert dict(mine.scores) == pytest.approx(dict(theirs.scores), abs=1e-3)
        assert list(mine.scores) == list(theirs.scores)
        assert mine.standardised == pytest.approx(theirs.standardised, abs=1e-2)
        assert [one.split(":")[0] for one in mine.notices] == [one.split(":")[0] for one in theirs.notices]
    assert exported(paths[0]) == pytest.approx(pipeline(paths[0]), abs=1e-3)
    with pytest.raises(AudioError):
        exported(paths[2])
    mine, theirs = (one.process_files([paths[0]], ends=0.5) for one in (exported, pipeline))
    np.testing.assert_allclose(mine, theirs, atol=1e-3)
    assert mine.index.equals(theirs.index)
    np.testing.assert_allclose(exported.process_index(theirs.index), theirs, atol=1e-3)
    assert exported.score_samples([]) == []


def test_live_sound_is_scored_too(folder: Path) -> None:
    with EmotionPipeline.from_onnx(folder).open_stream(16_000, hop=0.5, lossless=True) as stream:
        heard = [*stream.feed(np.sin(np.arange(24_000, dtype=np.float32) / 9)), *stream.close()]
    assert {"anger", "fear", "sadness"} == set(heard[-1].scores)


def test_the_import_alone_brings_no_torch() -> None:
    code = "import sys; from emonet import EmotionPipeline; EmotionPipeline.from_onnx; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_without_torch(folder: Path, make_wav: Callable[..., Path]) -> None:
    """Nor with anything else that takes seconds to import."""
    code = (
        "import sys, json, numpy as np; from emonet import EmotionPipeline\n"
        "exported = EmotionPipeline.from_onnx(sys.argv[1])\n"
        "assert exported(sys.argv[2]) and len(exported.process_file(sys.argv[2], end=0.5)) == 1\n"
        "heavy = ['torch', 'transformers', 'safetensors', 'mlflow', 'sklearn', 'onnx', 'lightning']\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(make_wav())],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert json.loads(done.stdout) == []


def test_the_documented_lines_score_without_emonet(
    pipeline: EmotionPipeline, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "onnx.md").read_text("utf-8")
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import json" in block)
    copied.rename(copied.with_name("exported"))
    monkeypatch.chdir(copied.parent)
    samples = np.random.default_rng(0).normal(0, 0.1, 7_000).astype(np.float32)
    *before, last = lines.strip().splitlines()
    names: dict[str, Any] = {"samples": samples}
    exec("\n".join(before), names)
    assert eval(last, names) == pytest.approx(pipeline.score_samples([samples])[0].scores, abs=1e-3)


def test_what_is_no_export_is_told(voice: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"exported to ONNX(.|\n)*EmotionPipeline.from_onnx opens it"):
        EmotionPipeline.from_folder(folder)
    with pytest.raises(RequestError, match=r"at least one thread(.|\n)*found: +0"):
        EmotionPipeline.from_onnx(folder, threads=0)
    with pytest.raises(RequestError, match=r"no exported model here(.|\n)*no such folder(.|\n)*emonet export onnx"):
        EmotionPipeline.from_onnx(tmp_path / "absent")
    with pytest.raises(RequestError, match=r"no exported model here(.|\n)*encoder, experts"):
        EmotionPipeline.from_onnx(voice)
    with pytest.raises(RequestError, match="no exported model here"):
        EmotionPipeline.from_onnx(voice / "experts" / "experts.json")


@pytest.mark.parametrize("name", ["encoder.onnx", "experts.onnx"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[: len(content) // 2], r"has [\d,]+ bytes, not [\d,]+"),
        (lambda content: b"", r"has 0 bytes, not [\d,]+"),
        (lambda content: content[:-100] + b"\1" + content[-99:], "has other content than when it was written"),
        (None, "is not there"),
    ],
)
def test_damaged_files_are_told(name: str, damage: Callable[[bytes], bytes] | None, told: str, copied: Path) -> None:
    path = copied / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RequestError, match=rf"the exported model is damaged\n    - {name} {told}"):
        EmotionPipeline.from_onnx(copied)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"format_version": 2, "emonet_version": "9.0"},
            r"of another version(.|\n)*format_version 2, written by emonet 9.0",
        ),
        ({"format_version": None}, "does not say its version"),
        ({"sample_rate": 8000}, r"cannot be read(.|\n)*sample_rate"),
        ({"targets": 3}, r"cannot be read(.|\n)*targets"),
        ({"name": "another"}, r"a file is of another model(.|\n)*keep the files of one export together"),
    ],
)
def test_descriptions_of_others_are_told(change: dict[str, Any], told: str, copied: Path) -> None:
    manifest = json.loads((copied / "onnx.json").read_text())
    manifest["description"] |= change
    (copied / "onnx.json").write_text(json.dumps(manifest))
    with pytest.raises(RequestError, match=told):
        EmotionPipeline.from_onnx(copied)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"description": 3}', '{"files": {}}'])
def test_a_description_that_is_none_is_told(content: str, copied: Path) -> None:
    (copied / "onnx.json").write_text(content)
    with pytest.raises(RequestError, match=r"cannot be read|does not say its version"):
        EmotionPipeline.from_onnx(copied)


def test_files_that_are_no_models_or_carry_no_description_are_told(copied: Path) -> None:
    import onnx

    def changed(content: bytes) -> None:
        (copied / "experts.onnx").write_bytes(content)
        manifest = OnnxManifest.model_validate_json((copied / "onnx.json").read_text())
        files = {**manifest.files, "experts.onnx": OnnxFile.of(copied / "experts.onnx")}
        OnnxManifest(description=manifest.description, files=files).write(copied)

    model = onnx.load(copied / "experts.onnx")
    del model.metadata_props[:]
    changed(model.SerializeToString())
    with pytest.raises(RequestError, match=r"carries no description(.|\n)*experts.onnx"):
        EmotionPipeline.from_onnx(copied)
    changed(b"no model at all")
    with pytest.raises(RequestError, match=r"ONNX Runtime cannot load(.|\n)*experts.onnx"):
        EmotionPipeline.from_onnx(copied)
    model.opset_import[0].version = 999
    changed(model.SerializeToString())
    with pytest.raises(RequestError, match=r"ONNX Runtime cannot load(.|\n)*a newer onnxruntime"):
        EmotionPipeline.from_onnx(copied)


def test_scores_that_are_not_finite_are_no_scores(folder: Path) -> None:
    exported = EmotionPipeline.from_onnx(folder)
    with pytest.raises(EmonetError, match="not finite"):
        exported.score_samples([np.full(16_000, np.nan, np.float32)])
