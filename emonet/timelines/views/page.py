"""The page of a timeline: one HTML file that needs nothing else, with waveform, sound, curves and a table."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from emonet import pages
from emonet.names import as_text
from emonet.numbers import duration
from emonet.runtime import durable
from emonet.timelines.timeline import ScoredSegment, Timeline
from emonet.timelines.views.shown import envelope_of, extent_of, strongest_targets, voices_of
from emonet.timelines.views.sound import LONGEST, as_mp3

VIEW = "emonet.timelines.views"
"""Package of what pages show timelines with: view.html, view.css, timeline.js, words."""
PARTS = 200_000  # of the envelope: 0.18 s each in ten hours
_PEAK = 127  # stands for a full-scale sample


def write_page(path: Path, timeline: Timeline, audio: Path | None = None) -> Path:
    """Write the page, whole or not at all. It opens in a browser from any place, without a server or a network.

    Args:
        path: of the HTML file.
        timeline: what it shows.
        audio: the recording. Up to an hour of it is within the page, as 16 kHz mono; to a longer one the page has a
            link, relative to its own folder, and asks for the file where that leads nowhere. None: it asks.

    Raises:
        AudioError: if the recording cannot be decoded.
    """
    sound = link = ""
    if audio is not None and timeline.seconds <= LONGEST:
        from emonet.audio import stream_blocks

        sound = base64.b64encode(as_mp3(block.samples for block in stream_blocks(audio))).decode()
    elif audio is not None:
        link = _link(audio, path)
    durable.write(path, _html(timeline, sound, link).encode())
    return path


def _html(timeline: Timeline, sound: str, link: str) -> str:
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    script = pages.text(VIEW, "timeline.js") + pages.text(VIEW, "opening.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    dumps = partial(json.dumps, separators=(",", ":"), allow_nan=False)
    people = {one.segment.speaker for one in timeline.segments} - {""}
    segments, facts = len(timeline.segments), {**view_facts(timeline, link), "words": pages.words(VIEW, "en")}
    return pages.render(
        VIEW,
        "timeline.html",
        name=as_text(Path(timeline.audio).name),
        model=as_text(timeline.model),
        notices=[as_text(notice) for notice in timeline.notices],
        error=as_text(timeline.error or ""),
        length=duration(extent_of(timeline)),
        count=f"{segments:,} segment{'s' * (segments != 1)}",
        speakers=f"{len(people)} speaker{'s' * (len(people) != 1)}" if people else "",
        words=facts["words"],
        data=htmlsafe_json_dumps(facts, dumps=dumps),
        sound=sound,
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )


def view_facts(timeline: Timeline, link: str = "") -> dict[str, Any]:
    """What the script draws, as JSON has it: columns of equal length; what is not known is None.

    Args:
        timeline: what is shown.
        link: where the recording is, if the page is to take it from there.
    """
    rows, spec = timeline.segments, timeline.target_spec
    names = voices_of(rows)
    speakers = list(dict.fromkeys(names))
    position = {name: at for at, name in enumerate(speakers)}
    column = partial(_columns, rows, spec.ids)
    return {
        "seconds": round(extent_of(timeline), 3),
        "targets": [
            {"id": one.id, "name": as_text(one.name), "low": one.low, "high": one.high, "ranked": one.id in spec.ranked}
            for one in spec
        ],
        "chosen": [spec.index(name) for name in strongest_targets(timeline)],
        "start": [round(one.segment.start, 3) for one in rows],
        "end": [round(one.segment.end, 3) for one in rows],
        "speakers": speakers,
        "speaker": [position[name] for name in names],
        "text": [as_text(one.segment.text) for one in rows],
        "caption": [as_text(one.caption) for one in rows],
        "flags": [list(one.flags) for one in rows],
        "unfamiliarity": _rounded([np.nan if one.unfamiliarity is None else one.unfamiliarity for one in rows], 2),
        "scores": column(lambda one: one.scores, 3) or [[]] * len(spec),
        "standardised": column(lambda one: one.standardised, 2),
        "uncertainties": column(lambda one: one.uncertainties, 3),
        "speech": None
        if timeline.speech is None
        else [[round(one.start, 2), round(one.end, 2)] for one in timeline.speech],
        "envelope": np.rint(_PEAK * envelope_of(timeline, PARTS)).astype(int).ravel().tolist(),
        "sound": link,
    }


def _columns(
    rows: tuple[ScoredSegment, ...],
    names: tuple[str, ...],
    values: Callable[[ScoredSegment], Mapping[str, float]],
    digits: int,
) -> list[list[float | None]] | None:
    """A list per target; None where no segment has values."""
    kept = [values(one) for one in rows]
    if not any(kept):
        return None
    return [_rounded([each.get(name, np.nan) for each in kept], digits) for name in names]


def _rounded(values: list[float], digits: int) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in np.round(np.array(values, float), digits).tolist()]


def _link(audio: Path, page: Path) -> str:
    """The recording from the page's folder; empty where no relative path leads there (another drive)."""
    try:
        relative = os.path.relpath(audio.resolve(), page.parent.resolve())
    except ValueError:
        return ""
    return quote(os.fsencode(Path(relative).as_posix()))
