"""Documents: a timeline as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from emonet.errors import RequestError
from emonet.segments import Segment
from emonet.targets import TargetSpec
from emonet.timelines.timeline import ScoredSegment, Timeline

FORMAT = "emonet timeline"
_TIMELINE = TypeAdapter(Timeline)  # its types hold for documents that others have written
VERSION = 1  # of the format; readers refuse those that they do not know


def timeline_to_json(timeline: Timeline) -> dict[str, Any]:
    """A timeline as JSON has it; `timeline_from_json` gives the same one."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "audio": timeline.audio,
        "seconds": timeline.seconds,
        "model": timeline.model,
        "error": timeline.error,
        "notices": list(timeline.notices),
        "targets": timeline.target_spec.to_json(),
        "segments": [_scored(one) for one in timeline.segments],
        "speech": None if timeline.speech is None else [asdict(one) for one in timeline.speech],
        "envelope": [list(pair) for pair in timeline.envelope],
    }


def _scored(one: ScoredSegment) -> dict[str, Any]:
    return {
        **asdict(one.segment),
        "scores": dict(one.scores),
        "uncertainties": dict(one.uncertainties),
        "standardised": dict(one.standardised),
        "unfamiliarity": one.unfamiliarity,
        "flags": list(one.flags),
        "caption": one.caption,
    }


def timeline_from_json(content: Mapping[str, Any], *, where: object = None) -> Timeline:
    """The timeline that `timeline_to_json` wrote down.

    Raises:
        RequestError: if it is none, or of a newer version.
    """
    found = content.get("format"), content.get("version")
    if found != (FORMAT, VERSION):
        raise RequestError(
            "this is no timeline that can be read",
            where=where,
            expected=f"format {FORMAT!r} in version {VERSION}",
            found=f"format {found[0]!r} in version {found[1]!r}",
        )
    try:
        spec = TargetSpec.from_json(content["targets"])
        fields = {
            name: content[name] for name in ("audio", "seconds", "model", "error", "notices", "speech", "envelope")
        }
        if flat := [one.id for one in spec if not one.low < one.high]:
            raise ValueError(f"{flat[0]!r} has no scale: low is not below high")
        segments = [_from_json(one, spec) for one in content["segments"]]
        return _TIMELINE.validate_python({**fields, "target_spec": spec, "segments": segments})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError("the timeline is damaged", where=where, found=f"{place}: {first['msg']}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError("the timeline is damaged", where=where, found=f"{type(error).__name__}: {error}") from error


def _from_json(fields: Mapping[str, Any], spec: TargetSpec) -> dict[str, Any]:
    names = Segment.__dataclass_fields__
    rest = {name: value for name, value in fields.items() if name not in names}
    for kind in ("scores", "uncertainties", "standardised"):
        if unknown := set(rest.get(kind, ())) - set(spec.ids):
            raise ValueError(f"{kind} of {min(unknown)!r}, which is none of the targets")
    if rest.get("scores") and (absent := set(spec.ids) - set(rest["scores"])):
        raise ValueError(f"a segment has no score of {min(absent)!r}")
    return {"segment": {name: fields[name] for name in names}, **rest}


def read_timeline(path: Path) -> Timeline:
    """The timeline in a JSON file.

    Raises:
        RequestError: if the file cannot be read, or holds none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError("the timeline cannot be read", where=path, found=error) from error
    if not isinstance(content, dict):
        raise RequestError("the timeline cannot be read", where=path, expected="a JSON object")
    return timeline_from_json(content, where=path)
