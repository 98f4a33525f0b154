from __future__ import annotations

import codecs
import datetime as dt
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emonet.errors import RequestError
from emonet.segments import Segment, read_segments, write_segments
from emonet.segments.reading import one_line
from emonet.tables import is_missing

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(one_line)
TIMES = st.floats(0, 90_000, allow_subnormal=False)
STEP = {".csv": 1e-9, ".rttm": 2e-6, ".TextGrid": 1e-9, ".srt": 1.51e-3, ".vtt": 1.51e-3, ".eaf": 1.51e-3}


def _kept(suffix: str, one: Segment) -> bool:
    name = one.speaker
    if suffix == ".csv":
        return not is_missing(name) or name == ""
    if suffix == ".rttm":
        return " " not in name and name != "<NA>"
    if suffix == ".srt":
        words = f"{one.text}{name}"
        return not set("]<{") & set(words) and "-->" not in words and not one.text.startswith("[")
    return suffix != ".TextGrid" or (name != one.text or not name)


@st.composite
def _segments(draw: st.DrawFn) -> list[Segment]:
    found = []
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, 90_000_000))  # ms
        end = start + draw(st.integers(1, 60_000))
        found.append(Segment(start / 1000, end / 1000, draw(NAMES), None, draw(NAMES)))
    return found


@pytest.mark.parametrize("suffix", STEP)
@settings(max_examples=40)
@given(segments=_segments())
def test_what_is_written_reads_back(
    suffix: str, segments: list[Segment], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"written{suffix}"
    if kept := [one for one in segments if _kept(suffix, one)]:
        write_segments(path, kept, seconds=100_000)
        if suffix == ".rttm":
            kept = [replace(one, text="") for one in kept]
        assert read_segments(path) == {"written" if suffix == ".rttm" else "": tuple(sorted(kept))}


@pytest.mark.parametrize("suffix", STEP)
@settings(max_examples=40)
@given(start=TIMES, seconds=st.floats(1e-4, 100))
def test_times_read_back_as_exactly_as_they_are_written(
    suffix: str, start: float, seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"timed{suffix}"
    write_segments(path, [Segment(start, start + seconds)])
    ((one,),) = read_segments(path).values()
    assert (one.start, one.end) == pytest.approx((start, start + seconds), abs=STEP[suffix], rel=0)


def _read(tmp_path: Path, name: str, content: str | bytes) -> dict[str, tuple[Segment, ...]]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_segments(path)


def test_tables_of_all_kinds(tmp_path: Path) -> None:
    wanted = {"a.wav": (Segment(1.5, 3, "7", 1, "NA"), Segment(2, 4)), "b.wav": (Segment(0, 90.25),)}
    cells = "path,Start,end,speaker,channel,text,rating\r\n"
    cells += "a.wav,2,4,,,,x\r\nb.wav,0 days,0 days 00:01:30.25,,,,\r\na.wav,00:00:01.5,3 s,7.0,1.0,NA,\r\n"
    assert _read(tmp_path, "s.csv", codecs.BOM_UTF8 + cells.encode()) == wanted
    assert _read(tmp_path, "s.tsv", cells.replace(",", "\t")) == wanted
    table = pd.read_csv(tmp_path / "s.csv", keep_default_na=False)
    table = table.assign(Start=pd.to_timedelta(["2s", "0s", "1.5s"]), end=pd.to_timedelta(["4s", "90.25s", "3s"]))
    table.to_parquet(tmp_path / "s.parquet")
    assert read_segments(tmp_path / "s.parquet") == wanted
    assert _read(tmp_path, "n.csv", "start,end\n0,1\n") == {"": (Segment(0, 1),)}


RTTM = """SPKR-INFO a 1 <NA> <NA> <NA> unknown A <NA> <NA>
SPEAKER a 1 0.50 1.25 <NA> <NA> A <NA> <NA>
SPEAKER\ta\t1\t1.0 3 <NA> <NA> B <NA>

SPEAKER b 1 0 .5 <NA> <NA> <NA> <NA> <NA>
"""


def test_rttm(tmp_path: Path) -> None:
    a = (Segment(0.5, 1.75, "A"), Segment(1, 4, "B"))
    assert _read(tmp_path, "s.rttm", RTTM) == {"a": a, "b": (Segment(0, 0.5),)}
    assert _read(tmp_path, "s.RTTM", RTTM.replace("\n", "\r\n")) == {"a": a, "b": (Segment(0, 0.5),)}
    channels = _read(tmp_path, "c.rttm", RTTM.replace("b 1", "b 2"))
    assert [one.channel for one in channels["a"]] == [0, 0]
    assert channels["b"][0].channel == 1
    write_segments(tmp_path / "w.rttm", channels["a"] + (Segment(0, 1, "A b", 3, "text"),), recording="x/my call.wav")
    assert read_segments(tmp_path / "w.rttm")["my_call"][0] == Segment(0, 1, "A_b", 3)


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.3 ! the end
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Ann"
        xmin = 0
        xmax = 2.3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "she said ""oh!"" 3 times"
        intervals [3]:
            xmin = 1.25
            xmax = 2.3
            text = "ä
b"
    item [2]:
        class = "TextTier"
        name = "peaks"
        xmin = 0
        xmax = 2.3
        points: size = 1
        points [1]:
            number = 1
            mark = "x"
    item [3]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.3
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2.3
            text = "all"
"""
SHORT = """File type = "ooTextFile short"
"TextGrid"

0
2.3
<exists>
1
"IntervalTier"
"speaker"
0
2.3
2
0
1
"Ann"
1
2.3
"Ben"
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"])
def test_textgrids(tmp_path: Path, encoding: str) -> None:
    ann = (Segment(0.5, 1.25, "Ann", text='she said "oh!" 3 times'), Segment(1.25, 2.3, "Ann", text="ä b"))
    found = _read(tmp_path, "l.TextGrid", LONG.replace("\n", "\r\n").encode(encoding))
    assert found == {"": (Segment(0, 2.3, text="all"), *ann)}
    assert _read(tmp_path, "s.textgrid", SHORT.encode(encoding)) == {"": (Segment(0, 1, "Ann"), Segment(1, 2.3, "Ben"))}


def test_subtitles(tmp_path: Path) -> None:
    srt = "1\n00:00:01,500 --> 00:00:04,000\n<i>Well,</i>\n[x] no\n\n2\n1:00:05.25 --> 01:00:06,1\n[Ann]: 42\n\n"
    srt += "3\n00:00:07,000 --> 00:00:08,000\n\n4\n00:00:09,000 --> 00:00:10,000 X1:40 X2:600\n12\n"
    wanted = (
        Segment(1.5, 4, text="Well, [x] no"),
        Segment(7, 8),
        Segment(9, 10, text="12"),
        Segment(3605.25, 3606.1, "Ann", text="42"),
    )
    assert _read(tmp_path, "s.srt", srt) == {"": wanted}
    assert _read(tmp_path, "s.srt", codecs.BOM_UTF8 + srt.replace("\n", "\r\n").encode()) == {"": wanted}
    vtt = "WEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE 00:01 is nothing\n\nfirst\n"
    vtt += "00:01.500 --> 00:04.000 align:start position:0%\n<v.loud Ann B>Well &amp; <c.x>good</c></v>\n<v Ben>no\n\n"
    vtt += "10:00:05.000 --> 10:00:06.000\nplain\n2nd line\n"
    assert _read(tmp_path, "s.vtt", vtt) == {
        "": (
            Segment(1.5, 4, "Ann B", text="Well & good"),
            Segment(1.5, 4, "Ben", text="no"),
            Segment(36005, 36006, text="plain 2nd line"),
        )
    }


RTTM_LINE = "SPEAKER a 1 {} {} <NA> <NA> A <NA> <NA>\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.rttm", RTTM_LINE.format("1", "-1"), r"line 1: ends at 0 s, which is not behind its start at 1 s"),
        ("s.rttm", RTTM_LINE.format("-1", "3"), r"line 1: starts at -1 s, before the recording begins"),
        ("s.rttm", RTTM_LINE.format("nan", "3"), r"line 1: nan to nan s is no part of a recording"),
        ("s.rttm", RTTM_LINE.format("1,5", "3"), r"line 1: start '1,5' is no number of seconds"),
        ("s.rttm", "SPEAKER a 1 0\n", r"line 1: 4 fields where a SPEAKER line has 9 or 10"),
        (
            "s.rttm",
            RTTM_LINE.replace(" 1 ", " x ").format(0, 1),
            r"line 1: channel 'x' is none: they are counted from 1",
        ),
        (
            "s.rttm",
            RTTM_LINE.format("2", "0") * 5 + RTTM_LINE.format("x", "1"),
            r"(?s)has 6 problems.*line 6: start 'x'.*line 1: ends at 2.*the same 4 more times: line 2, line 3, line 4, line 5\n",
        ),
        ("s.rttm", "", r"(?s)there is no segment.*an empty file"),
        ("s.rttm", "<html>", r"(?s)there is no segment.*no segment as \.rttm files have them"),
        ("s.csv", "begin,end\n1,2\n", r"(?s)there is no column `start`; found: begin, end.*columns start, end"),
        ("s.csv", "start,end\n1,\n", r"line 2: end is missing"),
        ("s.csv", "start,end\n1,soon\n", r"line 2: end is 'soon', which is no number of seconds and no time"),
        ("s.csv", "start,end\n3,1\n", r"line 2: ends at 1 s, which is not behind"),
        ("s.csv", "start,end\n1,2,3\n", r"line 2: 3 cells where the header has 2"),
        ("s.csv", "start,end,channel\n1,2,left\n", r"line 2: channel 'left' is none: they are counted from 0"),
        ("s.csv", "start,end,channel\n1,2,1e300\n", r"line 2: channel '1e300' is none"),
        ("s.srt", f"{'9' * 5000}:00:01,5 --> 00:00:02,5\n", r"line 1: .* is no line of two times"),
        ("s.csv", "start;end\n1;2\n", r"the table of segments looks separated by semicolons"),
        ("s.csv", "start,end\nä,1\n".encode("latin-1"), r"(?s)the table of segments is not UTF-8 text.*byte 0xe4"),
        ("s.srt", "00:00:01,5 -> 2\n", r"no segment as \.srt files have them"),
        ("s.srt", "1\n00:00:61,5 --> 00:00:62,5\n", r"line 2: '00:00:61,5 --> 00:00:62,5' is no line of two times"),
        ("s.srt", "1\n-00:00:01,5 --> 00:00:02,5\n", r"line 2: .* is no line of two times"),
        ("s.srt", "1\n00:00:03,5 --> 00:00:02,5\n", r"line 2: ends at 2\.5 s"),
        (
            "s.srt",
            "1\n00:00:01,5 --> 00:00:02,5\nä\n".encode("cp1252"),
            r"(?s)not UTF-8 text.*byte 0xe4 at position 28",
        ),
        ("s.vtt", "1\n00:01.5 --> 00:02.5\n", r"line 1: a WebVTT file begins with WEBVTT"),
        ("s.vtt", "WEBVTT\n\n00:03.000 --> 00:02.000\nx\n", r"line 3: ends at 2 s"),
        ("s.TextGrid", SHORT.replace("TextGrid", "Pitch"), r'line 2: an object of class .Pitch., where "TextGrid"'),
        ("s.TextGrid", SHORT[:-8], r"the file ends where a label should be"),
        ("s.TextGrid", SHORT.replace("1\n2.3\n", "2.3\n2.3\n"), r"line 16: ends at 2\.3 s, which is not behind"),
        ("s.TextGrid", SHORT.replace("1\n2.3\n", "--undefined--\n2.3\n"), r"line 16: nan to 2\.3 s is no part"),
        ("s.TextGrid", SHORT.replace('"Ann"', "Ann"), r"line 16: '1' stands where a label should be"),
        ("s.TextGrid", SHORT.replace("\n2\n0\n", "\n-2\n0\n"), r"line 12: -2 is no number of intervals"),
        ("s.eaf", "<a><b></a>", r"line 1: not XML: mismatched tag"),
        ("s.xyz", "", r"(?s)not kept in files of this kind.*\.TextGrid.*\.xyz"),
        ("s.vtt", codecs.BOM_UTF16_LE + b"a", r"(?s)not UTF-8 text.*position 2"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        _read(tmp_path, name, content)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)the file of segments does not exist.*no such path"):
        read_segments(tmp_path / "no.rttm")
    with pytest.raises(RequestError, match=r"(?s)not kept in files of this kind.*\.docx"):
        write_segments(tmp_path / "a.docx", [Segment(0, 1)])


def test_segments_without_a_channel_come_first() -> None:
    both = [Segment(0, 1, "a", 0), Segment(0, 1, "a")]
    assert sorted(both) == both[::-1]


TALK = [Segment(0.5, 1.25, "Ann", text="oh"), Segment(1, 2, "Ann", text="no"), Segment(1, 2.5, "Ben", text="a & b")]


def test_praatio_reads_our_textgrids(tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio is not installed")
    write_segments(tmp_path / "t.TextGrid", TALK, seconds=3)
    grid = textgrid.openTextgrid(str(tmp_path / "t.TextGrid"), includeEmptyIntervals=False, duplicateNamesMode="rename")
    assert (grid.tierNames, grid.maxTimestamp) == (("Ann", "Ann_2", "Ben"), 3)
    assert [tuple(one) for one in grid.getTier("Ben").entries] == [(1, 2.5, "a & b")]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_pysubs2_reads_our_subtitles(tmp_path: Path, suffix: str) -> None:
    pysubs2 = pytest.importorskip("pysubs2", reason="pysubs2 is not installed")
    write_segments(tmp_path / f"t{suffix}", TALK)
    found = pysubs2.load(str(tmp_path / f"t{suffix}"))
    assert [(one.start, one.end) for one in found] == [(500, 1250), (1000, 2000), (1000, 2500)]


def test_elan(tmp_path: Path) -> None:
    write_segments(tmp_path / "t.eaf", TALK, recording="talk.wav")
    assert read_segments(tmp_path / "t.eaf") == {"": tuple(TALK)}
    text = (tmp_path / "t.eaf").read_text()
    for part in ('MEDIA_URL="talk.wav"', 'TIER_ID="Ann 2" PARTICIPANT="Ann"', 'TIME_VALUE="1250"'):
        assert part in text
    broken = text.replace('TIME_SLOT_ID="ts1"', 'TIME_SLOT_ID="ts99"')
    with pytest.raises(RequestError, match="annotation a1: its times are not known"):
        _read(tmp_path, "b.eaf", broken)


@pytest.mark.parametrize("suffix", list(STEP))
def test_what_is_written_does_not_depend_on_the_clock(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_segments(path, [Segment(0, 1, "anna", None, "one")], recording="a", seconds=2)
    assert str(dt.datetime.now(dt.UTC).year) not in path.read_text("utf-8").replace("http://", "")
