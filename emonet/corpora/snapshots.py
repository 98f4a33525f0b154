"""Snapshots of corpora: opened once with all checks, then kept as columns beside the runs for as long as they are true.

A snapshot is true while nothing has changed that it was made of: the spec, targets and labels that were asked for, the
versions of emonet and of what decodes, the manifests, the names in the folders, and each recording's size and time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from emonet.clips import Corpus, Sources, listing_of, stamp_of
from emonet.corpora.manifest import are_same
from emonet.corpora.opening import open_corpus
from emonet.corpora.snapshot_file import FORMAT, DamagedError, read_snapshot, write_snapshot
from emonet.errors import EmonetError
from emonet.names import as_text
from emonet.runtime import Progress, durable, ignore, working_folder
from emonet.schema import digest
from emonet.targets import EMOTIONS, TargetSpec
from emonet.version import __version__

FOLDER = "snapshots"  # in the folder of corpora
FILE = "corpus.parquet"
LEAST = 1000  # clips: smaller corpora are opened as quickly without
_DECODERS = ("soundfile", "av")


def open_kept(
    spec: str,
    *,
    targets: TargetSpec = EMOTIONS,
    classes: Mapping[str, str | None] = MappingProxyType({}),
    folder: Path,
    say: Callable[[str], None] = print,
    least: int = LEAST,
    progress: Progress = ignore,
) -> Corpus:
    """Open a corpus as `open_corpus` does, or its snapshot, if there is a true one; else leave one.

    The sandbox and corpora of plug-ins are opened anew each time: what they are made of is not known here.

    Args:
        spec: as there.
        targets: as there.
        classes: as there.
        folder: where corpora are kept; snapshots lie in a folder in there.
        say: told about a snapshot that is damaged, or cannot be kept.
        least: clips that a corpus has of which a snapshot is made.
        progress: told about each corpus in turn, in clips.

    Raises:
        RequestError: as there.
        EmonetError: as there.
    """
    request = _request(spec, targets, classes)
    place = folder / FOLDER / request[:24]
    if (kept := _true(place / FILE, request, say)) is not None:
        return kept
    sources = Sources()
    corpus = open_corpus(spec, targets=targets, classes=classes, folder=folder, sources=sources, progress=progress)
    if sources.whole and len(corpus) >= least:
        _keep(place, corpus, sources, request, say)
    return corpus


def is_true(sources: Sources) -> bool:
    """Whether everything is still as it was when these sources were noted."""
    if any(stamp_of(path) != stamp for path, stamp in sources.tables.items()):
        return False
    if not all(are_same(location, *known) for location, known in sources.several.items()):
        return False
    if any(listing_of(Path(path)) != names for path, names in sources.folders.items()):
        return False
    stamps = zip(map(stamp_of, sources.recordings), sources.sizes, sources.times, strict=True)
    return all(found == (size, time) for found, size, time in stamps)


def _request(spec: str, targets: TargetSpec, classes: Mapping[str, str | None]) -> str:
    """SHA-256 of all that decides, beside files, what corpus a spec opens."""
    versions = [FORMAT, __version__, *(version(name) for name in _DECODERS)]
    return digest([versions, as_text(working_folder()), spec, targets.to_json(), dict(classes)])


def _true(file: Path, request: str, say: Callable[[str], None]) -> Corpus | None:
    """The corpus of a snapshot; None if there is none, or it is not true any more, or damaged, which is told."""
    try:
        corpus, sources = read_snapshot(file, request)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedError as error:
        say(f"the snapshot of the corpus in {as_text(file)} cannot be used ({error}): the corpus is opened anew")
        return None
    return corpus if is_true(sources) else None


def _keep(place: Path, corpus: Corpus, sources: Sources, request: str, say: Callable[[str], None]) -> None:
    """Write a snapshot, whole or not at all; where that is not possible, it is told."""
    try:
        with durable.replacing(place) as partial:
            write_snapshot(partial / FILE, corpus, sources, request)
    except (OSError, EmonetError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        say(f"no snapshot of the corpus can be kept in {as_text(place)} ({reason}): it is opened anew each time")
