"""Corpora that plug-ins open: other packages' entry points of the group `emonet.corpora`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emonet.clips import Corpus
from emonet.runtime import Group, Plugin, Progress, installed_plugins
from emonet.targets import TargetSpec

GROUP: Group = "emonet.corpora"


def plugged_kinds() -> Mapping[str, str]:
    """Kind -> the packages that register it. None of them is imported."""
    return {name: ", ".join(plugin.package for plugin in plugins) for name, plugins in installed_plugins(GROUP).items()}


def open_plugged(plugin: Plugin, spec: str, path: Path, targets: TargetSpec, progress: Progress) -> Corpus:
    """Open a corpus that a plug-in knows.

    Args:
        plugin: of the group `emonet.corpora`; called with the path, `targets` and `progress`.
        spec: what was typed, which is the corpus' name whatever the plug-in calls it: it opens the corpus again.
        path: in the spec.
        targets: what its scores must mean.
        progress: called by the plug-in with clips.

    Raises:
        RequestError: if the plug-in cannot be used or fails, or gives anything but a corpus of these targets.
    """
    corpus: Any = plugin.call(path, targets=targets, progress=progress)
    if not isinstance(corpus, Corpus):
        raise plugin.refused("opens no corpus", expected="an emonet.Corpus", found=type(corpus).__name__)
    if corpus.targets != targets:
        raise plugin.refused(
            "opens a corpus of other targets than it was asked for",
            expected=", ".join(targets.ids),
            found=", ".join(corpus.targets.ids),
        )
    return corpus if corpus.name == spec else replace(corpus, name=spec)
