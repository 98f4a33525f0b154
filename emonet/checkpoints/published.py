"""Published expert checkpoints, `model_NAME_best.pth`: read without running anything in them, and written again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from emonet.checkpoints.files import ExpertsInfo, LoadedBank, Reader, check_banks, fill_bank, read_expert, write_experts
from emonet.checkpoints.state_dicts import DEPTH, UnusableError, hidden_widths, not_finite, read_tensors
from emonet.encoders import ReadyEncoder, inner_layers
from emonet.errors import RequestError, raise_collected
from emonet.experts import ExpertsPrecision
from emonet.runtime import Progress, ignore, is_hidden, replacing
from emonet.targets import PUBLISHED, QUALITY, Target, TargetSpec
from emonet.windows import Window

PREFIX, SUFFIX = "model_", "_best.pth"
LICENCE = "CC-BY-4.0"
_FRAMES = Window().frames  # published encoders hear 30 s
_STATISTICS = 4  # values per value of a state: mean, minimum, maximum, deviation
_UNPUBLISHED = {"attention": "have no learned queries", "moments": "hear minimum and maximum, too"}


@dataclass(frozen=True)
class PublishedExpert:
    """One file, whose tensors fit together.

    Args:
        target: what it scores.
        path: of the file.
        form: what it sees of the states.
        width: values per state (count).
        hidden: outputs of the projection and of each hidden layer.
    """

    target: Target
    path: Path
    form: Literal["flatten", "statistics"]
    width: int
    hidden: tuple[int, ...]

    def tensors(self) -> dict[str, Tensor]:
        """Its weights, mapped from the file."""
        return read_tensors(self.path)


@dataclass(frozen=True)
class PublishedFolder:
    """What a folder of published experts holds.

    Args:
        path: the folder.
        experts: in the published order of their targets.
    """

    path: Path
    experts: tuple[PublishedExpert, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Ids of the published targets without a file here."""
        there = {expert.target.id for expert in self.experts}
        return tuple(target for target in PUBLISHED.ids if target not in there)

    def banks(self, encoder: ReadyEncoder) -> tuple[PublishedBank, ...]:
        """The experts in groups of one form and one depth, each of which makes a bank.

        Raises:
            RequestError: if the encoder's states are not those that the experts hear.
        """
        wanted = sorted({expert.width for expert in self.experts})
        inner = inner_layers(encoder) is not None
        if inner or encoder.frames != _FRAMES or wanted != [encoder.width]:
            raise RequestError(
                "the published experts hear other states than this encoder gives",
                where=self.path,
                expected=f"{_FRAMES} states of {' and of '.join(map(str, wanted))} values, of the last layer",
                found=f"{encoder.frames} states of {encoder.width} values{', of inner layers' if inner else ''}",
                hint="--encoder laion/BUD-E-Whisper@REVISION (1.0), which EmoNet-Voice's experts were trained on",
            )

        def kind(expert: PublishedExpert) -> tuple[str, tuple[int, ...]]:
            return expert.form, expert.hidden

        groups = groupby(sorted(self.experts, key=kind), kind)
        return tuple(PublishedBank.of(tuple(experts), encoder) for _, experts in groups)


@dataclass(frozen=True)
class PublishedBank:
    """Published experts of one form and one depth.

    Args:
        info: what they are.
        experts: in the order of the targets.
        problems: what was found wrong with the weights while they were read; complete when all were.
    """

    info: ExpertsInfo
    experts: tuple[PublishedExpert, ...]
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, experts: Sequence[PublishedExpert], encoder: ReadyEncoder) -> PublishedBank:
        """Describe a group of experts that were given this encoder."""
        order = sorted(experts, key=lambda expert: PUBLISHED.index(expert.target.id))
        first = order[0]
        info = ExpertsInfo(
            targets=TargetSpec(tuple(expert.target for expert in order)).to_json(),
            form=first.form,
            pool_over="all",
            queries=0,
            window_seconds=encoder.window.seconds,
            frames=encoder.frames,
            width=encoder.width,
            hidden=first.hidden,
            encoder_digest=encoder.digest,
        )
        return cls(info, tuple(order))

    @property
    def name(self) -> str:
        """Of its folder where a voice has several banks, e.g. `flatten-64-64-32-16`."""
        return "-".join([self.info.form, *map(str, self.info.hidden)])

    def reader(self, progress: Progress = ignore) -> Reader:
        """A function that reads one expert, and notes tensors that are not finite.

        Args:
            progress: called with the number of experts read.
        """

        def read(position: int) -> Mapping[str, Tensor]:
            expert = self.experts[position]
            tensors = expert.tensors()
            self.problems.extend(_not_finite(expert, tensors))
            progress(position + 1, len(self.experts))
            return tensors

        return read


def holds_published(folder: Path) -> bool:
    """Whether a folder is one of published experts: it has a file that ends in `.pth`."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    """Its files that end in `.pth`, except hidden ones, which a Mac leaves beside each file on foreign disks."""
    return sorted(path for path in folder.glob("*.pth") if not is_hidden(path.name))


def nothing_but_published(folder: Path) -> bool:
    """Whether all that a folder holds is `model_NAME_best.pth`, so that nothing else is lost with it."""
    return folder.is_dir() and all(entry.is_file() and _is_named(entry.name) for entry in folder.iterdir())


def open_published(folder: Path) -> PublishedFolder:
    """Look into a folder of `model_NAME_best.pth`; it may hold some of the published experts only.

    Files are mapped and unpickled with `weights_only=True`, so that nothing in them is run.

    Raises:
        RequestError: if there are none, or with all that is wrong: unknown names, several files for a target,
            unreadable files, missing, unknown or mis-shaped tensors, weights that are not finite.
    """
    paths = _files(folder)
    if not paths:
        raise RequestError(
            "there are no published experts here",
            where=folder,
            expected=f"files {PREFIX}NAME{SUFFIX}",
            found="no .pth file" if folder.is_dir() else "no such folder",
        )
    problems: list[str] = []
    experts: dict[str, PublishedExpert] = {}
    for path in paths:
        try:
            expert = _inspect(path)
        except UnusableError as unusable:
            problems += [f"{path.name}: {problem}" for problem in unusable.problems]
            continue
        other = experts.setdefault(expert.target.id, expert)
        if other is not expert:
            problems.append(f"{path.name}: {expert.target.id} already has an expert, {other.path.name}")
    if problems:  # then all of them: what else is wrong would only be found after these are mended
        problems += [problem for expert in experts.values() for problem in _not_finite(expert, expert.tensors())]
    _refuse(problems, folder)
    return PublishedFolder(folder, tuple(sorted(experts.values(), key=lambda e: PUBLISHED.index(e.target.id))))


def load_published(
    folder: Path, encoder: ReadyEncoder, precision: ExpertsPrecision = "float32", *, progress: Progress = ignore
) -> tuple[LoadedBank, ...]:
    """Read published experts into banks; expert by expert, so that compact ones never take much more than their size.

    Args:
        folder: of `model_NAME_best.pth`.
        encoder: that the experts were trained on; the files do not say which that was.
        precision: of wide first layers.
        progress: called with the number of experts read of one bank.

    Raises:
        RequestError: as `open_published`, or if the encoder gives other states.
    """
    banks = open_published(folder).banks(encoder)
    loaded = [LoadedBank(fill_bank(bank.info, bank.reader(progress), precision), bank.info) for bank in banks]
    _refuse([problem for bank in banks for problem in bank.problems], folder)
    return tuple(loaded)


def import_published(
    published: PublishedFolder, encoder: ReadyEncoder, out: Path, *, progress: Progress = ignore
) -> tuple[ExpertsInfo, ...]:
    """Write published experts as `emonet.checkpoints.load_banks` reads them; whole or not at all.

    Args:
        published: the experts.
        encoder: that the experts were trained on.
        out: replaced if it exists; one bank lies in it, several in a folder each.
        progress: called with the number of experts written of one bank.

    Raises:
        RequestError: if weights are not finite, or the encoder gives other states.
    """
    banks = published.banks(encoder)
    with replacing(out) as partial:
        for bank in banks:
            place = partial / bank.name if len(banks) > 1 else partial
            place.mkdir(exist_ok=True)
            write_experts(bank.info, bank.reader(progress), place)
        _refuse([problem for bank in banks for problem in bank.problems], published.path)
    return tuple(bank.info for bank in banks)


def export_published(experts: Path, out: Path, *, progress: Progress = ignore) -> tuple[Path, ...]:
    """Write experts as `model_NAME_best.pth`: float32 state dicts that the published code and `open_published` read.

    Args:
        experts: folder of one bank or of several.
        out: replaced if it exists; appears when it is whole.
        progress: called with the number of experts written.

    Returns:
        The files.

    Raises:
        RequestError: if the experts cannot be read, or have no published form.
    """
    banks = check_banks(experts)
    raise_collected(
        "these experts have no published form", [p for info in banks.values() for p in _own_form(info)], where=experts
    )
    total = sum(len(info.targets) for info in banks.values())
    names: list[str] = []
    with replacing(out) as partial:
        for place, info in banks.items():
            for position, target in enumerate(info.target_spec):
                names.append(f"{PREFIX}{target.checkpoint}{SUFFIX}")
                tensors = read_expert(place, info, position)
                # Cloned: torch.save writes the whole storage that a tensor is a view of.
                torch.save({key: tensor.float().clone() for key, tensor in tensors.items()}, partial / names[-1])
                progress(len(names), total)
    return tuple(out / name for name in names)


def _own_form(info: ExpertsInfo) -> Iterator[str]:
    """What keeps experts from being written in the published form."""
    if info.ensemble > 1:
        yield f"ensembles of {info.ensemble} experts, whose mean no published file holds; train with heads.ensemble 1"
    if info.form in _UNPUBLISHED:
        yield f"{info.form}: published experts {_UNPUBLISHED[info.form]}; train with heads.inputs flatten"
        return
    if info.frames != _FRAMES:
        yield f"{info.frames} states a clip, and published experts hear {_FRAMES} (30 s)"
    if info.encoder_layers is not None:
        layers = " ".join(map(str, info.layers or info.encoder_layers))
        yield f"states of layers {layers}, and published experts hear those of the last"
    if len(info.hidden) != DEPTH:
        widths = "-".join(map(str, info.hidden))
        yield f"hidden layers of {widths}, and published experts have {DEPTH}, the projection included"
    if info.form == "statistics" and info.pool_over != "all":
        yield "statistics of the states that hear speech, and published experts pool over all"
    for target in info.target_spec:
        if target not in tuple(PUBLISHED):
            yield f"{target.id}: no published expert has that target"
        elif (target.id in QUALITY.ids) != (info.form == "statistics"):
            yield f"{target.id}: the published expert of that target does not see {info.form}"


def _refuse(problems: Sequence[str], folder: Path) -> None:
    raise_collected(
        "some published experts cannot be used",
        problems,
        where=folder,
        hint="fetch these files again, or move them out of the folder: some of the experts are enough",
    )


def _is_named(name: str) -> bool:
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def _inspect(path: Path) -> PublishedExpert:
    name = path.name
    if not _is_named(name):
        raise UnusableError(f"the name is not {PREFIX}NAME{SUFFIX}")
    try:
        target = PUBLISHED[name[len(PREFIX) : -len(SUFFIX)]]
    except RequestError as error:
        raise UnusableError(str(error).splitlines()[0]) from error
    shapes = {key: list(tensor.shape) for key, tensor in read_tensors(path).items()}
    hidden = hidden_widths(shapes)
    return PublishedExpert(target, path, *_input(target, shapes["proj.weight"]), hidden)


def _input(target: Target, shape: Sequence[int]) -> tuple[Literal["flatten", "statistics"], int]:
    """What an expert sees, and of how wide a state."""
    outputs, inputs = shape
    pooled = target.id in QUALITY.ids
    per, what = (_STATISTICS, "statistics") if pooled else (_FRAMES, "states")
    if inputs % per:
        raise UnusableError(
            f"proj.weight is {list(shape)}, expected [{outputs}, {per} x WIDTH] for {per} {what} of a clip"
        )
    return "statistics" if pooled else "flatten", inputs // per


def _not_finite(expert: PublishedExpert, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for key in not_finite(tensors):
        yield f"{expert.path.name}: {key} has weights that are NaN or infinite"
