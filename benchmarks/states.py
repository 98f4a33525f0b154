"""The states that the cache benchmark stores: made once from real speech, kept under `runs/bench/`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16

from emonet.audio import decode
from emonet.clips import Clip, Corpus
from emonet.errors import EmonetError
from emonet.runtime import Progress, durable, ignore
from emonet.schema import digest
from emonet.windows import Window

if TYPE_CHECKING:  # torch takes seconds to import, and every process of the benchmark imports this module
    from emonet.encoders import FrozenEncoder

CLIPS_PER_PASS = 8
_RAVDESS = (Path("data/ravdess"), Path("../shared/corpora/ravdess"))  # where a checkout may have it


@dataclass(frozen=True)
class StateSet:
    """Encoder states of real clips, on disk.

    Args:
        name: short, e.g. `captioner` or `small`.
        about: one sentence, what the states are.
        file: .npy of shape (clips, frames, width), float16.
        silence: .npy of shape (frames, width): the states of an empty recording.
        corpus: the clips, in the order of the rows.
    """

    name: str
    about: str
    file: Path
    silence: Path
    corpus: Corpus

    def load_silence(self) -> Float16[np.ndarray, "frames width"]:
        """The states of an empty recording."""
        states: np.ndarray = np.load(self.silence)
        return states

    def seconds(self) -> list[float]:
        """Audio heard of each clip (seconds)."""
        window = Window.of_frames(len(self.load_silence()))
        return [min(clip.seconds, window.seconds) for clip in self.corpus.clips]


def make(
    name: str, about: str, encoder: FrozenEncoder, corpus: Corpus, folder: Path, *, progress: Progress = ignore
) -> StateSet:
    """Encode every clip of `corpus`, or find what an earlier run left; a killed run goes on where it stopped.

    Args:
        name: of the set, a part of the file names.
        about: one sentence, what the states are.
        encoder: makes the states.
        corpus: the clips; all must be readable.
        folder: where the files lie.
        progress: called with clips done.

    Raises:
        AudioError: if a clip cannot be read.
    """
    from emonet.audio import pad

    folder.mkdir(parents=True, exist_ok=True)
    key = digest([encoder.digest, encoder.precision, corpus.fingerprint])[:12]
    file, silence = folder / f"states-{name}-{key}.npy", folder / f"states-{name}-{key}-silence.npy"
    if not silence.is_file():
        empty = pad([np.zeros(0, np.float32)], encoder.window)
        durable.write(silence, _header((encoder.window.frames, encoder.width)) + encoder(empty)[0].numpy().tobytes())
    if not file.is_file():
        _fill(file.with_name(file.name + durable.PARTIAL), encoder, tuple(corpus.clips), progress)
        file.with_name(file.name + durable.PARTIAL).replace(file)
        durable.sync(folder)
    return StateSet(name, about, file, silence, corpus)


def default_corpus() -> str:
    """The spec of RAVDESS, wherever it lies; where it does not, opening it says how to get it."""
    return f"ravdess:{next((path for path in _RAVDESS if path.is_dir()), _RAVDESS[0])}"


def small_whisper(layers: int = 12) -> FrozenEncoder:
    """An encoder of Whisper small's shape: 12 layers, unless fewer, of width 768, 30 s; seeded random weights."""
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from emonet.encoders import FrozenEncoder

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = WhisperConfig(
            d_model=768, encoder_layers=layers, encoder_attention_heads=12, encoder_ffn_dim=3072, num_mel_bins=80
        )
        return FrozenEncoder(WhisperEncoder(config))


def spread(corpus: Corpus, clips: int) -> Corpus:
    """`clips` of a corpus, evenly spaced over it; all where it has no more."""
    chosen = sorted(set(np.linspace(0, len(corpus) - 1, min(clips, len(corpus))).round().astype(int).tolist()))
    return Corpus(corpus.name, tuple(corpus.clips[row] for row in chosen), (), corpus.targets, corpus.note)


def _fill(partial: Path, encoder: FrozenEncoder, clips: tuple[Clip, ...], progress: Progress) -> None:
    """Append the states of the clips that the partial file does not hold yet; it is a .npy from its first byte."""
    from emonet.audio import pad

    shape = (len(clips), encoder.window.frames, encoder.width)
    header, clip_bytes = _header(shape), encoder.window.frames * encoder.width * 2
    with partial.open("ab") as output:
        if output.tell() < len(header):
            output.truncate(0)
            output.write(header)
        done = (output.tell() - len(header)) // clip_bytes
        output.truncate(len(header) + done * clip_bytes)  # half a clip, where a kill left one
        progress(done, len(clips))
        for batch in _batches(clips[done:]):
            heard = [decode(c.audio, start=c.start, end=c.end, seconds=encoder.window.seconds).samples for c in batch]
            output.write(encoder(pad(heard, encoder.window)).numpy().tobytes())
            output.flush()
            done += len(batch)
            progress(done, len(clips))
        os.fsync(output.fileno())
    if partial.stat().st_size != len(header) + len(clips) * clip_bytes:
        raise EmonetError("the states were not written whole", where=partial, hint=f"rm {partial}")
    progress(len(clips), len(clips))


def _batches(clips: tuple[Clip, ...]) -> Iterator[tuple[Clip, ...]]:
    for first in range(0, len(clips), CLIPS_PER_PASS):
        yield clips[first : first + CLIPS_PER_PASS]


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of a .npy file of float16 with this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
