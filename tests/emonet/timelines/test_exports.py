from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from emonet.segments import read_segments
from emonet.timelines import read_timeline, strongest_of, timeline_table, write_timeline
from emonet.timelines.exports import labelled_segments
from tests.emonet.peers.test_hume_form import checked
from tests.emonet.timelines.timelines import SPEC, scored, timeline

TWO = timeline(
    scored(0, 1.5, "a", anger=1.7, text="hello", channel=0),
    scored(2, 3, "b", anger=0.2, flags=("no speech", "unfamiliar"), unfamiliarity=1.4, caption="calm"),
)


def test_tables_have_a_row_for_each_segment(tmp_path: Path) -> None:
    csv, parquet, document = write_timeline(TWO, tmp_path, "t", ("csv", "parquet", "json"))
    table = pd.read_csv(csv)
    assert list(table.columns) == [
        "file", "start", "end", "speaker", "channel", "text", "flags", "unfamiliarity", "caption",
        *SPEC.ids,
    ]  # fmt: skip
    assert table["anger"].tolist() == [1.7, 0.2]
    assert table["flags"].tolist()[1] == "no speech; unfamiliar"
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), timeline_table(TWO))
    assert read_timeline(document) == TWO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.json", "t.parquet"]


def test_columns_of_z_and_uncertainty_only_where_they_are_known() -> None:
    known = timeline(scored(0, 1, standardised={"anger": 2.0}, uncertainties={"fear": 0.3}), scored(1, 2))
    table = timeline_table(known)
    assert table["anger.z"].tolist()[0] == 2.0
    assert table["fear.uncertainty"].notna().tolist() == [True, False]
    assert timeline_table(timeline()).shape == (0, 13)


def test_the_strongest_are_those_far_above_the_reference() -> None:
    plain = scored(0, 1, anger=1.7)
    assert strongest_of(plain, timeline(plain), 2) == ("anger", "fear")
    common = scored(0, 1, anger=1.7, standardised={"anger": 0.1, "fear": 3.0, "sadness": 0.5, "valence": 9.0})
    assert strongest_of(common, timeline(common), 2) == ("fear", "sadness")


def test_texts_name_the_strongest_and_what_is_doubtful() -> None:
    one, two = labelled_segments(TWO)
    assert one.text == "Anger 1.7, Fear 0.5, Sadness 0.3"
    assert two.text == "Sadness 1.8, Fear 0.5, Anger 0.2 (no speech, unfamiliar) | calm"


def test_sliding_windows_share_what_overlaps() -> None:
    windows = timeline(scored(0, 3), scored(1, 4), scored(2, 5), scored(0.5, 4.5, "b"), seconds=5)
    places = [(one.start, one.end, one.speaker) for one in labelled_segments(windows)]
    assert places == [(0, 2, ""), (2, 3, ""), (3, 5, ""), (0.5, 4.5, "b")]
    within = timeline(scored(0, 10), scored(2, 3))
    assert [(one.start, one.end) for one in labelled_segments(within)] == [(0, 10), (2, 3)]


@pytest.mark.parametrize("suffix", ["vtt", "srt", "eaf", "TextGrid", "rttm"])
def test_subtitles_and_tiers(tmp_path: Path, suffix: str) -> None:
    (path,) = write_timeline(TWO, tmp_path, "t", (suffix,))
    found = [one for several in read_segments(path).values() for one in several]
    assert [(one.start, one.end) for one in found] == [(0, 1.5), (2, 3)]
    if suffix != "rttm":
        assert found[0].text.startswith("Anger 1.7")


def test_tiers_name_the_recording(tmp_path: Path) -> None:
    named = replace(TWO, audio="calls/my.first.wav")
    rttm, eaf = write_timeline(named, tmp_path, "t", ("rttm", "eaf"))
    assert set(read_segments(rttm)) == {"my.first"}
    assert 'MEDIA_URL="my.first.wav"' in eaf.read_text("utf-8")


def test_the_page_of_a_recording_that_breaks_off_does_without_its_sound(tmp_path: Path) -> None:
    broken = timeline(scored(0, 1), error="it breaks off")
    (page,) = write_timeline(broken, tmp_path, "t", ("html",), tmp_path / "gone.wav")
    assert "Anger" in page.read_text("utf-8")


def test_humes_predictions(tmp_path: Path) -> None:
    (path,) = write_timeline(TWO, tmp_path, "t", ("hume",))
    assert path.name == "t.hume.json"
    (source,) = map(checked, json.loads(path.read_text("utf-8")))
    told = [
        one for group in source.results.predictions[0].models.prosody.grouped_predictions for one in group.predictions
    ]
    assert sorted((one.time.begin, one.time.end) for one in told) == [
        (one.segment.start, one.segment.end) for one in TWO.segments
    ]
