"""The fingerprint of a corpus: SHA-256 over its clips as JSON, piece by piece, since a corpus may have millions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from emonet.clips.audio import Audio, content_key


class _Clip(Protocol):
    """What of a clip enters the fingerprint."""

    @property
    def id(self) -> str: ...
    @property
    def audio(self) -> Audio: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...
    @property
    def speaker(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def scores(self) -> Mapping[str, float]: ...
    @property
    def caption(self) -> str | None: ...


_as_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode


def fingerprint(clips: Iterable[_Clip], sizes: Iterable[int], targets: Sequence[object]) -> str:
    """SHA-256 in hex of `[targets, [[id, audio, start, end, speaker, split, language, scores, caption], ...]]`.

    Args:
        clips: in order; scores are sorted by name and rounded to six decimals.
        sizes: of the clips' files in bytes; -1 where the audio is in memory, which enters by its SHA-256.
        targets: JSON-able.
    """
    state = hashlib.sha256()
    state.update(f"[{_as_json(targets)},[".encode())
    separator = ""
    for clip, size in zip(clips, sizes, strict=True):
        # Surrogates, which stand for bytes of names that are not UTF-8, pass.
        state.update((separator + _clip(clip, int(size))).encode("utf-8", "surrogatepass"))
        separator = ","
    state.update(b"]]")
    return state.hexdigest()


def _clip(clip: _Clip, size: int) -> str:
    audio: object = size
    if isinstance(clip.audio, bytes):
        audio = content_key(clip.audio)
    elif isinstance(clip.audio, Path) and size < 0:
        audio = clip.audio.stat().st_size  # not there when the corpus was made: raises
    fields = (clip.id, audio, clip.start, clip.end, clip.speaker, clip.split, clip.language)
    return f"[{','.join(map(_text, fields))},{_scores(clip.scores)},{_text(clip.caption)}]"


def _scores(given: Mapping[str, float]) -> str:
    if not given:
        return "[]"
    names, template = _order(tuple(given))
    values = [given[name] for name in names]
    if 0.0 in values:  # whose sign counts, and `_number` would not see it
        return template % tuple([_number(value) if value else str(float(value)) for value in values])
    return template % tuple(map(_number, values))


def _text(value: object) -> str:
    if value is None:
        return "null"
    return str(value) if type(value) is int else _as_json(value)


@lru_cache(maxsize=1024)
def _order(names: tuple[str, ...]) -> tuple[list[str], str]:
    """The names in order, and a template for their scores in that order."""
    ordered = sorted(names)
    return ordered, f"[{','.join(f'[{_as_json(name)},'.replace('%', '%%') + '%s]' for name in ordered)}]"


@lru_cache(maxsize=1 << 16)
def _number(score: float) -> str:
    return _as_json(round(float(score), 6))
