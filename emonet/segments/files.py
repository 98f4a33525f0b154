"""Files of segments, read and written by their suffix: CSV, RTTM, TextGrid, SRT, WebVTT, ELAN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from emonet.errors import RequestError, raise_collected
from emonet.names import as_text
from emonet.runtime import durable
from emonet.segments.eaf import eaf_text, read_eaf
from emonet.segments.reading import Reading, decoded
from emonet.segments.rttm import read_rttm, rttm_text
from emonet.segments.segment import Segment
from emonet.segments.subtitles import read_srt, read_vtt, srt_text, vtt_text
from emonet.segments.table import read_table, table_text
from emonet.segments.textgrid import read_textgrid, textgrid_text
from emonet.tables import SUFFIXES

_READERS: Mapping[str, Callable[[str, Reading], None]] = {
    ".rttm": read_rttm,
    ".textgrid": read_textgrid,
    ".srt": read_srt,
    ".vtt": read_vtt,
    ".eaf": read_eaf,
}
_WRITERS: Mapping[str, Callable[[Sequence[Segment], str, float], str]] = {
    ".csv": table_text,
    ".rttm": rttm_text,
    ".textgrid": textgrid_text,
    ".srt": srt_text,
    ".vtt": vtt_text,
    ".eaf": eaf_text,
}
_KINDS = "a .csv, .rttm, .TextGrid, .srt, .vtt or .eaf file"


def read_segments(path: Path) -> dict[str, tuple[Segment, ...]]:
    """The segments in a file, by its suffix; they may overlap.

    Args:
        path: a `.rttm`, `.TextGrid`, `.srt`, `.vtt` or `.eaf` file in UTF-8 or UTF-16, or a table (`.csv`, `.tsv`,
            `.jsonl`, `.parquet`) with columns `start` and `end`.

    Returns:
        Recording's name, as the file has it ("" where it names none) -> its segments, by time.

    Raises:
        RequestError: if the file cannot be read, holds no segment, or anything in it is wrong; all problems with their
            lines.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such path"
        raise RequestError("the file of segments does not exist", where=as_text(path), expected=_KINDS, found=found)
    reading = Reading()
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        reader(_text(path), reading)
    elif path.suffix.lower() in SUFFIXES:
        read_table(path, reading)
    else:
        raise _unknown(path)
    problems = reading.problems.lines()
    count = f"{len(reading.problems)} problem{'s' * (len(reading.problems) != 1)}"
    raise_collected(
        f"the file of segments has {count}", problems, where=as_text(path), hint="docs/predicting.md#segments"
    )
    if not reading.segments:
        found = "an empty file" if not path.stat().st_size else f"no segment as {path.suffix} files have them"
        raise RequestError("there is no segment", where=as_text(path), expected="at least one", found=found)
    return {recording: tuple(sorted(segments)) for recording, segments in reading.segments.items()}


def write_segments(path: Path, segments: Iterable[Segment], *, recording: str = "", seconds: float = 0.0) -> None:
    """Write the segments of a recording, by the file's suffix; the former file stays until the new one is whole.

    Args:
        path: a `.csv` (times to the last digit), `.rttm` (microseconds, no texts), `.TextGrid` (to the last digit),
            `.srt`, `.vtt` or `.eaf` file (milliseconds). Channels are kept by `.csv`, and by `.rttm` if there are
            several.
        segments: in any order.
        recording: its name; by default the file's own where the format needs one.
        seconds: its length, which a TextGrid states.

    Raises:
        RequestError: if the suffix is unknown.
        OSError: if the file cannot be written.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise _unknown(path)
    named = recording or (path.name if writer is rttm_text else "")
    durable.write(path, writer(sorted(segments), named, seconds).encode("utf-8"))


def _text(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise RequestError(
            "the file of segments is not UTF-8 text",
            where=as_text(path),
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            hint="save it with the encoding UTF-8",
        ) from error
    except OSError as error:
        raise RequestError(
            "the file of segments cannot be opened", where=as_text(path), found=error.strerror or str(error)
        ) from error


def _unknown(path: Path) -> RequestError:
    return RequestError(
        "segments are not kept in files of this kind",
        where=as_text(path),
        expected=_KINDS,
        found=path.suffix or "no suffix",
    )
