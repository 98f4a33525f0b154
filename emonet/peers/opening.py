"""Peers by name: what comes with emonet, and other people's plug-ins."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar, final

import yaml
from pydantic import ValidationError

from emonet.clips import Clip
from emonet.errors import RequestError, raise_collected
from emonet.evaluation import Scored, Scorer, open_scorer
from emonet.names import as_text
from emonet.peers.costs import CostEstimate
from emonet.peers.remote import RemoteScorer, Service, Terms
from emonet.runtime import Progress, expanded, ignore, name_and_argument, pick_plugin, resolve_device
from emonet.schema import Schema, digest
from emonet.targets import EMOTIONS, TargetSpec

PEERS: Mapping[str, str] = MappingProxyType(
    {
        "gemini": "gemini:MODEL, or a YAML file: Google's Gemini API",
        "openai": "openai:MODEL, or a YAML file: OpenAI's chat completions, and services that speak them",
        "hume": "hume, or hume:FILE.yaml: Hume's Expression Measurement API",
        "http": "http:FILE.yaml: any HTTP endpoint",
        "table": "table:FILE.csv, .jsonl or .parquet: predictions that somebody else has made",
        "emotion2vec": "emotion2vec[:MODEL]: emotion2vec+ through FunASR",
        "sensevoice": "sensevoice[:MODEL]: SenseVoice through FunASR",
        "audeering": "audeering[:FOLDER]: audEERING's arousal, dominance and valence",
        "egemaps_ridge": "egemaps_ridge:CORPUS: openSMILE's eGeMAPS and a ridge regression, fitted on a corpus",
        "compare2016_ridge": "compare2016_ridge:CORPUS: openSMILE's ComParE 2016 and a ridge regression",
    }
)
"""What comes with emonet, and how it is named."""

_YAML = (".yaml", ".yml")
_S = TypeVar("_S", bound=Schema)


@final
@dataclass(frozen=True)
class Peer:
    """Another model as a scorer.

    Args:
        name: as it was typed.
        scorer: that does the work.
        about: what tables and pages say of it: what it is, and what it was trained on.
        identity: what tells it from another one, as far as that can be known; no secret.
    """

    name: str
    scorer: Scorer = field(repr=False)
    about: Mapping[str, str]
    identity: str

    @property
    def target_spec(self) -> TargetSpec:
        """What it scores."""
        return self.scorer.target_spec

    @property
    def is_service(self) -> bool:
        """Whether its answers come from somebody else's machine, and are kept."""
        return isinstance(self.scorer, RemoteScorer)

    @property
    def unanswered(self) -> int:
        """Clips that were scored so far and that no answer is kept of, so that another run may ask again (count)."""
        return self.scorer.unanswered if isinstance(self.scorer, RemoteScorer) else 0

    def score(self, clips: Sequence[Clip], *, progress: Progress = ignore) -> Scored:
        """Score some clips; one that cannot be used, or that it refuses, is refused with the reason.

        Raises:
            RequestError: if it cannot be asked at all, or would cost too much.
            EmonetError: if it fails on the way.
        """
        return self.scorer.score(clips, progress=progress)

    @property
    def may_cost(self) -> bool:
        """Whether it is asked for money, or nobody knows."""
        return isinstance(self.scorer, RemoteScorer) and not self.scorer.free

    def estimate(self, clips: Iterable[Clip]) -> CostEstimate | None:
        """What it would cost to score these clips, taken one by one; None if nobody would be asked."""
        return self.scorer.estimate(clips) if isinstance(self.scorer, RemoteScorer) else None


def open_peer(
    name: str, *, device: str | None = None, targets: TargetSpec | None = None, terms: Terms | None = None
) -> Peer:
    """Make the scorer that `NAME[:ARGUMENT]` names; nothing is sent before it scores.

    Args:
        name: one of `PEERS`, or of a plug-in, with what it makes of the argument.
        device: where a local model computes, e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.
        targets: that are wanted; language models are asked for these, others score those of them that they can. None is
            the 40 emotions, or all that a model has. Plug-ins are not told.
        terms: on which services may be called; by default nothing may be spent.

    Raises:
        RequestError: if there is none of this name, it cannot be used, or there is no such device.
    """
    kind, argument = name_and_argument(name)
    if kind not in PEERS:
        _suggest(kind)
        plugged = open_scorer(name, device=device)
        about = {"plug-in": plugged.plugin.package, "trained on": "unknown"}
        return Peer(name, plugged, about, f"{name} of {plugged.plugin.package}")
    pick_plugin(kind, "emonet.scorers", built_in=PEERS)
    if kind in {"gemini", "openai", "hume", "http"}:
        service, max_cost = _service(kind, argument, targets)
        remote = RemoteScorer(service, terms or Terms(), max_cost)
        about = {"service": service.name, "answers": as_text(remote.replay), "trained on": "unknown"}
        return Peer(name, remote, about, remote.identity)
    return _local(name, kind, argument, device, targets)


def _local(name: str, kind: str, argument: str, device: str | None, targets: TargetSpec | None) -> Peer:
    if kind == "table":
        from emonet.encoders import file_digest
        from emonet.peers.predictions import Predictions

        table = Predictions(argument, targets)
        return Peer(name, table, {"predictions": argument, "trained on": "unknown"}, file_digest(expanded(argument)))
    if kind in {"egemaps_ridge", "compare2016_ridge"}:
        from emonet.baselines import ABOUT
        from emonet.peers.regression import Regression

        about = {"model": f"{kind} {ABOUT[kind]}", "trained on": argument}
        fitted = Regression(kind, argument, targets)
        return Peer(name, fitted, about, digest([kind, fitted.fingerprint]))
    from emonet.peers.local_models import Audeering, Emotion2vec, LocalModel, SenseVoice

    computed_on = resolve_device(device)
    if kind == "emotion2vec":
        model: LocalModel = Emotion2vec(argument, computed_on, targets)
    elif kind == "sensevoice":
        model = SenseVoice(argument, computed_on, targets)
    else:
        model = Audeering(argument, computed_on, targets)
    return Peer(name, model, {"model": model.about, "trained on": "unknown"}, digest([kind, model.weights]))


def _service(kind: str, argument: str, targets: TargetSpec | None) -> tuple[Service, float | None]:
    from emonet.peers.endpoint import Endpoint, EndpointSettings
    from emonet.peers.services import Gemini, Hume, OpenAI, ServiceSettings

    is_file = argument.lower().endswith(_YAML)
    if kind == "http":
        endpoint = _settings(argument, EndpointSettings)
        return Endpoint(endpoint, targets), endpoint.max_cost
    settings = _settings(argument, ServiceSettings) if is_file else ServiceSettings(model=argument)
    if kind == "hume":
        return Hume(settings, targets), settings.max_cost
    asked = EMOTIONS if targets is None else targets
    return (Gemini if kind == "gemini" else OpenAI)(settings, asked), settings.max_cost


def _settings(file: str, schema: type[_S]) -> _S:
    """What a YAML file says."""
    path = expanded(file)
    where = as_text(path)
    try:
        row = yaml.safe_load(path.read_text("utf-8")) if file else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise RequestError("the peer's file cannot be read", where=where, found=error) from error
    if not isinstance(row, dict):
        raise RequestError(
            "the peer's file describes none",
            where=where or "no file",
            expected=f"a YAML file with {', '.join(schema.model_fields)}",
            hint="docs/benchmark-peers.md shows one",
        )
    try:
        return schema.model_validate(row)
    except ValidationError as error:
        problems = [": ".join([*(".".join(map(str, d["loc"])),) * bool(d["loc"]), d["msg"]]) for d in error.errors()]
    raise_collected("the peer's file cannot be used", problems, where=where, hint="docs/benchmark-peers.md")
    raise AssertionError


def _suggest(kind: str) -> None:
    near = difflib.get_close_matches(kind, PEERS, n=1, cutoff=0.75)
    if near and pick_plugin(kind, "emonet.scorers") is None:
        raise RequestError(
            f"there is no scorer {kind!r}", expected=", ".join(PEERS), found=kind, hint=f"did you mean {near[0]}?"
        )
