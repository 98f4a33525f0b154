"""The models of a comparison: from what was typed to folders, banks, versions and origins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from emonet.errors import RequestError, raise_collected
from emonet.experts import ExpertsPrecision
from emonet.schema import digest
from emonet.targets import TargetSpec
from emonet.tracking import hidden

if TYPE_CHECKING:
    from emonet.checkpoints import ExpertsInfo
    from emonet.experts import InputSpec
    from emonet.registry import Version

_RUN = re.compile(r"[0-9a-f]{32}")
_ENCODERS = ("config.json", "plugin.json")  # one of them is in the folder of an encoder
_WIDE = {"float32": 4, "bf16": 2, "int8": 1}  # bytes a weight of a wide first layer


@dataclass(frozen=True)
class Model:
    """A model to compare.

    Args:
        label: what tables call it.
        given: what was typed.
        experts: folder of its banks.
        encoder: folder with its encoder, if there is one.
        infos: what the banks hold, by folder.
        version: in the registry, if it is one.
        origin: folder of its lineage; None where it has none.
    """

    label: str
    given: str
    experts: Path
    encoder: Path | None
    infos: Mapping[Path, ExpertsInfo]
    version: Version | None
    origin: Path | None

    @property
    def first(self) -> ExpertsInfo:
        """What one of its banks says; all hear the same encoder."""
        return next(iter(self.infos.values()))

    @property
    def encoder_digest(self) -> str:
        """Of the encoder that it hears."""
        return self.first.encoder_digest

    @property
    def hears_statistics(self) -> bool:
        """Whether statistics over the states that hear a clip are all that its experts need."""
        return all(info.spec.per_value and info.pool_over == "speech" for info in self.infos.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets that it has an expert for."""
        return self.target_spec.ids

    @property
    def target_spec(self) -> TargetSpec:
        """What they are."""
        return TargetSpec(tuple(target for info in self.infos.values() for target in info.target_spec))

    @property
    def parameters(self) -> int:
        """Of all experts (count); the encoder's are not counted."""
        return sum(len(info.experts) * _size(info.spec, info.hidden) for info in self.infos.values())

    def bytes_loaded(self, precision: ExpertsPrecision) -> int:
        """Memory of its experts' weights (bytes)."""
        return sum(
            len(info.experts)
            * _size(info.spec, info.hidden)
            * (_WIDE[precision] if info.form == "flatten" else _WIDE["float32"])
            for info in self.infos.values()
        )

    @property
    def calibrated(self) -> str | None:
        """How its scores are calibrated, if they are."""
        from emonet.checkpoints import read_calibration

        found = read_calibration(self.experts)
        return None if found is None else found.kind

    @property
    def bytes_stored(self) -> int:
        """Its files on disk: experts, and the encoder where it has its own (bytes)."""
        folders = [self.experts, *([] if self.encoder is None else [self.encoder])]
        return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())

    @property
    def identity(self) -> str:
        """What tells it from another model: its encoder, and names and contents of its experts' files."""
        from emonet.encoders import file_digest

        files = {str(file.relative_to(self.experts)): file for file in self.experts.rglob("*") if file.is_file()}
        return digest([self.encoder_digest, [(name, file_digest(files[name])) for name in sorted(files)]])


def open_models(given: Sequence[str], uri: str, runs: Path) -> tuple[Model, ...]:
    """Find the models that were typed.

    Args:
        given: versions (`3`, `champion`, `@champion`, `models:/emonet-voice/3`), MLflow run ids, or folders.
        uri: of the registry.
        runs: folder that keeps what is downloaded from a server.

    Raises:
        RequestError: if one cannot be found, has lost its files, or was given twice.
        EmonetError: if the registry cannot be used.
    """
    models = [_open(one, uri, runs) for one in given]
    counts = Counter(model.experts.resolve() for model in models)
    twice = [model.given for model in models if counts[model.experts.resolve()] > 1]
    raise_collected("a model was given more than once", twice, hint="name each model once")
    labels = Counter(model.label for model in models)
    return tuple(model if labels[model.label] == 1 else replace(model, label=model.given) for model in models)


def _open(given: str, uri: str, runs: Path) -> Model:
    from emonet.registry import VOICE, find_version, named_version, resolve, version_of

    wanted = named_version(given, VOICE)
    if wanted is not None and not (wanted == given and Path(given).exists()):  # a word may be a folder's name
        # A word alone may have been meant for a folder.
        if wanted == given and find_version(VOICE, given, uri) is None:
            raise RequestError(
                f"there is neither a folder {given!r} nor a version of {VOICE} that is @{given}",
                where=hidden(uri),
                hint="emonet registry list",
            )
        version = version_of(VOICE, wanted, uri)
        return _model(given, Path(resolve(version.uri, uri, runs)), version)
    if given.startswith("runs:/") or _RUN.fullmatch(given):
        return _of_run(given, uri, runs)
    if given.startswith("models:/"):
        raise RequestError(
            "this is no voice model", found=given, expected="models:/emonet-voice@ALIAS or models:/emonet-voice/VERSION"
        )
    return _model(given, Path(given), None)


def _of_run(given: str, uri: str, runs: Path) -> Model:
    """The voice model that an MLflow run has logged."""
    from emonet.registry import VOICE, logged_by, of_run, resolve

    run_id = given.removeprefix("runs:/").partition("/")[0]
    version = of_run(run_id, VOICE, uri)
    if version is not None:
        return _model(given, Path(resolve(version.uri, uri, runs)), version)
    source = given if given.startswith("runs:/") and given.count("/") > 1 else logged_by(run_id, uri)
    return _model(given, Path(resolve(source, uri, runs)), None)


def _model(given: str, folder: Path, version: Version | None) -> Model:
    from emonet.checkpoints import check_banks
    from emonet.inference import experts_of
    from emonet.registry import ENCODER

    experts = experts_of(folder)
    infos = check_banks(experts)
    root = experts.parent if (experts.parent / ENCODER).is_dir() else None
    return Model(
        label=_label(given, version),
        given=given,
        experts=experts,
        encoder=(root / ENCODER) if root is not None else _sibling_encoder(experts),
        infos=infos,
        version=version,
        origin=root if root is not None else _sibling_origin(experts, next(iter(infos.values()))),
    )


def _label(given: str, version: Version | None) -> str:
    """`v3 @champion`, the start of a run's id, or the last two parts of a folder's path."""
    if version is not None:
        return " ".join([f"v{version.version}", *(f"@{alias}" for alias in version.aliases)])
    run_id = given.removeprefix("runs:/").partition("/")[0]
    return f"run {run_id[:8]}" if _RUN.fullmatch(run_id) else "/".join(Path(given).resolve().parts[-2:])


def _sibling_encoder(experts: Path) -> Path | None:
    """The encoder beside a stage's folder of experts: the voice model's, or the captioner's."""
    there = (experts.parent / "voice" / "encoder", experts.parent / "captioner")
    return next((folder for folder in there if any((folder / name).is_file() for name in _ENCODERS)), None)


def _sibling_origin(experts: Path, info: ExpertsInfo) -> Path | None:
    """The voice model beside a stage's folder of experts, if it was made of these."""
    from emonet.tracking import lineage

    voice = experts.parent / "voice"
    found = lineage.read(voice)
    return voice if found is not None and found.store_fingerprint == info.store_fingerprint else None


def _size(spec: InputSpec, hidden: Sequence[int]) -> int:
    from math import prod

    from emonet.checkpoints import expert_shapes

    return sum(prod(shape) for shape in expert_shapes(spec, hidden).values())
