"""What libsndfile does not read: recordings of phones, browsers, cameras and recorders, whole, damaged and locked."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from emonet.audio import Decoded, Decoders, Excerpt, decode, probe
from emonet.audio.opening import opened
from emonet.errors import AudioError
from tests.media_files import media_file

pytestmark = pytest.mark.numeric

ODD = Path(__file__).parents[4] / "shared" / "corpora" / "odd-audio" / "pydub"
RATE = 48_000


def voice(seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Harmonics in syllables, with a little noise, in 16-bit steps."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20) if 140 * k < rate / 2)
    noise = np.random.default_rng(0).normal(0, 0.01, (channels, len(time)))
    rows = 0.2 * tone * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)) * np.linspace(1, 0.5, channels)[:, None] + noise
    return (np.round(rows.T * 2**15) / 2**15).astype(np.float32)


def wav(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


# container, codec, sample rate, seconds by which it may be longer: frames that are filled up and not declared as padding
KINDS = [
    ("ipod", "aac", 44_100, 0.0),  # .m4a
    ("mp4", "aac", 16_000, 0.0),
    ("mov", "alac", 44_100, 0.0),
    ("3gp", "libopencore_amrnb", 8_000, 0.0),
    ("webm", "libopus", 48_000, 0.0),
    ("matroska", "libmp3lame", 44_100, 0.0),
    ("matroska", "flac", 44_100, 0.0),
    ("matroska", "pcm_s16le", 22_050, 0.0),
    ("wv", "wavpack", 44_100, 0.0),
    ("tta", "tta", 44_100, 0.0),
    ("adts", "aac", 16_000, 0.13),  # .aac
    ("amr", "libopencore_amrnb", 8_000, 0.03),
    ("avi", "libmp3lame", 44_100, 0.06),
    ("flv", "libmp3lame", 44_100, 0.06),
    ("mpegts", "aac", 48_000, 0.05),
    ("asf", "wmav2", 44_100, 0.06),
    ("wav", "wmav2", 44_100, 0.06),
    ("ac3", "ac3", 48_000, 0.04),
    ("rm", "real_144", 8_000, 0.03),
]


def kind_id(kind: tuple[str, str, int, float]) -> str:
    return f"{kind[0]}-{kind[1]}"


def encoded(kind: tuple[str, str, int, float], seconds: float = 2.0) -> tuple[np.ndarray, bytes]:
    form, codec, rate, _ = kind
    samples = voice(seconds, rate)
    bits = {"b": "64000"} if codec == "wmav2" else {}
    return samples, media_file(samples, rate, form, codec, codec_options=bits)


def alignment(heard: np.ndarray, wanted: np.ndarray) -> tuple[int, float]:
    """How many samples `heard` is late, and its correlation there."""
    part = wanted[2_000:26_000]
    lag = int(correlate(heard[1_000:28_000], part, "valid", "fft").argmax()) - 1_000
    return lag, float(np.corrcoef(heard[2_000 + lag : 26_000 + lag], part)[0, 1])


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_what_phones_and_browsers_write_is_heard(kind: tuple[str, str, int, float], tmp_path: Path) -> None:
    _, _, rate, more = kind
    samples, content = encoded(kind)
    heard, wanted = decode(content), decode(wav(samples, rate))
    assert -0.01 * 16_000 <= len(heard.samples) - len(wanted.samples) <= 16_000 * more
    assert heard.total == pytest.approx(heard.seconds, abs=1e-3)
    lag, likeness = alignment(heard.samples, wanted.samples)
    assert likeness > (0.5 if rate == 8_000 else 0.95)
    assert abs(lag) <= (0 if more == 0 and rate > 8_000 else 1_100)  # a frame, where encoders declare no delay
    told = probe(content)
    assert (told.sample_rate, told.channels) == (rate, 1)
    assert told.seconds == pytest.approx(heard.seconds, abs=0.1)
    path = tmp_path / "of no known suffix"
    path.write_bytes(content)
    assert decode(path).content == heard.content


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[1] in {"alac", "flac", "pcm_s16le"}], ids=kind_id)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_sound_is_the_same_as_in_a_wav(kind: tuple[str, str, int, float], channels: int) -> None:
    form, codec, rate, _ = kind
    samples = voice(1.5, rate, channels)
    heard, wanted = decode(media_file(samples, rate, form, codec)), decode(wav(samples, rate))
    np.testing.assert_array_equal(heard.samples, wanted.samples)
    assert (heard.content, heard.total, heard.notices) == (wanted.content, wanted.total, wanted.notices)


def test_channels_that_cancel_are_found_in_video_too() -> None:
    mono = voice(1.5)
    stereo = np.concatenate([mono, -mono], axis=1)
    heard = decode(media_file(stereo, RATE, "matroska", "flac", pictures=True))
    np.testing.assert_array_equal(heard.samples, decode(wav(mono, RATE)).samples)
    assert [notice.kind for notice in heard.notices] == ["channels"]


@pytest.mark.parametrize("kind", KINDS, ids=kind_id)
def test_a_part_is_what_the_whole_has_there(kind: tuple[str, str, int, float]) -> None:
    _, _, rate, _ = kind
    _, content = encoded(kind)
    with opened(content) as source:
        whole = source.sound.read(3 * rate)
    part = decode(content, start=0.75, end=1.5)
    first = round(0.75 * rate)
    file = io.BytesIO()
    sf.write(file, whole[first : first + len(whole)], rate, format="WAV", subtype="FLOAT")
    np.testing.assert_array_equal(part.samples, decode(file.getvalue(), end=0.75).samples)


@pytest.mark.parametrize(
    ("form", "codec", "rate", "wrong"),
    [
        ("mov", "alac", 16_000, 0.0),
        ("ipod", "aac", 16_000, 0.02),  # noise that the decoder makes up
        ("3gp", "libopencore_amrnb", 8_000, 0.05),
        ("matroska", "flac", 16_000, 0.0),
        ("webm", "libopus", 16_000, 0.0),
    ],
)
def test_a_far_part_is_in_its_place(form: str, codec: str, rate: int, wrong: float) -> None:
    content = media_file(voice(40.0, rate), rate, form, codec)
    with opened(content) as source:
        real = source.sound.samplerate
        whole = source.sound.read(50 * real)
    for start in (33.3, 39.5):
        with opened(content) as source:
            assert source.sound.skip(round(start * real), lambda: None) == round(start * real)
            part = source.sound.read(50 * real)
        wanted = whole[round(start * real) :]
        assert part.shape == wanted.shape
        np.testing.assert_allclose(part, wanted, atol=wrong)
    with pytest.raises(AudioError, match=r"(?s)starts after the end.*before 40\.0\d s"):
        decode(content, start=41.0)


@pytest.mark.parametrize("form", ["webm", "matroska", "mp4"])
def test_live_recordings_declare_no_length(form: str) -> None:
    samples = voice(3.0)
    codec, options = ("aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"})
    if form != "mp4":
        codec, options = "libopus", {"live": "1"}
    content = media_file(samples, RATE, form, codec, live=True, options=options)
    heard = decode(content, seconds=1.0)
    assert heard.total == pytest.approx(3.0, abs=0.1)
    assert probe(content).seconds == pytest.approx(3.0, abs=0.1)
    assert decode(content).seconds == pytest.approx(3.0, abs=0.05)
    cut = decode(content[: len(content) * 3 // 5])  # the recorder was killed
    assert 1.0 < cut.seconds < 2.5


def test_pictures_are_passed_over_and_several_tracks_told() -> None:
    samples = voice()
    two = decode(media_file(samples, RATE, "matroska", "flac", "libopus", pictures=True))
    np.testing.assert_array_equal(two.samples, decode(wav(samples, RATE)).samples)
    assert [notice.text for notice in two.notices] == ["2 sound tracks in one file, of which only the first is heard"]
    with pytest.raises(AudioError, match=r"(?s)no sound track in it.*found: *only video"):
        decode(media_file(samples, RATE, "mp4", pictures=True))


@pytest.mark.parametrize("place", ["at the beginning", "at the end"])
def test_a_cut_mp4_is_refused_wherever_its_index_is(place: str, tmp_path: Path) -> None:
    first = place == "at the beginning"
    flags = {"movflags": "faststart"} if first else {}
    content = media_file(voice(), RATE, "mp4", "aac", options=flags, path=tmp_path / "a.mp4")
    assert decode(content).seconds == 2.0
    reason = r"truncated: \d\d% of what" if first else r"truncated: the index \(moov\)"
    for listen in (probe, decode):
        with pytest.raises(AudioError, match=reason):
            listen(content[: len(content) // 2])


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_declared_length_is_no_truth(factor: float) -> None:
    content = bytearray(media_file(voice(3.0), RATE, "matroska", "flac"))
    at = content.index(b"\x44\x89\x88") + 3  # the element Duration: 8 bytes of float
    (seconds,) = struct.unpack(">d", content[at : at + 8])
    content[at : at + 8] = struct.pack(">d", factor * seconds)
    if factor > 1:
        with pytest.raises(AudioError, match="truncated: 50% of what the header announces is there"):
            probe(bytes(content))
        return
    heard = decode(bytes(content))
    assert (len(heard.samples), probe(bytes(content)).seconds) == (48_000, pytest.approx(3.0, abs=0.1))
    assert heard.notices[0].text == "the header declares 1.5 s, and 3.0 s are there and were read"


def test_what_is_locked_says_so() -> None:
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    content = media_file(voice(), RATE, "mp4", "aac", options=options)
    protected = media_file(voice(), RATE, "mp4", "aac").replace(b"mp4a" + bytes(7) + b"\1", b"drms" + bytes(7) + b"\1")
    for locked in (content, protected):
        with pytest.raises(AudioError, match=r"its sound is encrypted \(copy protection\)"):
            decode(locked)


def test_a_codec_of_nobody() -> None:
    content = media_file(voice(), RATE, "matroska", "flac").replace(b"A_FLAC", b"A_QQQQ")
    with pytest.raises(AudioError, match="a codec that nothing here decodes"):
        decode(content)


@pytest.mark.parametrize("name", ["a.webm", "a.m4a", "a.aac", "a.mpg", "a.ts", "a.txt"])
def test_where_both_libraries_refuse_it_is_not_recognised(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in ("<html>404</html>" * 100, "\0" * 4000):
        path.write_text(content)
        with pytest.raises(AudioError, match=r"(?s)not readable: format not recognised.*ffmpeg -i IN .* OUT\.wav"):
            decode(path)


def test_a_recording_opens_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(media_file(voice(), RATE, "mpegts", "aac"))
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/a.ts\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{tmp_path}/a.ts'\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(AudioError, match="format not recognised"):
            decode(tmp_path / name)
    assert decode(tmp_path / "a.ts").seconds > 1.9


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff:http.m4a"))
    path.write_bytes(media_file(voice(), RATE, "ipod", "aac"))
    assert decode(path).seconds == 2.0


@pytest.mark.parametrize("kind", [("mp3", ".mp3"), ("aac", ".aac")])
def test_a_tag_before_aac_hides_no_mp3(kind: tuple[str, str]) -> None:
    tag = b"ID3\4\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    if kind[0] == "mp3":
        file = io.BytesIO()
        sf.write(file, voice(), RATE, format="MP3")
        content = file.getvalue()
    else:
        content = media_file(voice(), RATE, "adts", "aac")
    assert decode(tag + content).seconds == pytest.approx(2.0, abs=0.1)


def test_ffmpeg_is_imported_only_for_what_libsndfile_refuses(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(voice(), RATE))
    code = f"import sys, pathlib; from emonet.audio import decode; decode(pathlib.Path({str(tmp_path / 'a.wav')!r}));"
    run = subprocess.run([sys.executable, "-c", code + "print('av' in sys.modules)"], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


@pytest.mark.skipif(not ODD.is_dir(), reason=f"no odd recordings at {ODD}")
@pytest.mark.parametrize(
    ("name", "seconds"), [("format_test.m4a", 9.66), ("test5.webm", 1.48), ("wrong_extension.aac", 9.66)]
)
def test_real_recordings_of_others(name: str, seconds: float) -> None:
    heard = decode(ODD / name)
    assert heard.seconds == pytest.approx(seconds, abs=0.01)
    assert heard.notices == ()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(1, timeout=30.0) as started:
        yield started


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return {kind_id(kind): encoded(kind, 1.0)[1] for kind in KINDS}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_costs_the_recording_and_nothing_else(
    data: st.DataObject, decoders: Decoders, whole: dict[str, bytes]
) -> None:
    content = bytearray(whole[data.draw(st.sampled_from(sorted(whole)))])
    places = st.integers(0, len(content) - 1) | st.integers(0, 600).filter(lambda at: at < len(content))
    match data.draw(st.sampled_from(["cut", "flip", "drop"])):
        case "cut":
            del content[data.draw(st.integers(1, len(content) - 1)) :]
        case "flip":
            for at in data.draw(st.lists(places, min_size=1, max_size=20)):
                content[at] = data.draw(st.integers(0, 255))
        case "drop":
            at = data.draw(places)
            del content[at : at + data.draw(st.integers(1, 2000))]
    excerpt = Excerpt(bytes(content))
    (heard,) = decoders.decode([excerpt])
    (told,) = decoders.probe([excerpt])
    for answer in (heard, told):
        if isinstance(answer, AudioError):
            assert "crash" not in answer.what
            assert "took longer" not in answer.what
    if isinstance(heard, Decoded):
        assert np.isfinite(heard.samples).all()
