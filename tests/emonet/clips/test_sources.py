from __future__ import annotations

from pathlib import Path

from emonet.clips import Sources, listing_of, stamp_of


def test_files_are_stamped(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"abc")
    size, time = stamp_of(str(file))
    assert size == 3
    assert time == max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    assert stamp_of(str(tmp_path / "none.wav")) == (-1, -1)


def test_objects_at_addresses_are_no_files(tmp_path: Path) -> None:
    sources = Sources()
    sources.add_recordings([str(tmp_path / "none.wav"), "s3://bucket/a.tar"])
    assert (sources.recordings, [*sources.sizes], [*sources.times]) == ([str(tmp_path / "none.wav")], [-1], [-1])


def test_a_table_that_is_no_file_leaves_the_sources_unknown(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.touch()
    sources = Sources()
    sources.add_tables([str(table)], str(table))
    assert sources.whole
    sources.add_tables(["s3://bucket/m.csv"], "s3://bucket/m.csv")
    assert not sources.whole


def test_listings_follow_names_at_any_depth(tmp_path: Path) -> None:
    found = [listing_of(tmp_path)]
    for name in ("a.wav", "b/a.wav", "b/.hidden", "b/c.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        found.append(listing_of(tmp_path))
    assert found[3] == found[2], "hidden files are passed over"
    assert len(set(found)) == 4
    (tmp_path / "a.wav").write_bytes(b"longer")
    assert listing_of(tmp_path) == found[-1]
