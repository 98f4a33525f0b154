from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile as sf

from emonet.clips import SPLITS
from emonet.corpora import describe
from emonet.corpora.acted.emodb import EMODB, open_emodb
from emonet.corpora.acted.format import ActedFormat
from emonet.corpora.acted.nemo import open_nemo
from emonet.corpora.acted.ravdess import RAVDESS, open_ravdess
from emonet.errors import RequestError

MakeWav = Callable[..., Path]
RAVDESS_PROTOTYPES = {"contentment", "elation", "sadness", "anger", "fear", "disgust", "astonishment"}


def to_flac(wav: Path) -> Path:
    samples, rate = sf.read(wav)
    path = wav.with_suffix(".FLAC")
    sf.write(path, samples, rate, format="FLAC")
    wav.unlink()
    return path


def test_ravdess_names_become_scores_speakers_and_splits(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("Actor_12/03-01-06-02-02-01-12.wav", seconds=1.5)
    to_flac(make_wav("Actor_17/03-01-02-01-01-01-17.wav"))
    make_wav("03-01-01-01-01-01-19.WAV")
    strong, normal, neutral = sorted(open_ravdess(tmp_path).clips, key=lambda clip: clip.speaker)
    assert strong.id == "ravdess/03-01-06-02-02-01-12"
    assert (strong.speaker, strong.split, strong.language) == ("ravdess/actor-12", "train", "en")
    assert strong.scores == {name: 4.0 * (name == "fear") for name in RAVDESS_PROTOTYPES}
    assert strong.seconds == pytest.approx(1.5)
    assert (normal.speaker, normal.split) == ("ravdess/actor-17", "validation")
    assert normal.scores == {name: 2.0 * (name == "contentment") for name in RAVDESS_PROTOTYPES}
    assert (neutral.split, neutral.scores) == ("test", dict.fromkeys(RAVDESS_PROTOTYPES, 0.0))


def test_the_whole_of_ravdess(corpora: Path) -> None:
    corpus = open_ravdess(corpora / "ravdess")
    assert len(corpus) == 1440
    assert corpus.rejected == ()
    assert Counter(clip.split for clip in corpus.clips) == {"train": 900, "validation": 180, "test": 360}
    assert {clip.speaker for clip in corpus.of_split("test")} == {f"ravdess/actor-{n}" for n in range(19, 25)}
    assert set(corpus.rated) == RAVDESS_PROTOTYPES
    assert [clip.id for clip in corpus.clips] == [clip.id for clip in open_ravdess(corpora / "ravdess").clips]
    report = describe(corpus)
    assert report.emotions["anger"].nonzero == 192
    assert report.emotions["anger"].mean == pytest.approx((96 * 2 + 96 * 4) / 1440)
    assert 1.4 < report.hours < 1.6


def test_the_original_files_get_the_same_ids(corpora: Path) -> None:
    originals = open_ravdess(corpora / "ravdess-48k").clips
    resampled = {clip.id: clip for clip in open_ravdess(corpora / "ravdess" / "Actor_07").clips}
    assert len(originals) == 8
    for clip in originals:
        assert resampled[clip.id].scores == clip.scores
        assert resampled[clip.id].seconds == pytest.approx(clip.seconds, abs=0.01)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("speech.wav", r"not a RAVDESS name \(such as 03-01-06-01-02-01-12\)"),
        ("03-01-09-01-02-01-12.wav", "not a RAVDESS name"),
        ("03-01-06-01-02-01-25.wav", "not a RAVDESS name"),
        ("03-02-06-01-02-01-12.wav", r"vocal channel 02 is song; only speech \(01\) is used"),
        ("01-01-06-01-02-01-12.wav", r"modality 01 is video; only audio \(03\) is used"),
    ],
)
def test_other_names_are_rejected_with_their_reason(name: str, reason: str, make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav(f"sub/{name}")
    with pytest.raises(RequestError, match=rf"(?s)no usable clip.*1 rejected \(sub/{name}: {reason}"):
        open_ravdess(tmp_path)
    make_wav("03-01-01-01-01-01-01.wav")
    corpus = open_ravdess(tmp_path)
    assert len(corpus) == 1
    assert [rejection.id for rejection in corpus.rejected] == [f"sub/{name}"]


def test_files_that_cannot_be_read_are_rejected_with_their_reason(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-01-01-01-01-01.wav")
    make_wav("03-01-01-01-01-01-02.wav", seconds=0.05)
    (tmp_path / "03-01-01-01-01-01-03.wav").touch()
    (tmp_path / "03-01-01-01-01-01-04.flac").write_text("not audio")
    (tmp_path / "03-01-01-01-01-01-05.wav").symlink_to(tmp_path / "gone.wav")
    corpus = open_ravdess(tmp_path)
    assert [clip.speaker for clip in corpus.clips] == ["ravdess/actor-01"]
    assert [(rejection.id[-2:], rejection.reason) for rejection in corpus.rejected] == [
        ("02", "only 50 ms of audio"),
        ("03", "0 bytes"),
        ("04", "not readable: format not recognised; try: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"),
        ("05", "no such file"),
    ]


def test_the_same_clip_as_wav_and_flac_is_refused(make_wav: MakeWav, tmp_path: Path) -> None:
    to_flac(make_wav("a/03-01-01-01-01-01-01.wav"))
    make_wav("b/03-01-01-01-01-01-01.wav")
    with pytest.raises(RequestError, match=r"(?s)more than once.*: a/.*FLAC and b/.*wav.*keep one copy of each"):
        open_ravdess(tmp_path)


def test_emodb_names_become_scores_speakers_and_splits(make_wav: MakeWav, tmp_path: Path) -> None:
    expected = {
        "03a01Wa": ("anger", "train"),
        "08b09Lc": ("emotional_numbness", "train"),
        "12a02Ec": ("disgust", "validation"),
        "14b10Ab": ("fear", "validation"),
        "15a05Fb": ("elation", "test"),
        "16b01Td": ("sadness", "test"),
        "16a07Na": (None, "test"),
    }
    for name in expected:
        make_wav(f"wav/{name}.wav")
    corpus = open_emodb(tmp_path)
    prototypes = {emotion for emotion, _ in expected.values() if emotion}
    for clip in corpus.clips:
        emotion, split = expected[clip.id.removeprefix("emodb/")]
        assert clip.scores == {name: 3.0 * (name == emotion) for name in prototypes}
        assert (clip.split, clip.language) == (split, "de")
    assert {clip.speaker for clip in corpus.of_split("test")} == {"emodb/speaker-15", "emodb/speaker-16"}
    assert len(corpus) == 7


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("03-01-06-01-02-01-12", r"not an EmoDB name \(such as 03a01Fa\)"),
        ("04a01Fa", "speaker 04 is none of 03, 08"),
        ("03a01Xa", "emotion letter X is none of W, L, E, A, F, T, N"),
    ],
)
def test_other_names_are_no_emodb(name: str, reason: str, make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav(f"{name}.wav")
    with pytest.raises(RequestError, match=rf"{name}\.wav: {reason}"):
        open_emodb(tmp_path)


def test_hidden_files_are_passed_over_and_others_counted(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("Actor_01/03-01-01-01-01-01-01.wav")
    (tmp_path / "Actor_01/._03-01-01-01-01-01-01.wav").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/03-01-01-01-01-01-02.wav").touch()
    (tmp_path / "03-01-01-01-01-01-03.vox").touch()
    (tmp_path / "README.md").touch()
    corpus = open_ravdess(tmp_path)
    assert (len(corpus), corpus.rejected, corpus.passed_over) == (1, (), {".vox": 1, ".md": 1})
    assert describe(corpus).passed_over == corpus.passed_over


def test_linked_folders_are_followed(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("disk/Actor_01/03-01-01-01-01-01-01.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/Actor_01").symlink_to(tmp_path / "disk/Actor_01")
    (tmp_path / "disk/Actor_01/loop").symlink_to(tmp_path / "corpus")
    assert [clip.id for clip in open_ravdess(tmp_path / "corpus").clips] == ["ravdess/03-01-01-01-01-01-01"]


def test_a_folder_that_is_a_copy_is_one_problem(make_wav: MakeWav, tmp_path: Path) -> None:
    for actor in (1, 2):
        for take in (1, 2):
            make_wav(f"audio/Actor_{actor:02d}/03-01-01-01-01-{take:02d}-{actor:02d}.wav")
    shutil.copytree(tmp_path / "audio", tmp_path / "audio/speech")
    with pytest.raises(RequestError, match=r"the folder audio/speech is a copy of audio \(4 clips: such as") as caught:
        open_ravdess(tmp_path)
    assert str(caught.value).count("\n    - ") == 1
    assert "name one of the folders" in str(caught.value)
    make_wav("audio/speech/Actor_01/03-01-01-01-01-01-01.wav", seconds=2)
    with pytest.raises(RequestError, match="the folder audio/speech holds clips that are also in audio"):
        open_ravdess(tmp_path)


def test_two_formats_side_by_side_are_one_problem(make_wav: MakeWav, tmp_path: Path) -> None:
    for actor in range(1, 6):
        to_flac(make_wav(f"a/03-01-01-01-01-01-{actor:02d}.wav"))
        make_wav(f"a/03-01-01-01-01-01-{actor:02d}.wav")
    with pytest.raises(RequestError, match=r"5 clips in two formats: such as .*\.FLAC and .*\.wav") as caught:
        open_ravdess(tmp_path)
    assert str(caught.value).count("\n    - ") == 1


def test_names_that_are_no_text_are_rejected_in_writing(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-01-01-01-01-01.wav").rename(tmp_path / os.fsdecode(b"\xe4rger.wav"))
    make_wav("03-01-01-01-01-01-01.wav")
    report = describe(open_ravdess(tmp_path))
    assert [rejection.id for rejection in report.rejected] == [r"\xe4rger.wav"]
    assert report.model_dump_json()


def test_nemo_names_become_scores_labels_speakers_and_splits(make_wav: MakeWav, tmp_path: Path) -> None:
    expected = {
        "EB0_anger_1": ("anger", "train"),
        "MP0_neutral_90": (None, "train"),
        "KD0_fear_12": ("fear", "validation"),
        "SM0_happiness_3": ("elation", "validation"),
        "MK0_sadness_4": ("sadness", "test"),
        "WR0_surprised_5": ("astonishment", "test"),
    }
    for name in expected:
        make_wav(f"samples/{name}.wav")
    corpus = open_nemo(tmp_path)
    prototypes = {emotion for emotion, _ in expected.values() if emotion}
    for clip in corpus.clips:
        emotion, split = expected[clip.id.removeprefix("nemo/")]
        assert clip.scores == {name: 3.0 * (name == emotion) for name in prototypes}
        assert (clip.split, clip.language) == (split, "pl")
        assert clip.label == clip.id.split("_")[1]
    assert {clip.speaker for clip in corpus.of_split("test")} == {"nemo/speaker-MK0", "nemo/speaker-WR0"}
    assert set(corpus.classes.values()) == {*prototypes, None}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("03a01Fa", r"not an nEMO name \(such as EB0_anger_12\)"),
        ("XX0_anger_1", "speaker XX0 is none of EB0, IC0"),
        ("EB0_joy_1", "emotion joy is none of anger, fear, happiness, sadness, surprised, neutral"),
    ],
)
def test_other_names_are_no_nemo(name: str, reason: str, make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav(f"{name}.wav")
    with pytest.raises(RequestError, match=rf"{name}\.wav: {reason}"):
        open_nemo(tmp_path)


def test_a_clip_of_nemo_in_two_formats_or_a_missing_folder_is_refused(make_wav: MakeWav, tmp_path: Path) -> None:
    to_flac(make_wav("EB0_anger_1.wav"))
    make_wav("EB0_anger_1.wav")
    with pytest.raises(RequestError, match="more than once"):
        open_nemo(tmp_path)
    with pytest.raises(RequestError, match=r"(?s)corpus 'nemo' does not exist.*amu-cai/nEMO"):
        open_nemo(tmp_path / "gone")


@pytest.mark.slow
def test_the_whole_of_nemo_is_what_its_table_says(corpora: Path) -> None:
    corpus = open_nemo(corpora / "nemo")
    with (corpora / "nemo/labels.tsv").open(encoding="utf-8", newline="") as file:
        table = {Path(row["audio"]).stem: row for row in csv.DictReader(file, delimiter="\t")}
    assert len(corpus) == len(table) == 4481
    assert corpus.rejected == ()
    for clip in corpus.clips:
        row = table[clip.id.removeprefix("nemo/")]
        assert (clip.label, clip.speaker, clip.language) == (row["label"], f"nemo/speaker-{row['speaker']}", "pl")
    for split in SPLITS:
        assert {table[clip.id.removeprefix("nemo/")]["gender"] for clip in corpus.of_split(split)} == {"male", "female"}
    counts = describe(corpus).classes["happiness"]
    assert (counts.target, sum(counts.clips.values())) == ("elation", 749)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (RAVDESS, {f"03-01-{n:02d}-01-01-01-01": label for n, label in enumerate(RAVDESS.classes, start=1)}),
        (EMODB, {f"03a01{letter}a": label for letter, label in zip("WLEAFTN", EMODB.classes, strict=True)}),
    ],
)
def test_each_name_says_its_class(layout: ActedFormat, names: dict[str, str]) -> None:
    assert {name: layout.read_name(name).label for name in names} == names


def test_clips_carry_their_class_and_the_corpus_what_stands_for_it(make_wav: MakeWav, tmp_path: Path) -> None:
    make_wav("03-01-06-01-01-01-01.wav")
    make_wav("03-01-01-01-01-01-19.wav")
    corpus = open_ravdess(tmp_path)
    assert [clip.label for clip in corpus.clips] == ["neutral", "fearful"]
    assert corpus.labels == ("fearful", "neutral")
    assert (corpus.classes["fearful"], corpus.classes.get("neutral")) == ("fear", None)
    counted = describe(corpus).classes
    assert {label: (one.target, one.clips) for label, one in counted.items()} == {
        "fearful": ("fear", {"train": 1, "validation": 0, "test": 0}),
        "neutral": (None, {"train": 0, "validation": 0, "test": 1}),
    }
