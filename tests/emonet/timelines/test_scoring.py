from __future__ import annotations

import errno
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from emonet import EmotionPipeline
from emonet.audio import Block, stream_blocks
from emonet.checkpoints import Familiarity, Population
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.segments import Segment
from emonet.timelines import (
    Journal,
    ScoredSegment,
    Timeline,
    TimelineOptions,
    identity,
    journal_of,
    scoring,
    timeline_key,
    timeline_of,
)
from emonet.timelines.envelope import PARTS, Envelope
from emonet.windows import SAMPLE_RATE

pytestmark = pytest.mark.numeric
pytest.importorskip("onnxruntime")
pytest.importorskip("silero_vad")
SLIDING = TimelineOptions(mode="sliding", window=0.8, hop=0.4)


@pytest.fixture(scope="module")
def pipeline(voice: Path) -> EmotionPipeline:
    return EmotionPipeline.from_folder(voice)


@pytest.fixture
def wav(make_wav: Callable[..., Path]) -> Path:
    return make_wav(seconds=5.0)


@pytest.fixture
def jfk(corpora: Path) -> Path:
    return corpora / "speech" / "jfk.flac"


def places(timeline: Timeline) -> list[tuple[float, float]]:
    return [(one.segment.start, one.segment.end) for one in timeline.segments]


def test_segments_of_speech_are_scored(pipeline: EmotionPipeline, jfk: Path) -> None:
    told: list[ScoredSegment] = []
    timeline = timeline_of(pipeline, jfk, model="m", tell=told.extend)
    assert timeline.speech is not None
    assert (timeline.seconds, len(timeline.speech)) == (11.0, 4)
    assert len(timeline.segments) >= 8  # the model hears 1 s
    assert max(one.segment.seconds for one in timeline.segments) <= 1 + 1e-9
    assert {frozenset(one.scores) for one in timeline.segments} == {frozenset(pipeline.targets)}
    for spoken in timeline.speech:
        parts = [
            one.segment
            for one in timeline.segments
            if one.segment.start < spoken.end <= 11 and one.segment.end > spoken.start
        ]
        assert parts[0].start <= spoken.start
        assert parts[-1].end >= spoken.end
        assert all(one.end == after.start for one, after in itertools.pairwise(parts))
    assert sorted(told, key=lambda one: one.segment.start) == list(timeline.segments)
    assert timeline.segments[0].scores == pytest.approx(
        pipeline.score_samples([_samples(jfk, timeline.segments[0].segment)])[0].scores, abs=1e-4
    )


def _samples(path: Path, segment: Segment) -> np.ndarray:
    whole = np.concatenate([block.samples for block in stream_blocks(path)])
    return whole[round(segment.start * SAMPLE_RATE) : round(segment.end * SAMPLE_RATE)]


@pytest.mark.slow
def test_results_are_the_same_whatever_the_batch_and_the_blocks(
    pipeline: EmotionPipeline, jfk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = timeline_of(pipeline, jfk)
    for batch_size in (1, 3, 64):
        assert timeline_of(pipeline, jfk, batch_size=batch_size) == wanted
    whole = np.concatenate([block.samples for block in stream_blocks(jfk)])
    for size in (4_001, 50_000):
        blocks = [Block(whole[start : start + size], start / SAMPLE_RATE) for start in range(0, len(whole), size)]
        monkeypatch.setattr(scoring, "stream_blocks", lambda *_, blocks=blocks, **__: iter(blocks))
        assert timeline_of(pipeline, jfk) == wanted


def test_nobody_speaks(pipeline: EmotionPipeline, wav: Path) -> None:
    timeline = timeline_of(pipeline, wav)
    assert (timeline.segments, timeline.speech, timeline.seconds) == ((), (), 5.0)


def test_sliding_windows_without_speech_are_flagged(pipeline: EmotionPipeline, wav: Path, jfk: Path) -> None:
    tone = timeline_of(pipeline, wav, SLIDING)
    assert places(tone)[:2] == [(0.0, 0.8), (0.4, 1.2)]
    assert tone.segments[-1].segment.end == 5.0
    assert {one.flags for one in tone.segments} == {("no speech",)}
    spoken = timeline_of(pipeline, jfk, SLIDING)
    assert spoken.segments[0].flags == ()  # from 0.25 s on
    assert spoken.segments[6].flags == ("no speech",)  # a pause from 2.3 to 3.2 s


def test_z_scores_and_unfamiliar_sounds(pipeline: EmotionPipeline, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Far:
        def unfamiliarity(self, states: torch.Tensor, _: torch.Tensor) -> np.ndarray:
            return np.full(len(states), 1.5)

    names = ("anger", "fear")
    population = Population(medians=dict.fromkeys(names, 1.0), deviations={"anger": 0.5, "fear": 2.0}, clips=9)
    monkeypatch.setattr(pipeline, "population", population)
    monkeypatch.setattr(pipeline, "familiarity", (Far(),))
    one = timeline_of(pipeline, wav, segments=[Segment(1, 2)]).segments[0]
    assert one.standardised == pytest.approx(
        {"anger": (one.scores["anger"] - 1) / 0.5, "fear": (one.scores["fear"] - 1) / 2}, abs=1e-5
    )
    assert (one.unfamiliarity, one.flags) == (1.5, ("no speech", "unfamiliar"))


def test_windows_longer_than_the_model_hears_are_refused(pipeline: EmotionPipeline, wav: Path) -> None:
    with pytest.raises(RequestError, match="longer than what the model hears"):
        timeline_of(pipeline, wav, TimelineOptions(mode="sliding", window=2.0))


def test_given_segments_keep_speakers_and_overlap(pipeline: EmotionPipeline, wav: Path) -> None:
    given = [
        Segment(0.5, 1.2, "b"),
        Segment(0.6, 1.1, "a", text="hi"),
        Segment(2.0, 2.05, "a"),
        Segment(4.5, 5.4, "a"),
        Segment(7.0, 8.0, "a"),
    ]
    timeline = timeline_of(pipeline, wav, segments=given)
    assert [(one.segment.speaker, one.segment.text) for one in timeline.segments] == [("b", ""), ("a", "hi"), ("a", "")]
    assert places(timeline) == [(0.5, 1.2), (0.6, 1.1), (4.5, 5.0)]
    assert [notice.split(":")[0] for notice in timeline.notices][-3:] == [
        "1 of 5 segments left out",
        "1 of 5 segments cut at the recording's end (5.00 s)",
        "1 of 5 segments left out",
    ]


def test_segments_of_another_recording_are_refused(pipeline: EmotionPipeline, wav: Path) -> None:
    with pytest.raises(RequestError, match="no segment lies in the recording"):
        timeline_of(pipeline, wav, segments=[Segment(600, 601)])
    with pytest.raises(RequestError, match="channels that the recording does not have"):
        timeline_of(pipeline, wav, segments=[Segment(1, 2, channel=1)])


def test_a_recording_that_breaks_off_keeps_what_was_heard(
    pipeline: EmotionPipeline, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(audio: Path, channel: int | None) -> Iterator[Block]:
        yield next(stream_blocks(audio, channel=channel, seconds=2.0))
        raise AudioError("the decoder crashed", hint="convert it")

    monkeypatch.setattr(scoring, "stream_blocks", breaking)
    journal = Journal(tmp_path / "j.jsonl", "k")
    timeline = timeline_of(pipeline, wav, SLIDING, journal=journal)
    assert timeline.error == "the decoder crashed; try: convert it"
    assert timeline.seconds == 2.0
    assert places(timeline)[-1][1] == 2.0
    assert "rest" not in Journal(tmp_path / "j.jsonl", "k").entries[-1]  # the next run hears it again
    behind = timeline_of(pipeline, wav, segments=[Segment(3, 4)])  # may well be of this recording
    assert (behind.error, behind.segments, behind.notices) == (timeline.error, (), timeline.notices)


def test_nothing_of_a_recording_can_be_used(pipeline: EmotionPipeline, tmp_path: Path) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF")
    with pytest.raises(AudioError):
        timeline_of(pipeline, path)


class Counting:
    """How many sounds a pipeline is asked for."""

    def __init__(self, pipeline: EmotionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, score = 0, pipeline.score_samples

        def counted(sounds: list[np.ndarray]) -> object:
            self.count += len(sounds)
            return score(sounds)

        monkeypatch.setattr(pipeline, "score_samples", counted)


def test_a_journal_goes_on_where_it_was_cut(
    pipeline: EmotionPipeline, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.jsonl"
    wanted = timeline_of(pipeline, wav, SLIDING, journal=Journal(path, "k"))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert [len(json.loads(line).get("pieces", ())) for line in lines] == [0, 1, 2, 4, 5, 0]
    ends = np.cumsum([len(line) for line in lines]).tolist()
    for cut in (0, 5, ends[0], ends[1], ends[2] + 7, ends[3] - 1, ends[4] + 1, len(content)):
        path.write_bytes(content[:cut])
        asked = Counting(pipeline, monkeypatch)
        assert timeline_of(pipeline, wav, SLIDING, journal=Journal(path, "k")) == wanted
        assert asked.count == 12 - sum((1, 2, 4, 5)[: sum(end <= cut for end in ends[1:5])])
        assert path.read_bytes() == content, cut
        monkeypatch.undo()


def test_a_journal_of_something_else_is_not_used(pipeline: EmotionPipeline, wav: Path, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    timeline_of(pipeline, wav, SLIDING, journal=Journal(path, "k"))
    content = path.read_bytes()
    assert Journal(path, "other").entries == []
    other = SLIDING.model_copy(update={"hop": 0.5})
    assert timeline_of(pipeline, wav, other, journal=Journal(path, "other")) == timeline_of(pipeline, wav, other)
    # Even under the same key: pieces that are others now are scored again.
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:3]))
    assert timeline_of(pipeline, wav, other, journal=Journal(path, "k")) == timeline_of(pipeline, wav, other)


def test_a_key_tells_recordings_models_and_options_apart(
    pipeline: EmotionPipeline, ensemble_voice: Path, wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = timeline_key(pipeline, wav, SLIDING)
    assert timeline_key(pipeline, wav, SLIDING) == key
    others = {
        timeline_key(pipeline, wav, TimelineOptions()),
        timeline_key(pipeline, wav, SLIDING, [Segment(0, 1)]),
        timeline_key(pipeline, wav, SLIDING, captioner="c"),
        timeline_key(EmotionPipeline.from_folder(ensemble_voice), wav, SLIDING),
    }
    flat = np.eye(2, 4, dtype=np.float32)
    for turned in (flat, flat[::-1].copy()):
        spec = pipeline.banks[0].info.spec
        known = Familiarity(spec, flat[0], turned.astype(np.float16), np.ones(2, np.float32), 20, 20)
        monkeypatch.setattr(pipeline, "familiarity", (known,))
        others.add(timeline_key(pipeline, wav, SLIDING))
    sf.write(wav, np.zeros(100), SAMPLE_RATE)
    others.add(timeline_key(pipeline, wav, SLIDING))
    monkeypatch.setattr(identity, "__version__", "0.0.1")  # whose journals may have other lines
    assert len(others | {key, timeline_key(pipeline, wav, SLIDING)}) == 9
    with pytest.raises(AudioError, match="the recording cannot be opened"):
        timeline_key(pipeline, wav.with_name("gone.wav"), SLIDING)


def test_two_processes_do_not_write_one_timeline(tmp_path: Path) -> None:
    with (
        journal_of(tmp_path / "x" / "a.jsonl", "k"),
        pytest.raises(EmonetError, match="another process is at work on this timeline"),
        journal_of(tmp_path / "x" / "a.jsonl", "k"),
    ):
        pass
    with journal_of(tmp_path / "x" / "a.jsonl", "k") as journal:
        assert journal.entries == []


def test_a_full_disk_keeps_the_journal(
    pipeline: EmotionPipeline, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = timeline_of(pipeline, wav, SLIDING)
    path, opened, lines = tmp_path / "j.jsonl", Path.open, 0

    class Full(io.FileIO):
        def write(self, content: bytes) -> int:  # type: ignore[override]
            super().write(content[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(self: Path, mode: str = "r", **options: object) -> object:
        nonlocal lines
        lines += mode == "r+b"
        return Full(str(self), "r+") if lines == 3 and mode == "r+b" else opened(self, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(EmonetError, match="the disk is full; every scored segment is kept"):
        timeline_of(pipeline, wav, SLIDING, journal=Journal(path, "k"))
    monkeypatch.undo()
    journal = Journal(path, "k")
    assert [len(entry["pieces"]) for entry in journal.entries] == [1, 2]
    assert timeline_of(pipeline, wav, SLIDING, journal=journal) == wanted


def test_the_envelope_is_bounded_and_holds_every_extreme() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 8_500_001).astype(np.float32)
    samples[6_172_835], samples[-1] = 0.9, -0.8
    whole, parts = Envelope(), Envelope()
    whole.feed(samples)
    for start in range(0, len(samples), 499_979):
        parts.feed(samples[start : start + 499_979])
    pairs = np.array(parts.pairs())
    assert PARTS / 2 <= len(pairs) <= PARTS + 1
    assert pairs[:, 1].max() == pytest.approx(0.9, abs=1e-4)
    assert pairs[-1, 0] == pytest.approx(-0.8, abs=1e-4)
    assert pairs[:, 1].argmax() == pytest.approx(6_172_835 / len(samples) * len(pairs), abs=1.5)
    assert whole.pairs() == parts.pairs()
