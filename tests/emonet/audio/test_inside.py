"""Audio inside of tars, Parquet files and objects decodes as files do, and no more of it is read than that takes."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from emonet.audio import Decoders, Excerpt, audio_bytes, decode, inside, probe, stream_blocks
from emonet.audio.inside import patience_for
from emonet.clips import AudioCell, AudioRange
from emonet.errors import AudioError, EmonetError, RequestError
from emonet.objects import WHOLE, Objects
from tests.buckets import S3

FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "aiff": "AIFF"}
_SHARED = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def encoded(kind: str, seconds: float = 2.0, rate: int = 16_000, channels: int = 1) -> bytes:
    tone = 0.3 * np.sin(np.arange(round(seconds * rate)) / 17)
    noise = np.random.default_rng(3).normal(0, 0.01, (len(tone), channels))
    file = io.BytesIO()
    soundfile.write(file, tone[:, None] + noise, rate, format=FORMATS[kind])
    return file.getvalue()


def within(folder: Path, content: bytes, name: str = "holder") -> AudioRange:
    (folder / name).write_bytes(b"\xff\xfb" * 300 + content + b"RIFF" * 100)
    return AudioRange(str(folder / name), 600, len(content))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_range_is_heard_as_its_file(kind: str, tmp_path: Path) -> None:
    content = encoded(kind, rate=22_050, channels=2)
    (path := tmp_path / f"a.{kind}").write_bytes(content)
    audio = within(tmp_path, content)
    assert audio_bytes(audio) == content
    assert probe(audio) == probe(path)
    for part in ({}, {"start": 0.5, "end": 1.25}, {"channel": 1}):
        ours, wanted = decode(audio, **part), decode(path, **part)  # type: ignore[arg-type]
        assert np.array_equal(ours.samples, wanted.samples)
        assert (ours.total, ours.content, ours.notices) == (wanted.total, wanted.content, wanted.notices)


@pytest.mark.slow
def test_a_range_is_streamed_as_its_file(tmp_path: Path) -> None:
    content = encoded("flac", rate=22_050, channels=2)
    (path := tmp_path / "a.flac").write_bytes(content)
    [block], [wanted] = list(stream_blocks(within(tmp_path, content))), list(stream_blocks(path))
    assert np.array_equal(block.samples, wanted.samples)


def test_containers_of_ffmpeg(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as file:
        track = file.add_stream("aac", rate=16_000, layout="mono")
        samples = np.sin(np.arange(32_000) / 9).astype(np.float32)[None] * 0.3
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        frame.sample_rate = 16_000
        for packet in [*track.encode(frame), *track.encode(None)]:
            file.mux(packet)
    audio = within(tmp_path, path.read_bytes())
    assert probe(audio) == probe(path)
    assert decode(audio).content == decode(path).content


def test_a_long_recording_is_read_in_blocks_and_probed_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded("wav", seconds=200)  # 6.4 MB
    audio, read = within(tmp_path, content), list[int]()
    monkeypatch.setattr(inside, "read_range", lambda where, start, size: read.append(size) or _from(where, start, size))
    assert probe(audio).seconds == 200
    assert sum(read) <= 2 << 20
    read.clear()
    (path := tmp_path / "a.wav").write_bytes(content)
    assert decode(audio, start=190.0, end=195.0).content == decode(path, start=190.0, end=195.0).content
    assert sum(read) <= 4 << 20
    short = within(tmp_path, encoded("wav", seconds=8), "short")
    read.clear()
    probe(short)
    assert read == [1 << 16]
    read.clear()
    decode(short)
    assert read == [short.size]


def _from(location: str, start: int, size: int) -> bytes:
    return Path(location).read_bytes()[start : start + size]


def test_what_is_gone_or_cut_short_says_so(tmp_path: Path) -> None:
    audio = within(tmp_path, encoded("wav"))
    beyond = AudioRange(audio.location, audio.start + 1000, audio.size)
    gone = AudioRange(str(tmp_path / "no.tar"), 512, 100)
    for hear in (decode, probe, audio_bytes):
        with pytest.raises(AudioError, match=r"(?s)no such file.*no\.tar, bytes 512 to 612"):
            hear(gone)  # type: ignore[operator]
    with pytest.raises(AudioError, match=r"truncated: 63,444 of 64,044 bytes are there"):
        decode(beyond)
    with pytest.raises(AudioError, match="0 bytes"):
        probe(AudioRange(audio.location, 512, 0))


def test_an_end_that_is_missing_is_found_where_a_library_reads_it(tmp_path: Path) -> None:
    """libsndfile swallows what a file object raises."""
    content = encoded("ogg", seconds=20)
    (path := tmp_path / "t.tar").write_bytes(content[: 1 << 16])
    with pytest.raises(AudioError, match=r"truncated: 65,536 of \d+,\d+ bytes"):
        probe(AudioRange(str(path), 0, len(content)))


CELLS = st.lists(st.one_of(st.none(), st.binary(max_size=200)), min_size=1, max_size=60)


@_SHARED
@given(
    cells=CELLS,
    group=st.integers(1, 25),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    kind=st.sampled_from(["plain", "struct", "large", "dotted"]),
    order=st.randoms(use_true_random=False),
)
def test_cells_of_parquet_are_what_was_written(
    cells: list[bytes | None], group: int, compression: str, kind: str, order: object, tmp_path: Path
) -> None:
    column = {"struct": "audio.bytes", "dotted": "my.audio"}.get(kind, "audio")
    values = pa.array(cells, pa.large_binary() if kind == "large" else pa.binary())
    if kind == "struct":
        values = pa.StructArray.from_arrays([values, pa.array(["x"] * len(cells))], ["bytes", "path"])
    table = pa.table({"other": range(len(cells)), column.removesuffix(".bytes"): values})
    parquet.write_table(table, path := tmp_path / "t.parquet", row_group_size=group, compression=compression)
    rows = list(range(len(cells)))
    order.shuffle(rows)  # type: ignore[attr-defined]
    for row in rows:
        content = cells[row]
        audio = AudioCell(str(path), column, row // group, row % group, len(content or b""))
        if content is None:
            with pytest.raises(AudioError, match="the table has changed: none of 0 bytes"):
                audio_bytes(audio)
        else:
            assert audio_bytes(audio) == content


def test_cells_are_heard_and_a_table_that_changes_is_noticed(tmp_path: Path) -> None:
    content = encoded("flac")
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"audio": [content, b"x"]}), path)
    (tmp_path / "a.flac").write_bytes(content)
    audio = AudioCell(str(path), "audio", 0, 0, len(content))
    assert probe(audio) == probe(tmp_path / "a.flac")
    assert decode(audio).content == decode(tmp_path / "a.flac").content
    parquet.write_table(pa.table({"audio": [b"other", b"y"]}), path)
    with pytest.raises(AudioError, match=r"the table has changed: 5 of [\d,]+ bytes are in its cell"):
        decode(audio)
    for broken, why in (((7, 0), "row_group"), ((0, 7), "it has fewer rows")):
        with pytest.raises(AudioError, match=f"the table of the recording cannot be read: .*{why}"):
            decode(AudioCell(str(path), "audio", *broken, 1))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AudioError, match="the table of the recording cannot be read"):
        decode(audio)
    path.unlink()
    with pytest.raises(AudioError, match="no such file"):
        decode(audio)


def test_workers_read_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded("wav")
    within(tmp_path, content, "x.tar")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("EMONET_OBJECTS_PATIENCE", "0.2")
    relative = AudioRange("x.tar", 600, len(content))
    with Decoders(1) as decoders:
        heard, gone = decoders.decode([Excerpt(relative), Excerpt(AudioRange("no.tar", 600, 5))])
        assert not isinstance(heard, AudioError)
        assert heard.content == decode(relative).content
        assert isinstance(gone, AudioError)
        assert gone.reason == "no such file"
        # A store that does not answer says nothing about the clip: it is not given up, but all stops.
        with pytest.raises(EmonetError, match=r"(?s)object store does not read this.*s3://bucket") as caught:
            list(decoders.decode([Excerpt(AudioRange("s3://bucket/x.wav", 0, 100))]))
        assert not isinstance(caught.value, AudioError)
        [again] = decoders.decode([Excerpt(relative)])
        assert not isinstance(again, AudioError)


@pytest.mark.parametrize(("kind", "rate"), [("wav", 48_000), ("flac", 16_000)])
def test_a_store_that_is_taken_away_is_told_as_that(kind: str, rate: int, s3: S3, bucket: str) -> None:
    content = encoded(kind, seconds=60, rate=rate, channels=2)
    content += bytes(max(0, WHOLE + 1 - len(content)))  # else it comes at once
    Objects.open(bucket).write("a", content)
    s3.requests.clear()
    s3.refuses = lambda method, path: len(s3.requests) > 1
    with pytest.raises(RequestError, match=rf"(?s)these credentials may not read.*{bucket}/a"):
        decode(AudioRange(f"{bucket}/a", 0, len(content)))


def test_stores_are_waited_for_as_long_as_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    local, away = AudioRange("x.tar", 0, 1), AudioRange("s3://b/x.tar", 0, 1)
    assert patience_for(away, 5.0) > 5.0 + 60.0
    monkeypatch.setenv("EMONET_OBJECTS_PATIENCE", "1000")
    assert patience_for(away, 5.0) > 1005.0
    assert patience_for(local, 5.0) == 5.0


@pytest.mark.slow
def test_a_store_that_takes_long_costs_no_clip(s3: S3, bucket: str) -> None:
    content = encoded("wav")
    Objects.open(bucket).write("a.wav", content)
    s3.refuses = lambda method, path: bool(time.sleep(1.5))
    with Decoders(1, timeout=0.5) as decoders:
        [sound] = decoders.decode([Excerpt(AudioRange(f"{bucket}/a.wav", 0, len(content)))])
    assert not isinstance(sound, AudioError)
