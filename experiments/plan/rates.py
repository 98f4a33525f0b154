"""Rates that a plan counts with: of rented GPUs, out of the table of cards and what was measured on one of them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import yaml
from pydantic import PositiveFloat, PositiveInt

from emonet.configs import InputForm
from emonet.errors import RequestError
from emonet.schema import Schema

GB = 1e9
NODE = 8  # GPUs of one machine
# Shares of a card's dense bf16 rate, of its memory's rate and of its float32 rate that work of ours reached on an H200
# (989 TFLOP/s, 4.8 TB/s, 67 TFLOP/s; docs/store.md): encoder 202 TFLOP/s, captioner 168 clips/s of 1.17 TFLOP, a step
# of 40 experts 44 ms in float32 and 22 in bf16.
ENCODER_SHARE, TRAINING_SHARE, EXPERTS_SHARE = 0.20, 0.20, 0.50
PIPELINE_SHARE = 0.44  # that a whole extraction reached there: 208 clips/s, where all processors compress 471
DECODE, COMPRESS = 800.0, 68e6  # of one of 16 processors there: audio (seconds), states compressed and hashed (bytes)
READ = 1.15e9  # bytes of states a second out of a store there, 16 processors: 2,000 clips three times in 12.8 s
DISK, NETWORK = 2e9, 1.25e9  # bytes a second of a machine: an NVMe disk, 10 Gbit/s
STEP_SECONDS = 0.005  # of a step of small experts on a GPU, which waits for its launches
START_SECONDS = 60.0  # to import, load, log and register: a stage on a GPU
SEVERAL = 0.9  # of as many times the speed of one that several GPUs reach in training together (not measured)


class Card(Schema):
    """A GPU, and the machine around it."""

    bf16: PositiveFloat
    """Dense products in bf16 (TFLOP/s)."""
    float32: PositiveFloat
    """Products in float32 (TFLOP/s)."""
    memory: PositiveFloat
    """Its memory (GB)."""
    bandwidth: PositiveFloat
    """Its memory's rate (GB/s)."""
    processors: PositiveInt
    """Of the machine, for each GPU (count)."""
    usd: PositiveFloat
    """Price of an hour (US dollars)."""
    guessed: bool = False
    """Whether nobody has looked that price up."""


@dataclass(frozen=True)
class Rates:
    """What some machines do, all of them together unless it says otherwise.

    Args:
        label: of the machines.
        devices: that encode and train (count).
        processors: cores (count).
        on_gpu: whether decoding and compressing go on beside the devices' work, and do not take from it.
        encode: of the encoder (FLOP/s).
        train: of the captioner's training (FLOP/s).
        experts: of one device: products of experts in training, by precision (FLOP/s).
        bandwidth: of one device: memory, in the experts' training (bytes/s).
        steps: measured instead: form of input -> seconds of a step of one expert of it, and of a step at all.
        decode: audio (seconds/s).
        compress: states (bytes/s).
        read: states out of a store (bytes/s).
        disk: written (bytes/s).
        network: read (bytes/s).
        memory: of one device (bytes).
        pipeline: share of these rates that decoding, encoding and compressing reach in an extraction.
        start: of each stage (seconds).
        usd: price of an hour (US dollars).
        notes: how these rates are known, in sentences.
    """

    label: str
    devices: int
    processors: int
    on_gpu: bool
    encode: float
    train: float
    decode: float
    compress: float
    read: float
    disk: float
    network: float
    memory: float
    start: float
    usd: float
    experts: Mapping[str, float] = field(default_factory=dict)
    bandwidth: float = math.inf
    steps: Mapping[InputForm, tuple[float, float]] = field(default_factory=dict)
    pipeline: float = 1.0
    notes: tuple[str, ...] = ()


@cache
def cards() -> dict[str, Card]:
    """Name -> GPU."""
    text = resources.files("experiments.plan").joinpath("cards.yaml").read_text("utf-8")
    return {name: Card.model_validate(card) for name, card in yaml.safe_load(text).items()}


def rented(asked: str, usd: float | None) -> Rates:
    """Rates of some GPUs, by the table.

    Args:
        asked: e.g. `8xh100`, or `l4`.
        usd: price of an hour of one GPU (US dollars); None is the table's.

    Raises:
        RequestError: if there is no such card, or none of it.
    """
    found = re.fullmatch(r"(?:(\d+)\s*[xX*])?\s*([A-Za-z].*)", asked.strip())
    name = (found[2] if found else asked).strip().lower().replace(" ", "")
    count, card = int((found and found[1]) or 1), cards().get(name)
    if card is None or count < 1:
        turned = re.fullmatch(r"(.+)[x*](\d+)", name)  # h100x8
        if turned and turned[1] in cards():
            name, count = turned[1], int(turned[2])
        near = difflib.get_close_matches(name, cards(), n=1)
        raise RequestError(
            "the table has no such GPU" if card is None else "a plan needs a GPU at least",
            expected=f"NUMBERxNAME, of {', '.join(cards())}",
            found=asked,
            hint=f"--gpus {max(1, count)}x{near[0] if near else 'h100'}; or leave it out, and this machine is measured",
        )
    nodes, processors = -(-count // NODE), count * card.processors
    several = 1.0 if count == 1 else SEVERAL
    return Rates(
        label=f"{count} x {name}",
        devices=count,
        processors=processors,
        on_gpu=True,
        encode=count * ENCODER_SHARE * 1e12 * card.bf16,
        train=count * several * TRAINING_SHARE * 1e12 * card.bf16,
        decode=processors * DECODE,
        compress=processors * COMPRESS,
        read=nodes * READ,
        disk=nodes * DISK,
        network=nodes * NETWORK,
        memory=card.memory * GB,
        start=START_SECONDS,
        usd=count * (card.usd if usd is None else usd),
        experts={
            "float32": EXPERTS_SHARE * 1e12 * card.float32,
            "mixed": EXPERTS_SHARE * 1e12 * card.bf16,
            "bf16": EXPERTS_SHARE * 1e12 * card.bf16,
        },
        bandwidth=EXPERTS_SHARE * GB * card.bandwidth,
        pipeline=PIPELINE_SHARE,
        notes=_notes(name, card, usd, count),
    )


def _notes(name: str, card: Card, usd: float | None, count: int) -> tuple[str, ...]:
    price = f"{card.usd:g} USD an hour by the table{', which was not looked up' if card.guessed else ''}"
    several = (
        f"the captioner's training on several GPUs reaches {SEVERAL:.0%} of as many times one's speed (not measured)"
    )
    return (
        f"{name}: {card.bf16:g} TFLOP/s in bf16, {card.memory:g} GB at {card.bandwidth:g} GB/s, {card.processors} "
        f"processors a GPU, {price if usd is None else f'{usd:g} USD an hour'}",
        f"of these rates the encoder reaches {ENCODER_SHARE:.0%}, the captioner's training {TRAINING_SHARE:.0%}, "
        f"experts {EXPERTS_SHARE:.0%}, and a whole extraction {PIPELINE_SHARE:.0%} of what it waits for, as measured "
        "on one H200; smaller cards are easier to fill",
        f"a processor decodes {DECODE:g} s of audio and compresses and hashes {COMPRESS / 1e6:g} MB of states a second",
        f"a machine of up to {NODE} GPUs reads {READ / GB:g} GB of states from a store, writes {DISK / GB:g} GB and "
        f"has {NETWORK / GB:g} GB of network a second",
        f"each stage takes {START_SECONDS:g} s besides, to import, load, log and register",
        *([several] if count > 1 else []),
    )
