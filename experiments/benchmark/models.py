"""Models of a benchmark: opened by what was typed, once; and the clips that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.evaluation import Scorer
from emonet.peers import PEERS, Peer, Terms, open_peer
from emonet.runtime import expanded, name_and_argument
from experiments.benchmark.plan import NamedModel

if TYPE_CHECKING:
    from emonet.clips import Clip

_SCORER = "scorer:"


@dataclass(frozen=True)
class OpenModel:
    """A model that scores clips.

    Args:
        label: what tables call it.
        scorer: does the work.
        identity: what tells its scores from those of another model.
        about: what the page says of it.
        folder: of a voice model, with its lineage; None of anything else.
        peer: of somebody else; None of a voice model.
    """

    label: str
    scorer: Scorer
    identity: str
    about: str
    folder: Path | None = None
    peer: Peer | None = None

    @property
    def shown(self) -> tuple[str, str]:
        """What of it tables depend on: what they call it, and what tells its scores from others'."""
        return self.label, self.identity


def open_model(entry: NamedModel, runs: Path, terms: Terms) -> OpenModel:
    """Open a voice model by its folder or version, or a scorer by its name.

    Args:
        entry: of the plan.
        runs: folder with the embedded registry.
        terms: on which services may be called.

    Raises:
        RequestError: if there is no such model, or it cannot be used.
    """
    named = entry.model.removeprefix(_SCORER)
    folder = expanded(entry.model)
    if named == entry.model and folder.is_dir():
        return _voice(entry, folder)
    if named == entry.model and name_and_argument(named)[0] not in PEERS:
        return _voice(entry, _registered(entry.model, runs))
    peer = open_peer(named, terms=terms)
    about = ", ".join(f"{key}: {value}" for key, value in peer.about.items())
    return OpenModel(entry.label, peer, peer.identity, about, peer=peer)


def _voice(entry: NamedModel, folder: Path) -> OpenModel:
    from emonet.encoders import folder_digest
    from emonet.inference import EmotionPipeline

    pipeline = EmotionPipeline.from_folder(folder)
    return OpenModel(entry.label, pipeline, folder_digest(folder), f"voice model, {pipeline.members}", folder)


def _registered(model: str, runs: Path) -> Path:
    from emonet.registry import VOICE, named_version, resolve, version_of
    from emonet.tracking import default_uri

    uri = default_uri(runs)
    named = named_version(model, VOICE)
    if named is not None:
        return Path(resolve(version_of(VOICE, named, uri).uri, uri, runs))
    if not model.startswith("models:/"):
        raise RequestError(
            "there is no such model",
            found=model,
            expected=f"a voice model's folder, a version such as champion or 3, or one of {', '.join(PEERS)}",
        )
    return Path(resolve(model, uri, runs))


def new_clips(clips: Sequence[Clip], models: Sequence[OpenModel]) -> tuple[tuple[Clip, ...], Mapping[str, int]]:
    """The clips that no model was trained on or chosen by, and label -> how many of them it was.

    All models are judged on the same clips, so one that knows a clip costs it all of them. Of a model without lineage
    nothing is known.
    """
    import pandas as pd

    from emonet.tracking import trained_on

    table = pd.DataFrame({name: [getattr(clip, name) for clip in clips] for name in ("id", "speaker", "seconds")})
    known: dict[str, frozenset[str]] = {}
    for model in models:
        overlap = None if model.folder is None else trained_on(model.folder, table)
        if overlap is not None and overlap.clips:
            known[model.label] = frozenset(overlap.clips)
    all_known = frozenset[str]().union(*known.values())
    return tuple(clip for clip in clips if clip.id not in all_known), {name: len(ids) for name, ids in known.items()}
