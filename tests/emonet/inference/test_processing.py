from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from emonet import EmotionPipeline
from emonet.audio import Block, decode, stream_blocks
from emonet.encoders import ReadyEncoder
from emonet.errors import AudioError, RequestError
from emonet.inference import SampleScores, parts
from emonet.inference.processing import FileProcessing

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice)  # its window is 1 s


def _close(table: pd.DataFrame, wanted: object) -> None:
    np.testing.assert_allclose(table.to_numpy(), np.atleast_2d(np.asarray(wanted, float)), atol=2e-2)


def test_a_file_and_a_part_of_it(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    path = make_wav(seconds=0.8)
    whole = pipeline.process_file(path)
    assert whole.index.tolist() == [(str(path), pd.Timedelta(0), pd.Timedelta(seconds=0.8))]
    assert tuple(whole.columns) == pipeline.targets
    assert whole.iloc[0].to_dict() == pipeline(path)
    part = pipeline.process_file(path.name, start="0.2 s", end=dt.timedelta(milliseconds=700), root=path.parent)
    assert part.index.tolist() == [(path.name, pd.Timedelta("200ms"), pd.Timedelta("700ms"))]
    (scored,) = pipeline.score_samples([decode(path, start=0.2, end=0.7).samples])
    assert part.iloc[0].to_dict() == dict(scored.scores)
    assert not np.allclose(part, whole)


class Levels(FileProcessing):
    """Scores how loud a sound is, so that each window has a score of its own; random experts hardly differ."""

    targets = ("level",)

    def __init__(self, encoder: ReadyEncoder) -> None:
        self.encoder = encoder

    def score_samples(self, sounds: Sequence[np.ndarray]) -> list[SampleScores]:
        return [SampleScores({"level": float(np.abs(sound).mean())}) for sound in sounds]


def test_what_is_longer_than_the_window_is_the_mean_of_windows(pipeline: EmotionPipeline, tmp_path: Path) -> None:
    levels, path = Levels(pipeline.encoder), tmp_path / "a.wav"
    sound = np.repeat([0.1, 0.2, 0.6], 12_800) * np.random.default_rng(0).choice([-1.0, 1.0], 38_400)
    sf.write(path, sound, 16_000, subtype="FLOAT")  # 2.4 s: windows of 0.8 s
    told: list[tuple[int, int]] = []
    zero = pd.to_timedelta(["0s"])
    table = levels.process_files([path], starts=zero, progress=lambda done, total, note="": told.append((done, total)))
    assert table["level"].tolist() == pytest.approx([0.3], abs=1e-6)
    assert told == [(0, 3), (3, 3)]
    later = levels.process_file(path, start=0.8)
    assert later["level"].tolist() == pytest.approx([0.4], abs=1e-6)
    assert later.index[0][1:] == (pd.Timedelta("800ms"), pd.Timedelta("2.4s"))
    assert levels.process_file(path, start=1.2, end=2.2)["level"].tolist() == pytest.approx([0.44], abs=1e-6), "one"
    beyond = levels.process_file(path, start=1.6, end=90)
    assert beyond["level"].tolist() == pytest.approx([0.6], abs=1e-6), "it is cut"


def test_windows_of_digital_silence_do_not_count(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    levels, path = Levels(pipeline.encoder), make_wav(seconds=1.0)
    sound, rate = sf.read(path)
    sf.write(path, np.concatenate([sound, np.zeros(2 * rate)]), rate)
    assert levels.process_file(path).iloc[0, 0] == pytest.approx(levels.process_file(path, end=1).iloc[0, 0], abs=1e-4)
    with pytest.raises(AudioError, match=r"(?s)digital silence.*a\.wav"):
        levels.process_file(path, start=1)


def test_files_that_cannot_be_used(pipeline: EmotionPipeline, make_wav: Callable[..., Path], tmp_path: Path) -> None:
    good, broken = make_wav(), tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    files, starts = [good, broken, tmp_path / "no.wav", good], [None, 1, None, 5]
    with pytest.raises(AudioError, match=r"(?s)where: .*broken\.wav"):
        pipeline.process_files(files, starts=starts)
    table = pipeline.process_files(files, starts=starts, errors="nan")
    assert table.isna().all(axis=1).tolist() == [False, True, True, True]
    assert table.iloc[0].to_dict() == pipeline(good)
    ends = table.index.get_level_values("end")
    assert ends[:1].tolist() == [pd.Timedelta("1s")]
    assert ends[1:3].isna().all()
    with pytest.raises(AudioError, match="the clip starts after the end of the audio"):
        pipeline.process_file(good, start=5)
    with pytest.raises(AudioError, match="start and end of the clip are not in order"):
        pipeline.process_file(good, start=0.8, end=0.2)


def test_times_that_are_none(pipeline: EmotionPipeline) -> None:
    with pytest.raises(RequestError, match=r"(?s)one of the starts is no time in a recording.*found: +'soon'"):
        pipeline.process_file("a.wav", start="soon")
    with pytest.raises(RequestError, match=r"(?s)one of the ends is no time in a recording.*found: +-1"):
        pipeline.process_file("a.wav", end=-1)
    with pytest.raises(RequestError, match=r"(?s)one of the ends is no time in a recording.*found: +1e\+300"):
        pipeline.process_file("a.wav", end=1e300)
    with pytest.raises(RequestError, match=r"(?s)starts are not as many as files.*expected: +1.*found: +2"):
        pipeline.process_files(["a.wav"], starts=[0, 1])
    with pytest.raises(RequestError, match=r"(?s)no index of audformat.*found: +path"):
        pipeline.process_index(pd.Index(["a.wav"], name="path"))


def test_an_index_is_scored_in_its_order(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    one, two = make_wav("a.wav", seconds=0.9), make_wav("b.wav", hertz=400)
    starts, ends = pd.to_timedelta(["0.1s", "0s", "0.3s"]), pd.to_timedelta(["0.5s", None, None])
    index = pd.MultiIndex.from_arrays([["b.wav", "a.wav", "b.wav"], starts, ends], names=["file", "start", "end"])
    table = pipeline.process_index(index, root=one.parent)
    assert table.index.get_level_values("file").tolist() == ["b.wav", "a.wav", "b.wav"]
    assert table.index.get_level_values("end").tolist() == [pd.Timedelta(t) for t in ("0.5s", "0.9s", "1s")]
    _close(table.iloc[[2]], pipeline.process_file(two, start=0.3))
    kept = pipeline.process_index(index, root=one.parent, preserve_index=True)
    pd.testing.assert_index_equal(kept.index, index)
    plain = pipeline.process_index(pd.Index([str(one)], name="file"))
    assert plain.iloc[0].to_dict() == pipeline(one)
    empty = pipeline.process_index(index[:0])
    assert (empty.shape, list(empty.index.names)) == ((0, 3), ["file", "start", "end"])


def test_the_index_is_audformats(pipeline: EmotionPipeline, make_wav: Callable[..., Path]) -> None:
    audformat = pytest.importorskip("audformat", reason="audformat is not installed")
    path = str(make_wav())
    table = pipeline.process_index(audformat.segmented_index([path, path], ["0s", "0.5s"], ["0.4s", pd.NaT]))
    audformat.assert_index(table.index)
    wanted = audformat.segmented_index([path, path], ["0s", "0.5s"], ["0.4s", "1s"])
    pd.testing.assert_index_equal(table.index, wanted)
    assert len(pipeline.process_index(audformat.filewise_index([path]))) == 1


def test_a_long_part_streams_by_once(
    pipeline: EmotionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels, path = Levels(pipeline.encoder), tmp_path / "a.mp3"  # of which a part is reached by decoding what is before
    sound = np.repeat([0.0, 0.1, 0.3], 32_000) * np.random.default_rng(0).choice([-1.0, 1.0], 96_000)
    sf.write(path, sound, 16_000)
    held = [levels.process_file(path, start=start) for start in (None, 0.5)]
    asked: list[float] = []

    def counted(audio: Path, *, seconds: float, start: float) -> Iterator[Block]:
        asked.append(start)
        return stream_blocks(audio, seconds=seconds, start=start)

    monkeypatch.setattr(parts, "LONG", 3.0)
    monkeypatch.setattr(parts, "stream_blocks", counted)
    streamed = [levels.process_file(path, start=start) for start in (None, 0.5)]
    assert asked == [0.0, 0.5]
    for one, other in zip(streamed, held, strict=True):
        np.testing.assert_allclose(one.to_numpy(), other.to_numpy(), atol=1e-4)
        pd.testing.assert_index_equal(one.index, other.index)


def test_a_long_part_that_cannot_be_used(
    pipeline: EmotionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LONG", 3.0)
    silent, damaged = tmp_path / "silent.wav", tmp_path / "damaged.wav"
    sf.write(silent, np.zeros(80_000), 16_000)
    sound = np.random.default_rng(0).normal(0, 0.1, 80_000)
    sf.write(damaged, np.where(np.arange(80_000) == 60_000, np.nan, sound), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"(?s)digital silence.*silent\.wav"):
        pipeline.process_file(silent)
    told: list[tuple[int, int]] = []
    table = pipeline.process_files(
        [silent, damaged], errors="nan", progress=lambda done, total, note="": told.append((done, total))
    )
    assert table.isna().all(axis=None)
    assert told[-1] == (10, 10)
