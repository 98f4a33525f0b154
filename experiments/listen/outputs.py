"""What `emonet listen` writes per hop: a line of JSON on stdout, a row of a CSV file."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, final

from emonet.errors import RequestError

if TYPE_CHECKING:
    from emonet.inference import StreamScore


def write_line(heard: StreamScore, strongest: dict[str, float]) -> None:
    """One hop as JSON on stdout, at once.

    Raises:
        BrokenPipeError: if nobody reads any more.
    """
    line = {
        "start": round(heard.start, 3),
        "end": round(heard.end, 3),
        "late_s": round(heard.late_s, 4),
        "scores": strongest,
        "uncertainties": dict(heard.uncertainties),
        "unfamiliarity": heard.unfamiliarity,
        "notices": heard.notices,
        "skipped": heard.skipped,
        "error": heard.error,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def check_table(path: Path) -> None:
    """Whether rows can be appended to a CSV file, before anything is loaded.

    Raises:
        RequestError: if not.
    """
    if not path.parent.is_dir():
        raise RequestError(
            "the output's folder does not exist", where=path, hint=f"mkdir -p {shlex.quote(str(path.parent))}"
        )
    try:
        path.open("a").close()
    except OSError as error:
        raise RequestError("the output cannot be written", where=path, found=error.strerror or error) from error


@final
class HopTable:
    """Appends a row per hop; each is written at once, so that a kill costs none.

    Args:
        path: a new or empty file, or one of an earlier `emonet listen` of a model with the same targets.
        targets: ids, a column each.

    Raises:
        RequestError: if the file has other columns.
    """

    def __init__(self, path: Path, targets: Sequence[str]) -> None:
        self.path = path
        self._targets = targets
        columns = ["time", "start", "end", "late_s", *targets, "skipped", "notices", "error"]
        self.unwritten: str | None = None
        first = ""
        if path.is_file():  # and no device or pipe, which may have no end
            with path.open(newline="", encoding="utf-8") as file:
                first = file.readline()
        if first and next(csv.reader([first])) != columns:
            raise RequestError(
                "the table has other columns",
                where=path,
                expected=",".join(columns),
                found=first.strip(),
                hint="another file for --csv",
            )
        self._file: TextIO = path.open("a", newline="", encoding="utf-8")
        if not first:
            self._append(columns)

    def add(self, heard: StreamScore) -> None:
        """A row; once one could not be written, none follows it (`unwritten` says why)."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        scores = [heard.scores.get(target, "") for target in self._targets]
        notices = "; ".join(heard.notices)
        times = [round(heard.start, 3), round(heard.end, 3), round(heard.late_s, 4)]
        self._append([now, *times, *scores, heard.skipped, notices, heard.error or ""])

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            self._failed(error)

    def _append(self, row: Sequence[object]) -> None:
        if self.unwritten is not None:
            return
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        try:
            self._file.write(line.getvalue())
            self._file.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.unwritten = f"{self.path}: {error.strerror or error}"
