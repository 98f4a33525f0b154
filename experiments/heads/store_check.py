"""Store check: does the experiment's store fit its flags and its corpus? If not, what differs, and what to type."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from emonet.errors import RequestError
from emonet.runtime import PLUGIN, expanded
from emonet.targets import SETS, are_classes
from experiments.core import Experiment, console, identity_of, named_encoder

if TYPE_CHECKING:
    from cache.store import ExtractionRecord, Place
    from emonet.clips import Corpus
    from emonet.targets import TargetSpec
    from experiments.extract import ExtractResult

_ANEW = "emonet extract --force to make the store anew"


def require_origin(experiment: Experiment, extracted: ExtractResult, corpus: Corpus, captioner: str) -> None:
    """Check that a store was extracted from this corpus with this captioner.

    Args:
        experiment: whose flags these are.
        extracted: what made the store.
        corpus: the experiment's.
        captioner: folder or hub id of the experiment's captioner, or `plugin:NAME[:ARGUMENT]`.

    Raises:
        RequestError: if one is another; names both.
    """
    if extracted.corpus != corpus.fingerprint:
        raise _other_corpus(experiment, corpus)
    if not _same_weights(extracted.captioner, captioner):
        raise _other_captioner(experiment, captioner)


def _same_weights(extracted: str, captioner: str) -> bool:
    if extracted == captioner:  # an older emonet wrote hub ids as they are: nothing is known of their weights
        return True
    try:
        return extracted == identity_of(captioner)
    except RequestError:  # there is no such captioner (any more)
        if captioner.startswith(PLUGIN):
            raise  # it says itself what is missing
        return False


def _other_corpus(experiment: Experiment, corpus: Corpus) -> RequestError:
    record, targets = _record(experiment)
    if targets.to_json() != corpus.targets.to_json():
        return _other_targets(experiment, targets, corpus.targets)
    found = f"{corpus.name}, {console.counted(len(corpus), 'clip')}"
    if record.corpus == corpus.name:
        found += ": its clips, scores, splits or captions have changed since"
        first = "put it back as it was"
    else:
        first = f"--corpus {shlex.quote(record.corpus)}, as the store"
    return RequestError(
        "the feature store was extracted from another corpus",
        where=_store(experiment),
        expected=f"{record.corpus}, {console.counted(record.clips, 'clip')}",
        found=found,
        hint=f"{first}; or --name NEW with every stage, for a second store; or {_ANEW}",
    )


def _other_targets(experiment: Experiment, stored: TargetSpec, wanted: TargetSpec) -> RequestError:
    name = next((name for name, spec in SETS.items() if spec == stored), "FILE.yaml as it was")
    name = "classes" if are_classes(stored) and not are_classes(wanted) else name
    return RequestError(
        "the feature store was extracted for other targets",
        where=_store(experiment),
        expected=stored.summary,
        found=f"{experiment.targets}: {wanted.summary}",
        hint=f"--targets {name}, as the store; or --name NEW with every stage, for a second store; or {_ANEW}",
    )


def _other_captioner(experiment: Experiment, captioner: str) -> RequestError:
    (record, _), named = _record(experiment), named_encoder(experiment)
    own = experiment.folder / "captioner"
    found = f"the experiment's own captioner {own}" if named is None else named
    gone = named is None and not own.is_dir()
    if gone:
        found += ", which does not exist"
    same = record.encoder == named or _same_place(record.encoder, captioner)
    if same and gone:
        hint = "put it back as it was; or emonet pretrain, then emonet extract --force"
    elif same:
        found += ": its weights have changed since"
        hint = _ANEW
    elif named is not None and _same_place(record.encoder, str(own)):
        flag = "encoder" if named.startswith(PLUGIN) else "captioner"
        hint = f"leave out --extraction.{flag}, as emonet extract did; or {_ANEW}"
    else:
        flag = "encoder" if record.encoder.startswith(PLUGIN) else "captioner"
        same_as = shlex.quote(record.encoder.removeprefix(PLUGIN))
        hint = f"--extraction.{flag} {same_as}, as the store; or {_ANEW}"
    plugged = record.encoder.startswith(PLUGIN) or (named or "").startswith(PLUGIN)
    return RequestError(
        f"the feature store was extracted from another {'encoder' if plugged else 'captioner'}",
        where=_store(experiment),
        expected=record.encoder,
        found=found,
        hint=hint,
    )


def _same_place(one: str, other: str) -> bool:
    return one == other or expanded(one).resolve() == expanded(other).resolve()


def _store(experiment: Experiment) -> Place:
    """Where it is now: the result of `extract` names the folder that it was made in."""
    from experiments.extract import store_of

    return store_of(experiment)


def _record(experiment: Experiment) -> tuple[ExtractionRecord, TargetSpec]:
    from cache.store import read_attributes

    return read_attributes(_store(experiment))[:2]
