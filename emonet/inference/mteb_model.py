"""A model of mteb (Massive Text Embedding Benchmark, audio tasks): any encoder of ours, one embedding a clip."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
import soundfile
import torch
from jaxtyping import Float32

from emonet.audio import Decoded, Excerpt, pad, shared_decoders
from emonet.configs import Layers, Precision
from emonet.encoders import Padded, ReadyEncoder, open_encoder
from emonet.errors import AudioError, RequestError
from emonet.experts import InputSpec
from emonet.runtime import PLUGIN

OLDEST = (2, 8)  # of mteb: older ones were not tried
EmbeddingPool = Literal["mean", "moments", "statistics"]


@final
class MtebEncoder:
    """An encoder as `mteb.evaluate` takes it (mteb's `EncoderProtocol`): audio in, one embedding a clip out.

    A clip is decoded, cut to the encoder's window and pooled as in a pooled store: of one longer than the window its
    beginning is heard, which a warning tells with how many there are; padding counts nowhere.

    Args:
        encoder: e.g. of `open_encoder`, or a pipeline's.
        name: under which mteb keeps its results, ORGANISATION/NAME; digest and settings are the revision.
        pool: over the states that hear the clip: their mean; `moments`, mean and deviation; or `statistics`, mean,
            minimum, maximum and deviation.

    Raises:
        RequestError: if mteb is not installed, or too old, there is no such pooling, or the name is of another form.
    """

    def __init__(self, encoder: ReadyEncoder, name: str, *, pool: EmbeddingPool = "mean") -> None:
        self.encoder = encoder
        self._spec = InputSpec(_form(pool), "speech", encoder.frames, encoder.width)
        self._values = encoder.width if pool == "mean" else self._spec.features  # of moments the mean comes first
        self.mteb_model_meta = _meta(encoder, name, pool, self._values)

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,  # noqa: ARG002 a prompt is text
        **kwargs: Any,
    ) -> Float32[np.ndarray, "clips values"]:
        """The embeddings of a task's clips.

        Args:
            inputs: mteb's DataLoader over a dataset with a column `audio`.
            task_metadata: of the task, for messages.
            hf_split: of the task, for messages.
            hf_subset: of the task, for messages.
            prompt_type: not used.
            kwargs: of mteb; `show_progress_bar` (default True).

        Raises:
            RequestError: if there is no audio, or embeddings of another precision than float32 are asked for.
            AudioError: if a clip cannot be used: mteb has no place for a missing one.
        """
        from tqdm.auto import tqdm

        task = f"{task_metadata.name}, {hf_subset}, {hf_split}"
        if kwargs.get("precision", "float32") != "float32":
            raise RequestError("embeddings are float32", where=task, found=f"precision={kwargs['precision']!r}")
        seconds, size = self.encoder.window.seconds, self.encoder.batch_size()
        heard = shared_decoders().decode(_excerpts(inputs, task), seconds=seconds, ahead=2 * size)
        made = [np.zeros((0, self._values), np.float32)]
        done = cut = 0
        with tqdm(total=len(inputs.dataset), desc=task, disable=not kwargs.get("show_progress_bar", True)) as bar:
            while answers := list(islice(heard, size)):
                sounds = [_usable(answer, done + row, task) for row, answer in enumerate(answers)]
                made.append(self._embeddings(sounds))
                done += len(sounds)
                cut += sum(notice.kind == "window" for sound in sounds for notice in sound.notices)
                bar.update(len(sounds))
        if cut:
            text = f"{task}: {cut} of {done} clips are longer than the window, and heard for its {seconds:g} s alone"
            warnings.warn(text, stacklevel=2)
        return np.concatenate(made)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all pairs of embeddings, `first second`."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each pair of embeddings."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @torch.inference_mode()
    def _embeddings(self, sounds: Sequence[Decoded]) -> Float32[np.ndarray, "clips values"]:
        window = self.encoder.window
        samples = [min(len(sound.samples), window.samples) for sound in sounds]
        states = self.encoder.states(Padded(pad([sound.samples for sound in sounds], window), samples))
        lengths = torch.tensor([window.speech_frames(sound.seconds, self.encoder.frames) for sound in sounds])
        return self._spec.prepare(states, lengths).values[:, : self._values].numpy()


def mteb_encoder(
    source: str,
    *,
    layers: Layers | None = None,
    window_seconds: float | None = None,
    pool: EmbeddingPool = "mean",
    precision: Precision = "auto",
    device: str | None = None,
) -> MtebEncoder:
    """Load an encoder as a model of mteb.

    Args:
        source: as `open_encoder` has it: folder or hub id of a Whisper, wav2vec 2.0, HuBERT, WavLM or data2vec,
            `plugin:NAME[:ARGUMENT]`, or a saved encoder.
        layers: whose states, side by side: last, middle, all, or numbers from 1; by default those that it was saved
            with, or the last.
        window_seconds: audio that it hears of a clip, in seconds; by default all that it can.
        pool: as in `MtebEncoder`.
        precision: arithmetic of the encoder.
        device: e.g. `cpu` or `cuda:0`; by default the first GPU, else the processor.

    Raises:
        RequestError: if mteb is not installed or too old, or `open_encoder` refuses the encoder.
        EmonetError: if the hub cannot be reached.

    Example:
        >>> model = mteb_encoder("openai/whisper-base", layers=(4,))  # doctest: +SKIP
        >>> mteb.evaluate(model, mteb.get_tasks(["CREMA_D"]))  # doctest: +SKIP
    """
    _require()
    encoder = open_encoder(source, layers=layers, window_seconds=window_seconds, precision=precision, device=device)
    short = source if source.startswith(PLUGIN) else Path(source).name or "encoder"
    return MtebEncoder(encoder, "emonet/" + re.sub(r"[^\w.-]+", "-", short), pool=pool)


def _form(pool: str) -> Literal["moments", "statistics"]:
    if pool not in get_args(EmbeddingPool):
        raise RequestError("no such pooling", expected=", ".join(get_args(EmbeddingPool)), found=pool)
    return "statistics" if pool == "statistics" else "moments"


def _require() -> None:
    how = "pip install 'emonet[mteb]'"
    try:
        import mteb
    except ImportError as error:
        raise RequestError("mteb is not installed", found=error, hint=how) from error
    found: str = mteb.__version__
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise RequestError("mteb is too old", expected=f"{'.'.join(map(str, OLDEST))} or newer", found=found, hint=how)


def _meta(encoder: ReadyEncoder, name: str, pool: EmbeddingPool, values: int) -> Any:
    """What mteb keeps beside its results; all that changes an embedding is in the revision, by which it finds them."""
    _require()
    if not re.fullmatch(r"[^/]+/[^/]+", name):
        raise RequestError("mteb cannot keep results under this name", expected="ORGANISATION/NAME", found=name)
    from mteb.models import ModelMeta

    layers = "-".join(map(str, encoder.layers))
    known = {
        "name": name,
        "revision": f"{encoder.digest[:16]}-layers-{layers}-{encoder.window.seconds:g}s-{pool}-{encoder.precision}",
        "n_parameters": encoder.parameters,
        "memory_usage_mb": None if encoder.weight_bytes is None else encoder.weight_bytes / 2**20,
        "embed_dim": values,
        "framework": ["PyTorch"],
        "similarity_fn_name": "cosine",
        "use_instructions": False,
        "modalities": ["audio"],
    }
    unknown = dict.fromkeys(field for field, about in ModelMeta.model_fields.items() if about.is_required())
    return ModelMeta.model_validate(unknown | known)


def _excerpts(inputs: Any, task: str) -> Iterator[Excerpt]:
    """The encoded recordings: our decoders read them, so that neither torchcodec nor FFmpeg need be there."""
    from datasets import Audio

    dataset = inputs.dataset
    if "audio" not in dataset.features:
        columns = ", ".join(dataset.features)
        raise RequestError("this model hears audio alone", where=task, expected="a column audio", found=columns)
    if isinstance(dataset.features["audio"], Audio):
        dataset = dataset.cast_column("audio", Audio(decode=False))
    for rows in inputs.batch_sampler:
        yield from map(_excerpt, dataset[rows]["audio"])


def _excerpt(audio: Mapping[str, Any]) -> Excerpt:
    if "array" in audio:
        return Excerpt(_wav(np.asarray(audio["array"], np.float32), audio["sampling_rate"]))
    return Excerpt(audio["bytes"] if audio["bytes"] is not None else Path(audio["path"]))


def _usable(answer: Decoded | AudioError, row: int, task: str) -> Decoded:
    if isinstance(answer, AudioError):
        raise AudioError(answer.reason, where=f"row {row} of {task}")
    return answer


def _wav(samples: np.ndarray, rate: int) -> bytes:
    """As a file in memory, without rounding; channels, if there are any, stand first."""
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
