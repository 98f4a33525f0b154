"""Lineage: the corpus, clips, store, encoder, code and settings behind a voice model, kept in the model's folder.

A comparison asks this before it believes a figure: on clips that a model was trained on, or chosen by, it looks better
than it is.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from emonet.clips import SPLITS, Split
from emonet.errors import RequestError
from emonet.runtime import durable
from emonet.schema import Schema, digest
from emonet.version import __version__

if TYPE_CHECKING:
    import pandas as pd  # half a second, which `emonet predict` can do without

FILE = "lineage.json"
CLIPS = "clips.parquet"
COLUMNS = ("id", "split", "speaker", "seconds")
SOUND = "sound_digest"  # a further column: the same for clips of the same samples in the same window
PACKAGES = ("emonet", "cache", "datamodules", "lightningmodules", "experiments")
SAME_SECONDS = 0.05  # lengths from a header and from decoding differ by less
_SHORT = 16  # digits of a digest in a tag
SoundsOf = Callable[[float], Sequence[str | None]]
"""Digests of the sound of some clips, as heard in a window of so many seconds."""


class Code(Schema):
    """The code that trained a model."""

    version: str
    """Of the package emonet."""
    revision: str | None
    """The git revision; none outside a checkout."""
    changed: bool | None
    """Whether files of the checkout differed from that revision; none outside a checkout."""
    digest: str
    """SHA-256 over the source files of emonet's packages as they were installed."""

    @classmethod
    def here(cls) -> Code:
        """The code that is running."""
        # Installed within somebody else's checkout, it is none of that one's files.
        ours = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
        revision = _git("rev-parse", "HEAD") if ours else None
        changed = None if revision is None else bool(_git("status", "--porcelain"))
        return cls(version=__version__, revision=revision, changed=changed, digest=_sources())


class Lineage(Schema):
    """What a voice model was trained on."""

    format_version: Literal[1] = 1
    """Of this file (count)."""
    experiment: str
    """Name of the emonet experiment."""
    corpus: str
    """The spec that opened the corpus."""
    corpus_fingerprint: str
    """SHA-256 over the corpus' clips and targets."""
    targets: tuple[dict[str, Any], ...] = ()
    """The whole set that the corpus was opened with, trained or not; empty in older lineages."""
    clips: dict[Split, int]
    """Usable clips by split (count)."""
    split: str
    """SHA-256 over the clips' ids and splits: equal for models trained, chosen and tested on the same ones."""
    window_seconds: float = Field(gt=0)
    """Audio of each clip that the encoder heard (seconds)."""
    store_fingerprint: str
    """Of the feature store."""
    encoder: str
    """Where the encoder was loaded from. What *it* was trained on is its own captioner's affair, not told here."""
    encoder_digest: str
    """SHA-256 over the encoder's weights."""
    code: Code
    """What trained it."""
    seed: int
    """Of the training (integer)."""
    settings: str
    """SHA-256 over the settings of the training."""
    created: AwareDatetime
    """When the training ended (UTC)."""

    @classmethod
    def of(
        cls,
        clips: pd.DataFrame,
        *,
        experiment: str,
        corpus: str,
        corpus_fingerprint: str,
        targets: Sequence[Mapping[str, Any]] = (),
        window_seconds: float,
        store_fingerprint: str,
        encoder: str,
        encoder_digest: str,
        seed: int,
        settings: Mapping[str, Any],
    ) -> Lineage:
        """The lineage of a model that has just been trained, by the code that is running.

        Args:
            clips: the usable clips of all splits, with the columns `COLUMNS` (more do not matter).
            experiment: name of the emonet experiment.
            corpus: the spec that opened the corpus.
            corpus_fingerprint: of the corpus.
            targets: that it was opened with, JSON-able.
            window_seconds: audio of each clip that was heard (seconds).
            store_fingerprint: of the feature store.
            encoder: where the encoder was loaded from.
            encoder_digest: of its weights.
            seed: of the training.
            settings: JSON-able, of the training.
        """
        counts = clips["split"].value_counts()
        return cls(
            experiment=experiment,
            corpus=corpus,
            corpus_fingerprint=corpus_fingerprint,
            targets=tuple(dict(target) for target in targets),
            clips={split: int(counts.get(split, 0)) for split in SPLITS},
            split=digest(sorted(zip(clips["id"].astype(str), clips["split"].astype(str), strict=True))),
            window_seconds=window_seconds,
            store_fingerprint=store_fingerprint,
            encoder=encoder,
            encoder_digest=encoder_digest,
            code=Code.here(),
            seed=seed,
            settings=digest(dict(settings)),
            created=datetime.now(UTC).replace(microsecond=0),
        )

    def tags(self) -> dict[str, str]:
        """What a registered version says of it: short strings."""
        code = self.code
        known = code.revision[:_SHORT] + ("+changes" if code.changed else "") if code.revision else "no checkout"
        return {
            "experiment": self.experiment,
            "corpus": self.corpus,
            "corpus_fingerprint": self.corpus_fingerprint[:_SHORT],
            "split": self.split[:_SHORT],
            "store_fingerprint": self.store_fingerprint[:_SHORT],
            "encoder_digest": self.encoder_digest[:_SHORT],
            "code": f"emonet {code.version}, {known}, sources {code.digest[:_SHORT]}",
            "seed": str(self.seed),
        }


@dataclass(frozen=True)
class Overlap:
    """What of a set of clips a model knows already.

    Args:
        train: ids of those that it was trained on.
        validation: ids of those that its epochs and its form of input were chosen by.
        speakers: whom of the set's speakers it heard in either, in order.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()

    @property
    def clips(self) -> tuple[str, ...]:
        """Ids of all clips that it was trained on or chosen by."""
        return self.train + self.validation


def write(folder: Path, lineage: Lineage, clips: pd.DataFrame) -> None:
    """Write `lineage.json` and `clips.parquet` into a voice model's folder.

    Args:
        folder: exists.
        lineage: of the model.
        clips: as `Lineage.of` took them.
    """
    kept = [name for name in (*COLUMNS, SOUND) if name in clips]
    durable.write(folder / CLIPS, clips[kept].reset_index(drop=True).to_parquet(index=False))
    durable.write(folder / FILE, (lineage.model_dump_json(indent=2) + "\n").encode())


def read(folder: Path) -> Lineage | None:
    """The lineage of a voice model; None where it has none: its origin is unknown, and nothing is claimed of it.

    Raises:
        RequestError: if it cannot be read.
    """
    path = folder / FILE
    try:
        return Lineage.model_validate_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RequestError("a model's lineage cannot be read", where=path, found=error) from error


def trained_on(
    folder: Path, clips: pd.DataFrame, *, window_seconds: float = float("inf"), sounds: SoundsOf | None = None
) -> Overlap | None:
    """Which of some clips a model was trained on or chosen by; None where its lineage is unknown.

    Args:
        folder: of the voice model.
        clips: as `overlap_with` takes them.
        window_seconds: audio of each clip that `seconds` counts at most (seconds).
        sounds: digests of the clips' sound in a window of so many seconds; asked where the model has such, too.

    Raises:
        RequestError: if the lineage cannot be read.
    """
    lineage = read(folder)
    if lineage is None:
        return None
    known = _known(folder / CLIPS)
    if sounds is not None and known[SOUND].notna().any():
        import pandas as pd

        clips = clips.assign(**{SOUND: pd.Series(list(sounds(lineage.window_seconds)), clips.index, object)})
    return overlap_with(clips, known, window_seconds=min(lineage.window_seconds, window_seconds))


def overlap_with(clips: pd.DataFrame, known: pd.DataFrame, *, window_seconds: float = float("inf")) -> Overlap:
    """Which of some clips are among those that a model was trained on or chosen by.

    A clip is the same if its id and its speaker are, and its length (of the stretch that both heard, to 0.05 s; unknown
    lengths do not tell clips apart): two corpora may both have an id `a/1`. It is the same, too, if its samples are,
    whatever it is called, where both tables have digests of them.

    Args:
        clips: with the columns id, speaker and seconds (NaN where unknown), and perhaps `SOUND`.
        known: with the columns `COLUMNS`, and perhaps `SOUND` (more do not matter): what the model was trained, chosen
            and tested on.
        window_seconds: audio of each clip that `seconds` counts at most (seconds).
    """
    known = known[known["split"] != "test"]
    both = clips[["id", "speaker", "seconds"]].merge(
        known[list(COLUMNS)], on=["id", "speaker"], suffixes=("", "_known")
    )
    apart = (both["seconds"].clip(upper=window_seconds) - both["seconds_known"].clip(upper=window_seconds)).abs()
    same = both.loc[~(apart > SAME_SECONDS), ["id", "split"]]
    if SOUND in clips and SOUND in known:
        alike = clips[["id", SOUND]].dropna().merge(known[[SOUND, "split"]].dropna(), on=SOUND)
        import pandas as pd

        same = pd.concat([same, alike[["id", "split"]]]).sort_values("split", kind="stable").drop_duplicates("id")
    heard = set(known["speaker"])
    return Overlap(
        train=tuple(same.loc[same["split"] == "train", "id"]),
        validation=tuple(same.loc[same["split"] == "validation", "id"]),
        speakers=tuple(dict.fromkeys(speaker for speaker in clips["speaker"] if speaker in heard)),
    )


def _known(path: Path) -> pd.DataFrame:
    """The clips of a model; those made before digests of sound were kept have none."""
    import pandas as pd

    try:
        return pd.read_parquet(path).reindex(columns=[*COLUMNS, SOUND])
    except (OSError, ValueError) as error:  # pyarrow's own errors are either
        raise RequestError(
            "the list of clips that a model was trained on cannot be read", where=path, found=error
        ) from error


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None without git, or outside a checkout."""
    # In a hook of another repository git's own variables name that one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _sources() -> str:
    """SHA-256 over the names and contents of the packages' source files, wherever they are installed."""
    root = Path(__file__).parents[2]
    files = sorted(_python_files(root), key=lambda path: path.relative_to(root).as_posix())
    state = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        state.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        state.update(content)
    return state.hexdigest()


def _python_files(root: Path) -> Iterable[Path]:
    return (path for package in PACKAGES for path in (root / package).rglob("*.py"))
