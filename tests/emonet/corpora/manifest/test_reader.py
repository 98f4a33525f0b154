from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emonet.clips import SPLITS, person
from emonet.corpora import open_corpus
from emonet.corpora.manifest.reader import ANONYMOUS, open_manifest
from emonet.corpora.manifest.splits import split_speakers
from emonet.errors import RequestError
from tests.emonet.corpora.manifest.manifests import problem, rows, write

MakeWav = Callable[..., Path]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_three_formats_give_the_same_clips(suffix: str, folder: Path) -> None:
    table = [
        {"audio": "audio/a.wav", "id": "one", "speaker": "eve", "split": "train", "language": "en",
         "caption": "She sounds calm.", "start": 0.5, "end": 1.25, "anger": 0, "Jealousy_&_Envy": 3.5},
        {"audio": "audio/b.wav", "id": "two", "speaker": "bob", "split": "test", "language": None,
         "caption": None, "start": None, "end": None, "anger": None, "Jealousy_&_Envy": None},
    ]  # fmt: skip
    path = folder / f"m{suffix}"
    if suffix == ".CSV":
        write(folder / "m.csv", [{k: "" if v is None else v for k, v in row.items()} for row in table]).rename(path)
    elif suffix == ".csv":
        write(path, [{k: "NaN" if v is None else v for k, v in row.items()} for row in table])
    else:
        write(path, table)
    corpus = open_corpus(f"manifest:{path}")
    one, two = corpus.clips
    assert (one.id, one.speaker, one.split, one.language) == ("one", "eve", "train", "en")
    assert one.audio == folder / "audio/a.wav"
    assert one.caption == "She sounds calm."
    assert (one.start, one.end, one.seconds) == (0.5, 1.25, 0.75)
    assert one.scores == {"anger": 0, "jealousy": 3.5}
    assert (two.language, two.caption, two.start, two.end, two.scores) == ("und", None, None, None, {})
    assert two.seconds == 2
    assert corpus.name == f"manifest:{path}"
    assert corpus.note == ""


def test_ids_are_the_path_and_the_part_where_none_are_given(folder: Path) -> None:
    table = [*rows(), {"audio": "audio/a.wav", "speaker": "a", "split": "train", "start": 0.5, "end": 1}]
    table.append({"audio": "audio/a.wav", "speaker": "a", "split": "train", "start": 1})
    ids = [clip.id for clip in open_manifest(write(folder / "m.jsonl", table)).clips]
    assert ids == ["audio/a.wav", "audio/b.wav", "audio/c.wav", "audio/a.wav#0.5-1", "audio/a.wav#1-"]


def test_numbers_serve_as_ids_and_speakers(folder: Path) -> None:
    table = [{**row, "id": n, "speaker": n} for n, row in enumerate(rows())]
    clips = open_manifest(write(folder / "m.parquet", table)).clips
    assert [(clip.id, clip.speaker) for clip in clips] == [("0", "0"), ("1", "1"), ("2", "2")]


def test_a_spreadsheets_byte_order_mark_and_quotes_are_read(folder: Path) -> None:
    text = '\ufeffaudio,speaker,split,caption\r\naudio/a.wav,a,train,"Calm, ""soft""\r\nand slow"\r\n\r\naudio/x.wav,b,test,\r\n'
    path = folder / "m.csv"
    path.write_bytes(text.encode())
    with pytest.raises(RequestError, match=r"line 5: audio 'audio/x.wav' does not exist"):
        open_manifest(path)
    path.write_bytes(text.replace("x.wav", "b.wav").encode())
    assert open_manifest(path).clips[0].caption == 'Calm, "soft"\r\nand slow'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angr": 1}, "line 2: the column 'angr' is neither a field nor a target; did you mean anger"),
        ({"spaeker": "x"}, "line 2: the column 'spaeker' is neither a field nor a target; did you mean speaker"),
        ({"Anger": 1}, "line 2: 'Anger' is a second column for anger"),
        ({"anger": 5}, "line 2: anger is 5; expected 0 to 4"),
        ({"anger": -0.5}, "line 2: anger is -0.5; expected 0 to 4"),
        ({"anger": "high"}, "line 2: anger is 'high', which is not a finite number"),
        ({"anger": True}, "line 2: anger is True, which is not a finite number"),
        ({"anger": math.inf}, "line 2: anger is inf, which is not a finite number"),
        ({"audio": "audio/x.wav"}, "line 2: audio 'audio/x.wav' does not exist"),
        ({"audio": "audio"}, "line 2: audio 'audio' is not a file"),
        ({"audio": math.nan}, "line 2: audio is empty (nan)"),
        ({"audio": ""}, "line 2: audio is empty ('')"),
        ({"audio": ["a"]}, "line 2: audio is ['a'], which is not text"),
        ({"speaker": "nan"}, "line 2: speaker is empty ('nan')"),
        ({"speaker": None}, "line 2: speaker is empty (None)"),
        ({"split": "dev"}, "line 2: split 'dev' is none of train, validation, test; did you mean validation?"),
        ({"split": "Test"}, "line 2: split 'Test' is none of train, validation, test; did you mean test?"),
        ({"split": "fold1"}, "line 2: split 'fold1' is none of train, validation, test"),
        ({"split": ""}, "line 2: split is empty ('')"),
        ({"start": 1, "end": 1}, "line 2: start 1 s is not before end 1 s"),
        ({"start": -1}, "line 2: start is -1 s, before the audio begins"),
        ({"end": "soon"}, "line 2: end is 'soon', which is not a finite number"),
        ({"weight": -1}, "line 2: weight is -1; weights are 0 or more"),
        ({"weight.Anger": "much"}, "line 2: weight.anger is 'much', which is not a finite number"),
        ({"weight.angr": 1}, "line 2: the column 'weight.angr' is neither a field nor a target"),
        ({"audio": "audio/a.wav"}, "line 2: the id 'audio/a.wav' is already that of line 1; ids are unique"),
    ],
)
def test_each_problem_names_its_line(changes: dict[str, Any], message: str, folder: Path) -> None:
    text = problem(folder, rows(**changes))
    assert message in text
    assert "the manifest has 1 problem\n" in text
    assert str(folder / "m.jsonl") in text


def test_weights_of_clips_and_of_single_scores(folder: Path) -> None:
    table = rows(**{"weight": 0.5, "weight.Jealousy_&_Envy": 3})
    table[0] |= {"weight": None, "weight.Jealousy_&_Envy": 2}
    corpus = open_manifest(write(folder / "m.jsonl", table))
    weights, jealousy = corpus.weights(), corpus.targets.index("jealousy")
    assert weights[:, jealousy].tolist() == [2.0, 1.5, 1.0]
    assert weights[:, corpus.targets.index("anger")].tolist() == [1.0, 0.5, 1.0]
    plain = open_manifest(write(folder / "plain.jsonl", rows()))
    assert (plain.weights() == 1).all()
    assert plain.fingerprint == corpus.fingerprint


def test_nan_and_empty_ids_are_problems(folder: Path) -> None:
    table = [{**row, "id": value} for row, value in zip(rows(), ["nan", "", "c"], strict=True)]
    text = problem(folder, table, ".csv")
    assert "line 2: id is empty ('nan')" in text
    assert "line 3: id is empty ('')" in text


def test_rows_of_parquet_are_counted_from_one(folder: Path) -> None:
    assert "row 2: anger is 9; expected 0 to 4" in problem(folder, rows(anger=9.0), ".parquet")


def test_a_field_that_some_rows_lack_is_a_problem(folder: Path) -> None:
    table = rows()
    del table[2]["split"]
    del table[1]["speaker"]
    text = problem(folder, table)
    assert "line 3: split is missing, other rows have it" in text
    assert "line 2: speaker is missing, other rows have it" in text


def test_all_problems_come_in_one_message(folder: Path) -> None:
    table = rows(anger=7, audio="audio/x.wav", split="dev")
    table[2] |= {"audio": "audio/a.wav", "start": 2, "end": 1, "id": "audio/a.wav"}
    table[0]["id"] = table[1]["id"] = "audio/a.wav"
    text = problem(folder, table)
    assert "the manifest has 6 problems" in text
    assert text.count("\n    - ") == 6
    many = problem(folder, rows() * 20)
    assert "the manifest has 57 problems" in many
    assert many.count("\n    - ") == 1
    assert "line 4: the id 'audio/a.wav' is already that of line 1" in many
    assert "the same 56 more times: line 5, line 6, line 7, line 8, line 9, ..." in many


def test_two_splits_sharing_a_speaker_raise(folder: Path) -> None:
    assert "speaker 'a' is in train and validation; a speaker belongs to one split" in problem(
        folder, rows(speaker="a")
    )


def test_neither_speakers_nor_splits_is_refused_and_splits_alone_are_marked(folder: Path) -> None:
    table = [{"audio": row["audio"], "anger": 1} for row in rows()]
    assert "neither a column `speaker` nor a column `split`" in problem(folder, table)
    table = [{k: v for k, v in row.items() if k != "speaker"} for row in rows()]
    corpus = open_manifest(write(folder / "m.csv", table))
    assert corpus.note == ANONYMOUS
    assert [clip.speaker for clip in corpus.clips] == [clip.id for clip in corpus.clips]


def test_without_splits_the_speakers_are_dealt_out(folder: Path) -> None:
    table = [{"audio": f"audio/{n}.wav", "speaker": n} for n in "abcd"]
    splits = {clip.speaker: clip.split for clip in open_manifest(write(folder / "m.csv", table)).clips}
    assert splits == split_speakers("dcba")
    text = problem(folder, table[:2], ".csv")
    assert "too few speakers for a speaker-disjoint split" in text
    assert "found:    2 (" in text
    assert "a column `split`" in text


@given(st.sets(st.text(), min_size=3, max_size=60).filter(lambda names: len({person(name) for name in names}) >= 3))
def test_dealing_out_depends_on_the_speakers_alone(speakers: set[str]) -> None:
    splits = split_speakers([*speakers, *speakers])
    assert splits == split_speakers(sorted(speakers, reverse=True))
    assert set(splits) == speakers
    people = {person(name): split for name, split in splits.items()}
    assert all(people[person(name)] == split for name, split in splits.items())
    counts = {split: list(people.values()).count(split) for split in ("train", "validation", "test")}
    assert counts["test"] == counts["validation"] == max(1, round(0.15 * len(people)))
    assert counts["train"] >= 1


def test_audio_that_cannot_be_used_is_rejected_not_lost(folder: Path) -> None:
    (folder / "audio/a.wav").write_bytes(b"")
    table = [*rows(start=1.5, end=1.55), {**rows()[2], "id": "late", "start": 9, "anger": 1}]
    table += [{**rows()[2], "id": "over", "end": 2.5}, {**rows()[2], "id": "rounded", "end": 2.05}]
    for n, row in enumerate(table):
        row.setdefault("id", str(n))
    corpus = open_manifest(write(folder / "m.jsonl", table))
    assert {clip.id: clip.seconds for clip in corpus.clips} == {"2": 2.0, "rounded": 2.0}
    assert [(rejection.id, rejection.reason) for rejection in corpus.rejected] == [
        ("0", "0 bytes"),
        ("1", "only 50 ms of audio"),
        ("late", "starts at 9 s, but the audio has 2.00 s"),
        ("over", "ends at 2.5 s, but the audio has 2.00 s"),
    ]


def test_files_that_are_no_manifest_say_so(folder: Path) -> None:
    def refused(name: str, content: bytes | None, message: str) -> None:
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(RequestError, match=message):
            open_corpus(f"manifest:{folder / name}")

    refused("none.csv", None, r"(?s)manifest does not exist.*none\.csv.*no such path")
    refused("audio", None, r"(?s)manifest does not exist.*found: +a folder")
    refused("m.xlsx", b"", r"(?s)unknown kind.*\.csv, \.tsv, \.jsonl, \.ndjson, \.parquet.*\.xlsx")
    refused("m.parquet", b"PAR1 but no more", r"not a readable Parquet file")
    refused("latin.csv", "audio,speaker\nä.wav,x\n".encode("latin-1"), r"(?s)not UTF-8 text.*byte 0xe4.*encoding UTF-8")
    refused("twice.csv", b"audio,anger,anger\n", r"names a column twice")
    refused("empty.csv", b"", r"(?s)no usable clip.*found: +none")
    refused("header.csv", b"audio,speaker\n", r"no usable clip")
    refused("ragged.csv", b"audio,speaker\naudio/a.wav\n", r"line 2: 1 cell where the header has 2")
    refused("m.jsonl", b'{"audio": \n[1]\n', r"(?s)line 1: not JSON: .*line 2: a JSON object is expected, not list")
    long = b'{"anger": ' + b"9" * 5000 + b"}\n"
    refused("long.jsonl", long, r"line 1: not JSON: a whole number has more than 4,300 digits")
    refused("deep.jsonl", b"[" * 200_000 + b"\n", r"line 1: not JSON: lists or objects are nested too deeply")
    refused("huge.csv", b'audio,speaker\n"' + b"x" * 200_000 + b'",a\n', r"not a readable CSV file")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_without_a_column_audio_there_is_one_problem(suffix: str, folder: Path) -> None:
    table = [{"sound": row.pop("audio"), **row} for row in rows()]
    assert problem(folder, table, suffix).splitlines() == [
        "there is no column `audio`; found: sound, speaker, split, anger",
        f"  where:    {folder / 'm'}{suffix}",
        "  try:      docs/corpora.md describes the columns",
    ]


def test_a_row_of_json_without_audio_is_one_problem_among_others(folder: Path) -> None:
    table = rows()
    del table[1]["audio"]
    assert "line 2: audio is missing" in problem(folder, table)


@pytest.mark.parametrize(("separator", "name"), [(";", r"semicolons \(;\)"), ("\t", "tabs")])
def test_a_table_with_other_separators_says_so(separator: str, name: str, folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text(separator.join(("audio", "speaker", "anger")) + "\n" + separator.join(("a.wav", "a", "1,5")) + "\n")
    with pytest.raises(RequestError, match=rf"(?s)looks separated by {name}.*m\.csv, line 1.*CSV with commas"):
        open_manifest(path)


@pytest.mark.parametrize(("suffix", "place"), [(".csv", "line 1"), (".parquet", "columns"), (".jsonl", "line 1")])
def test_problems_of_the_header_are_told_once_and_where_it_is(suffix: str, place: str, folder: Path) -> None:
    table = [{**row, "Anger": 1.5, "angr": 1.5} for row in rows()]
    if suffix == ".jsonl":
        table = [table[0], *rows()[1:]]
    text = problem(folder, table, suffix)
    assert "the manifest has 2 problems" in text
    assert f"{place}: 'Anger' is a second column for anger" in text
    assert f"{place}: the column 'angr' is neither a field nor a target" in text


def test_names_that_nearly_fit_are_found_and_told(folder: Path) -> None:
    (folder / "audio/a.wav").rename(folder / "audio/Ärger 1.wav")
    table = rows()
    for row, audio in zip(table, ["audio/%C3%84rger%201.wav", "audio\\b.wav", "Audio/C.WAV"], strict=True):
        row["audio"] = audio
    corpus = open_manifest(write(folder / "m.csv", table))
    assert [clip.audio for clip in corpus.clips] == [folder / f"audio/{name}.wav" for name in ("Ärger 1", "b", "c")]
    assert [clip.id for clip in corpus.clips] == [row["audio"] for row in table]
    assert corpus.warnings == (
        "3 recordings were found under other spellings of their names: "
        "'audio/%C3%84rger%201.wav' (line 2) is audio/Ärger 1.wav, ...",
    )
    for name in ("x.wav", "X.wav"):
        (folder / name).touch()
    assert "audio 'x.WAV' does not exist, and several files nearly fit: X.wav, x.wav" in problem(
        folder, rows(audio="x.WAV")
    )


@pytest.mark.parametrize(
    ("column", "asked"),
    [
        ("angr", "; did you mean anger?"),
        ("naturalness", "\n"),
        ("emotion", "\n"),
        ("text", "\n"),
        ("Unnamed: 0", "; it looks like pandas' row numbers: write the table without its index (index=False)"),
    ],
)
def test_only_near_columns_are_suggested(column: str, asked: str, folder: Path) -> None:
    assert f"the column {column!r} is neither a field nor a target{asked}" in problem(folder, rows(**{column: 1}))


def test_several_raters_of_one_clip_are_told_what_to_do(folder: Path) -> None:
    table = [*rows(), {**rows()[0], "anger": 3}]
    assert (
        "line 4: the id 'audio/a.wav' is already that of line 1; ids are unique "
        "(one row for each clip: average the scores of several raters, or give each row an `id` of its own)"
    ) in problem(folder, table)
    for number, row in enumerate(table):
        row["id"] = number
    assert len(open_manifest(write(folder / "m.jsonl", table))) == 4


def test_one_cause_is_told_once_and_its_consequences_not_at_all(folder: Path) -> None:
    table = [{**rows()[0], "audio": {"sound": n}} for n in range(24)]
    assert problem(folder, table).splitlines()[:2] == [
        "the manifest has 24 problems",
        "    - line 1: audio is {'sound': 0}, which is not text; the same 23 more times: "
        "line 2, line 3, line 4, line 5, line 6, ...",
    ]


def test_parts_that_differ_in_the_seventh_digit_have_ids_of_their_own(folder: Path, make_wav: MakeWav) -> None:
    make_wav("long.wav", seconds=2, rate=8000)
    table = [{"audio": "long.wav", "split": "train", "start": start} for start in (1.0000001, 1.0000002, 1.0000003)]
    clips = open_manifest(write(folder / "m.jsonl", table)).clips
    assert [clip.id for clip in clips] == ["long.wav#1-", "long.wav#1.0000002-", "long.wav#1.0000003-"]
    assert [clip.speaker for clip in clips] == [clip.id for clip in clips]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_numbers_are_the_same_ids_however_they_are_held(suffix: str, folder: Path) -> None:
    table = [{**row, "id": float(n), "speaker": n + 0.0} for n, row in enumerate(rows())]
    clips = open_manifest(write(folder / f"m{suffix}", table)).clips
    assert [(clip.id, clip.speaker) for clip in clips] == [("0", "0"), ("1", "1"), ("2", "2")]


def test_ids_that_look_like_one_person_across_tables_are_a_likely_leak(folder: Path) -> None:
    zeros = [{"id": f"z{n}", "audio": "audio/a.wav", "speaker": f"0{n}", "split": s} for n, s in enumerate(SPLITS)]
    plain = [{"id": f"p{n}", "audio": "audio/a.wav", "speaker": n, "split": s} for n, s in enumerate(SPLITS[::-1])]
    for table in (zeros, plain):
        for n, row in enumerate(table):
            row["audio"] = f"audio/{'abc'[n if table is zeros else 2 - n]}.wav"
    specs = [f"manifest:{write(folder / name, table)}" for name, table in (("z.csv", zeros), ("p.parquet", plain))]
    with pytest.raises(
        RequestError,
        match=r"look like 2 speakers would be in several splits .*leading zeros.*'0' \(test\) and '00' \(train\).*1 more",
    ):
        open_corpus("+".join(specs))
    together = [*zeros, {**zeros[0], "id": "again", "speaker": "0"}]
    corpus = open_manifest(write(folder / "m.csv", together))
    assert corpus.warnings == (
        "what looks like one speaker may have several ids, which differ only in leading zeros, case, spaces or "
        "Unicode form: '0' and '00'",
    )


def test_ids_that_look_like_one_person_are_dealt_out_as_one(folder: Path) -> None:
    table = [{"audio": f"audio/{n}.wav", "speaker": s} for n, s in zip("abcd", ("01", "2", "3", "1"), strict=True)]
    clips = open_manifest(write(folder / "m.csv", table)).clips
    assert clips[0].split == clips[3].split
    assert {clip.split for clip in clips} == set(SPLITS)


def test_one_recording_in_two_splits_is_refused_under_whatever_path(folder: Path) -> None:
    (folder / "link.wav").symlink_to(folder / "audio/a.wav")
    (folder / "audio/hard.wav").hardlink_to(folder / "audio/a.wav")
    for audio in ("audio/../audio/a.wav", "link.wav", "audio/hard.wav", "Audio/A.wav"):
        table = [*rows(), {"audio": audio, "speaker": "x", "split": "test"}]
        with pytest.raises(
            RequestError, match=rf"same recording is in two splits: 'audio/a.wav' \(train\) and '{audio}'"
        ):
            open_manifest(write(folder / "m.jsonl", table))
    halves = rows(audio="audio/a.wav", start=1)
    halves[0]["end"] = 1
    assert len(open_manifest(write(folder / "m.jsonl", halves))) == 3


def test_captions_that_a_captioner_cannot_learn_are_named_with_their_lines(folder: Path) -> None:
    table = rows(caption="A calm voice<|endoftext|> after <|0.00|>all.")
    table[0]["caption"] = "She sounds very angry indeed; " * 120
    table[2]["caption"] = "joy " * 300
    assert open_manifest(write(folder / "m.csv", table)).warnings == (
        "line 2: the caption has 720 tokens, more than the 444 that a captioner takes: emonet pretrain refuses it, "
        "unless it is of a test clip",
        "line 3: the caption holds <|endoftext|>, <|0.00|>, which is no token there but text like any other",
    )


def test_half_a_character_in_json_is_spelled(folder: Path) -> None:
    corpus = open_manifest(write(folder / "m.jsonl", rows(speaker="\ud83d", caption="\udfff")))
    assert (corpus.clips[1].speaker, corpus.clips[1].caption) == (r"\ud83d", r"\udfff")


def test_scores_stand_in_the_order_of_the_columns(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("audio,speaker,split,fear,anger\naudio/a.wav,a,train,,1\naudio/b.wav,b,train,2,3\n")
    assert [[*clip.scores.items()] for clip in open_manifest(path).clips] == [
        [("anger", 1)],
        [("fear", 2), ("anger", 3)],
    ]


def test_names_in_each_of_several_tables_start_from_its_folder(folder: Path, make_wav: MakeWav) -> None:
    for name, seconds in (("x", 1.0), ("y", 2.0)):
        make_wav(f"{name}/one.wav", seconds=seconds)
        write(folder / name / "m.csv", [{**row, "audio": "one.wav", "id": name} for row in rows()[:1]])
    clips = open_manifest(folder / "*/m.csv").clips
    assert [(clip.id, clip.audio, clip.seconds) for clip in clips] == [
        ("x", folder / "x/one.wav", 1.0),
        ("y", folder / "y/one.wav", 2.0),
    ]
    for name in "xy":
        write(folder / name / "m.csv", [{**row, "audio": "one.wav"} for row in rows()[:1]])
    with pytest.raises(RequestError, match="two recordings have the same path: give each an `id` of its own"):
        open_manifest(folder / "*/m.csv")


def test_a_name_that_is_too_long_is_no_manifest(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)the manifest does not exist.*no such path"):
        open_manifest(folder / f"{'x' * 300}.csv")
